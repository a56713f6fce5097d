"""When a connector is due: the arithmetic of slots, in UTC.

A *slot* is a moment at which a connector is due: `anchor + k * period` for k = 0, 1, 2, ..., as
far as it is later than the connector's creation. Everything here is a pure function of the
schedule, the creation time and a moment, so two machines always agree on what is due.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Literal, Protocol

__all__ = [
    "DAY",
    "Interval",
    "anchor",
    "as_text",
    "in_words",
    "last_due",
    "next_due",
    "parse_slot_tag",
    "period",
    "slot_tag",
    "upcoming",
]

DAY = timedelta(days=1)

_UNITS = {"minutes": timedelta(minutes=1), "hours": timedelta(hours=1), "days": DAY}


class Interval(Protocol):
    """What is needed of a schedule that repeats: the connector file's `schedule` has it."""

    @property
    def mode(self) -> Literal["minutes", "hours", "days"]:
        """The unit that `interval` counts."""

    @property
    def interval(self) -> int:
        """How many units lie between two slots, at least 1."""

    @property
    def offset(self) -> int:
        """Minutes by which hours and days are shifted from midnight UTC; 0 for minutes."""


def period(schedule: Interval) -> timedelta:
    """The time between two slots."""
    return schedule.interval * _UNITS[schedule.mode]


def anchor(schedule: Interval, created_at: datetime) -> datetime:
    """The moment that slots are counted from, in UTC; it need not be a slot itself.

    Minutes count from the minute of creation, hours and days from the midnight (UTC) before the
    creation plus the offset. Raises `ValueError` if `created_at` has no time zone.
    """
    created = _in_utc(created_at, "created_at")
    if schedule.mode == "minutes":
        return created.replace(second=0, microsecond=0)
    midnight = created.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + timedelta(minutes=schedule.offset)


def last_due(schedule: Interval, created_at: datetime, now: datetime) -> datetime | None:
    """The latest slot that is not later than `now`; None while none has come yet.

    Raises `ValueError` if a time has no time zone.
    """
    start = anchor(schedule, created_at)
    elapsed = (_in_utc(now, "now") - start) // period(schedule)
    slot = start + elapsed * period(schedule)
    return slot if slot > created_at else None


def next_due(schedule: Interval, created_at: datetime, now: datetime) -> datetime:
    """The first slot that is later than `now` and than the creation.

    Raises `ValueError` if a time has no time zone.
    """
    start = anchor(schedule, created_at)
    after = max(_in_utc(now, "now"), created_at)
    return start + ((after - start) // period(schedule) + 1) * period(schedule)


def upcoming(schedule: Interval, created_at: datetime, now: datetime) -> Iterator[datetime]:
    """All slots later than `now`, in order and without end: take as many as you show."""
    slot = next_due(schedule, created_at, now)
    while True:
        yield slot
        slot += period(schedule)


def slot_tag(slot: datetime) -> str:
    """A slot as the value of a run's slot tag: `2026-11-23T10:13:00Z`."""
    return _in_utc(slot, "slot").strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_slot_tag(value: str) -> datetime | None:
    """The slot that a tag's value names; None if a person has put something else there."""
    try:
        slot = datetime.fromisoformat(value)
    except ValueError:
        return None
    return slot.astimezone(UTC) if slot.tzinfo else None


def as_text(moment: datetime) -> str:
    """A moment for people: `2026-11-23 10:13 UTC`, with seconds only where there are some."""
    utc = _in_utc(moment, "moment")
    return f"{utc:%Y-%m-%d %H:%M:%S} UTC" if utc.second else f"{utc:%Y-%m-%d %H:%M} UTC"


def in_words(schedule: Interval, created_at: datetime) -> str:
    """The schedule for people, the same on every day of its life.

    `every 10 minutes at 10:13, 10:23, ... UTC` where the times of the day repeat each day (the
    first two are named), else with the date to count from: `every 7 hours, first on 2026-11-23
    at 14:00 UTC`.
    """
    every = _every(schedule)
    first, second = islice(upcoming(schedule, created_at, created_at), 2)
    length = period(schedule)
    if length == DAY:
        return f"{every} at {first:%H:%M} UTC"
    if length * 2 == DAY:
        return f"{every} at {first:%H:%M} and {second:%H:%M} UTC"
    if not DAY % length:
        return f"{every} at {first:%H:%M}, {second:%H:%M}, ... UTC"
    return f"{every}, first on {first:%Y-%m-%d} at {first:%H:%M} UTC"


def _every(schedule: Interval) -> str:
    if schedule.interval == 1:
        return f"every {schedule.mode.removesuffix('s')}"
    return f"every {schedule.interval} {schedule.mode}"


def _in_utc(moment: datetime, name: str) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(
            f"{name} is {moment.isoformat()}, without a time zone, so its moment is not known. "
            "Give it in UTC, for instance 2026-11-23T10:03:00Z."
        )
    return moment.astimezone(UTC)
