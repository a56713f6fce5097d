"""When a connector is due: the arithmetic of slots, in UTC, and the cron strings for them.

A *slot* is a moment at which a connector is due: `anchor + k * period` for k = 0, 1, 2, ..., if it is later
than the connector's creation. All functions are pure, so two machines always agree on what is due.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from math import gcd
from typing import Literal, Protocol

__all__ = [
    "DAY",
    "CronGrid",
    "RepeatingSchedule",
    "cron_grid_for",
    "format_utc",
    "last_due",
    "next_due",
    "parse_slot_tag",
    "schedule_in_words",
    "slot_anchor",
    "slot_period",
    "slot_tag",
    "upcoming_slots",
]

DAY = timedelta(days=1)

_SCHEDULE_UNITS = {"minutes": timedelta(minutes=1), "hours": timedelta(hours=1), "days": DAY}


class RepeatingSchedule(Protocol):
    """A schedule that repeats, such as the `schedule` of a connector file."""

    @property
    def mode(self) -> Literal["minutes", "hours", "days"]:
        """The unit that `interval` counts."""

    @property
    def interval(self) -> int:
        """The number of units from one slot to the next, at least 1."""

    @property
    def offset(self) -> int:
        """The minutes from midnight UTC to the slots of hours and days; 0 for minutes."""


def slot_period(schedule: RepeatingSchedule) -> timedelta:
    """Return the time from one slot to the next."""
    return schedule.interval * _SCHEDULE_UNITS[schedule.mode]


def slot_anchor(schedule: RepeatingSchedule, created_at: datetime) -> datetime:
    """Return the moment that slots are counted from, in UTC. It need not be a slot itself.

    Minutes count from the minute of creation; hours and days from the midnight (UTC) before the
    creation, plus the offset. Raises `ValueError` if `created_at` has no time zone.
    """
    created = _require_utc(created_at, "created_at")
    if schedule.mode == "minutes":
        return created.replace(second=0, microsecond=0)
    midnight = created.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + timedelta(minutes=schedule.offset)


def last_due(schedule: RepeatingSchedule, created_at: datetime, now: datetime) -> datetime | None:
    """Return the latest slot up to `now`; None before the first slot.

    Raises `ValueError` if a time has no time zone.
    """
    start = slot_anchor(schedule, created_at)
    # Floor division, so before the anchor the result is a slot before it, which the last line rejects.
    elapsed = (_require_utc(now, "now") - start) // slot_period(schedule)
    slot = start + elapsed * slot_period(schedule)
    return slot if slot > created_at else None


def next_due(schedule: RepeatingSchedule, created_at: datetime, now: datetime) -> datetime:
    """Return the first slot after both `now` and the creation.

    Raises `ValueError` if a time has no time zone.
    """
    start = slot_anchor(schedule, created_at)
    after = max(_require_utc(now, "now"), created_at)
    return start + ((after - start) // slot_period(schedule) + 1) * slot_period(schedule)


def upcoming_slots(
    schedule: RepeatingSchedule, created_at: datetime, now: datetime
) -> Iterator[datetime]:
    """Yield all slots after `now`, in order, without end."""
    # Counted on from one slot: `next_due` of each would be the same, and slower.
    slot = next_due(schedule, created_at, now)
    while True:
        yield slot
        slot += slot_period(schedule)


def slot_tag(slot: datetime) -> str:
    """Return a slot as the value of a run's slot tag: `2026-11-23T10:13:00Z`."""
    return _require_utc(slot, "slot").strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_slot_tag(value: str) -> datetime | None:
    """Return the slot in a tag's value; None if the value is no slot, as people can edit tags."""
    try:
        slot = datetime.fromisoformat(value)
    except ValueError:
        return None
    return slot.astimezone(UTC) if slot.tzinfo else None


