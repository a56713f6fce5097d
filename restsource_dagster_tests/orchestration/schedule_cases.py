"""Schedules to try, and their slots counted out the slow way, straight from the rules."""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from hypothesis import strategies as st

__all__ = ["CREATED", "CREATIONS", "SCHEDULES", "Repeat", "days", "hours", "minutes", "slots_of"]

CREATED = datetime(2026, 11, 23, 10, 3, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MINUTES_IN = {"minutes": 1, "hours": 60, "days": 1440}


@dataclass(frozen=True)
class Repeat:
    mode: Literal["minutes", "hours", "days"]
    interval: int
    offset: int = 0


def minutes(interval: int) -> Repeat:
    return Repeat("minutes", interval)


def hours(interval: int, offset: int = 0) -> Repeat:
    return Repeat("hours", interval, offset)


def days(interval: int, offset: int = 0) -> Repeat:
    return Repeat("days", interval, offset)


def _with_offset(mode: Literal["hours", "days"], most: int) -> st.SearchStrategy[Repeat]:
    def offsets(interval: int) -> st.SearchStrategy[Repeat]:
        last = interval * MINUTES_IN[mode] - 1
        return st.integers(0, last).map(lambda offset: Repeat(mode, interval, offset))

    return st.integers(1, most).flatmap(offsets)


SCHEDULES = st.one_of(
    st.integers(1, 3000).map(minutes), _with_offset("hours", 200), _with_offset("days", 60)
)
CREATIONS = st.datetimes(
    datetime(2020, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    datetime(2030, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
) | st.dates(datetime(2020, 1, 1, tzinfo=UTC).date(), datetime(2030, 1, 1, tzinfo=UTC).date()).map(
    lambda day: datetime(day.year, day.month, day.day, tzinfo=UTC)
)


@dataclass(frozen=True)
class Slots:
    """All slots until the horizon, as minutes since the midnight before the creation."""

    midnight: datetime
    due: range

    def at(self, index: int) -> datetime:
        return self.midnight + self.due[index] * MINUTE

    def until(self, moment: datetime) -> int:
        """How many slots there are until this moment, the moment included."""
        return bisect_right(self.due, (moment - self.midnight) / MINUTE)

    def between(self, after: datetime, until: datetime) -> list[datetime]:
        return [self.at(index) for index in range(self.until(after), self.until(until))]


def slots_of(schedule: Repeat, created_at: datetime, years: int = 30) -> Slots:
    midnight = datetime(created_at.year, created_at.month, created_at.day, tzinfo=UTC)
    by_minute = schedule.mode == "minutes"
    start = created_at.hour * 60 + created_at.minute if by_minute else schedule.offset
    ticks = range(start, years * 366 * 1440, schedule.interval * MINUTES_IN[schedule.mode])
    age = (created_at - midnight) / MINUTE
    first = next(index for index, minute in enumerate(ticks) if minute > age)
    return Slots(midnight=midnight, due=ticks[first:])
