"""Runs of a load in parts that are killed: each row is there once when it is complete."""

import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.faults.paged_orders import LINES, PAGE, PagedOrders, paged
from restsource_dagster_tests.making import count_rows, make_settings, query
from restsource_dagster_tests.servers.api import ApiServer

pytestmark = pytest.mark.faults(row=21)

KILLS = 3
ROWS = 5 * PAGE
FAMILIES = 4
"""Orders with lines: two pages of two orders, and lines of which each page is a part."""
APPENDED = {"write_disposition": "append"}
MERGED = {"write_disposition": "merge", "primary_key": "id"}
AT_ONCE = 1e-9
"""Seconds: a checkpoint after each page."""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


def file_of(orders: PagedOrders, *resources: Any) -> dict[str, Any]:
    return {
        "name": "shop",
        "schedule": {"mode": "manual"},
        "client": {"base_url": orders.api.url},
        "http": {"max_concurrency": 1},
        "resources": list(resources),
    }


def kill_and_finish(
    nursery: Nursery, file: dict[str, Any], folder: Path, seed: str, rows: Mapping[str, int]
) -> None:
    """Kill some runs in their parts, at random moments, and let the last one finish.

    `rows` are how many each table has in the end.
    """
    dice = random.Random(seed)
    for _ in range(KILLS):
        run = nursery.start(file, folder, checkpoint_seconds=AT_ONCE)
        run.wait_for("phase", dice.choice(["extract", "load"]))
        # the moment is what is tested
        time.sleep(dice.uniform(0.0, 0.8))
        run.kill()
        # it may be killed when all is stored, and the next run would be another load
        if run.end()["ended"] == 0 or all(
            count_rows(make_settings(folder), table) == count for table, count in rows.items()
        ):
            return
    nursery.start(file, folder, checkpoint_seconds=AT_ONCE).finish()


def column(folder: Path, table: str, key: str) -> list[Any]:
    rows = query(make_settings(folder), f"SELECT {key} FROM shop.{table} ORDER BY {key}")
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    ("kind", "disposition"),
    [("link", APPENDED), ("cursor", MERGED), ("offset", APPENDED), ("page", MERGED)],
)
def test_a_load_in_parts_that_is_killed_is_completed_by_later_runs(
    api: ApiServer, nursery: Nursery, tmp_path: Path, kind: str, disposition: dict[str, Any]
) -> None:
    orders = PagedOrders(api, rows=ROWS)
    file = file_of(orders, paged(kind, **disposition))
    seed = f"{kind} {disposition['write_disposition']}"
    kill_and_finish(nursery, file, tmp_path, seed, {"orders": ROWS})
    assert column(tmp_path, "orders", "id") == list(range(ROWS))
    # a killed run loses its last part, and asks for its first page before it knows the state
    assert orders.requests <= ROWS // PAGE + 1 + 3 * KILLS


@pytest.mark.parametrize("lines_disposition", ["append", "merge"])
@pytest.mark.parametrize("disposition", [APPENDED, MERGED], ids=["append", "merge"])
def test_a_family_in_parts_that_is_killed_is_completed_by_later_runs(
    api: ApiServer,
    nursery: Nursery,
    tmp_path: Path,
    disposition: dict[str, Any],
    lines_disposition: str,
) -> None:
    orders = PagedOrders(api, rows=FAMILIES, page=2)
    lines = {**LINES, "write_disposition": lines_disposition}
    file = file_of(orders, paged("link", **disposition), lines)
    rows = {"orders": FAMILIES, "lines": len(orders.all_lines)}
    kill_and_finish(nursery, file, tmp_path, f"{disposition} {lines_disposition}", rows)
    assert column(tmp_path, "orders", "id") == list(range(FAMILIES))
    assert column(tmp_path, "lines", "line") == orders.all_lines
    assert orders.requests <= 3 + FAMILIES * orders.lines + 4 * KILLS
