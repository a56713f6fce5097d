"""What the seeding puts into the sample's database, and when it shows."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sample.seed import SEEDED_AT, age, is_seeded, seed, shift_for

NOW = datetime(2026, 3, 5, 17, 42, 13, tzinfo=UTC)


def rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Path:
    database = tmp_path_factory.mktemp("year") / "nycflights.db"
    seed(database, now=NOW)
    return database


@pytest.mark.parametrize(
    ("table", "count"),
    [
        ("all_flights", 336_776),
        ("all_weather", 26_115),
        ("planes", 3_322),
        ("airports", 1_458),
        ("airlines", 16),
    ],
)
def test_every_row_of_the_package_is_in_the_database(year: Path, table: str, count: int) -> None:
    query = f"select count(*) from {table}"
    assert rows(year, query) == [(count,)]


def test_ids_count_flights_in_the_order_of_their_departure(year: Path) -> None:
    found = rows(year, "select id from all_flights order by departed_at, id")
    assert found == [(number,) for number in range(1, 336_777)]


def test_times_are_utc_text_that_sorts_like_the_time(year: Path) -> None:
    (first, last) = rows(year, "select min(departed_at), max(departed_at) from all_flights")[0]
    # The year's first flight leaves at 05:15 in New York, 30 days and 8 hours before SEEDED_AT's.
    assert first == "2026-02-03T14:15:00Z"
    assert datetime.fromisoformat(last) - datetime.fromisoformat(first) > timedelta(days=364)


def test_the_hour_of_seeding_is_a_morning_with_flights_before_and_after_it(year: Path) -> None:
    hour = "2026-03-05T{:02}"
    query = "select count(*) from all_flights where departed_at like '{}%'"
    counts = [rows(year, query.format(hour.format(at)))[0][0] for at in range(15, 24)]
    assert min(counts) > 30


def test_missing_values_are_null_and_numbers_are_numbers(year: Path) -> None:
    query = "select typeof(dep_time), count(*) from all_flights group by 1 order by 1"
    assert rows(year, query) == [("integer", 336_776 - 8_255), ("null", 8_255)]


def test_the_calendar_of_new_york_is_moved_by_whole_days(year: Path) -> None:
    found = rows(year, "select year, month, day, hour, minute from all_flights where id = 1")
    assert found == [(2026, 2, 3, 5, 15)]


def test_only_the_past_is_visible(sample_database: Path) -> None:
    latest = rows(sample_database, "select max(departed_at) from flights")[0][0]
    now = datetime.now(UTC)  # flights depart all the time: not before the look at them
    assert timedelta(0) <= now - datetime.fromisoformat(latest) < timedelta(hours=2)
    assert rows(sample_database, "select count(*) from flights") < rows(
        sample_database, "select count(*) from all_flights"
    )


def test_about_thirty_days_are_visible_after_seeding(sample_database: Path) -> None:
    seen = age(sample_database, datetime.now(UTC))
    assert timedelta(days=30) < seen < timedelta(days=31)


def test_a_database_that_is_absent_broken_or_older_has_to_be_seeded(
    tmp_path: Path, sample_database: Path
) -> None:
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"not a database, but long enough to look at" * 40)
    older = tmp_path / "older.db"
    with closing(sqlite3.connect(older)) as connection:
        connection.execute("create table flights (id)")
    assert not is_seeded(tmp_path / "absent.db")
    assert not is_seeded(broken)
    assert not is_seeded(older)
    assert is_seeded(sample_database)


def test_seeding_leaves_nothing_but_the_database(sample_database: Path) -> None:
    assert list(sample_database.parent.iterdir()) == [sample_database]


@given(st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_the_shift_is_whole_hours_and_makes_the_hour_of_seeding_the_chosen_one(
    now: datetime,
) -> None:
    shift = shift_for(now)
    assert shift % timedelta(hours=1) == timedelta(0)
    assert timedelta(0) <= now - (SEEDED_AT + shift) < timedelta(hours=1)
