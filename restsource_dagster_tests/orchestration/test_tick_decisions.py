"""The decisions of ticks, simulated with Dagster's own stream of ticks.

`SCHEDULE_EXAMPLES` sets how many examples each rule is tried on (60 by default).
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from pathlib import Path

import pytest
from dagster._utils.schedules import schedule_execution_time_iterator
from hypothesis import given, settings
from hypothesis import strategies as st

from restsource_dagster.orchestration.schedules.slot_schedule import (
    ConnectorRuns,
    RunInProgress,
    SkipTick,
    StartRun,
    decide_tick,
)
from restsource_dagster.orchestration.schedules.slots import cron_grid_for
from restsource_dagster_tests.orchestration.schedule_cases import (
    CREATED,
    CREATIONS,
    SCHEDULES,
    Repeat,
    days,
    hours,
    minutes,
    slots_of,
)

EXAMPLES = int(os.environ.get("SCHEDULE_EXAMPLES", "60"))
AGES = st.timedeltas(timedelta(0), timedelta(days=8 * 365))
TICKS = 200


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@dataclass
class Ledger:
    """The runs of one connector, kept in a list; a run takes no time unless it says so."""

    slots: list[datetime] = field(default_factory=list)
    now: datetime = CREATED
    busy_until: datetime = datetime(1970, 1, 1, tzinfo=UTC)

    def run_for(self, slot: datetime) -> str | None:
        return f"run-{len(self.slots)}" if self.slots and self.slots[-1] >= slot else None

    def in_progress(self) -> RunInProgress | None:
        if self.now >= self.busy_until:
            return None
        return RunInProgress(run_id=f"run-{len(self.slots)}", is_queued=False, since=self.slots[-1])

    def tick(self, schedule: Repeat, created_at: datetime, moment: datetime) -> StartRun | SkipTick:
        """One evaluation, as the daemon does it at this moment."""
        self.now = moment
        decision = decide_tick(schedule, created_at, moment, self)
        if isinstance(decision, StartRun):
            self.slots.append(decision.slot)
        return decision


def ticks_from(schedule: Repeat, created_at: datetime, start: datetime) -> Iterator[datetime]:
    crons = list(cron_grid_for(schedule, created_at).crons)
    return schedule_execution_time_iterator(start.timestamp(), crons, "UTC")


def always_up_until(moment: datetime, schedule: Repeat, created_at: datetime) -> Ledger:
    """The ledger of a daemon that has missed nothing so far."""
    slots = slots_of(schedule, created_at)
    passed = slots.until(moment)
    return Ledger([slots.at(passed - 1)] if passed else [])


@settings(max_examples=EXAMPLES, deadline=None)
@given(SCHEDULES, CREATIONS, AGES)
def test_every_due_slot_is_started_once_at_its_time_and_nothing_else(
    schedule: Repeat, created_at: datetime, age: timedelta
) -> None:
    begin = created_at + age
    ledger = always_up_until(begin, schedule, created_at)
    before = len(ledger.slots)
    ticks = [
        tick for tick in islice(ticks_from(schedule, created_at, begin), TICKS + 1) if tick > begin
    ]
    for tick in ticks:
        decision = ledger.tick(schedule, created_at, tick)
        assert decision == StartRun(tick) or isinstance(decision, SkipTick)
    assert ledger.slots[before:] == slots_of(schedule, created_at).between(begin, ticks[-1])


@pytest.mark.parametrize(
    "schedule",
    [
        *(hours(7, 20), hours(13, 59), hours(200, 11999), minutes(90), minutes(2970)),
        *(days(1, 30), days(3), days(7, 4000), days(60, 86399)),
    ],
    ids=str,
)
def test_three_years_in_one_go_start_every_slot_once(schedule: Repeat) -> None:
    end = CREATED + timedelta(days=3 * 365)
    ledger = Ledger()
    for tick in takewhile(lambda tick: tick <= end, ticks_from(schedule, CREATED, CREATED)):
        ledger.tick(schedule, CREATED, tick)
    assert ledger.slots == slots_of(schedule, CREATED).between(CREATED, end)


def seen_by_a_daemon(ticks: Iterable[datetime], down: list[int]) -> Iterator[list[datetime]]:
    """The ticks in the portions in which a daemon meets them: one by one, after a downtime all.

    `down` says how many ticks are missed after the first, the second, ... one that is met.
    """
    remaining = iter(ticks)
    for missed in [*down, *[0] * TICKS]:
        portion = list(islice(remaining, missed + 1))
        if not portion:
            return
        yield portion


DOWNTIMES = st.lists(st.one_of(st.just(0), st.integers(0, 60)), max_size=40)


@settings(max_examples=EXAMPLES, deadline=None)
@given(SCHEDULES, CREATIONS, AGES, DOWNTIMES)
def test_after_a_downtime_the_latest_missed_slot_is_started_once(
    schedule: Repeat, created_at: datetime, age: timedelta, down: list[int]
) -> None:
    begin = created_at + age
    slots = slots_of(schedule, created_at)
    ledger = always_up_until(begin, schedule, created_at)
    met = begin
    stream = ticks_from(schedule, created_at, begin + timedelta(microseconds=1))
    for portion in seen_by_a_daemon(islice(stream, TICKS), down):
        before = len(ledger.slots)
        # Dagster evaluates only the latest of the ticks that a schedule has missed.
        ledger.tick(schedule, created_at, portion[-1])
        assert ledger.slots[before:] == slots.between(met, portion[-1])[-1:]
        met = portion[-1]


@settings(max_examples=EXAMPLES, deadline=None)
@given(SCHEDULES, CREATIONS, AGES, DOWNTIMES)
def test_a_tick_that_comes_again_starts_nothing(
    schedule: Repeat, created_at: datetime, age: timedelta, down: list[int]
) -> None:
    ledger = Ledger()
    stream = ticks_from(schedule, created_at, created_at + age)
    for portion in seen_by_a_daemon(islice(stream, TICKS), down):
        ledger.tick(schedule, created_at, portion[-1])
        for tick in (portion[-1], portion[0]):
            assert isinstance(ledger.tick(schedule, created_at, tick), SkipTick)
    assert ledger.slots == sorted(set(ledger.slots))


@settings(max_examples=EXAMPLES, deadline=None)
@given(SCHEDULES, CREATIONS, AGES, st.lists(st.floats(0, 3), min_size=1, max_size=20))
def test_no_run_starts_while_one_is_in_progress_and_none_is_blocked_without_one(
    schedule: Repeat, created_at: datetime, age: timedelta, lengths: list[float]
) -> None:
    begin = created_at + age
    slots = slots_of(schedule, created_at)
    period = slots.at(1) - slots.at(0)
    ledger = always_up_until(begin, schedule, created_at)
    for tick in islice(ticks_from(schedule, created_at, begin), TICKS):
        passed = slots.until(tick)
        open_slot = slots.at(passed - 1) if passed else None
        if open_slot and ledger.slots and ledger.slots[-1] >= open_slot:
            open_slot = None
        going = tick < ledger.busy_until
        decision = ledger.tick(schedule, created_at, tick)
        if isinstance(decision, StartRun):
            length = lengths[len(ledger.slots) % len(lengths)]
            ledger.busy_until = tick + length * period
        assert (
            decision == StartRun(open_slot)
            if open_slot and not going
            else isinstance(decision, SkipTick)
        )
    assert ledger.slots == sorted(set(ledger.slots))


@dataclass(frozen=True)
class Busy:
    """A connector whose only run has not ended."""

    queued: bool

    def run_for(self, slot: datetime) -> None:
        """No run stands for the slot."""

    def in_progress(self) -> RunInProgress:
        return RunInProgress("run-1", is_queued=self.queued, since=at("2026-11-23T10:13:04"))


SKIPS: dict[str, tuple[tuple[Repeat, datetime, ConnectorRuns], str]] = {
    "before the first slot": (
        (hours(7), at("2026-11-23T11:00"), Ledger()),
        "Not due yet: the first scheduled run is due at 2026-11-23 14:00 UTC.",
    ),
    "between slots": (
        (hours(7), at("2026-11-23T15:00"), Ledger([at("2026-11-23T14:00")])),
        "Nothing is due at 2026-11-23 15:00 UTC. The next run is due at 2026-11-23 21:00 UTC.",
    ),
    "at a slot that has its run": (
        (hours(7), at("2026-11-23T14:00"), Ledger([at("2026-11-23T14:00")])),
        (
            "The run due at 2026-11-23 14:00 UTC was started already (run run-1). "
            "The next run is due at 2026-11-23 21:00 UTC."
        ),
    ),
    "during a run": (
        (minutes(10), at("2026-11-23T10:23"), Busy(queued=False)),
        (
            "Run run-1 of this connector is still in progress, since 2026-11-23 10:13:04 UTC, so the run due"
            " at 2026-11-23 10:23 UTC is not started now. The next run is due at 2026-11-23 10:33 UTC."
        ),
    ),
    "behind a queued run": (
        (minutes(10), at("2026-11-23T10:23"), Busy(queued=True)),
        (
            "Run run-1 of this connector is waiting in the queue, since 2026-11-23 10:13:04 UTC, so the"
            " run due at 2026-11-23 10:23 UTC is not started now. "
            "The next run is due at 2026-11-23 10:33 UTC."
        ),
    ),
}


@pytest.mark.parametrize("case", SKIPS)
def test_a_skip_says_why_and_what_comes_next(case: str) -> None:
    (schedule, tick, history), reason = SKIPS[case]
    assert decide_tick(schedule, CREATED, tick, history) == SkipTick(reason)


def test_the_documentation_names_every_reason_for_a_skip() -> None:
    document = Path(__file__).parents[2] / "docs" / "schedules.md"
    rows = re.findall(r"^\| `(\S+ .* \.\.\.\)?)` \|", document.read_text(), re.MULTILINE)
    patterns = [re.escape(row).replace(r"\.\.\.", ".+") for row in rows]
    reasons = [reason for _, reason in SKIPS.values()]
    assert [bool(re.match(*pair)) for pair in zip(patterns, reasons, strict=True)] == [True] * 5


def test_on_a_grid_a_slot_met_during_a_run_is_started_by_a_later_tick() -> None:
    ledger = Ledger([at("2026-11-23T14:00")], busy_until=at("2026-11-23T22:30"))
    decisions = [
        ledger.tick(hours(7), CREATED, at(f"2026-11-23T{hour}:00")) for hour in (21, 22, 23)
    ]
    assert [isinstance(decision, SkipTick) for decision in decisions[:2]] == [True, True]
    assert decisions[2] == StartRun(at("2026-11-23T21:00"))
