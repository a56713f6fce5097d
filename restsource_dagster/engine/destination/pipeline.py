"""dlt's pipeline for one run: opened clean, thrown away after a failure.

Python's garbage collector, told that a load makes many objects that need no collecting.
"""

import gc
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import dlt
from dlt.common import json
from dlt.common.pipeline import LoadInfo
from dlt.common.schema import Schema
from dlt.extract import DltSource

from restsource_dagster.engine.columnar.parquet_files import ParquetFiles
from restsource_dagster.engine.destination.recovery import (
    PendingOverride,
    clear_pending_load,
    clear_pending_overrides,
    log_pending_load,
    log_pending_overrides,
    read_pending_overrides,
    sql_client_of,
    undo_incomplete_loads,
)
from restsource_dagster.engine.destination.replace_rows import (
    ReplacingDestination,
    RowDeletion,
    can_replace_rows,
    check_row_replacement,
    delete_replaced_rows,
)
from restsource_dagster.engine.destination.tables import (
    SqlClient,
    ensure_connected,
    read_row_count,
)
from restsource_dagster.engine.destination.warehouse import Warehouse
from restsource_dagster.engine.dlt_compat import WithStateSync, count_normalized_rows
from restsource_dagster.engine.errors import DatabaseBusyError, IngestError
from restsource_dagster.engine.incremental.cursor_overrides import AppliedOverrides
from restsource_dagster.engine.run.outcome import Progress

__all__ = ["LoadSummary", "PipelineManager", "infrequent_gc"]

_GC_THRESHOLDS = (50_000, 20, 50)
"""A page of a thousand rows makes some thousands of containers that are gone with it."""


@contextmanager
def infrequent_gc() -> Iterator[None]:
    """Collect garbage more rarely while rows are read: half of the time goes into it otherwise.

    Reference counts free the rows; only cycles wait for a collection, and these still happen.
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
    """What a load did."""

    rows: Mapping[str, int]
    """The rows loaded, by table."""
    counts: Mapping[str, int | None]
    """The rows in the tables of the resources now; None where the destination can't say."""
    info: LoadInfo
    """dlt's account of it."""


