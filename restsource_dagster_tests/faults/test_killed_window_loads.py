"""Windows and refreshes killed at any moment: a repetition leaves exactly the API's rows.

`WINDOW_KILLS` sets how many kills there are per case (2 by default).
"""

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.settings import Settings
from restsource_dagster_tests.connector.stock_dlt import rest_api_config
from restsource_dagster_tests.engine.windowed import Events, day, live_state
from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.making import make_settings, query
from restsource_dagster_tests.servers.api import ApiServer

pytestmark = pytest.mark.faults(row=4)

KILLS = int(os.environ.get("WINDOW_KILLS", "2"))
WINDOW = ("events", day(3), day(6))
ROWS = (
    "SELECT e.id, e.version, t.value FROM shop.events e "
    "LEFT JOIN shop.events__tags t ON e._dlt_id = t._dlt_parent_id ORDER BY ALL"
)
ORPHANS = (
    "SELECT count(*) FROM shop.events__tags WHERE _dlt_parent_id NOT IN "
    "(SELECT _dlt_id FROM shop.events)"
)


class Versions(Events):
    """Ten events; `change` gives those of the window another version and other tags."""

    version = 0

    def change(self, first: int = 3, last: int = 5) -> None:
        self.version += 1
        kept = [row for row in self.rows if not first <= row["id"] <= last]
        new = [
            {"id": n, "at": day(n), "version": self.version, "tags": [f"{n} {self.version} {t}"]}
            for n in range(first, last + 1)
            for t in range(1 + (n + self.version) % 2)
        ]
        self.rows = sorted([*kept, *new], key=lambda row: row["id"])

    @property
    def expected(self) -> list[tuple[Any, ...]]:
        return sorted((row["id"], row["version"], tag) for row in self.rows for tag in row["tags"])

    @property
    def file(self) -> dict[str, Any]:
        source = rest_api_config(self.connector())
        return {"name": "shop", "schedule": {"mode": "manual"}, **source}


def found(settings: Settings) -> list[tuple[Any, ...]]:
    assert query(settings, ORPHANS) == [(0,)]
    return query(settings, ROWS)


def test_a_killed_window_leaves_the_old_or_the_new_rows_and_is_exact_when_repeated(
    api: ApiServer, tmp_path: Path, nursery: Nursery
) -> None:
    events, settings, dice = Versions(api), make_settings(tmp_path), random.Random(KILLS)
    events.change(1, 10)
    nursery.start(events.file, tmp_path).finish()
    state = live_state(settings)
    seconds = nursery.start(events.file, tmp_path, window=WINDOW).finish().seconds_of("load")
    seen: Counter[str] = Counter()
    turn = new = 0
    while sum(seen.values()) - seen["too late"] < KILLS:
        turn += 1
        old = found(settings)
        events.change()
        run = nursery.start(events.file, tmp_path, window=WINDOW)
        phase = run.kill_at_random(seconds, dice, in_load=turn % 3 > 0)
        seen[phase] += 1
        now = found(settings)
        assert now in (old, events.expected)
        new += phase == "load" and now != old
        assert live_state(settings) == state
        if turn % 2:
            # a live run in between makes nothing worse
            nursery.start(events.file, tmp_path).finish()
            assert found(settings) == now
            state = live_state(settings)
        nursery.start(events.file, tmp_path, window=WINDOW).finish()
        assert found(settings) == events.expected
    print(f"\nkills by phase {dict(seen)}, {new} in the load left the new rows")  # noqa: T201


@pytest.mark.parametrize(
    "asked", [{"full_refresh": ["events"]}, {"set_cursor": {"events": day(4)}}]
)
def test_the_run_after_a_killed_cursor_override_completes_it(
    api: ApiServer, tmp_path: Path, nursery: Nursery, asked: dict[str, Any]
) -> None:
    events, settings, dice = Versions(api), make_settings(tmp_path), random.Random(KILLS)
    events.change(1, 10)
    seconds = nursery.start(events.file, tmp_path).finish().seconds_of("load")
    phases: Counter[str] = Counter()
    turn = 0
    while sum(phases.values()) - phases["too late"] < KILLS:
        turn += 1
        old = found(settings)
        events.change(5, 9)
        newest = 10 + turn
        events.rows.append(
            {"id": newest, "at": day(newest), "version": 0, "tags": [f"tag {newest}"]}
        )
        run = nursery.start(events.file, tmp_path, asked=asked)
        phases[run.kill_at_random(seconds, dice, in_load=turn % 3 > 0)] += 1
        assert found(settings) in (old, events.expected)
        # if the rows were replaced and the cursor was not moved, this one would append some again
        nursery.start(events.file, tmp_path).finish()
        assert found(settings) in ([*old, (newest, 0, f"tag {newest}")], events.expected)
        nursery.start(events.file, tmp_path, asked=asked).finish()
        assert found(settings) == events.expected
    print(f"\n{asked}: kills by phase {dict(phases)}")  # noqa: T201
