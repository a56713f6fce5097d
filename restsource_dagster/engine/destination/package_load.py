"""One load of dlt: extract, normalize and load a source in one package, with what makes it safe to be killed.

What a killed load recovers from is noted in the destination before dlt changes a table, and removed after.
"""

import gc
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import dlt
from dlt.common.pipeline import LoadInfo
from dlt.common.schema import Schema
from dlt.extract import DltSource

from restsource_dagster.engine.columnar.column_loader import ParquetFiles
from restsource_dagster.engine.destination.pipeline import PipelineManager
from restsource_dagster.engine.destination.recovery import (
    KnownRows,
    clear_pending_load,
    clear_pending_overrides,
    forget_file_load,
    forget_known_rows,
    log_pending_load,
    log_pending_overrides,
    note_file_load,
    note_known_rows,
)
from restsource_dagster.engine.destination.removed_rows import ChildrenOf, delete_children
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
from restsource_dagster.engine.destination.sql_destinations import ReplacingDestination
from restsource_dagster.engine.destination.stored_state import (
    WithdrawnSettings,
    drop_not_null,
    let_schema_be_stored,
    withdraw_settings,
)
from restsource_dagster.engine.destination.tables import (
    SqlClient,
    TableFacts,
    has_files,
    has_sql_tables,
    read_row_count,
    read_table_facts,
)
from restsource_dagster.engine.dlt_compat import (
    PackageStorage,
    count_normalized_rows,
    table_identifier,
)
from restsource_dagster.engine.errors import IngestError

__all__ = ["LoadSummary", "PackageLoad"]

_GC_THRESHOLDS = (50_000, 20, 50)
"""A page of a thousand rows makes some thousands of containers, which live as long as the page."""


@contextmanager
def _infrequent_gc() -> Iterator[None]:
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
    """By root table, one sentence for each setting that the file no longer has."""
    facts: Mapping[str, TableFacts] = field(default_factory=dict)
    """What the checks of the tables ask, by table."""
    removed: Mapping[str, int] = field(default_factory=dict)
    """The rows that were removed or marked before the load, by the table's name in the file."""