def format_utc(moment: datetime) -> str:
    """Return a moment as text: `2026-11-23 10:13 UTC`, with seconds unless they are zero."""
    utc = _require_utc(moment, "moment")
    return f"{utc:%Y-%m-%d %H:%M:%S} UTC" if utc.second else f"{utc:%Y-%m-%d %H:%M} UTC"


def schedule_in_words(schedule: RepeatingSchedule, created_at: datetime) -> str:
    """Return a schedule as text that never changes.

    `every 10 minutes at 10:13, 10:23, ... UTC` if the times repeat each day (the first two are named).
    Otherwise with the date to count from: `every 7 hours, first on 2026-11-23 at 14:00 UTC`.
    """
    every = _every_words(schedule)
    first, second = islice(upcoming_slots(schedule, created_at, created_at), 2)
    length = slot_period(schedule)
    if length == DAY:
        return f"{every} at {first:%H:%M} UTC"
    # twice a day: both times are named, and no dots follow
    if length * 2 == DAY:
        return f"{every} at {first:%H:%M} and {second:%H:%M} UTC"
    if not DAY % length:
        return f"{every} at {first:%H:%M}, {second:%H:%M}, ... UTC"
    return f"{every}, first on {first:%Y-%m-%d} at {first:%H:%M} UTC"


def _every_words(schedule: RepeatingSchedule) -> str:
    if schedule.interval == 1:
        return f"every {schedule.mode.removesuffix('s')}"
    return f"every {schedule.interval} {schedule.mode}"


def _require_utc(moment: datetime, name: str) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(
            f"{name} is {moment.isoformat()}, which has no time zone. "
            "Give it in UTC, for instance 2026-11-23T10:03:00Z."
        )
    return moment.astimezone(UTC)


_MINUTE = timedelta(minutes=1)
_MINUTES_PER_DAY = DAY // _MINUTE


@dataclass(frozen=True)
class CronGrid:
    """Cron strings in UTC that together have a tick at every slot of a schedule."""

    crons: tuple[str, ...]
    exact: bool
    """True if every tick after the first slot is a slot."""


def cron_grid_for(schedule: RepeatingSchedule, created_at: datetime) -> CronGrid:
    """Return the cron strings of a schedule.

    Cron can express "at these minutes of these hours", so a period that divides a day is exact. Any other
    period gets the coarsest grid that contains all its slots, and the ticks between them are skipped.

    Raises `ValueError` if `created_at` has no time zone.
    """
    minutes = slot_period(schedule) // _MINUTE
    # Cron repeats every day. The greatest common divisor is the longest step that does too and meets all slots.
    step = gcd(minutes, _MINUTES_PER_DAY)
    start = slot_anchor(schedule, created_at)
    phase = (start.hour * 60 + start.minute) % step
    return CronGrid(crons=_cron_union(step, phase), exact=step == minutes)


def _cron_union(step: int, phase: int) -> tuple[str, ...]:
    """Return one cron string for each group of hours with the same minutes."""
    minutes_of: dict[int, list[int]] = {}
    for minute_of_day in range(phase, _MINUTES_PER_DAY, step):
        hour, minute = divmod(minute_of_day, 60)
        minutes_of.setdefault(hour, []).append(minute)
    hours_of: dict[tuple[int, ...], list[int]] = {}
    for hour, minutes in minutes_of.items():
        hours_of.setdefault(tuple(minutes), []).append(hour)
    return tuple(
        f"{_cron_field(minutes, 60)} {_cron_field(hours, 24)} * * *"
        for minutes, hours in hours_of.items()
    )


def _cron_field(values: Sequence[int], size: int) -> str:
    """Return the cron field for evenly spaced values between 0 and `size - 1`."""
    if len(values) == size:
        return "*"
    # A step needs three values to be shorter than the list.
    if len(values) < 3:
        return ",".join(map(str, values))
    start = f"{values[0]}-{size - 1}" if values[0] else "*"
    return f"{start}/{values[1] - values[0]}"
