"""Whole runs, one by one and ahead, to be compared."""

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
from restsource_dagster_tests.making import make_settings

__all__ = ["Ran", "ran", "twins"]


@dataclass(frozen=True)
class Ran:
    """All that a run leaves behind, but for how long it took and how often it asked."""

    tables: dict[str, Any]
    """The rows of each table in the order in which they were loaded; what is merged, and what is
    nested, dlt loads in any order."""
    state: Any
    outcomes: dict[str, Any]


def twins(
    folder: Path, base_url: str, *resources: Any, most: int, http: Any = None, client: Any = None
) -> Sequence[tuple[Connector, Settings]]:
    """A connector that sends one request at a time and one that sends many, each with a database."""
    made = []
    for concurrency in (1, most):
        connector = connector_of(
            base_url,
            *resources,
            http={**(http or {}), "max_concurrency": concurrency},
            client=client,
        )
        made.append((connector, make_settings(folder / str(concurrency))))
    return made


def ran(connector: Connector, settings: Settings) -> Ran:
    """Run a connector without waiting for anything."""
    outcomes = ingest(connector, settings=settings, environment={}, sleep=lambda _: None)
    told = {outcome.resource: _told(outcome) for outcome in outcomes}
    database = settings.data_dir / DATABASE_NAME
    if not database.exists():
        return Ran({}, None, told)
    with duckdb.connect(str(database), read_only=True) as connection:
        return Ran(_tables(connection, connector), _state(connection), told)


def _told(outcome: Outcome) -> Any:
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
    """What dlt keeps of the resources, the newest."""
    if not connection.execute(
        "SELECT 1 FROM information_schema.tables WHERE table_name = '_dlt_pipeline_state'"
    ).fetchall():
        return None
    stored = connection.execute(
        "SELECT state FROM shop._dlt_pipeline_state ORDER BY version DESC, created_at DESC LIMIT 1"
    ).fetchall()
    return decompress_state(stored[0][0]).get("sources") if stored else None
