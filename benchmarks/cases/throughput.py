"""Cases with an API that responds at once: the cost of a row."""

from typing import Any

from benchmarks.cases.sizes import Sizes
from benchmarks.model import Case, Contestant, Goal
from benchmarks.programs import Program
from benchmarks.records import LINES_PER_RECORD
from benchmarks.shop import (
    api_path,
    by_hand,
    by_peer,
    by_us,
    ours,
    resource,
    stock,
    tables_of,
)

__all__ = ["by_default", "floors", "modes"]

_LEAST = {"parse": "pyarrow", "batch": 10}


def by_default(sizes: Sizes) -> Case:
    """The default settings."""
    rows = sizes.small
    path, resources, tables = (
        api_path(rows),
        [resource("orders", "page")],
        tables_of("orders", rows),
    )
    text = f"nothing set, {rows:,} rows with {rows * LINES_PER_RECORD:,} nested ones"
    return Case(
        "default",
        f"Nothing set, {rows:,} rows",
        (
            by_us("ours", "", ours(path, resources, tables)),
            by_peer(
                "dlt",
                "stock dlt",
                stock(path, resources, tables, loader_file_format=None),
                "loads DuckDB by `INSERT` statements, its default",
            ),
        ),
        (
            Goal(1, f"{text}: faster than stock dlt", "wall", "dlt", "ours", at_least=5),
            Goal(1, f"{text}: peak memory", "rss", "ours", at_most=400e6),
        ),
        rows=rows,
        shown=("wall", "cpu", "work_cpu", "rss"),
    )


def _floor(rows: int, nested: str, **how: object) -> Program:
    tables = {"SELECT count(*) FROM shop.orders": rows}
    if nested == "tables":
        tables["SELECT count(*) FROM shop.orders__lines"] = rows * LINES_PER_RECORD
    return Program("floor", api_path(rows), {"nested": nested, **_LEAST, **how}, tables)


def modes(sizes: Sizes) -> Case:
    """Rows mode and columnar mode, stock dlt at its fastest, and the floors."""
    rows = sizes.large
    return Case(
        "modes", f"The modes, {rows:,} rows", _modes(rows), _goals_of_modes(rows), rows=rows
    )


def _modes(rows: int) -> tuple[Contestant, ...]:
    path, tables = api_path(rows), tables_of("orders", rows)
    columns = tables_of("orders", rows, nested="json")

    def loading(**keys: Any) -> list[dict[str, Any]]:
        return [resource("orders", "page", **keys)]

    as_json = {"mode": "columnar", "nested": "json"}
    as_tables = {"mode": "columnar", "nested": "tables"}
    return (
        by_us("ours_rows", "rows", ours(path, loading(mode="rows"), tables)),
        by_us("ours_columnar", "columnar, nested as JSON", ours(path, loading(**as_json), columns)),
        by_us("ours_tables", "columnar, nested tables", ours(path, loading(**as_tables), tables)),
        by_peer("dlt_parquet", "stock dlt, parquet", stock(path, loading(), tables)),
        by_hand("floor", "hand-written, nested as JSON", _floor(rows, "json")),
        by_hand("floor_tables", "hand-written, nested table", _floor(rows, "tables")),
    )


def _goals_of_modes(rows: int) -> tuple[Goal, ...]:
    def cheaper(row: int, mode: str, ours: str, at_least: float) -> Goal:
        text = f"{mode}, {rows:,} rows: less CPU than stock dlt with parquet"
        return Goal(row, text, "work_cpu", "dlt_parquet", ours, at_least=at_least, also="cpu")

    against_floor = Goal(
        3,
        f"columnar mode, {rows:,} rows: CPU against the hand-written floor",
        "work_cpu",
        "ours_columnar",
        "floor",
        at_most=1.25,
        also="cpu",
    )
    return (
        cheaper(2, "rows mode", "ours_rows", 1.3),
        cheaper(3, "columnar mode", "ours_columnar", 9),
        against_floor,
        cheaper(4, "columnar mode with nested tables", "ours_tables", 8),
    )


def floors(sizes: Sizes) -> Case:
    """The ways to write the floor by hand. The others are compared with the fastest."""
    rows = sizes.large
    ways: dict[str, tuple[str, dict[str, object]]] = {
        "pyarrow_1": ("pyarrow.json, page by page", {"parse": "pyarrow", "batch": 1}),
        "pyarrow_10": ("pyarrow.json, ten pages at a time", {"parse": "pyarrow", "batch": 10}),
        "duckdb_10": ("DuckDB's JSON cast, ten pages at a time", {"parse": "duckdb", "batch": 10}),
        "orjson_10": ("orjson and pyarrow, ten pages", {"parse": "orjson", "batch": 10}),
        "files": ("DuckDB's read_json, all at the end", {"parse": "files"}),
    }
    return Case(
        "floors",
        f"Ways to write the floor, {rows:,} rows",
        tuple(
            by_hand(f"{name}_{nested}", f"{label}, {told}", _floor(rows, nested, **how))
            for name, (label, how) in ways.items()
            for nested, told in (("json", "nested as JSON"), ("tables", "nested table"))
        ),
        rows=rows,
    )
