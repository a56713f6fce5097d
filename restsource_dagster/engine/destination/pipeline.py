"""Open a dlt pipeline for a run, load with it, and discard it after a failure."""

import gc
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import dlt
from dlt.common import json
from dlt.common.destination import AnyDestination
from dlt.common.pipeline import LoadInfo
from dlt.common.schema import Schema
from dlt.extract import DltSource

from restsource_dagster.connector.model import Resource
from restsource_dagster.engine.columnar.column_loader import ParquetFiles
from restsource_dagster.engine.destination.recovery import (
    KnownRows,
    PendingOverride,
    are_loads_complete,
    clear_pending_load,
    clear_pending_overrides,
    forget_file_load,
    forget_known_rows,
    log_pending_load,
    log_pending_overrides,
    note_file_load,
    note_known_rows,
    read_known_rows,
    read_pending_overrides,
    take_back_loads,
    undo_incomplete_file_loads,
    undo_incomplete_loads,
)
from restsource_dagster.engine.destination.removed_rows import (
    ChildrenOf,
    TableKeys,
    delete_children,
    read_keys,
)
from restsource_dagster.engine.destination.replace_parts import (
    ReplacePart,
    Swap,
    check_part_client,
    drop_staged_rows,
    has_staged_parts,
    note_staged_part,
    replaced_tables,
)
from restsource_dagster.engine.destination.replace_rows import (
    check_row_replacement,
    delete_replaced_rows,
)
from restsource_dagster.engine.destination.sql_destinations import (
    LeasedDestination,
    ReplacingDestination,
    can_note_texts,
    can_replace_rows,
)
from restsource_dagster.engine.destination.stored_state import (
    WithdrawnSettings,
    check_clock,
    drop_not_null,
    let_schema_be_stored,
    remove_outdated_schemas,
    remove_outdated_states,
    withdraw_settings,
)
from restsource_dagster.engine.destination.tables import (
    SqlClient,
    TableFacts,
    TableQuestions,
    end_other_sessions,
    read_row_count,
    read_table_facts,
)
from restsource_dagster.engine.destination.warehouse import Warehouse
from restsource_dagster.engine.dlt_compat import (
    ConfigurationException,
    PackageStorage,
    SqlClientNotAvailable,
    SqlJobClientWithStagingDataset,
    WithStateSync,
    count_normalized_rows,
    table_identifier,
)
from restsource_dagster.engine.errors import DatabaseBusyError, IngestError
from restsource_dagster.engine.incremental.cursor_overrides import AppliedOverrides, RowDeletion
from restsource_dagster.engine.incremental.unfinished import read_unfinished_roots
from restsource_dagster.engine.run_progress import Progress

__all__ = ["LoadSummary", "PipelineManager", "infrequent_gc"]

_GC_THRESHOLDS = (50_000, 20, 50)
"""A page of a thousand rows makes some thousands of containers, which live as long as the page."""


