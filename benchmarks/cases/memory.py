"""The case of memory: does it grow with the number of rows?"""

from benchmarks.cases.sizes import Sizes
from benchmarks.model import Case, Goal
from benchmarks.programs import Program
from benchmarks.shop import api_path, by_us, ours, resource, tables_of

__all__ = ["memory"]


def _loading(rows: int, mode: str) -> Program:
    if mode == "rows":
        loaded, tables = resource("orders", "page", mode="rows"), tables_of("orders", rows)
    else:
        loaded = resource("orders", "page", mode="columnar", nested="json")
        tables = tables_of("orders", rows, nested="json")
    return ours(api_path(rows), [loaded], tables)


def memory(sizes: Sizes) -> Case:
    """Both modes, with rows and with five times the rows."""
    few, many = sizes.large, sizes.huge
    contestants = tuple(
        by_us(f"{mode}_{size}", f"{mode}, {rows:,} rows", _loading(rows, mode))
        for mode in ("rows", "columnar")
        for size, rows in (("few", few), ("many", many))
    )
    goals = tuple(
        Goal(
            10,
            f"{mode} mode: peak memory at {many:,} rows against {few:,}",
            "rss",
            f"{mode}_many",
            f"{mode}_few",
            at_most=1.2,
        )
        for mode in ("rows", "columnar")
    )
    title = f"Peak memory at {few:,} and {many:,} rows"
    return Case("memory", title, contestants, goals, rows=many, shown=("rss", "cpu", "wall"))
