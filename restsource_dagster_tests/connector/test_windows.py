"""Ranges that a person asks for are split into windows that meet exactly."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from restsource_dagster.connector.cursor_format import CursorValueError, detect_cursor_format
from restsource_dagster.connector.partitions import (
    Window,
    partitions_between,
    split_into_windows,
    window_of_partition,
)
from restsource_dagster_tests.connector.cursors import FINE_CURSOR_FORMATS, moments_between

LENGTHS = ["45min", "1h", "12h", "1d", "7d", "2w", "1mo", "5mo", "1y"]


def ends(windows: tuple[Window, ...]) -> list[Any]:
    return [windows[0].start, *(window.end for window in windows)]


def test_months_are_those_of_the_calendar_counted_from_the_first_day() -> None:
    assert ends(split_into_windows("2024-01-31", "2024-05-15", "1mo")) == [
        "2024-01-31",
        "2024-02-29",
        "2024-03-31",
        "2024-04-30",
        "2024-05-15",
    ]
    assert ends(split_into_windows("2024-02-29", "2028-03-01", "1y")) == [
        "2024-02-29",
        "2025-02-28",
        "2026-02-28",
        "2027-02-28",
        "2028-02-29",
        "2028-03-01",
    ]


def test_the_ends_of_windows_have_the_format_of_the_cursor() -> None:
    epoch, zoned = (
        detect_cursor_format(1704067200),
        detect_cursor_format("2024-01-01 00:00:00.000+02:00"),
    )

    assert ends(split_into_windows("2024-01-01", "2024-01-03", "1d", cursor_format=epoch)) == [
        1704067200,
        1704153600,
        1704240000,
    ]
    assert ends(
        split_into_windows("2024-01-01", "2024-01-02T12:00:00Z", "1d", cursor_format=zoned)
    ) == [
        "2024-01-01 02:00:00.000+02:00",
        "2024-01-02 02:00:00.000+02:00",
        "2024-01-02 14:00:00.000+02:00",
    ]


def test_a_range_of_numbers_is_split_by_a_number() -> None:
    assert ends(split_into_windows("0", "25000", "10000")) == [0, 10000, 20000, 25000]
    assert ends(split_into_windows("5", "7", cursor_format=detect_cursor_format("17"))) == [
        "5",
        "7",
    ]
    assert ends(split_into_windows(1704067200, 1704153600, "43200")) == [
        1704067200,
        1704110400,
        1704153600,
    ]


def test_without_a_length_there_is_one_window_of_any_cursor() -> None:
    assert ends(split_into_windows("01HQ", "01HZ")) == ["01HQ", "01HZ"]
    assert [window.label for window in split_into_windows("2024-01-01", "2024-02-01")] == [
        "2024-01-01..2024-02-01"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("2024-01-01", "2024-01-01", "1d"), "There is nothing from"),
        (("2024-01-02", "2024-01-01"), "must come after `from`"),
        (("2024-01-01", "tomorrow"), r"`to` is \"tomorrow\", and the cursor is a date"),
        (("1", "2024-01-01"), r"`to` is \"2024-01-01\", and the cursor is a number"),
        (("2024-01-01", "2024-02-01", "10000"), "a length such as 30s"),
        (("2024-01-01", "2024-02-01", "5m"), "Minutes are `min`, months `mo`"),
        (("2024-01-01", "2024-02-01", "0d"), "`window` is 0d"),
        (("2024-01-01", "2024-02-01", "week"), "a length such as 30s"),
        (("2024-01-01", "2024-02-01", "-1d"), "a length such as 30s"),
        (("2024-01-01", "2024-02-01", "1h"), "The cursor is a date, and windows would meet at"),
        (("1", "9", "1d"), "a whole number such as 10000"),
        (("a", "b", "1"), "can't be split"),
        (("1", "9000000", "1"), "more than 100,000 windows"),
    ],
)
def test_a_range_that_cannot_be_split_is_refused_with_the_reason(
    arguments: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        split_into_windows(*arguments)


@given(
    start=moments_between(1980, 2190),
    number=st.floats(min_value=0.01, max_value=60),
    length=st.sampled_from(LENGTHS),
    cursor_format=st.sampled_from(FINE_CURSOR_FORMATS),
    rows=st.lists(st.floats(min_value=-0.1, max_value=1.1), max_size=30),
)
def test_every_row_of_the_range_lies_in_exactly_one_window(
    start: datetime, number: float, length: str, cursor_format: Any, rows: list[float]
) -> None:
    start = start.replace(second=0, microsecond=0)
    hours = {"45min": 0.75, "1h": 1, "12h": 12, "1d": 24, "7d": 168, "2w": 336}.get(length, 744)
    end = start + timedelta(minutes=int(1 + number * hours * 60))
    assume(end.year < 2200)
    windows = split_into_windows(
        cursor_format.render(start), cursor_format.render(end), length, cursor_format=cursor_format
    )

    assert (cursor_format.parse(windows[0].start), cursor_format.parse(windows[-1].end)) == (
        start,
        end,
    )
    assert all(one.end == other.start for one, other in pairwise(windows))
    assert all(
        cursor_format.comparison_key(window.start) < cursor_format.comparison_key(window.end)
        for window in windows
    )
    at_ends = [cursor_format.parse(window.end) for window in windows[:20]]
    for moment in [start, end, *at_ends, *(start + part * (end - start) for part in rows)]:
        value = cursor_format.render(moment)
        inside = start <= cursor_format.parse(value) < end
        assert sum(window.contains(value) for window in windows) == inside


@given(
    start=st.integers(-(10**6), 10**6),
    total=st.integers(1, 10**6),
    pieces=st.integers(1, 200),
    rows=st.lists(st.integers(-(2 * 10**6), 3 * 10**6), max_size=30),
    as_text=st.booleans(),
)
def test_every_number_of_the_range_lies_in_exactly_one_window(
    start: int, total: int, pieces: int, rows: list[int], as_text: bool
) -> None:
    cursor_format = detect_cursor_format("17" if as_text else 17)
    length = str(total // pieces + 1)
    windows = split_into_windows(
        str(start), str(start + total), length, cursor_format=cursor_format
    )

    assert all(one.end == other.start for one, other in pairwise(windows))
    for row in [start, start + total, *(int(window.end) for window in windows), *rows]:
        value = str(row) if as_text else row
        inside = start <= row < start + total
        assert sum(window.contains(value) for window in windows) == inside


def test_the_window_of_a_partition_has_both_ends_in_the_format_of_the_cursor() -> None:
    (partition,) = partitions_between(
        "monthly", datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)
    )

    assert (
        window_of_partition(partition, detect_cursor_format("2020-01-01")).label
        == "2024-02-01..2024-03-01"
    )
    assert (
        window_of_partition(partition, detect_cursor_format(1704067200)).label
        == "1706745600..1709251200"
    )


def test_a_window_refuses_a_row_without_a_time() -> None:
    (window,) = split_into_windows("2024-01-01", "2024-02-01")

    with pytest.raises(CursorValueError, match="null is not a time"):
        window.contains(None)