@contextmanager
def infrequent_gc() -> Iterator[None]:
    """Collect garbage less often during the block.

    With Python's thresholds, collections take half of the time in which rows are read. Rows are
    freed by their reference counts; only cycles wait longer.
    """
    before = gc.get_threshold()
    if gc.isenabled() and before[0] < _GC_THRESHOLDS[0]:
        gc.set_threshold(*_GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@dataclass(frozen=True)
class LoadSummary:
    """The result of a load."""

    rows: Mapping[str, int]
    """The rows that this load brought, by table."""
    counts: Mapping[str, int | None]
    """All rows of the resources' tables after the load; None if the destination has no SQL."""
    info: LoadInfo
    """dlt's own result."""
    schema: Schema
    """The schema after the load. `pipeline.default_schema` reads it from a file each time."""
    withdrawn: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By root table, a sentence for each setting that the file does not have any more."""
    facts: Mapping[str, TableFacts] = field(default_factory=dict)
    """What the checks of the tables ask, by table."""
    removed: Mapping[str, int] = field(default_factory=dict)
    """The rows that were removed or marked before the load, by the table's name in the file."""


@dataclass
class PipelineManager:
    """Opens pipelines one after the other, each in a new folder below `folder`.

    A family that fails may have moved cursors in the pipeline's local state. Its pipeline is
    discarded, and the next one reads the state from the destination. So no cursor moves without its
    rows.
    """

    name: str
    """The name of dlt's pipeline, under which the destination stores the state."""
    warehouse: Warehouse
    progress: Progress
    folder: Path
    dataset: str
    """The connector's name, for the dataset and its schema: pipelines of a connector share both."""
    questions: Mapping[str, TableQuestions] = field(default_factory=dict)
    """What the checks ask after each load, by the table's name in the file."""
    check_lease: Callable[[], None] = lambda: None
    """Raises `LeaseLostError` if another run may have taken over. Called before each change of the tables,
    and by clients of ours before each statement of a load."""
    stored_schema: Schema | None = None
    """The destination's schema if this pipeline has no state there: its first load crashed, or the
    connector's other pipeline loaded first."""
    pending_overrides: Mapping[str, PendingOverride] = field(default_factory=dict)
    """Cursor overrides, by resource, of a load that was killed."""
    unfinished_roots: frozenset[str] = frozenset()
    """The families whose loads were stored in part when the pipeline was opened."""
    _overrides: Mapping[str, PendingOverride] = field(default_factory=dict)
    _deletions: dict[str, RowDeletion] = field(default_factory=dict)
    _pipeline: dlt.Pipeline | None = None
    _client: SqlClient | None = None
    """The SQL client of the open pipeline; None if the destination has no SQL."""
    _busy: DatabaseBusyError | None = None
    _opened: int = 0
    """The number of folders made so far."""

    @cached_property
    def destination(self) -> AnyDestination:
        """The destination's class and capabilities; no connection is opened."""
        made = self.warehouse.destination()
        if isinstance(made, LeasedDestination):
            made.check_lease = self.check_lease
        return made

    def open(self) -> dlt.Pipeline:
        """Return the open pipeline, or open one with the destination's state and schema.

        First removes the rows that a killed load has appended.
        """
        if self._pipeline is None:
            # a new folder: dlt would read the state of a discarded pipeline from its old one
            self._opened += 1
            pipeline = dlt.pipeline(
                pipeline_name=self.name,
                pipelines_dir=str(self.folder / str(self._opened)),
                destination=self.destination,
                dataset_name=self.dataset,
            )
            self._client = _sql_client_of(pipeline)
            self.pending_overrides, self.stored_schema = {}, None
            # to start DuckDB and ask an empty file takes as long as to load a page
            if not self.warehouse.make():
                self._restore(pipeline)
            # once, because dlt parses the state on each access
            self.unfinished_roots = read_unfinished_roots(pipeline.state, self.dataset)
            self._pipeline = pipeline
        return self._pipeline

    def _restore(self, pipeline: dlt.Pipeline) -> None:
        """End other sessions, remove the rows of killed loads, then read state and schema."""
        undone = ended = 0
        with self._locked():
            with self._connected() as client:
                if client is not None:
                    schema = Schema(self.dataset)
                    # first: what they have not committed must not appear later
                    ended = end_other_sessions(client)
                    undone = undo_incomplete_loads(client, schema.loads_table_name)
                    self.pending_overrides = read_pending_overrides(client, schema.loads_table_name)
                    if _has_sql_tables(pipeline):
                        remove_outdated_states(client, self.name, schema)
                        remove_outdated_schemas(client, schema)
            if _has_files(pipeline):
                files = pipeline.destination_client()
                undone = undo_incomplete_file_loads(files, Schema(self.dataset))
            # after the rows of killed loads are gone, so that state and tables agree
            pipeline.sync_destination()
            if not _has_sql_tables(pipeline):
                check_clock(pipeline)
            self.stored_schema = _read_stored_schema(pipeline, self.dataset)
        if ended:
            self.progress.message(
                f"{self.dataset}: {ended} sessions of an earlier run, which stands still or was cut off, "
                "were open in the database. They are ended, and store nothing more"
            )
        if undone:
            self.progress.message(
                f"{self.dataset}: the last run was killed while it loaded. The rows that it "
                "appended are removed and requested again"
            )

    def schema(self) -> Schema | None:
        """Return the schema of the open pipeline; None before the first load.

        dlt reads it from a file on each access.
        """
        pipeline = self.open()
        return pipeline.default_schema if pipeline.default_schema_name else self.stored_schema

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the destination for the block.

        After one wait has timed out, each further call fails at once. Otherwise a run would wait
        again for each of its families.
        """
        if self._busy:
            raise self._busy
        try:
            held = self.warehouse.locked(self.progress.message)
        except DatabaseBusyError as error:
            self._busy = error
            raise
        # outside of the `try`: a table that is locked in Postgres says nothing about other tables
        with held:
            # after the wait, in which another run may have taken over
            self.check_lease()
            yield

    @contextmanager
    def _connected(self) -> Iterator[SqlClient | None]:
        """Yield the SQL client, connected for the block; None if the destination has no SQL.

        One connection serves several steps: opening one takes longer than most statements.
        """
        if self._client is None:
            yield None
            return
        with self._client:
            yield self._client

    def prepare_load(self, overrides: AppliedOverrides) -> None:
        """Set which rows and cursors the next load replaces.

        Raises `IngestError` if the destination can't replace rows in one transaction.
        """
        pipeline = self.open()
        self._overrides = overrides.pending
        self._deletions = {}
        for deletion in overrides.deletions:
            table = table_identifier(self.schema() or Schema(self.dataset), deletion.table)
            self._deletions[table] = replace(deletion, table=table)
        if self._deletions and not can_replace_rows(pipeline.destination):
            raise IngestError(
                f"rows of {', '.join(self._deletions)} would have to be replaced in one "
                f"transaction, and {pipeline.destination.destination_name} has none. A window or a "
                'cursor that is set needs a "primary_key" there, so that rows are merged. In place '
                "of a full refresh, reset the resource and run it"
            )
        # other destinations were refused above if there is something to replace
        if isinstance(pipeline.destination, ReplacingDestination):
            pipeline.destination.deletions = self._deletions
            pipeline.destination.part = None
        for text in overrides.messages:
            self.progress.message(text)

    def count_rows(self, table: str) -> int | None:
        """Return the number of rows of a table, by its name in the file.

        None if the destination has no SQL.
        """
        name = table_identifier(self.schema() or Schema(self.dataset), table)
        with self._locked(), self._connected() as client:
            return None if client is None else read_row_count(client, name)

    def read_keys(self, resource: Resource) -> TableKeys:
        """Return the keys of a resource's table, without those of rows that are marked as deleted.

        Raises `IngestError` if the destination has no SQL, there is no table, or its keys can't be compared.
        """
        schema = self.schema() or Schema(self.dataset)
        with self._locked(), self._connected() as client:
            if client is None or not _has_sql_tables(self.open()):
                raise IngestError(
                    f"{self.destination.destination_name} has no tables to ask by SQL"
                )
            return read_keys(client, schema, resource)

    def remove_rows(self, rows: ChildrenOf) -> int:
        """Remove or mark rows in a transaction of their own; return how many. Raises `IngestError`."""
        schema = self.schema() or Schema(self.dataset)
        with self._locked(), self._connected() as client:
            return 0 if client is None else delete_children(client, schema, rows)

    @property
    def can_take_back(self) -> bool:
        """True if the destination can delete the rows that a load has appended."""
        return self._client is not None and _has_sql_tables(self.open())

    def are_complete(self, load_ids: Sequence[str]) -> bool:
        """Return True if all of these loads are complete, and none was taken back."""
        if not load_ids:
            return True
        with self._locked(), self._connected() as client:
            schema = Schema(self.dataset)
            return client is not None and are_loads_complete(
                client, schema.loads_table_name, load_ids
            )

    def take_back(self, load_ids: Sequence[str]) -> None:
        """Remove the rows that complete loads have appended, and their states. Discards the pipeline."""
        schema = self.schema()
        with self._locked(), self._connected() as client:
            if client is not None and schema is not None:
                take_back_loads(client, schema, load_ids)
        self.discard()

    def forget_overrides(self, resources: Collection[str] | None) -> None:
        """Forget the pending overrides of resources, all with None. The destination is locked."""
        # without a pending one the table of overrides may not exist
        if self.pending_overrides:
            with self._connected() as client:
                if client is not None:
                    forgotten = self.pending_overrides if resources is None else resources
                    clear_pending_overrides(client, forgotten)

    def discard(self) -> None:
        """Discard the open pipeline, so that the next `open` starts from the destination's state."""
        self._pipeline = None

    def parquet_files(self) -> AbstractContextManager[ParquetFiles | None]:
        """Return the files for rows that are written as columns.

        A `with` statement; None if the destination takes no parquet files.
        """
        if self.warehouse.loader_file_format != "parquet":
            return nullcontext()
        self._opened += 1
        return ParquetFiles(self.folder / f"{self._opened} columns")

    def run(
        self,
        pipeline: dlt.Pipeline,
        families: Collection[str],
        source: DltSource,
        columns: ParquetFiles | None,
        check: Callable[[], None],
        swap: Swap | None = None,
        known: KnownRows | None = None,
        removed: Callable[[], Iterable[ChildrenOf]] = tuple,
    ) -> LoadSummary:
        """Extract, normalize and load a source, in one load package.

        `families` are the names of their root resources, for progress messages. `columns` are the
        files that the source writes while dlt extracts it. `check` is called after the extraction; if
        it raises, nothing is loaded. With a `swap` the package is a part of a load, and the tables that
        it replaces change with the last part. `known` are the rows to note for the next part. `removed` is
        called after the extraction, too: these rows are removed before the load, so that a run that is
        killed in between finds them gone again.
        """
        withdrawn = self._withdraw_settings(pipeline, source)
        self._enter(families, "extract")
        self._extract(pipeline, source, columns, check)
        self._enter(families, "normalize")
        rows = count_normalized_rows(pipeline.normalize())
        schema = pipeline.default_schema  # dlt reads it from a file on each access
        self._enter(families, "load")
        # the destination is locked from here on: other runs load while this one reads the API
        with self._locked():
            if self._deletions:
                check_row_replacement(pipeline, self._deletions)
            if withdrawn.nullable:
                self._drop_not_null(pipeline, withdrawn)
            pending = self._note_pending_load(pipeline, schema)
            gone = self._remove_children(pipeline, list(removed()))
            part = self._stage_part(pipeline, source, swap, rows) if swap else None
            noted = self._note_known_rows(pipeline, known) if known else {}
            # without a connection of ours: a server may close one that idles during a long load
            info = self._load(pipeline)
            _delete_load_files(info)
            with self._connected() as client:
                if client is not None:
                    if part and part.is_last:
                        drop_staged_rows(client, schema, part)
                    if known and known.earlier and not noted:
                        forget_known_rows(client, known.root)
                    clear_pending_load(client, pending)
                    clear_pending_overrides(client, self._overrides)
                counts = _count_loaded_tables(schema, source, client)
                facts = self._read_facts(pipeline, schema, client, counts, info)
        return LoadSummary(rows, counts, info, schema, withdrawn.changes, facts, gone)

    def _load(self, pipeline: dlt.Pipeline) -> LoadInfo:
        """Load with dlt; a load into files is noted there until it is complete."""
        noted = pipeline.list_normalized_load_packages() if _has_files(pipeline) else ()
        for load_id in noted:
            note_file_load(pipeline.destination_client(), load_id)
        info = pipeline.load()
        for load_id in noted:
            forget_file_load(pipeline.destination_client(), load_id)
        return info

    def _extract(
        self,
        pipeline: dlt.Pipeline,
        source: DltSource,
        columns: ParquetFiles | None,
        check: Callable[[], None],
    ) -> None:
        with infrequent_gc():
            extracted = pipeline.extract(
                source, loader_file_format=self.warehouse.loader_file_format
            )
        check()
        # rows that are written as columns never pass dlt's extraction, so their files join here
        if columns and not columns.is_empty:
            columns.move_into(Path(extracted.load_packages[0].package_path))

    def _read_facts(
        self,
        pipeline: dlt.Pipeline,
        schema: Schema,
        client: SqlClient | None,
        counts: Mapping[str, int | None],
        info: LoadInfo,
    ) -> Mapping[str, TableFacts]:
        # files have a client for reading with SQL, which reads all of them for each statement
        if client is None or not self.questions or not _has_sql_tables(pipeline):
            return {}
        return read_table_facts(
            client,
            schema,
            self.questions,
            counts,
            info.loads_ids,
            self.progress.message,
        )

    def _withdraw_settings(self, pipeline: dlt.Pipeline, source: DltSource) -> WithdrawnSettings:
        """Remove the settings of the source's tables that the file no longer has from the schema."""
        # a pipeline without a schema loads with the source's, which is then the destination's
        schema = pipeline.default_schema if pipeline.default_schema_name else source.schema
        withdrawn = withdraw_settings(schema, source.resources.selected.values())
        for changes in withdrawn.changes.values():
            for change in changes:
                self.progress.message(change)
        return withdrawn

    def _drop_not_null(self, pipeline: dlt.Pipeline, withdrawn: WithdrawnSettings) -> None:
        """Let the database store nulls where the file allows them now. The destination is locked."""
        # files have a client for reading with SQL, and nothing to alter
        if _has_sql_tables(pipeline):
            with self._connected() as client:
                if client is not None:
                    drop_not_null(client, withdrawn.nullable)

    def _remove_children(
        self, pipeline: dlt.Pipeline, removed: Sequence[ChildrenOf]
    ) -> Mapping[str, int]:
        """Remove rows that the API no longer has; return how many of each table. The destination is locked."""
        if not removed:
            return {}
        counts: Counter[str] = Counter()
        with self._connected() as client:
            if client is not None:
                for children in removed:
                    went = delete_children(client, pipeline.default_schema, children)
                    counts[children.table] += went
        return counts

    def _note_pending_load(self, pipeline: dlt.Pipeline, schema: Schema) -> str | None:
        """Note in the destination what a killed load recovers from; return the load's id."""
        with self._connected() as client:
            if client is None:
                return None
            load_ids = pipeline.list_normalized_load_packages()
            if self._overrides:
                log_pending_overrides(client, load_ids, self._overrides)
            # a load without files stores no schema
            if load_ids and _has_sql_tables(pipeline):
                let_schema_be_stored(client, schema)
            pending = log_pending_load(pipeline, schema, client, self._deletions)
            if self._deletions:
                delete_replaced_rows(pipeline, client, self._deletions)
            return pending

    def _note_known_rows(self, pipeline: dlt.Pipeline, known: KnownRows) -> Mapping[str, str]:
        """Note the known rows for the next part and return them; nothing if this part is the last."""
        rows = known.read()
        load_ids = pipeline.list_normalized_load_packages()
        with self._connected() as client:
            if client is not None and rows and load_ids:
                note_known_rows(client, known.root, load_ids[0], rows, known.earlier)
        return rows

    def read_known_rows(self, root: str, load_id: str) -> Mapping[str, str]:
        """Return what a part of an unfinished load has noted, by resource; nothing if it is gone."""
        with self._locked(), self._connected() as client:
            return {} if client is None else read_known_rows(client, root, load_id)

    @property
    def can_note_rows(self) -> bool:
        """True if a text of any length can be noted beside the tables."""
        return can_note_texts(self.destination)

    @property
    def can_swap(self) -> bool:
        """True if rows can be staged by several loads and exchanged in one transaction."""
        # which rows each load has staged is noted
        return can_note_texts(self.destination)

    def has_staged_parts(self, root: str, load_ids: Collection[str]) -> bool:
        """Return True if the rows that these loads have staged for a family are all there."""
        schema = self.schema() or Schema(self.dataset)
        with self._locked(), self._connected() as client:
            return client is not None and has_staged_parts(client, schema, root, load_ids)

    def _stage_part(
        self, pipeline: dlt.Pipeline, source: DltSource, swap: Swap, rows: Mapping[str, int]
    ) -> ReplacePart | None:
        """Have the next load be a part of a swap; None if it is the only one."""
        schema, destination = pipeline.default_schema, pipeline.destination
        tables = replaced_tables(schema, source.resources.selected)
        part = ReplacePart(swap.root, tables, swap.earlier, swap.is_last())
        if part.is_last and not part.earlier:
            return None
        if isinstance(destination, ReplacingDestination):
            destination.part = part
        check_part_client(pipeline, part)
        with self._connected() as client:
            if client is None:
                return part
            # right before the exchange, as rows that are missing then are lost
            if part.is_last and not has_staged_parts(client, schema, part.root, part.earlier):
                raise IngestError(
                    f"the rows that were staged for {', '.join(sorted(tables))} are no longer there. "
                    "The table keeps its old rows, and the next run starts anew"
                )
            for load_id in pipeline.list_normalized_load_packages():
                note_staged_part(client, schema, part, load_id, rows)
        return part

    def _enter(self, families: Collection[str], phase: str) -> None:
        for family in families:
            self.progress.phase(family, phase)


def _delete_load_files(info: LoadInfo) -> None:
    """Delete the files of a load that is complete: together a run's files are as large as its rows."""
    for package in info.load_packages:
        files = Path(package.package_path) / PackageStorage.COMPLETED_JOBS_FOLDER
        shutil.rmtree(files, ignore_errors=True)


def _has_files(pipeline: dlt.Pipeline) -> bool:
    """Return True if the destination is a folder of files, on a disk or in a bucket."""
    return pipeline.destination.destination_type == "dlt.destinations.filesystem"


def _has_sql_tables(pipeline: dlt.Pipeline) -> bool:
    """Return True if the destination's tables are those of a database, not files."""
    return issubclass(pipeline.destination.client_class, SqlJobClientWithStagingDataset)


def _sql_client_of(pipeline: dlt.Pipeline) -> SqlClient | None:
    """Return the destination's SQL client; None if it has no SQL. Keep it: making one is slow."""
    try:
        return pipeline.sql_client()
    except (SqlClientNotAvailable, ConfigurationException):
        return None


def _count_loaded_tables(
    schema: Schema, source: DltSource, client: SqlClient | None
) -> Mapping[str, int | None]:
    """Return the row counts of the source's tables; None for each if the destination has no SQL."""
    tables = {
        table_identifier(schema, str(resource.table_name))
        for resource in source.resources.selected.values()
    }
    return {table: None if client is None else read_row_count(client, table) for table in tables}


def _read_stored_schema(pipeline: dlt.Pipeline, name: str) -> Schema | None:
    """Return the destination's schema for a pipeline without a state there.

    Its tables exist, so the next load has to keep the types of their columns.
    """
    if pipeline.default_schema_name:
        return None
    schema = Schema(name)
    with pipeline.destination_client() as client:
        if not isinstance(client, WithStateSync):
            return None
        stored = client.get_stored_schema(schema.name)
    return Schema.from_dict(json.loads(stored.schema)) if stored else None
