"""The destination that tests load into: DuckDB, or Postgres with `RESTSOURCE_TEST_DESTINATION=postgres`.

A module or test with `pytestmark = pytest.mark.on_destinations` runs on both, whatever the variable says.
On Postgres each data folder has a database, as on DuckDB it has a file. It is read from a copy in DuckDB, so
that a test has one query for both.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # the process that hands out the tests needs neither
    import duckdb
    import pyarrow as pa

__all__ = [
    "DESTINATIONS",
    "copy_of_postgres",
    "destination",
    "destination_environment",
    "destination_of",
    "parametrize_destinations",
    "url_of",
]

DESTINATIONS = ("duckdb", "postgres")
SERVER = "RESTSOURCE_TEST_POSTGRES_SERVER"
"""Set while a test runs on Postgres: the URL of a database of the server."""
TYPES = {
    "bigint": "int64",
    "integer": "int32",
    "smallint": "int16",
    "double precision": "float64",
    "boolean": "bool",
    "date": "date32",
    "time without time zone": "time64[us]",
    "bytea": "binary",
    "timestamp without time zone": "timestamp[us]",
}
"""Postgres' types and Arrow's."""
MAX_PRECISION = 38
OTHER_TYPES = ("timestamp with time zone", "numeric")


def parametrize_destinations(metafunc: pytest.Metafunc) -> None:
    """Run a test with the mark `on_destinations` once for each destination."""
    if next(metafunc.definition.iter_markers("on_destinations"), None):
        metafunc.parametrize("destination", DESTINATIONS, indirect=True)


@pytest.fixture(autouse=True)
def destination(request: pytest.FixtureRequest) -> str:
    """The name of the destination of the test's runs; for Postgres it has a database of its own."""
    name = str(getattr(request, "param", os.environ.get("RESTSOURCE_TEST_DESTINATION", "duckdb")))
    if name == "postgres":
        monkeypatch = request.getfixturevalue("monkeypatch")
        url = request.getfixturevalue("postgres_url")
        monkeypatch.setenv(SERVER, url)
        # for runs with other settings than `make_settings` makes
        monkeypatch.setenv("RESTSOURCE_DESTINATION", name)
        monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", url)
    return name


def destination_of(data_dir: Path) -> str:
    """The destination for a data folder: a name that dlt finds its database by, made if it is not there."""
    import psycopg

    if SERVER not in os.environ:
        return "duckdb"
    name, url = url_of(data_dir)
    with (
        psycopg.connect(os.environ[SERVER], autocommit=True) as connection,
        suppress(psycopg.errors.DuplicateDatabase),
    ):
        connection.execute(f"CREATE DATABASE {name}")
    os.environ[f"DESTINATION__{name.upper()}__DESTINATION_TYPE"] = "postgres"
    os.environ[f"DESTINATION__{name.upper()}__CREDENTIALS"] = url
    return name


def destination_environment() -> dict[str, str]:
    """What a process needs that was started before the test, to load into the test's destination."""
    return {name: os.environ[name] for name in (SERVER,) if name in os.environ}


def url_of(data_dir: Path) -> tuple[str, str]:
    """The name and the URL of the database for a data folder."""
    name = f"data_{hashlib.sha1(str(data_dir).encode()).hexdigest()[:16]}"  # noqa: S324 - a name
    return name, f"{os.environ[SERVER].rpartition('/')[0]}/{name}"


@contextmanager
def copy_of_postgres(url: str) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A DuckDB in memory with all that a database holds now."""
    import duckdb
    import psycopg

    with (
        psycopg.connect(url, autocommit=True) as source,
        duckdb.connect() as copy,
    ):
        found = source.execute(
            "SELECT table_schema, table_name, array_agg(ARRAY[column_name, data_type, "
            "numeric_precision::text, numeric_scale::text] ORDER BY ordinal_position) "
            "FROM information_schema.columns "
            "WHERE table_schema NOT IN ('pg_catalog', 'information_schema') GROUP BY 1, 2"
        ).fetchall()
        for schema, table, columns in found:
            copy.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
            _copy_table(source, copy, f'"{schema}"."{table}"', columns)
        yield copy


def _copy_table(
    source: Any, copy: "duckdb.DuckDBPyConnection", table: str, columns: Sequence[Sequence[str]]
) -> None:
    import pyarrow as pa

    read = ", ".join(
        f'"{name}"::text' if _is_text(kind) else f'"{name}"' for name, kind, *_ in columns
    )
    rows = source.execute(f"SELECT {read} FROM {table}").fetchall()
    values = list(zip(*rows, strict=True)) or [() for _ in columns]
    arrays = {}
    for (name, kind, *size), column in zip(columns, values, strict=True):
        made: list[Any] = list(column)
        if kind == "jsonb":
            made = [_compact(one) for one in column]
        elif kind == "numeric" and int(size[0]) > MAX_PRECISION:
            # dlt's wei, which are whole numbers, and so they are in its tables in DuckDB
            made = [None if one is None else Decimal(int(one)) for one in column]
        arrays[name] = pa.array(made, _arrow_type(kind, size))
    copy.register("copied", pa.table(arrays))
    shown = ", ".join(
        f'"{name}"::JSON AS "{name}"' if kind == "jsonb" else f'"{name}"'
        for name, kind, *_ in columns
    )
    copy.execute(f"CREATE TABLE {table} AS SELECT {shown} FROM copied")
    copy.unregister("copied")


def _is_text(kind: str) -> bool:
    return kind not in TYPES and kind not in OTHER_TYPES


def _arrow_type(kind: str, size: Sequence[str]) -> "pa.DataType":
    import pyarrow as pa

    if kind == "timestamp with time zone":
        return pa.timestamp("us", "UTC")
    if kind == "numeric":
        precision, scale = map(int, size)
        is_wei = precision > MAX_PRECISION
        return pa.decimal128(MAX_PRECISION, 0) if is_wei else pa.decimal128(precision, scale)
    return pa.type_for_alias(TYPES.get(kind, "string"))


def _compact(text: str | None) -> str | None:
    """JSON as dlt writes it: Postgres puts spaces into it."""
    return (
        None
        if text is None
        else json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)
    )
