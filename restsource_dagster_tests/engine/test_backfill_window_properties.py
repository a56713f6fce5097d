"""Random backfills: windows in any order, repeated and failing, late rows, live runs in between.

`WINDOW_EXAMPLES` sets how many there are (2 by default).
"""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from restsource_dagster.connector.cursor_format import EpochTime, IsoTime, detect_cursor_format
from restsource_dagster.connector.partitions import Window
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.settings import Settings
from restsource_dagster_tests.connector.cursors import SAMPLES
from restsource_dagster_tests.engine.windowed import BOTH_ENDS, Events, live_state, load_window
from restsource_dagster_tests.making import make_settings, query
from restsource_dagster_tests.servers.api import ApiServer

EXAMPLES = int(os.environ.get("WINDOW_EXAMPLES", "2"))
FIRST = datetime(2024, 2, 27, tzinfo=UTC)
WINDOWS = 4
NUMBERS: list[Any] = [0, -5, "40"]


@dataclass
class Axis:
    """A kind of cursor. A place is a number of eighths of a window after the start of the first one."""

    sample: Any
    days: int = 1

    def __post_init__(self) -> None:
        self.form = detect_cursor_format(self.sample)
        coarse = getattr(self.form, "precision", timedelta(0)) >= timedelta(days=1)
        self.step = timedelta(days=1) if coarse else timedelta(hours=self.days * 3)

    def at(self, place: int) -> Any:
        if self.form.is_time:
            return self.form.render(FIRST + place * self.step)
        number = int(self.sample) + place * 3
        return str(number) if isinstance(self.sample, str) else number

    def spelled(self, place: int, spelling: int) -> Any:
        """The cursor value of a place, possibly in another spelling."""
        moment = FIRST + place * self.step
        if isinstance(self.form, IsoTime) and self.form.zone and spelling:
            other = IsoTime(digits=6, zone=("+02:00", "-05:30", "+00:00")[spelling % 3])
            return other.render(moment)
        if isinstance(self.form, EpochTime) and self.form.kind == "int" and spelling % 2:
            return float(self.at(place))
        return self.at(place)

    def window(self, number: int) -> Window:
        return Window(self.at(8 * number), self.at(8 * number + 8), self.form)


@dataclass
class World:
    """An API, its connector and the warehouse."""

    axis: Axis
    events: Events
    settings: Settings
    keyed: bool
    lag: bool
    count: int = 0
    newest: int = 8 * WINDOWS
    has_live_rows: bool = False
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        cursor: dict[str, Any] = {"initial_value": self.axis.at(0), **BOTH_ENDS}
        if self.lag and not isinstance(self.axis.sample, str | float):
            cursor["lag"] = 9
        backfill = {"backfill": {"start": "2024-02-27", "partition": "daily"}}
        more: dict[str, Any] = {"primary_key": "id"} if self.keyed else {}
        if self.axis.form.is_time and self.axis.step < timedelta(days=1):
            more |= backfill
        self.has_block = "backfill" in more
        self.connector = self.events.connector(cursor=cursor, **more)

    def add(self, place: int, spelling: int) -> None:
        """Add an event, with a list in it."""
        self.count += 1
        row = {"id": self.count, "at": self.axis.spelled(place, spelling), "tags": [1, 2]}
        self.events.rows.append(row)

    def add_newest(self, places: int) -> None:
        """Add an event that is newer than all others."""
        self.newest += places
        self.add(self.newest, 0)

    def live(self) -> None:
        start = {"events": self.axis.at(8 * WINDOWS)}
        outcomes = ingest(self.connector, settings=self.settings, environment={}, live_from=start)
        for outcome in outcomes:
            assert outcome.failed == self.events.failing, outcome.failure
        self.has_live_rows = self.has_live_rows or not self.events.failing

    def load(self, number: int) -> None:
        before = live_state(self.settings) if self.has_live_rows else None
        outcome = load_window(self.connector, self.settings, self.axis.window(number))["events"]
        assert outcome.failed == self.events.failing, outcome.failure
        assert before is None or live_state(self.settings) == before

    def check(self) -> None:
        found = query(
            self.settings,
            "SELECT e.id, t.value FROM shop.events e "
            "LEFT JOIN shop.events__tags t ON t._dlt_parent_id = e._dlt_id",
        )
        expected = [(row["id"], tag) for row in self.events.rows for tag in row["tags"]]
        assert Counter(found) == Counter(expected)


places = st.tuples(st.integers(0, 8 * WINDOWS - 1), st.integers(0, 3))
boundaries = st.tuples(st.integers(0, WINDOWS - 1).map(lambda n: 8 * n), st.integers(0, 3))
steps = st.one_of(
    st.tuples(st.just("window"), st.integers(0, WINDOWS - 1)),
    st.tuples(st.just("failing window"), st.integers(0, WINDOWS - 1)),
    st.tuples(st.just("late"), places | boundaries),
    st.tuples(st.just("live"), st.integers(0, 3)),
    st.tuples(st.just("failing live"), st.integers(0, 3)),
)


def act(world: World, step: tuple[str, Any]) -> None:
    kind, value = step
    note(f"{kind} {value}")
    world.events.failing = kind.startswith("failing")
    if kind.endswith("window"):
        world.load(value)
    elif kind == "late":
        world.add(*value)
    else:
        world.add_newest(value)
        world.live()
    world.events.failing = False


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@hypothesis_settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES < 10,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(
    sample=st.sampled_from([*SAMPLES, *NUMBERS]),
    keyed=st.booleans(),
    lag=st.booleans(),
    rows=st.lists(places | boundaries, min_size=3, max_size=12),
    path=st.lists(steps, min_size=2, max_size=5),
)
def test_windows_and_live_runs_in_any_order_leave_exactly_the_rows_of_the_api(
    api: ApiServer, sample: Any, keyed: bool, lag: bool, rows: list[Any], path: list[Any]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        events = Events(api)
        world = World(Axis(sample), events, make_settings(Path(folder)), keyed, lag)
        note(f"{sample!r} keyed={keyed} lag={lag}")
        for place, spelling in rows:
            world.add(place, spelling)
        world.add_newest(0)
        if not world.has_block:
            world.live()  # without a block it is unknown where it will start
        for step in path:
            act(world, step)
        for number in reversed(range(WINDOWS)):
            world.load(number)
        world.live()
        world.check()
