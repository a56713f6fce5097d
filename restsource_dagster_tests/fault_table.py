"""A pytest plugin that prints the table of faults: `pytest -p restsource_dagster_tests.fault_table`.

A test says which row it belongs to with `@pytest.mark.faults(row=4)`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

__all__ = ["FAULTS"]

FAULTS: Mapping[int, str] = {
    1: "a link or a redirect to another origin",
    2: "one resource, or one parent's children, fail",
    3: "an answer that is not what the file says",
    4: "kill -9 at any moment of a run",
    5: "two runs of one connector at once",
    6: "one DuckDB file, several programs",
    7: "tokens that expire or are refused",
    8: "waits, resets, slow and endless answers",
    9: "request rate and concurrency",
    10: "boundary, late, unordered and missing cursors",
    11: "a cursor for each parent",
    12: "paging that does not end",
    13: "capped pages and wrong totals",
    14: "values that no table expects",
    15: "repeated, empty and partial materializations",
    16: "secrets in any place of any failure",
    17: "schemas that change between runs",
    18: "two hundred runs of a flaky API",
    19: "the same rows as dlt, where the API behaves",
    20: "many requests at once, pages fetched ahead",
    21: "a wall or a kill in the middle of a long load",
}
_PROPERTY = "row of the table of faults"
_SHOWN = ("passed", "failed", "skipped")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Have the report carry the row to the process that prints the table."""
    for marker in item.iter_markers("faults"):
        item.user_properties.append((_PROPERTY, marker.kwargs["row"]))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print a line per row: how many cases passed, failed and were skipped."""
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for outcome, row in _outcomes(terminalreporter.stats):
        counts[row][outcome] += 1
    terminalreporter.section("faults")
    terminalreporter.write_line(f"{'':3} {'fault':50} {'passed':>7} {'failed':>7} {'skipped':>7}")
    for row, title in FAULTS.items():
        numbers = " ".join(f"{counts[row][outcome]:7}" for outcome in _SHOWN)
        terminalreporter.write_line(
            f"{row:3} {title:50} {numbers}", red=bool(counts[row]["failed"])
        )


def _outcomes(stats: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for category, outcome in (
        ("passed", "passed"),
        ("failed", "failed"),
        ("error", "failed"),
        ("skipped", "skipped"),
    ):
        for report in stats.get(category, ()):
            for name, row in dict.fromkeys(getattr(report, "user_properties", ())):
                if name == _PROPERTY:
                    yield outcome, row
