"""Sweeps that are killed: while the API lists its records, and while rows leave the table."""

import asyncio
import random
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster_tests.faults.nursery import Nursery, Run
from restsource_dagster_tests.making import make_settings, query
from restsource_dagster_tests.servers.api import ApiServer, Seen
from restsource_dagster_tests.waiting import wait_for

pytestmark = pytest.mark.faults(row=21)

RECORDS = 30
GONE = {3, 12, 13}
PAGE = 10
RESOURCES = ("removed", "marked")
LEFT = {
    "removed": "SELECT count(*) FROM shop.removed",
    "tags": "SELECT count(*) FROM shop.removed__tags",
    "tags without a row": "SELECT count(*) FROM shop.removed__tags WHERE _dlt_parent_id NOT IN "
    "(SELECT _dlt_id FROM shop.removed)",
    "marked": "SELECT count(*) FROM shop.marked WHERE _deleted_at IS NOT NULL",
    "rows": "SELECT count(*) FROM shop.marked",
}
BEFORE = {"removed": 30, "tags": 60, "tags without a row": 0, "marked": 0, "rows": 30}
AFTER = {"removed": 27, "tags": 54, "tags without a row": 0, "marked": 3, "rows": 30}
# as long as a sweep takes from its last answer to its end, on a machine that does other things, too
SWEEP_SECONDS = 0.4


class Records:
    """Records with a cursor; loads ask for the newest one only, and sweeps for all."""

    def __init__(self, api: ApiServer) -> None:
        self.url = api.url
        self.keys = list(range(1, RECORDS + 1))
        self.held_page: int | None = None
        """The page of a list that is not answered; None if all are."""
        self.is_asked = threading.Event()
        """Set when the held page was asked for, or the last one was answered."""
        for name in RESOURCES:
            api.answers[f"/{name}"] = self._answer

    @property
    def file(self) -> dict[str, Any]:
        """The connector file, with sweeps that are due once a day."""
        endpoint = {
            "data_selector": "data",
            "paginator": {"type": "page_number", "base_page": 1, "total_path": None},
            "incremental": {"cursor_path": "id", "initial_value": 0, "start_param": "since"},
        }
        resources = [
            {
                "name": name,
                "primary_key": "id",
                "nested": "tables",
                "sweep": {"every": "1d"},
                "on_delete": "mark" if name == "marked" else "remove",
                "endpoint": endpoint,
            }
            for name in RESOURCES
        ]
        return {
            "name": "shop",
            "schedule": {"mode": "manual"},
            "client": {"base_url": self.url},
            # the order of the requests is that of the pages
            "http": {"max_concurrency": 1},
            "resources": resources,
        }

    async def _answer(self, seen: Seen) -> Any:
        page, since = int(seen.query["page"]), int(seen.query["since"])
        is_list = since == 0
        if is_list and page == self.held_page:
            self.is_asked.set()
            while page == self.held_page:
                await asyncio.sleep(0.01)
        wanted = [key for key in self.keys if key >= since]
        rows = [{"id": key, "tags": ["a", "b"]} for key in wanted[PAGE * page - PAGE : PAGE * page]]
        if is_list and not rows:
            self.is_asked.set()
        return {"data": rows}


def start(nursery: Nursery, records: Records, folder: Path, day: int) -> Run:
    """Start a run that takes this day of November for the present."""
    started = datetime(2026, 11, day, tzinfo=UTC).isoformat()
    return nursery.start(records.file, folder, asked={"started": started})


def found(folder: Path) -> dict[str, int]:
    settings = make_settings(folder)
    return {name: int(query(settings, sql)[0][0]) for name, sql in LEFT.items()}


def test_a_sweep_that_is_killed_changes_nothing_or_all_and_is_made_again(
    api: ApiServer, nursery: Nursery, tmp_path: Path
) -> None:
    """The tables have all of a sweep or nothing of it, with nested rows, and the next run sweeps again."""
    records, dice = Records(api), random.Random("sweeps")
    start(nursery, records, tmp_path, 1).finish()
    assert found(tmp_path) == BEFORE
    records.keys = [key for key in records.keys if key not in GONE]
    # in the middle of a list: nothing is removed
    records.held_page = 2
    records.is_asked.clear()
    run = start(nursery, records, tmp_path, 2)
    wait_for(records.is_asked, "the second page of a list")
    run.kill()
    assert run.end()["ended"] != 0
    assert found(tmp_path) == BEFORE
    # after the last page of a list: at any moment of what is removed and noted
    records.held_page = None
    records.is_asked.clear()
    run = start(nursery, records, tmp_path, 2)
    wait_for(records.is_asked, "the last page of a list")
    # the moment is what is tested
    time.sleep(dice.uniform(0.0, SWEEP_SECONDS))
    run.kill()
    run.end()
    swept = found(tmp_path)
    assert (swept["removed"], swept["tags"]) in ((30, 60), (27, 54))
    assert swept["marked"] in (0, 3)
    assert swept["tags without a row"] == 0
    # also on the same day: a sweep that was killed is not noted
    start(nursery, records, tmp_path, 2).finish()
    assert found(tmp_path) == AFTER
