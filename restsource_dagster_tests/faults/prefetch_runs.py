"""Run a connector with and without prefetching, to compare the results."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from dlt.common.versioned_state import decompress_state

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.destination.warehouse import DATABASE_NAME
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import connector_of
from restsource_dagster_tests.making import make_settings, warehouse

__all__ = ["RunResult", "run_result", "with_and_without_prefetch"]


@dataclass(frozen=True)
class RunResult:
    """All that a run leaves behind, apart from its time and its requests."""

    tables: dict[str, Any]
    """The rows of each table in the order of the load; sorted where dlt loads in any order, as it does
    merged and nested tables."""
    state: Any
    outcomes: dict[str, Any]


def with_and_without_prefetch(
    folder: Path,
    base_url: str,
    *resources: Any,
    max_concurrency: int,
    http: Any = None,
    client: Any = None,
) -> Sequence[tuple[Connector, Settings]]:
    """A connector that sends one request at a time and one that prefetches, each with a database."""
    made = []
    for concurrency in (1, max_concurrency):
        connector = connector_of(
            base_url,
            *resources,
            http={**(http or {}), "max_concurrency": concurrency},
            client=client,
        )
        made.append((connector, make_settings(folder / str(concurrency))))
    return made


def run_result(connector: Connector, settings: Settings) -> RunResult:
    """Run a connector without any waits."""
    outcomes = ingest(connector, settings=settings, environment={}, sleep=lambda _: None)
    outcomes_by_name = {outcome.resource: _fields_of(outcome) for outcome in outcomes}
    database = settings.data_dir / DATABASE_NAME
    if not database.exists():
        return RunResult({}, None, outcomes_by_name)
    with warehouse(settings) as connection:
        return RunResult(_tables(connection, connector), _state(connection), outcomes_by_name)


def _fields_of(outcome: Outcome) -> Any:
    return (
        outcome.failure,
        outcome.records_received,
        outcome.stated_total,
        outcome.skipped,
        outcome.rows_loaded,
        outcome.row_count,
        dict(outcome.nested_tables),
        outcome.cursor and (outcome.cursor.start_value, outcome.cursor.last_value),
        outcome.schema_changes,
    )


def _tables(connection: duckdb.DuckDBPyConnection, connector: Connector) -> dict[str, Any]:
    resources = connector.resources
    ordered = {one.table for one in resources if one.disposition.value != "merge"}
    found = {}
    names = connection.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'shop' "
        "AND NOT starts_with(table_name, '_')"
    ).fetchall()
    for (name,) in names:
        described = connection.execute(f'DESCRIBE shop."{name}"').fetchall()
        columns = sorted(column for column, *_ in described if not column.startswith("_dlt"))
        listed = ", ".join(f'"{column}"' for column in columns)
        rows = connection.execute(f'SELECT {listed} FROM shop."{name}"').fetchall()
        found[name] = (columns, rows if name in ordered else sorted(rows, key=repr))
    return found


def _state(connection: duckdb.DuckDBPyConnection) -> Any:
    """Return the newest state of the resources in the destination."""
    if not connection.execute(
        "SELECT 1 FROM information_schema.tables WHERE table_name = '_dlt_pipeline_state'"
    ).fetchall():
        return None
    stored = connection.execute(
        "SELECT state FROM shop._dlt_pipeline_state ORDER BY version DESC, created_at DESC LIMIT 1"
    ).fetchall()
    sources: Any = decompress_state(stored[0][0]).get("sources") if stored else None
    for source in (sources or {}).values():
        for unfinished in source.get("restsource", {}).get("unfinished", {}).values():
            # the ids of loads are times
            unfinished["load_ids"] = len(unfinished["load_ids"])
            # a load's id, too
            unfinished.pop("known_rows", None)
    return sources
