"""Windows are Dagster's, meet exactly, and with the live stream hold every row once."""

import time
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.connector.cursor_format import CursorFormat, EpochTime, IsoDate
from restsource_dagster.connector.partitions import (
    PARTITION_GRANULARITIES,
    backfill_partitions,
    live_start,
    next_partition_start,
    partition_ceiling,
    partition_floor,
    partition_of_key,
    partitions_between,
    window_of_partition,
)
from restsource_dagster.connector.resources import Backfill, PartitionGranularity
from restsource_dagster_tests.connector.cursors import FORMS, moments, moments_between

partitions = st.sampled_from(PARTITION_GRANULARITIES)
SPANS = {
    "hourly": timedelta(days=4),
    "daily": timedelta(days=90),
    "weekly": timedelta(days=600),
    "monthly": timedelta(days=3000),
}
lengths = st.floats(min_value=0, max_value=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@cache
def of_dagster(
    partition: PartitionGranularity, start: datetime
) -> dg.TimeWindowPartitionsDefinition:
    kinds: dict[PartitionGranularity, Any] = {
        "hourly": dg.HourlyPartitionsDefinition,
        "daily": dg.DailyPartitionsDefinition,
        "weekly": dg.WeeklyPartitionsDefinition,
        "monthly": dg.MonthlyPartitionsDefinition,
    }
    made: dg.TimeWindowPartitionsDefinition = kinds[partition](
        start_date=start, **({"day_offset": 1} if partition == "weekly" else {})
    )
    return made


@given(partitions, moments, lengths)
def test_windows_and_keys_are_those_of_dagster(
    partition: PartitionGranularity, moment: datetime, length: float
) -> None:
    start, end = (
        partition_floor(partition, moment),
        partition_floor(partition, moment + length * SPANS[partition]),
    )
    windows = partitions_between(partition, start, end)
    theirs = of_dagster(partition, start)

    assert [window.key for window in windows] == list(theirs.get_partition_keys(current_time=end))
    for window in windows[:1] + windows[-3:]:
        their = theirs.time_window_for_partition_key(window.key)
        assert (their.start, their.end) == (window.start, window.end)


@given(partitions, moments, lengths)
def test_windows_meet_exactly_and_fill_their_range(
    partition: PartitionGranularity, moment: datetime, length: float
) -> None:
    start, end = (
        partition_floor(partition, moment),
        partition_ceiling(partition, moment + length * SPANS[partition]),
    )
    windows = partitions_between(partition, start, end)

    bounds = [start, *(window.end for window in windows)]
    assert [window.start for window in windows] == bounds[:-1]
    assert bounds[-1] == end
    assert all(partition_of_key(partition, window.key) == window for window in windows)


@given(partitions, moments)
def test_every_moment_lies_in_the_window_that_starts_before_it(
    partition: PartitionGranularity, moment: datetime
) -> None:
    start = partition_floor(partition, moment)

    assert start <= moment < next_partition_start(partition, start)
    assert partition_floor(partition, start) == start == partition_ceiling(partition, start)
    assert partition_ceiling(partition, moment) in (moment, next_partition_start(partition, start))


@given(
    partition=partitions,
    form=st.sampled_from(FORMS),
    created=moments_between(1985, 2150),
    length=lengths,
    rows=st.lists(st.floats(min_value=0, max_value=1.2), max_size=40),
    other=st.sampled_from(FORMS),
)
def test_each_row_lies_in_exactly_one_window_or_in_the_live_stream(
    partition: PartitionGranularity,
    form: CursorFormat,
    created: datetime,
    length: float,
    rows: list[float],
    other: CursorFormat,
) -> None:
    if partition == "hourly" and isinstance(form, IsoDate):
        form = FORMS[0]
    start = partition_floor(partition, created - length * SPANS[partition])
    windows = backfill_partitions(Backfill(start=start, end=None, partition=partition), created)
    spans = [window_of_partition(window, form) for window in windows]
    live = form.key(form.render(live_start(partition, created)))
    # seconds and milliseconds can't be told apart by their digits, numbers or texts
    spelt = form if isinstance(form, EpochTime) else other
    boundaries = [start, live_start(partition, created), *(window.end for window in windows[:20])]
    moments_of_rows = [start + part * (created - start) for part in rows] + boundaries
    for moment in moments_of_rows:
        value = spelt.render(moment)
        if spelt.parse(value) < start:
            continue  # written as a date, a row may fall on the day before
        takers = [span for span in spans if span.holds(value)]
        assert len(takers) + (form.key(value) >= live) == 1, value


def test_months_have_their_days_and_leap_years_their_february() -> None:
    keys = [
        window.key for window in partitions_between("daily", at("2024-02-28"), at("2024-03-02"))
    ]
    months = partitions_between("monthly", at("2023-12-01"), at("2024-04-01"))

    assert keys == ["2024-02-28", "2024-02-29", "2024-03-01"]
    assert [(window.end - window.start).days for window in months] == [31, 31, 29, 31]


def test_a_night_of_daylight_saving_has_24_hours() -> None:
    windows = partitions_between("hourly", at("2024-03-31"), at("2024-04-01"))

    assert len({window.key for window in windows}) == 24


def test_weeks_start_on_monday() -> None:
    assert partition_floor("weekly", at("2024-01-07T23:59:59")) == at("2024-01-01")
    assert partition_floor("weekly", at("2024-01-08")) == at("2024-01-08")


def test_the_live_stream_starts_with_the_window_of_creation() -> None:
    created = at("2024-05-17T10:03:00")

    assert [live_start(partition, created) for partition in PARTITION_GRANULARITIES] == [
        at("2024-05-17T10:00:00"),
        at("2024-05-17"),
        at("2024-05-13"),
        at("2024-05-01"),
    ]


def test_the_newest_window_is_asked_for_first() -> None:
    history = Backfill(start=at("2024-01-01"), end=None, partition="monthly")

    keys = [window.key for window in backfill_partitions(history, at("2024-05-17"))]

    assert keys == ["2024-04-01", "2024-03-01", "2024-02-01", "2024-01-01"]


def test_the_history_ends_where_the_file_says_if_that_comes_first() -> None:
    early = Backfill(start=at("2024-01-01"), end=at("2024-03-01"), partition="monthly")
    late = Backfill(start=at("2024-01-01"), end=at("2030-01-01"), partition="monthly")

    assert [w.key for w in backfill_partitions(early, at("2024-05-17"))] == [
        "2024-02-01",
        "2024-01-01",
    ]
    assert backfill_partitions(late, at("2024-05-17"))[0].key == "2024-04-01"


def test_there_is_no_history_after_the_start_of_the_live_stream() -> None:
    future = Backfill(start=at("2025-01-01"), end=None, partition="daily")

    assert backfill_partitions(future, at("2024-05-17")) == ()


def test_history_reaches_up_to_where_an_older_live_stream_began() -> None:
    history = Backfill(start=at("2024-01-01"), end=None, partition="monthly")
    created = at("2024-05-17T10:03:00")

    later = backfill_partitions(history, created, live_from=at("2024-05-17"))
    earlier = backfill_partitions(history, created, live_from=at("2020-01-01"))

    assert later[0].end == at("2024-06-01")
    assert earlier == backfill_partitions(history, created)


@pytest.mark.parametrize("key", ["2024-01-02", "2024-1-1", "2024-01-01-00:00", "", "soon"])
def test_a_key_of_no_window_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="no key of a weekly window"):
        partition_of_key("weekly", key)


def test_an_end_inside_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match=r"end is 2024-02-02.*where no monthly window begins"):
        partitions_between("monthly", at("2024-01-01"), at("2024-02-02"))


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        partition_floor("daily", datetime(2024, 1, 1))  # noqa: DTZ001 - that is what is refused


def test_the_windows_of_two_hundred_resources_are_quick_to_tell() -> None:
    history = Backfill(start=at("2019-05-01"), end=None, partition="monthly")
    started = time.process_time()
    for _ in range(200):
        backfill_partitions(history, at("2024-05-17"))

    # of the processor's time: it is the same on a busy machine
    assert time.process_time() - started < 2
