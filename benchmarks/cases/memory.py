"""The case of memory: does it grow with the number of rows? A long load is stored in parts."""

from dataclasses import replace
from typing import Literal

from benchmarks.cases.sizes import Sizes
from benchmarks.model import Case, Goal
from benchmarks.programs import Program
from benchmarks.shop import api_path, by_us, ours, resource, tables_of

__all__ = ["memory"]

Disposition = Literal["append", "replace"]
_LIMIT_SECONDS = 4 * 3_600.0


def _loading(rows: int, mode: str, disposition: Disposition) -> Program:
    loaded, tables = resource("orders", "page", mode="rows"), tables_of("orders", rows)
    if mode == "columnar":
        loaded = resource("orders", "page", mode="columnar", nested="json")
        tables = tables_of("orders", rows, nested="json")
    program = ours(api_path(rows), [{**loaded, "write_disposition": disposition}], tables)
    return replace(program, limit=_LIMIT_SECONDS)


def memory(sizes: Sizes) -> Case:
    """Each mode with rows for two parts and for many."""
    few = sizes.large
    loads: tuple[tuple[str, Disposition, int], ...] = (
        ("rows", "append", sizes.many_rows),
        ("columnar", "append", sizes.many_columnar),
        ("columnar", "replace", sizes.many_rows),
    )
    contestants = tuple(
        by_us(
            f"{mode}_{disposition}_{size}",
            f"{mode}, {disposition}, {rows:,} rows",
            _loading(rows, mode, disposition),
        )
        for mode, disposition, many in loads
        for size, rows in (("few", few), ("many", many))
    )
    goals = tuple(
        Goal(
            10,
            f"{mode} mode, {disposition}: peak memory at {many:,} rows against {few:,}",
            "rss",
            *(f"{mode}_{disposition}_many", f"{mode}_{disposition}_few"),
            at_most=1.2,
        )
        for mode, disposition, many in loads
    )
    title = f"Peak memory at {few:,} rows and at many"
    rows = max(sizes.many_rows, sizes.many_columnar)
    return Case("memory", title, contestants, goals, rows=rows, shown=("rss", "cpu", "wall"))
