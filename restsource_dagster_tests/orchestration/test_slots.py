"""The arithmetic of slots, against the rules counted out the slow way."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restsource_dagster.connector.models.schedule import IntervalSchedule
from restsource_dagster.orchestration.schedules.slots import (
    format_utc,
    last_due,
    next_due,
    parse_slot_tag,
    schedule_in_words,
    slot_anchor,
    slot_period,
    slot_tag,
    upcoming_slots,
)
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

AGES = st.timedeltas(timedelta(0), timedelta(days=10 * 365))


@pytest.mark.parametrize(
    ("schedule", "first_slots"),
    [
        (minutes(10), ["2026-11-23T10:13:00Z", "2026-11-23T10:23:00Z"]),
        (minutes(1), ["2026-11-23T10:04:00Z", "2026-11-23T10:05:00Z"]),
        (minutes(3000), ["2026-11-25T12:03:00Z", "2026-11-27T14:03:00Z"]),
        (hours(1, 15), ["2026-11-23T10:15:00Z", "2026-11-23T11:15:00Z"]),
        (hours(1, 3), ["2026-11-23T11:03:00Z", "2026-11-23T12:03:00Z"]),
        (hours(7), ["2026-11-23T14:00:00Z", "2026-11-23T21:00:00Z", "2026-11-24T04:00:00Z"]),
        (hours(200, 11999), ["2026-12-01T07:59:00Z"]),
        (days(1, 30), ["2026-11-24T00:30:00Z", "2026-11-25T00:30:00Z"]),
        (days(1, 720), ["2026-11-23T12:00:00Z", "2026-11-24T12:00:00Z"]),
        (days(3, 1441), ["2026-11-24T00:01:00Z", "2026-11-27T00:01:00Z"]),
    ],
)
def test_the_first_slots_follow_the_rules(schedule: Repeat, first_slots: list[str]) -> None:
    found = islice(upcoming_slots(schedule, CREATED, CREATED), len(first_slots))
    assert [slot_tag(slot) for slot in found] == first_slots


def test_a_moment_that_equals_the_creation_is_not_due() -> None:
    midnight = datetime(2026, 11, 23, tzinfo=UTC)
    for schedule in (minutes(60), hours(1), days(1)):
        assert last_due(schedule, midnight, midnight) is None
        assert next_due(schedule, midnight, midnight) == midnight + slot_period(schedule)


def test_before_the_creation_nothing_is_due_and_the_first_slot_comes_next() -> None:
    long_before = CREATED - timedelta(days=900)
    assert last_due(minutes(10), CREATED, long_before) is None
    assert next_due(minutes(10), CREATED, long_before) == datetime(2026, 11, 23, 10, 13, tzinfo=UTC)


@settings(max_examples=200)
@given(SCHEDULES, CREATIONS, AGES)
def test_last_and_next_due_are_those_counted_out(
    schedule: Repeat, created_at: datetime, age: timedelta
) -> None:
    now = created_at + age
    slots = slots_of(schedule, created_at)
    passed = slots.until(now)
    assert last_due(schedule, created_at, now) == (slots.at(passed - 1) if passed else None)
    assert next_due(schedule, created_at, now) == slots.at(passed)


@settings(max_examples=200)
@given(SCHEDULES, CREATIONS, st.integers(0, 300))
def test_at_a_slot_it_is_the_last_due_and_not_the_next(
    schedule: Repeat, created_at: datetime, index: int
) -> None:
    slots = slots_of(schedule, created_at, years=60)
    slot = slots.at(index)
    assert last_due(schedule, created_at, slot) == slot
    assert next_due(schedule, created_at, slot) == slots.at(index + 1)
    just_before = slot - timedelta(microseconds=1)
    assert last_due(schedule, created_at, just_before) == (slots.at(index - 1) if index else None)


def test_every_interval_is_counted_right_over_years() -> None:
    random = Random(20261123)
    every = [minutes(n) for n in range(1, 3001)]
    every += [hours(n, random.randrange(n * 60)) for n in range(1, 201)]
    every += [days(n, random.randrange(n * 1440)) for n in range(1, 61)]
    for schedule in every:
        slots = slots_of(schedule, CREATED)
        for _ in range(5):
            now = CREATED + timedelta(seconds=random.randrange(3 * 366 * 86400))
            passed = slots.until(now)
            assert last_due(schedule, CREATED, now) == (slots.at(passed - 1) if passed else None)
            assert next_due(schedule, CREATED, now) == slots.at(passed)


def test_times_of_another_zone_count_as_their_moment_in_utc() -> None:
    in_tokyo = CREATED.astimezone(timezone(timedelta(hours=9)))
    later = in_tokyo + timedelta(days=2)
    assert slot_anchor(days(1, 30), in_tokyo) == datetime(2026, 11, 23, 0, 30, tzinfo=UTC)
    assert last_due(days(1, 30), in_tokyo, later) == datetime(2026, 11, 25, 0, 30, tzinfo=UTC)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(
        ValueError, match="created_at is 2026-11-23T10:03:20, which has no time zone"
    ):
        slot_anchor(minutes(10), CREATED.replace(tzinfo=None))
    with pytest.raises(ValueError, match="now is 2026-11-23T10:03:20, which has no time zone"):
        last_due(minutes(10), CREATED, CREATED.replace(tzinfo=None))


@given(CREATIONS)
def test_a_slot_tag_reads_back_to_the_second(moment: datetime) -> None:
    assert parse_slot_tag(slot_tag(moment)) == moment.replace(microsecond=0)


@pytest.mark.parametrize("value", ["", "soon", "2026-11-23", "2026-11-23T10:13:00"])
def test_a_slot_tag_that_is_no_moment_reads_as_none(value: str) -> None:
    assert parse_slot_tag(value) is None


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (minutes(1), "every minute at 10:04, 10:05, ... UTC"),
        (minutes(10), "every 10 minutes at 10:13, 10:23, ... UTC"),
        (minutes(90), "every 90 minutes at 11:33, 13:03, ... UTC"),
        (minutes(7), "every 7 minutes, first on 2026-11-23 at 10:10 UTC"),
        (hours(1, 15), "every hour at 10:15, 11:15, ... UTC"),
        (hours(7), "every 7 hours, first on 2026-11-23 at 14:00 UTC"),
        (hours(12, 15), "every 12 hours at 12:15 and 00:15 UTC"),
        (hours(24, 15), "every 24 hours at 00:15 UTC"),
        (days(1, 30), "every day at 00:30 UTC"),
        (days(3, 30), "every 3 days, first on 2026-11-26 at 00:30 UTC"),
    ],
)
def test_the_schedule_in_words(schedule: Repeat, words: str) -> None:
    assert schedule_in_words(schedule, CREATED) == words


def test_a_moment_in_text_has_seconds_only_where_there_are_some() -> None:
    assert format_utc(CREATED) == "2026-11-23 10:03:20 UTC"
    assert format_utc(CREATED.replace(second=0)) == "2026-11-23 10:03 UTC"


def test_the_examples_of_the_documentation_are_true() -> None:
    document = Path(__file__).parents[2] / "docs" / "schedules.md"
    rows = re.findall(r"^\| `(\{.*?\})` \| (.*?) \| (.*?) \|$", document.read_text(), re.MULTILINE)
    assert len(rows) == 6
    for written, first_slots, words in rows:
        schedule = IntervalSchedule.model_validate(json.loads(written))
        slots = list(islice(upcoming_slots(schedule, CREATED, CREATED), first_slots.count(",") + 1))
        texts = [
            f"{slot:%H:%M}" if slot.date() == CREATED.date() else f"{slot:%A %H:%M}"
            for slot in slots
        ]
        assert (first_slots, words) == (", ".join(texts), schedule_in_words(schedule, CREATED))
