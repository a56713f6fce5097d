"""dlt's pipeline for one run: opened clean, thrown away after a failure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dlt
from dlt.common.destination.client import WithStateSync
from dlt.common.json import json
from dlt.common.pipeline import LoadInfo
from dlt.common.schema import Schema
from dlt.extract import DltSource

from restsource_dagster.engine.destination import Warehouse
from restsource_dagster.engine.progress import Progress
from restsource_dagster.engine.recovery import (
    SqlClient,
    forget_load,
    note_load,
    sql_client_of,
    undo_broken_loads,
)
from restsource_dagster.engine.tables import read_row_count

__all__ = ["Pipelines"]


@dataclass
class Pipelines:
    """One pipeline after the other, each in a folder of its own below `folder`.

    A failed family may have moved cursors in the pipeline's local state. Throwing that state away
    and reading the destination's again is what keeps a cursor from moving without its rows.
    """

    name: str
    warehouse: Warehouse
    progress: Progress
    folder: Path
    stored_schema: Schema | None = None
    """The destination's schema where there is no state beside it: a first load that crashed."""
    client: SqlClient | None = None
    """The destination's SQL client, if it has one, once a pipeline is open."""
    _pipeline: dlt.Pipeline | None = None
    _opened: int = field(default=0)

    def open(self) -> dlt.Pipeline:
        """The pipeline, its state and schema as the destination has them."""
        if self._pipeline is None:
            self._opened += 1
            pipeline = dlt.pipeline(
                pipeline_name=self.name,
                pipelines_dir=str(self.folder / str(self._opened)),
                destination=self.warehouse.destination(),
                dataset_name=self.name,
            )
            with self.warehouse.held(self.progress.message):
                self.client = sql_client_of(pipeline)
                undone = undo_broken_loads(self.client, self.name)
                pipeline.sync_destination()
                self.stored_schema = _stored_schema(pipeline)
            if undone:
                self.progress.message(
                    f"{self.name}: the last run died in mid-load; what it had appended is removed "
                    "and asked for again"
                )
            self._pipeline = pipeline
        return self._pipeline

    def count_rows(self, table: str) -> int | None:
        """The rows of a table; None if the destination can't say."""
        with self.warehouse.held(self.progress.message):
            return read_row_count(self.client, table)

    def abandon(self) -> None:
        """Start from a clean pipeline next time."""
        self._pipeline = None

    def run(
        self, pipeline: dlt.Pipeline, family: str, source: DltSource
    ) -> tuple[Mapping[str, int], LoadInfo]:
        """Extract, normalize and load; returns the rows per table and dlt's account of the load."""
        self.progress.phase(family, "extract")
        pipeline.extract(source, loader_file_format=self.warehouse.loader_file_format)
        self.progress.phase(family, "normalize")
        rows: Mapping[str, Any] = pipeline.normalize().row_counts
        self.progress.phase(family, "load")
        with self.warehouse.held(self.progress.message):
            noted = note_load(pipeline, self.client)
            info = pipeline.load()
            forget_load(self.client, noted)
        return rows, info


def _stored_schema(pipeline: dlt.Pipeline) -> Schema | None:
    """What a first load that crashed has left: tables, whose types the next one must know."""
    if pipeline.default_schema_name:
        return None
    schema = Schema(pipeline.pipeline_name)
    with pipeline.destination_client() as client:
        if not isinstance(client, WithStateSync):
            return None
        stored = client.get_stored_schema(schema.name)
    return Schema.from_dict(json.loads(stored.schema)) if stored else None
