"""Cron strings, read by Dagster's own parser and walked by its own iterator."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from math import gcd

import pytest
from dagster._utils.schedules import (
    CroniterShim,
    has_out_of_range_cron_interval,
    is_valid_cron_schedule,
    schedule_execution_time_iterator,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from restsource_dagster.orchestration.schedules.slots import cron_grid_for
from restsource_dagster_tests.orchestration.schedule_cases import (
    CREATED,
    CREATIONS,
    MINUTES_IN,
    SCHEDULES,
    Repeat,
    days,
    hours,
    minutes,
    slots_of,
)

MIDNIGHT = datetime(2026, 11, 23, tzinfo=UTC)
DIVISORS_OF_A_DAY = [step for step in range(1, 1441) if 1440 % step == 0]


def minutes_of_day(crons: tuple[str, ...]) -> list[int]:
    """Every tick of a day as its minute, sorted; a tick of two strings stands there twice."""
    found: list[int] = []
    for cron in crons:
        (minute_field, hour_field, *rest), *_ = CroniterShim.expand(cron)
        assert rest == [["*"], ["*"], ["*"]]
        every_minute = range(60) if minute_field == ["*"] else minute_field
        every_hour = range(24) if hour_field == ["*"] else hour_field
        found += [hour * 60 + minute for hour in every_hour for minute in every_minute]
    return sorted(found)


@pytest.mark.parametrize(
    ("schedule", "crons"),
    [
        (minutes(1), ("* * * * *",)),
        (minutes(10), ("3-59/10 * * * *",)),
        (minutes(30), ("3,33 * * * *",)),
        (minutes(60), ("3 * * * *",)),
        (minutes(45), ("18 */3 * * *", "3,48 1-23/3 * * *", "33 2-23/3 * * *")),
        (minutes(90), ("3 1-23/3 * * *", "33 2-23/3 * * *")),
        (hours(1, 15), ("15 * * * *",)),
        (hours(2), ("0 */2 * * *",)),
        (hours(12, 75), ("15 1,13 * * *",)),
        (days(1, 30), ("30 0 * * *",)),
    ],
)
def test_a_period_that_divides_a_day_is_an_exact_union_that_people_can_read(
    schedule: Repeat, crons: tuple[str, ...]
) -> None:
    grid = cron_grid_for(schedule, CREATED)
    assert (grid.crons, grid.exact) == (crons, True)


@pytest.mark.parametrize(
    ("schedule", "crons"),
    [
        (minutes(7), ("* * * * *",)),
        (minutes(100), ("3-59/20 * * * *",)),
        (hours(7, 20), ("20 * * * *",)),
        (hours(36, 20), ("20 0,12 * * *",)),
        (days(2, 30), ("30 0 * * *",)),
        (days(7, 3 * 1440 + 61), ("1 1 * * *",)),
    ],
)
def test_any_other_period_is_a_grid(schedule: Repeat, crons: tuple[str, ...]) -> None:
    grid = cron_grid_for(schedule, CREATED)
    assert (grid.crons, grid.exact) == (crons, False)


def test_every_union_there_is_has_exactly_its_ticks_and_none_twice() -> None:
    for step in DIVISORS_OF_A_DAY:
        for phase in range(step):
            grid = cron_grid_for(minutes(step), MIDNIGHT + timedelta(minutes=phase))
            assert grid.exact
            assert minutes_of_day(grid.crons) == list(range(phase, 1440, step))


def test_no_union_needs_more_than_a_handful_of_strings() -> None:
    most = {step: len(cron_grid_for(minutes(step), CREATED).crons) for step in DIVISORS_OF_A_DAY}
    assert max(most.values()) <= 8
    assert all(count == 1 for step, count in most.items() if step % 60 == 0 or 60 % step == 0)


@settings(max_examples=200)
@given(SCHEDULES, CREATIONS)
def test_the_grid_is_the_coarsest_that_holds_every_slot(
    schedule: Repeat, created_at: datetime
) -> None:
    grid = cron_grid_for(schedule, created_at)
    length = schedule.interval * MINUTES_IN[schedule.mode]
    due = slots_of(schedule, created_at, years=300).due
    until_it_repeats = 1440 // gcd(length, 1440)
    hit = {minute % 1440 for minute in due[:until_it_repeats]}
    assert minutes_of_day(grid.crons) == sorted(hit)
    assert grid.exact == (1440 % length == 0)


@settings(max_examples=200)
@given(SCHEDULES, CREATIONS)
def test_dagster_accepts_the_strings(schedule: Repeat, created_at: datetime) -> None:
    crons = list(cron_grid_for(schedule, created_at).crons)
    assert is_valid_cron_schedule(crons)
    assert not has_out_of_range_cron_interval(crons)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(DIVISORS_OF_A_DAY).map(minutes), CREATIONS, st.integers(0, 3650))
def test_dagster_ticks_at_every_slot_of_an_exact_union_and_at_no_other_time(
    schedule: Repeat, created_at: datetime, age_in_days: int
) -> None:
    start = created_at + timedelta(days=age_in_days)
    slots = slots_of(schedule, created_at)
    first = slots.until(start - timedelta(microseconds=1))
    ticks = schedule_execution_time_iterator(
        start.timestamp(), list(cron_grid_for(schedule, created_at).crons), "UTC"
    )
    later_ticks = (tick for tick in ticks if tick > created_at)
    assert list(islice(later_ticks, 50)) == [slots.at(first + k) for k in range(50)]
