"""Live runs that ask window by window, killed at any moment: the next one goes on with the next window."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster_tests.engine.windowed import KEYED
from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.making import make_settings, query
from restsource_dagster_tests.servers.api import ApiServer, Seen

pytestmark = pytest.mark.faults(row=21)

DAYS = 200
FIRST = (datetime.now(UTC) - timedelta(days=DAYS, hours=1)).replace(microsecond=0)


def written(days: int) -> str:
    return f"{FIRST + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"


ROWS = [{"id": number, "at": written(number), "parts": [number]} for number in range(DAYS)]


def between(seen: Seen) -> Any:
    return [row for row in ROWS if seen.query["since"] <= str(row["at"]) < seen.query["until"]]


@pytest.mark.parametrize("more", [{}, KEYED], ids=["append", "merge"])
def test_a_run_that_is_killed_between_or_in_windows_goes_on_with_the_first_one_that_is_not_stored(
    api: ApiServer, nursery: Nursery, tmp_path: Path, more: Mapping[str, Any]
) -> None:
    api.answers["/events"] = between
    incremental = {
        "cursor_path": "at",
        "initial_value": written(0),
        "start_param": "since",
        "end_param": "until",
        "window": {"size": "31d"},
    }
    events = {"name": "events", "endpoint": {"path": "events", "incremental": incremental}, **more}
    file = {
        "name": "shop",
        "schedule": {"mode": "manual"},
        "client": {"base_url": api.url},
        "resources": [events],
    }
    dice = random.Random(str(more))
    stored_before = 0
    for kind in ("checkpoint", "phase", "page"):
        run = nursery.start(file, tmp_path)
        for _ in range(dice.randint(1, 3)):
            run.wait_for(kind)
        run.kill()
        run.end()
        stored = int(query(make_settings(tmp_path), "SELECT count(*) FROM shop.events")[0][0])
        # whole windows, and never less than before
        assert stored % 31 == 0
        assert stored >= stored_before
        stored_before = stored
    before = len(api.seen)
    nursery.start(file, tmp_path).finish()
    asked = [(seen.query["since"], seen.query["until"]) for seen in api.seen[before:]]
    # a load that was killed after its commit may be complete
    assert asked[0][0] in (written(stored_before), written(stored_before + 31))
    assert all(one[1] == other[0] for one, other in pairwise(asked))
    settings = make_settings(tmp_path)
    assert query(settings, "SELECT id FROM shop.events ORDER BY id") == [(n,) for n in range(DAYS)]
    assert query(settings, "SELECT count(*) FROM shop.events__parts") == [(DAYS,)]
