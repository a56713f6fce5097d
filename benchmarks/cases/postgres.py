"""The case of Postgres: the client's cost of a load into a server of the benchmarks' own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

from benchmarks.cases.sizes import Sizes
from benchmarks.model import Case, Goal, UnableError
from benchmarks.programs import Program
from benchmarks.records import LINES_PER_RECORD
from benchmarks.shop import api_path, by_peer, by_us, ours, resource, stock, tables_of
from restsource_dagster_tests.servers.postgres import PostgresServer, find_postgres

__all__ = ["postgres"]


def postgres(sizes: Sizes) -> Case:
    """Nothing set, into Postgres. The server's own CPU is not counted."""
    rows = sizes.large
    path, loaded, tables = (
        api_path(rows),
        [resource("orders", "page")],
        tables_of("orders", rows),
    )
    text = f"{rows:,} rows with {rows * LINES_PER_RECORD:,} nested ones into Postgres, nothing set"
    inserts = stock(path, loaded, tables, loader_file_format=None, destination="postgres")
    return Case(
        "postgres",
        f"Postgres, {rows:,} rows",
        (
            by_us("ours", "", _into_postgres(ours(path, loaded, tables)), "copies rows as columns"),
            by_peer("dlt", "stock dlt", _into_postgres(inserts), "loads by `INSERT`, its default"),
        ),
        (
            Goal(
                11,
                f"{text}: less client CPU than stock dlt",
                "work_cpu",
                "dlt",
                "ours",
                at_least=3,
            ),
            Goal(11, f"{text}: peak memory", "rss", "ours", at_most=250e6),
        ),
        rows=rows,
        shown=("work_cpu", "cpu", "wall", "rss"),
    )


def _into_postgres(program: Program) -> Program:
    return replace(program, new_database=_new_database)


@contextmanager
def _new_database() -> Iterator[str]:
    with _server().new_database() as url:
        yield url


@cache
def _server() -> PostgresServer:
    """Return the server, which ends with this process."""
    programs = find_postgres()
    if programs is None:
        raise UnableError("Postgres is not installed")
    return PostgresServer(programs)
