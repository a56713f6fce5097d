"""Live runs that ask window by window, or query by query, killed at any moment: the next one goes on there."""

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
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

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


@pytest.mark.parametrize("order", [{}, {"lag": 5}], ids=["by_cursor", "by_place"])
def test_a_load_of_capped_queries_that_is_killed_again_and_again_has_each_row_once(
    api: ApiServer, nursery: Nursery, tmp_path: Path, order: Mapping[str, Any]
) -> None:
    rows = [{"id": number, "at": number // 3, "parts": [number]} for number in range(300)]

    def search(seen: Seen) -> Any:
        offset = int(seen.query["offset"])
        if offset + 20 > 100:
            return Answer({"error": "the result window is too large"}, 400)
        found = [row for row in rows if int(str(row["at"])) >= int(seen.query["since"])]
        return {"items": found[offset : offset + 20], "total": len(found)}

    api.answers["/search"] = search
    paginator = {"type": "offset", "limit": 20, "total_path": "total", "max_rows": 100}
    incremental = {
        "cursor_path": "at",
        "initial_value": 0,
        "start_param": "since",
        "row_order": "asc",
        **order,
    }
    endpoint = {
        "path": "search",
        "data_selector": "items",
        "paginator": paginator,
        "incremental": incremental,
    }
    file = {
        "name": "shop",
        "schedule": {"mode": "manual"},
        "client": {"base_url": api.url},
        "resources": [{"name": "search", "primary_key": "id", "endpoint": endpoint}],
    }
    dice = random.Random(str(order))
    for _ in range(3):
        # a part of some pages; a killed run has stored some of them, and its next one goes on
        run = nursery.start(file, tmp_path, checkpoint_seconds=1e-9)
        for _ in range(dice.randint(1, 3)):
            run.wait_for("checkpoint")
        run.kill()
        run.end()
    nursery.start(file, tmp_path).finish()
    settings = make_settings(tmp_path)
    assert query(settings, "SELECT id FROM shop.search ORDER BY id") == [(n,) for n in range(300)]
    assert query(settings, "SELECT count(*) FROM shop.search__parts") == [(300,)]
    refused = [seen for seen in api.seen if int(seen.query["offset"]) + 20 > 100]
    assert refused == []
