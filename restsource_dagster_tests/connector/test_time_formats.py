"""Formats of times: what is written and read, and times relative to the start of a run."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.connector.time_formats import (
    meant_relative_time,
    patterns_for,
    read_moment,
    relative_format,
    relative_time,
    write_moment,
)

START = datetime(2026, 3, 31, 10, 0, 30, tzinfo=UTC)
MOMENT = relative_time("now", START)


@pytest.mark.parametrize(
    ("time_format", "down", "up"),
    [
        ("epoch_seconds", 1774951230, 1774951230),
        ("epoch_milliseconds", 1774951230000, 1774951230000),
        ("epoch_microseconds", 1774951230000000, 1774951230000000),
        ("date", "2026-03-31", "2026-04-01"),
        ("iso8601", "2026-03-31T10:00:30Z", "2026-03-31T10:00:30Z"),
        ("rfc2822", "Tue, 31 Mar 2026 10:00:30 GMT", "Tue, 31 Mar 2026 10:00:30 GMT"),
        ("%Y-%m-%d %H:%M", "2026-03-31 10:00", "2026-03-31 10:01"),
        ("%d.%m.%Y", "31.03.2026", "01.04.2026"),
    ],
)
def test_what_a_format_cannot_say_is_cut_off_or_rounded_up(
    time_format: str, down: int | str, up: int | str
) -> None:
    assert write_moment(MOMENT, time_format) == down
    assert write_moment(MOMENT, time_format, rounds_up=True) == up


def test_patterns_are_written_in_their_time_zone() -> None:
    zone = ZoneInfo("Asia/Tokyo")
    assert write_moment(MOMENT, "%Y-%m-%d %H:%M", zone) == "2026-03-31 19:00"
    assert write_moment(MOMENT, "iso8601", zone) == "2026-03-31T10:00:30Z"


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("now-30d", "2026-03-01T10:00:30Z"),
        ("today", "2026-03-31T00:00:00Z"),
        ("today-1mo", "2026-02-28T00:00:00Z"),
        ("today-1mo+1d", "2026-03-01T00:00:00Z"),
        ("now-1y", "2025-03-31T10:00:30Z"),
        ("now+2w-1h-1m-1s", "2026-04-14T08:59:29Z"),
    ],
)
def test_steps_lead_from_the_start_of_the_run(name: str, moment: str) -> None:
    assert write_moment(relative_time(name, START), "iso8601") == moment


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("now - 30 days", "now-30d"),
        ("yesterday", "today-1d"),
        ("now-1M", "now-1mo"),
        ("utcnow()", "now"),
        ("nowhere", None),
        ("id", None),
    ],
)
def test_a_misspelt_relative_time_is_recognized(name: str, meant: str | None) -> None:
    assert meant_relative_time(name) == meant


@pytest.mark.parametrize("name", ["now-9000y", "today+9999y", "now-999999y"])
def test_a_time_outside_the_years_that_a_date_has_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="outside the years 1 to 9999"):
        relative_time(name, START)


def test_days_are_written_as_dates_and_times_as_times() -> None:
    names = ("today", "today-1mo", "today-2h", "now", "now-1d")
    assert [relative_format(name) for name in names] == [
        *("date", "date", "iso8601", "iso8601", "iso8601")
    ]


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ("27/11/2026", ("%d/%m/%Y",)),
        ("05/06/2026", ("%d/%m/%Y", "%m/%d/%Y")),
        ("11/27/2026 10:00 PM", ("%m/%d/%Y %I:%M %p",)),
        ("2026-11-27 10:00 +0100", ("%Y-%m-%d %H:%M %z",)),
        ("Fri Nov 27 10:00:00 +0000 2026", ("%a %b %d %H:%M:%S %z %Y",)),
        ("soon", ()),
    ],
)
def test_the_pattern_of_a_text_is_guessed(text: str, patterns: tuple[str, ...]) -> None:
    assert patterns_for(text) == patterns


def test_a_pattern_without_a_time_of_day_reads_a_date() -> None:
    assert read_moment("27/11/2026", "%d/%m/%Y") == date(2026, 11, 27)


def test_a_time_without_a_zone_is_in_the_given_one() -> None:
    moment = read_moment("27/11/2026 10:00", "%d/%m/%Y %H:%M", ZoneInfo("Europe/Berlin"))
    assert isinstance(moment, int)
    assert write_moment(moment, "iso8601") == "2026-11-27T09:00:00Z"


@given(st.integers(-(10**9), 10**10), st.sampled_from(["%Y%m%d%H%M%S%f%z", "iso8601"]))
def test_what_is_written_is_read_as_the_same_moment(seconds: int, time_format: str) -> None:
    moment = seconds * 10**9
    assert read_moment(str(write_moment(moment, time_format)), time_format) == moment
