"""An API that answers at once: what does a row cost?"""

from benchmarks.cases.sizes import Sizes
from benchmarks.model import Case, Contestant, Goal
from benchmarks.programs import Program
from benchmarks.records import LINES_PER_RECORD
from benchmarks.shop import api_path, ours, resource, stock, tables_of

__all__ = ["by_default", "floors", "modes"]

_LEAST = {"parse": "pyarrow", "batch": 10}


def by_default(sizes: Sizes) -> Case:
    """What somebody gets who sets nothing."""
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
            Contestant("ours", "restsource", "ours", ours(path, resources, tables)),
            Contestant(
                "dlt",
                "stock dlt",
                "peer",
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
    """Rows and columnar mode beside stock dlt at its best and beside the floors."""
    rows = sizes.large
    path, plain = api_path(rows), resource("orders", "page")
    tables, columns = tables_of("orders", rows), tables_of("orders", rows, nested="json")
    columnar = {"mode": "columnar"}

    def cheaper(row: int, text: str, ours: str, at_least: float) -> Goal:
        told = f"{text}: less CPU than stock dlt with parquet"
        return Goal(row, told, "work_cpu", "dlt_parquet", ours, at_least=at_least, also="cpu")

    return Case(
        "modes",
        f"The modes, {rows:,} rows",
        (
            Contestant(
                "ours_rows",
                "restsource, rows",
                "ours",
                ours(path, [plain | {"mode": "rows"}], tables),
            ),
            Contestant(
                "ours_columnar",
                "restsource, columnar, nested as JSON",
                "ours",
                ours(path, [plain | columnar | {"nested": "json"}], columns),
            ),
            Contestant(
                "ours_tables",
                "restsource, columnar, nested tables",
                "ours",
                ours(path, [plain | columnar | {"nested": "tables"}], tables),
            ),
            Contestant("dlt_parquet", "stock dlt, parquet", "peer", stock(path, [plain], tables)),
            Contestant("floor", "hand-written, nested as JSON", "floor", _floor(rows, "json")),
            Contestant(
                "floor_tables", "hand-written, nested table", "floor", _floor(rows, "tables")
            ),
        ),
        (
            cheaper(2, f"rows mode, {rows:,} rows", "ours_rows", 1.3),
            cheaper(3, f"columnar mode, {rows:,} rows", "ours_columnar", 9),
            Goal(
                3,
                f"columnar mode, {rows:,} rows: CPU against the hand-written floor",
                "work_cpu",
                "ours_columnar",
                "floor",
                at_most=1.25,
                also="cpu",
            ),
            cheaper(4, f"columnar mode with nested tables, {rows:,} rows", "ours_tables", 8),
        ),
        rows=rows,
    )


def floors(sizes: Sizes) -> Case:
    """The ways to write the floor by hand; the fastest is the one that others are held against."""
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
            Contestant(f"{name}_{nested}", f"{label}, {told}", "floor", _floor(rows, nested, **how))
            for name, (label, how) in ways.items()
            for nested, told in (("json", "nested as JSON"), ("tables", "nested table"))
        ),
        rows=rows,
    )
