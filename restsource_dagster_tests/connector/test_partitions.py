"""Partitions are Dagster's, meet exactly, and with the live stream have every row once."""

import time
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.connector.cursor_format import CursorFormat, EpochTime, IsoDate
from restsource_dagster.connector.models.backfill import Backfill, backfill_partitions
from restsource_dagster.connector.partitions import (
    PARTITION_GRANULARITIES,
    PartitionGranularity,
    live_start,
    next_partition_start,
    partition_ceiling,
    partition_floor,
    partition_of_key,
    partitions_between,
    window_of_partition,
)
from restsource_dagster_tests.connector.cursors import CURSOR_FORMATS, moments, moments_between

granularities = st.sampled_from(PARTITION_GRANULARITIES)
LONGEST = {
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
    granularity: PartitionGranularity, start: datetime
) -> dg.TimeWindowPartitionsDefinition:
    kinds: dict[PartitionGranularity, Any] = {
        "hourly": dg.HourlyPartitionsDefinition,
        "daily": dg.DailyPartitionsDefinition,
        "weekly": dg.WeeklyPartitionsDefinition,
        "monthly": dg.MonthlyPartitionsDefinition,
    }
    made: dg.TimeWindowPartitionsDefinition = kinds[granularity](
        start_date=start, **({"day_offset": 1} if granularity == "weekly" else {})
    )
    return made


@given(granularities, moments, lengths)
def test_partitions_and_their_keys_are_those_of_dagster(
    granularity: PartitionGranularity, moment: datetime, length: float
) -> None:
    start, end = (
        partition_floor(granularity, moment),
        partition_floor(granularity, moment + length * LONGEST[granularity]),
    )
    partitions = partitions_between(granularity, start, end)
    theirs = of_dagster(granularity, start)

    assert [partition.key for partition in partitions] == list(
        theirs.get_partition_keys(current_time=end)
    )
    for partition in partitions[:1] + partitions[-3:]:
        their = theirs.time_window_for_partition_key(partition.key)
        assert (their.start, their.end) == (partition.start, partition.end)


@given(granularities, moments, lengths)
def test_partitions_meet_exactly_and_fill_their_range(
    granularity: PartitionGranularity, moment: datetime, length: float
) -> None:
    start, end = (
        partition_floor(granularity, moment),
        partition_ceiling(granularity, moment + length * LONGEST[granularity]),
    )
    partitions = partitions_between(granularity, start, end)

    bounds = [start, *(partition.end for partition in partitions)]
    assert [partition.start for partition in partitions] == bounds[:-1]
    assert bounds[-1] == end
    assert all(
        partition_of_key(granularity, partition.key) == partition for partition in partitions
    )


@given(granularities, moments)
def test_every_moment_lies_in_the_partition_that_starts_before_it(
    granularity: PartitionGranularity, moment: datetime
) -> None:
    start = partition_floor(granularity, moment)

    assert start <= moment < next_partition_start(granularity, start)
    assert partition_floor(granularity, start) == start == partition_ceiling(granularity, start)
    assert partition_ceiling(granularity, moment) in (
        moment,
        next_partition_start(granularity, start),
    )


@given(
    granularity=granularities,
    cursor_format=st.sampled_from(CURSOR_FORMATS),
    created=moments_between(1985, 2150),
    length=lengths,
    rows=st.lists(st.floats(min_value=0, max_value=1.2), max_size=40),
    other_format=st.sampled_from(CURSOR_FORMATS),
)
def test_each_row_lies_in_exactly_one_partition_or_in_the_live_stream(
    granularity: PartitionGranularity,
    cursor_format: CursorFormat,
    created: datetime,
    length: float,
    rows: list[float],
    other_format: CursorFormat,
) -> None:
    if granularity == "hourly" and isinstance(cursor_format, IsoDate):
        cursor_format = CURSOR_FORMATS[0]
    start = partition_floor(granularity, created - length * LONGEST[granularity])
    partitions = backfill_partitions(
        Backfill.of({"start": start, "end": None, "partition": granularity}), created
    )
    windows = [window_of_partition(partition, cursor_format) for partition in partitions]
    live = cursor_format.comparison_key(cursor_format.render(live_start(granularity, created)))
    # seconds and milliseconds can't be distinguished by their digits, numbers or texts
    row_format = cursor_format if isinstance(cursor_format, EpochTime) else other_format
    boundaries = [
        start,
        live_start(granularity, created),
        *(partition.end for partition in partitions[:20]),
    ]
    moments_of_rows = [start + part * (created - start) for part in rows] + boundaries
    for moment in moments_of_rows:
        value = row_format.render(moment)
        if row_format.parse(value) < start:
            continue  # written as a date, a row may fall on the day before
        holders = [window for window in windows if window.contains(value)]
        assert len(holders) + (cursor_format.comparison_key(value) >= live) == 1, value


