"""Open a dlt pipeline for a run, and discard it after a failure. What is loaded with it: package_load.py.

Also what is asked of the destination between two loads: rows, keys, notes of unfinished loads.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import dlt
from dlt.common import json
from dlt.common.destination import AnyDestination
from dlt.common.schema import Schema

from restsource_dagster.connector.model import Resource
from restsource_dagster.engine.columnar.column_loader import ParquetFiles
from restsource_dagster.engine.destination.recovery import (
    PendingOverride,
    are_loads_complete,
    clear_pending_overrides,
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
    has_staged_parts,
)
from restsource_dagster.engine.destination.sql_destinations import (
    LeasedDestination,
    ReplacingDestination,
    can_note_texts,
    can_replace_rows,
)
from restsource_dagster.engine.destination.stored_state import (
    check_clock,
    remove_outdated_schemas,
    remove_outdated_states,
)
from restsource_dagster.engine.destination.tables import (
    SqlClient,
    TableQuestions,
    end_other_sessions,
    has_files,
    has_sql_tables,
    read_row_count,
)
from restsource_dagster.engine.destination.warehouse import Warehouse
from restsource_dagster.engine.dlt_compat import (
    ConfigurationException,
    SqlClientNotAvailable,
    WithStateSync,
    table_identifier,
)
from restsource_dagster.engine.errors import DatabaseBusyError, IngestError
from restsource_dagster.engine.incremental.cursor_overrides import AppliedOverrides, RowDeletion
from restsource_dagster.engine.incremental.unfinished import read_unfinished_roots
from restsource_dagster.engine.run_progress import Progress

__all__ = ["PipelineManager"]


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
    overrides: Mapping[str, PendingOverride] = field(default_factory=dict)
    """The cursors, by resource, that the next load replaces."""
    deletions: dict[str, RowDeletion] = field(default_factory=dict)
    """The rows, by the table's name in the destination, that the next load replaces."""
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
            # of the pipeline before, which has failed: what is pending now is read from the
            # destination
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
        with self.locked():
            with self.connected() as client:
                if client is not None:
                    schema = Schema(self.dataset)
                    # first: what they have not committed must not appear later
                    ended = end_other_sessions(client)
                    undone = undo_incomplete_loads(client, schema.loads_table_name)
                    self.pending_overrides = read_pending_overrides(client, schema.loads_table_name)
                    if has_sql_tables(pipeline):
                        remove_outdated_states(client, self.name, schema)
                        remove_outdated_schemas(client, schema)
            if has_files(pipeline):
                files = pipeline.destination_client()
                undone = undo_incomplete_file_loads(files, Schema(self.dataset))
            # after the rows of killed loads are gone, so that state and tables agree
            pipeline.sync_destination()
            if not has_sql_tables(pipeline):
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
    def locked(self) -> Iterator[None]:
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
    def connected(self) -> Iterator[SqlClient | None]:
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
        self.overrides = overrides.pending
        self.deletions = {}
        for deletion in overrides.deletions:
            table = table_identifier(self.schema() or Schema(self.dataset), deletion.table)
            self.deletions[table] = replace(deletion, table=table)
        if self.deletions and not can_replace_rows(pipeline.destination):
            raise IngestError(
                f"rows of {', '.join(self.deletions)} would have to be replaced in one "
                f"transaction, and {pipeline.destination.destination_name} has none. A window or a "
                'cursor that is set needs a "primary_key" there, so that rows are merged. In place '
                "of a full refresh, reset the resource and run it"
            )
        # other destinations were refused above if there is something to replace
        if isinstance(pipeline.destination, ReplacingDestination):
            pipeline.destination.deletions = self.deletions
            pipeline.destination.part = None
        for text in overrides.messages:
            self.progress.message(text)

    def count_rows(self, table: str) -> int | None:
        """Return the number of rows of a table, by its name in the file.

        None if the destination has no SQL.
        """
        name = table_identifier(self.schema() or Schema(self.dataset), table)
        with self.locked(), self.connected() as client:
            return None if client is None else read_row_count(client, name)

    def read_keys(self, resource: Resource) -> TableKeys:
        """Return the keys of a resource's table, without those of rows that are marked as deleted.

        Raises `IngestError` if the destination has no SQL, there is no table, or its keys can't be compared.
        """
        schema = self.schema() or Schema(self.dataset)
        with self.locked(), self.connected() as client:
            if client is None or not has_sql_tables(self.open()):
                raise IngestError(
                    f"{self.destination.destination_name} has no tables to ask by SQL"
                )
            return read_keys(client, schema, resource)

    def remove_rows(self, rows: ChildrenOf) -> int:
        """Remove or mark rows in a transaction of their own; return how many. Raises `IngestError`."""
        schema = self.schema() or Schema(self.dataset)
        with self.locked(), self.connected() as client:
            return 0 if client is None else delete_children(client, schema, rows)

    @property
    def can_take_back(self) -> bool:
        """True if the destination can delete the rows that a load has appended."""
        return self._client is not None and has_sql_tables(self.open())

    def are_complete(self, load_ids: Sequence[str]) -> bool:
        """Return True if all of these loads are complete, and none was taken back."""
        if not load_ids:
            return True
        with self.locked(), self.connected() as client:
            schema = Schema(self.dataset)
            return client is not None and are_loads_complete(
                client, schema.loads_table_name, load_ids
            )

    def take_back(self, load_ids: Sequence[str]) -> None:
        """Remove the rows that complete loads have appended, and their states. Discards the pipeline."""
        schema = self.schema()
        with self.locked(), self.connected() as client:
            if client is not None and schema is not None:
                take_back_loads(client, schema, load_ids)
        self.discard()

    def forget_overrides(self, resources: Collection[str] | None) -> None:
        """Forget the pending overrides of resources, all with None. The destination is locked."""
        # without a pending one the table of overrides may not exist
        if self.pending_overrides:
            with self.connected() as client:
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

    def read_known_rows(self, root: str, load_id: str) -> Mapping[str, str]:
        """Return what a part of an unfinished load has noted, by resource; nothing if it is gone."""
        with self.locked(), self.connected() as client:
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
        with self.locked(), self.connected() as client:
            return client is not None and has_staged_parts(client, schema, root, load_ids)


def _sql_client_of(pipeline: dlt.Pipeline) -> SqlClient | None:
    """Return the destination's SQL client; None if it has no SQL. Keep it: making one is slow."""
    try:
        return pipeline.sql_client()
    except (SqlClientNotAvailable, ConfigurationException):
        return None


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
