"""From a load to the outcomes of its resources."""

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dlt
from dlt.common.schema import Schema

from restsource_dagster.config.connector import Resource
from restsource_dagster.engine.changes import Tables, changes_of, read_tables
from restsource_dagster.engine.columnar.feed import ColumnFeed
from restsource_dagster.engine.cursors import read_move
from restsource_dagster.engine.outcome import Load, Outcome
from restsource_dagster.engine.pipelines import Loaded
from restsource_dagster.engine.redaction import Redactor
from restsource_dagster.engine.source import FamilySource
from restsource_dagster.engine.tables import read_columns

__all__ = ["Before", "outcomes_of"]

_REASON = 300  # characters: it shows the value that did not fit


@dataclass(frozen=True)
class Before:
    """How things stood before a load."""

    started: float
    state: Mapping[str, Any]
    tables: Tables
    window: tuple[Any, Any] | None
    """The ends of the window of history that is loaded; None for a live run."""
    cursors_set: Mapping[str, tuple[Any, Any]]
    """By resource, the stored cursor and the value that a person put in its place."""


def outcomes_of(
    connector: str,
    resources: Collection[Resource],
    source: FamilySource,
    pipeline: dlt.Pipeline,
    loaded: Loaded,
    before: Before,
    redactor: Redactor,
) -> Iterator[Outcome]:
    """What became of resources that were loaded, of one family."""
    schema, state = pipeline.default_schema, pipeline.state
    after = read_tables(schema)
    for resource in resources:
        tally = source.tallies[resource.name]
        table = schema.naming.normalize_table_identifier(resource.table)
        move = read_move(before.state, state, connector, resource)
        yield Outcome(
            resource=resource.name,
            table=table,
            seconds=time.monotonic() - before.started,
            usage=tally.meter.usage,
            received=tally.received,
            promised=tally.promised,
            skipped=tuple(map(redactor, tally.skipped)),
            rows_loaded=loaded.rows.get(table, 0),
            row_count=loaded.counts.get(table),
            dataset=pipeline.dataset_name,
            destination=pipeline.destination.destination_name,
            cursor=None if before.window else move,
            cursor_set=before.cursors_set.get(resource.name),
            window=before.window,
            columns=read_columns(schema, table),
            written=redactor.start_of(_written(source.feeds.get(resource.name)), _REASON),
            schema_changes=changes_of(table, before.tables, after),
            nested_tables=_nested(schema, table, loaded.rows),
            load=Load(pipeline, source.source.resources[resource.name], loaded.info),
        )


def _nested(schema: Schema, table: str, rows: Mapping[str, int]) -> Mapping[str, int]:
    prefix = f"{table}{schema.naming.PATH_SEPARATOR}"
    return {name: count for name, count in rows.items() if name.startswith(prefix)}


def _written(feed: ColumnFeed | None) -> str:
    if feed is None:
        return "rows"
    if feed.refusal is None:
        return "columns"
    some = f"columns for the first {feed.rows:,} rows, then rows" if feed.rows else "rows"
    return f"{some}: {feed.refusal}"