@dataclass
class PipelineManager:
    """One pipeline after the other, each in a folder of its own below `folder`.

    A failed family may have moved cursors in the pipeline's local state. Throwing that state away
    and reading the destination's again is what keeps a cursor from moving without its rows.
    """

    name: str
    warehouse: Warehouse
    progress: Progress
    folder: Path
    dataset: str
    """The connector's name, also that of its schema: pipelines of one connector share both."""
    stored_schema: Schema | None = None
    """The destination's schema where this pipeline has no state yet: after a first load that crashed,
    or if the connector's other pipeline was first."""
    client: SqlClient | None = None
    """The destination's SQL client, if it has one, once a pipeline is open."""
    unfinished: Mapping[str, PendingOverride] = field(default_factory=dict)
    """Changes of cursors, by resource, over which an earlier run died."""
    _overrides: Mapping[str, PendingOverride] = field(default_factory=dict)
    _deletions: dict[str, RowDeletion] = field(default_factory=dict)
    _pipeline: dlt.Pipeline | None = None
    _busy: DatabaseBusyError | None = None
    _opened: int = field(default=0)

    def open(self) -> dlt.Pipeline:
        """The pipeline, its state and schema as the destination has them."""
        if self._pipeline is None:
            self._opened += 1
            pipeline = dlt.pipeline(
                pipeline_name=self.name,
                pipelines_dir=str(self.folder / str(self._opened)),
                destination=self.warehouse.destination(),
                dataset_name=self.dataset,
            )
            with self._held():
                self.client = sql_client_of(pipeline)
                loads = Schema(self.dataset).loads_table_name
                with ensure_connected(self.client):
                    undone = undo_incomplete_loads(self.client, self.dataset)
                    self.unfinished = read_pending_overrides(self.client, loads)
                pipeline.sync_destination()
                self.stored_schema = _read_stored_schema(pipeline, self.dataset)
            if undone:
                self.progress.message(
                    f"{self.dataset}: the last run died in mid-load; what it had appended is removed "
                    "and asked for again"
                )
            self._pipeline = pipeline
        return self._pipeline

    def schema(self) -> Schema | None:
        """What is known of the tables of the open pipeline. dlt reads it from its file each time."""
        pipeline = self.open()
        return pipeline.default_schema if pipeline.default_schema_name else self.stored_schema

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Have the destination to oneself; once waiting was in vain, nobody waits again."""
        if self._busy:
            raise self._busy
        try:
            with self.warehouse.locked(self.progress.message):
                yield
        except DatabaseBusyError as error:
            self._busy = error
            raise

    def prepare_load(self, moves: AppliedOverrides) -> None:
        """Know what the next load replaces and changes. Raises `IngestError` if it can't."""
        pipeline = self.open()
        self._overrides = moves.pending
        self._deletions.clear()
        for one in moves.deletions:
            naming = (self.schema() or Schema(self.dataset)).naming
            table = naming.normalize_table_identifier(one.table)
            self._deletions[table] = replace(one, table=table)
        if self._deletions and not can_replace_rows(pipeline.destination):
            raise IngestError(
                f"rows of {', '.join(self._deletions)} would have to be replaced in one "
                f"transaction, and {pipeline.destination.destination_name} has none. A window or a "
                'cursor that is set needs a "primary_key" there, so that rows are merged; in place '
                "of a full refresh reset the resource and run it"
            )
        if isinstance(pipeline.destination, ReplacingDestination):
            pipeline.destination.deletions = self._deletions
        for text in moves.messages:
            self.progress.message(text)

    def count_rows(self, table: str) -> int | None:
        """The rows of a table; None if the destination can't say."""
        with self._held():
            return read_row_count(self.client, table)

    def discard(self) -> None:
        """Start from a clean pipeline next time."""
        self._pipeline = None

    def parts(self) -> AbstractContextManager[ParquetFiles | None]:
        """Where the rows of a load are written as columns; None if the destination takes none."""
        if self.warehouse.loader_file_format != "parquet":
            return nullcontext()
        self._opened += 1
        return ParquetFiles(self.folder / f"{self._opened} columns")

    def run(
        self,
        pipeline: dlt.Pipeline,
        families: Collection[str],
        source: DltSource,
        parts: ParquetFiles | None,
    ) -> LoadSummary:
        """Extract, normalize and load, in one package."""
        self._enter(families, "extract")
        with infrequent_gc():
            extracted = pipeline.extract(
                source, loader_file_format=self.warehouse.loader_file_format
            )
        if parts and not parts.is_empty:
            package = pipeline.get_load_package_info(extracted.loads_ids[0]).package_path
            parts.move_into(Path(package))
        self._enter(families, "normalize")
        rows = count_normalized_rows(pipeline.normalize())
        self._enter(families, "load")
        with self._held():
            check_row_replacement(pipeline, self._deletions)
            with ensure_connected(self.client):
                log_pending_overrides(
                    self.client, pipeline.list_normalized_load_packages(), self._overrides
                )
                noted = log_pending_load(pipeline, self.client, self._deletions)
                delete_replaced_rows(pipeline, self.client, self._deletions)
            # not during the load: a connection that is idle for long may be cut off
            info = pipeline.load()
            with ensure_connected(self.client):
                clear_pending_load(self.client, noted)
                clear_pending_overrides(self.client, self._overrides)
                naming = pipeline.default_schema.naming
                tables = {
                    naming.normalize_table_identifier(str(resource.table_name))
                    for resource in source.resources.selected.values()
                }
                counts = {table: read_row_count(self.client, table) for table in tables}
        return LoadSummary(rows, counts, info)

    def _enter(self, families: Collection[str], phase: str) -> None:
        for family in families:
            self.progress.phase(family, phase)


def _read_stored_schema(pipeline: dlt.Pipeline, name: str) -> Schema | None:
    """What a first load that crashed has left: tables, whose types the next one must know."""
    if pipeline.default_schema_name:
        return None
    schema = Schema(name)
    with pipeline.destination_client() as client:
        if not isinstance(client, WithStateSync):
            return None
        stored = client.get_stored_schema(schema.name)
    return Schema.from_dict(json.loads(stored.schema)) if stored else None