def test_months_have_their_days_and_leap_years_their_february() -> None:
    keys = [
        partition.key
        for partition in partitions_between("daily", at("2024-02-28"), at("2024-03-02"))
    ]
    months = partitions_between("monthly", at("2023-12-01"), at("2024-04-01"))

    assert keys == ["2024-02-28", "2024-02-29", "2024-03-01"]
    assert [(partition.end - partition.start).days for partition in months] == [31, 31, 29, 31]


def test_a_night_of_daylight_saving_has_24_hours() -> None:
    partitions = partitions_between("hourly", at("2024-03-31"), at("2024-04-01"))

    assert len({partition.key for partition in partitions}) == 24


def test_weeks_start_on_monday() -> None:
    assert partition_floor("weekly", at("2024-01-07T23:59:59")) == at("2024-01-01")
    assert partition_floor("weekly", at("2024-01-08")) == at("2024-01-08")


def test_the_live_stream_starts_with_the_partition_of_the_creation() -> None:
    created = at("2024-05-17T10:03:00")

    assert [live_start(granularity, created) for granularity in PARTITION_GRANULARITIES] == [
        at("2024-05-17T10:00:00"),
        at("2024-05-17"),
        at("2024-05-13"),
        at("2024-05-01"),
    ]


def test_the_newest_partition_comes_first() -> None:
    backfill = Backfill.of({"start": at("2024-01-01"), "end": None, "partition": "monthly"})

    keys = [partition.key for partition in backfill_partitions(backfill, at("2024-05-17"))]

    assert keys == ["2024-04-01", "2024-03-01", "2024-02-01", "2024-01-01"]


def test_the_backfill_ends_where_the_file_says_if_that_is_earlier() -> None:
    early = Backfill.of(
        {"start": at("2024-01-01"), "end": at("2024-03-01"), "partition": "monthly"}
    )
    late = Backfill.of({"start": at("2024-01-01"), "end": at("2030-01-01"), "partition": "monthly"})

    assert [partition.key for partition in backfill_partitions(early, at("2024-05-17"))] == [
        "2024-02-01",
        "2024-01-01",
    ]
    assert backfill_partitions(late, at("2024-05-17"))[0].key == "2024-04-01"


def test_a_backfill_has_no_partitions_after_the_start_of_the_live_stream() -> None:
    future = Backfill.of({"start": at("2025-01-01"), "end": None, "partition": "daily"})

    assert backfill_partitions(future, at("2024-05-17")) == ()


def test_a_backfill_extends_to_the_start_of_an_older_live_stream() -> None:
    backfill = Backfill.of({"start": at("2024-01-01"), "end": None, "partition": "monthly"})
    created = at("2024-05-17T10:03:00")

    later = backfill_partitions(backfill, created, live_start_at=at("2024-05-17"))
    earlier = backfill_partitions(backfill, created, live_start_at=at("2020-01-01"))

    assert later[0].end == at("2024-06-01")
    assert earlier == backfill_partitions(backfill, created)


@pytest.mark.parametrize("key", ["2024-01-02", "2024-1-1", "2024-01-01-00:00", "", "soon"])
def test_an_unknown_partition_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="not the key of a weekly partition"):
        partition_of_key("weekly", key)


def test_an_end_inside_a_partition_is_refused() -> None:
    with pytest.raises(ValueError, match=r"end is 2024-02-02.*where no monthly partition starts"):
        partitions_between("monthly", at("2024-01-01"), at("2024-02-02"))


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        partition_floor("daily", datetime(2024, 1, 1))  # noqa: DTZ001 - that is what is refused


def test_the_partitions_of_two_hundred_resources_are_computed_fast() -> None:
    backfill = Backfill.of({"start": at("2019-05-01"), "end": None, "partition": "monthly"})
    started = time.process_time()
    for _ in range(200):
        backfill_partitions(backfill, at("2024-05-17"))

    # of the processor's time: it is the same on a busy machine
    assert time.process_time() - started < 2