@dataclass(frozen=True)
class PackageLoad:
    """Loads a source into the open pipeline. Call `PipelineManager.prepare_load` before."""

    pipelines: PipelineManager
    families: Collection[str]
    """The names of their root resources, for progress messages."""
    source: DltSource
    columns: ParquetFiles | None = None
    """The files that the source writes while dlt extracts it."""
    check: Callable[[], None] = lambda: None
    """Called after the extraction; if it raises, nothing is loaded."""
    swap: Swap | None = None
    """Makes the package a part of a load. The tables that it replaces change with the last part."""
    known: KnownRows | None = None
    """The rows to note for the next part."""
    removed: Callable[[], Iterable[ChildrenOf]] = tuple
    """Called after the extraction: returns the rows to remove before the load."""

    def run(self) -> LoadSummary:
        """Extract, normalize and load. Raises dlt's errors, and `IngestError`."""
        pipeline, deletions = self._pipeline, self.pipelines.deletions
        # before the extraction: dlt adds the settings of the file to the stored schema while it
        # extracts
        withdrawn = self._withdraw_settings()
        self._enter("extract")
        self._extract()
        self._enter("normalize")
        rows = count_normalized_rows(pipeline.normalize())
        schema = pipeline.default_schema  # dlt reads it from a file on each access
        self._enter("load")
        # the destination is locked from here on: other runs load while this one reads the API
        with self.pipelines.locked():
            # a version of dlt that ignores our client would append the rows and leave the old ones
            if deletions:
                check_row_replacement(pipeline, deletions)
            if withdrawn.nullable:
                self._drop_not_null(withdrawn)
            pending = self._note_pending_load(schema)
            # before the load: a run that is killed in between finds these rows gone again
            gone = self._remove_children(schema)
            part = self._stage_part(schema, rows)
            noted = self._note_known_rows()
            # without a connection of ours: a server may close one that idles during a long load
            info = self._load()
            _delete_load_files(info)
            with self.pipelines.connected() as client:
                if client is not None:
                    if part and part.is_last:
                        drop_staged_rows(client, schema, part)
                    if self.known and self.known.earlier and not noted:
                        forget_known_rows(client, self.known.root)
                    # last: until here a killed run takes the load for incomplete, and does it again
                    clear_pending_load(client, pending)
                    clear_pending_overrides(client, self.pipelines.overrides)
                counts = self._count_rows(schema, client)
                facts = self._read_facts(schema, client, counts, info)
        return LoadSummary(rows, counts, info, schema, withdrawn.changes, facts, gone)

    @cached_property
    def _pipeline(self) -> dlt.Pipeline:
        return self.pipelines.open()

    def _enter(self, phase: str) -> None:
        for family in self.families:
            self.pipelines.progress.phase(family, phase)

    def _withdraw_settings(self) -> WithdrawnSettings:
        """Remove the settings of the source's tables that the file no longer has from the schema."""
        # a pipeline without a schema loads with the source's, which is then the destination's
        pipeline = self._pipeline
        schema = pipeline.default_schema if pipeline.default_schema_name else self.source.schema
        withdrawn = withdraw_settings(schema, self.source.resources.selected.values())
        for changes in withdrawn.changes.values():
            for change in changes:
                self.pipelines.progress.message(change)
        return withdrawn

    def _extract(self) -> None:
        with _infrequent_gc():
            extracted = self._pipeline.extract(
                self.source, loader_file_format=self.pipelines.warehouse.loader_file_format
            )
        self.check()
        # rows that are written as columns never pass dlt's extraction, so their files join here
        if self.columns and not self.columns.is_empty:
            self.columns.move_into(Path(extracted.load_packages[0].package_path))

    def _drop_not_null(self, withdrawn: WithdrawnSettings) -> None:
        """Let the database store nulls where the file allows them now. The destination is locked."""
        # files have a client for reading with SQL, and nothing to alter
        if has_sql_tables(self._pipeline):
            with self.pipelines.connected() as client:
                if client is not None:
                    drop_not_null(client, withdrawn.nullable)

    def _note_pending_load(self, schema: Schema) -> str | None:
        """Note in the destination what a killed load recovers from; return the load's id."""
        pipeline, overrides = self._pipeline, self.pipelines.overrides
        deletions = self.pipelines.deletions
        with self.pipelines.connected() as client:
            if client is None:
                return None
            load_ids = pipeline.list_normalized_load_packages()
            if overrides:
                log_pending_overrides(client, load_ids, overrides)
            # a load without files stores no schema
            if load_ids and has_sql_tables(pipeline):
                let_schema_be_stored(client, schema)
            # noted before the first row changes: a kill from here on is recovered from
            pending = log_pending_load(pipeline, schema, client, deletions)
            if deletions:
                delete_replaced_rows(pipeline, client, deletions)
            return pending

    def _remove_children(self, schema: Schema) -> Mapping[str, int]:
        """Remove rows that the API no longer has; return how many of each table. The destination is locked."""
        removed = list(self.removed())
        if not removed:
            return {}
        counts: Counter[str] = Counter()
        with self.pipelines.connected() as client:
            if client is not None:
                for children in removed:
                    counts[children.table] += delete_children(client, schema, children)
        return counts

    def _stage_part(self, schema: Schema, rows: Mapping[str, int]) -> ReplacePart | None:
        """Have the next load be a part of the swap; None without one, or if it is the only part."""
        if self.swap is None:
            return None
        pipeline, swap = self._pipeline, self.swap
        tables = replaced_tables(schema, self.source.resources.selected)
        part = ReplacePart(swap.root, tables, swap.earlier, swap.is_last())
        if part.is_last and not part.earlier:
            return None
        if isinstance(pipeline.destination, ReplacingDestination):
            pipeline.destination.part = part
        check_part_client(pipeline, part)
        with self.pipelines.connected() as client:
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

    def _note_known_rows(self) -> Mapping[str, str]:
        """Note the known rows for the next part and return them; nothing if this part is the last."""
        if self.known is None:
            return {}
        rows = self.known.read()
        load_ids = self._pipeline.list_normalized_load_packages()
        with self.pipelines.connected() as client:
            if client is not None and rows and load_ids:
                note_known_rows(client, self.known.root, load_ids[0], rows, self.known.earlier)
        return rows

    def _load(self) -> LoadInfo:
        """Load with dlt; a load into files is noted there until it is complete."""
        pipeline = self._pipeline
        noted = pipeline.list_normalized_load_packages() if has_files(pipeline) else ()
        for load_id in noted:
            note_file_load(pipeline.destination_client(), load_id)
        info = pipeline.load()
        # only when all files are written: a note that is left marks the files of its load for
        # removal
        for load_id in noted:
            forget_file_load(pipeline.destination_client(), load_id)
        return info

    def _count_rows(self, schema: Schema, client: SqlClient | None) -> Mapping[str, int | None]:
        """Return the row counts of the source's tables; None for each if the destination has no SQL."""
        tables = {
            table_identifier(schema, str(resource.table_name))
            for resource in self.source.resources.selected.values()
        }
        return {
            table: None if client is None else read_row_count(client, table) for table in tables
        }

    def _read_facts(
        self,
        schema: Schema,
        client: SqlClient | None,
        counts: Mapping[str, int | None],
        info: LoadInfo,
    ) -> Mapping[str, TableFacts]:
        questions, message = self.pipelines.questions, self.pipelines.progress.message
        # files have a client for reading with SQL, which reads all of them for each statement
        if client is None or not questions or not has_sql_tables(self._pipeline):
            return {}
        return read_table_facts(client, schema, questions, counts, info.loads_ids, message)


def _delete_load_files(info: LoadInfo) -> None:
    """Delete the files of a load that is complete: together a run's files are as large as its rows."""
    for package in info.load_packages:
        files = Path(package.package_path) / PackageStorage.COMPLETED_JOBS_FOLDER
        shutil.rmtree(files, ignore_errors=True)
