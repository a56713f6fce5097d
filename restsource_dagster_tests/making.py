"""Short ways to make what most tests need: a connector, a run, a look at the tables."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.validation.connector_builder import parse_connector
from restsource_dagster.engine.destination.warehouse import DATABASE_NAME
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.engine.run_progress import Observer
from restsource_dagster.settings import Settings
from restsource_dagster_tests.destinations import copy_of_postgres, destination_of, url_of

__all__ = [
    "count_rows",
    "load",
    "make_connector",
    "make_settings",
    "query",
    "reading",
    "warehouse",
    "writing",
]


def make_connector(
    base_url: str,
    *resources: Any,
    name: str = "shop",
    client: Mapping[str, Any] | None = None,
    http: Mapping[str, Any] | None = None,
) -> Connector:
    """A connector of these resources; fails the test if the file would be refused."""
    value = {
        "name": name,
        "schedule": {"mode": "manual"},
        "client": {"base_url": base_url, **(client or {})},
        "resources": list(resources),
        **({"http": dict(http)} if http else {}),
    }
    connector, findings = parse_connector(value, Path(f"configs/{name}.json"))
    assert connector is not None, findings
    return connector


def make_settings(folder: Path) -> Settings:
    """Settings that keep everything below `folder`."""
    return Settings(
        configs=folder / "configs",
        destination=destination_of(folder / "data"),
        data_dir=folder / "data",
        state_dir=folder / "state",
    )


def load(
    connector: Connector,
    settings: Settings,
    *,
    resources: Collection[str] | None = None,
    environment: Mapping[str, str] | None = None,
    observer: Observer | None = None,
) -> dict[str, Outcome]:
    """Run a connector and return its outcomes by resource."""
    outcomes = ingest(
        connector,
        settings=settings,
        environment=environment or {},
        resources=resources,
        observer=observer,
    )
    return {outcome.resource: outcome for outcome in outcomes}


@contextmanager
def reading(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that only reads this DuckDB file, for a block in which nobody writes to it.

    To start a DuckDB takes as long as a dozen statements, so all files are attached to one.
    """
    connection = _reader().cursor()
    name = path.stem.replace('"', '""')
    connection.execute(f"ATTACH '{path}' AS \"{name}\" (READ_ONLY)")
    try:
        connection.execute(f'USE "{name}"')
        yield connection
    finally:
        connection.execute(f'USE memory; DETACH "{name}"')
        connection.close()


@cache
def _reader() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def warehouse(settings: Settings) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    """A connection that only reads the warehouse, for a block without a load."""
    if settings.destination != "duckdb":
        return copy_of_postgres(url_of(settings.data_dir)[1])
    return reading(settings.data_dir / DATABASE_NAME)


def writing(settings: Settings) -> AbstractContextManager[Any]:
    """A connection that changes the warehouse behind the back of the runs."""
    if settings.destination == "duckdb":
        return duckdb.connect(str(settings.data_dir / DATABASE_NAME))
    import psycopg

    return psycopg.connect(url_of(settings.data_dir)[1], autocommit=True)


def query(settings: Settings, sql: str) -> list[tuple[Any, ...]]:
    """The rows that a query of the warehouse gives."""
    with warehouse(settings) as connection:
        return connection.execute(sql).fetchall()


def count_rows(settings: Settings, table: str, schema: str = "shop") -> int:
    """How many rows a table has; 0 without it."""
    if settings.destination == "duckdb" and not (settings.data_dir / DATABASE_NAME).exists():
        return 0
    is_there = query(
        settings,
        "SELECT 1 FROM information_schema.tables "
        f"WHERE table_schema = '{schema}' AND table_name = '{table}'",
    )
    return query(settings, f"SELECT count(*) FROM {schema}.{table}")[0][0] if is_there else 0
