"""The cron strings that wake a schedule.

Cron can say "at these minutes of these hours", so a period that divides a day is a union of cron
strings exactly. Any other period gets the coarsest grid that holds all of its slots, and the
ticks in between are skipped when they come.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import gcd

from restsource_dagster.orchestration.slots import DAY, Interval, anchor, period

__all__ = ["CronGrid", "cron_strings"]

_MINUTE = timedelta(minutes=1)
_DAY_MINUTES = DAY // _MINUTE


@dataclass(frozen=True)
class CronGrid:
    """Cron strings, to be read in UTC, whose union has a tick at every slot of a schedule."""

    crons: tuple[str, ...]
    exact: bool
    """Whether every tick is a slot, the time before the first one aside."""


def cron_strings(schedule: Interval, created_at: datetime) -> CronGrid:
    """The cron strings of a schedule.

    Raises `ValueError` if `created_at` has no time zone.
    """
    minutes = period(schedule) // _MINUTE
    step = gcd(minutes, _DAY_MINUTES)
    start = anchor(schedule, created_at)
    phase = (start.hour * 60 + start.minute) % step
    return CronGrid(crons=_union(step, phase), exact=step == minutes)


def _union(step: int, phase: int) -> tuple[str, ...]:
    """One cron string for all the hours that share their minutes: few, and easy to read."""
    minutes_of: dict[int, list[int]] = {}
    for minute_of_day in range(phase, _DAY_MINUTES, step):
        hour, minute = divmod(minute_of_day, 60)
        minutes_of.setdefault(hour, []).append(minute)
    hours_of: dict[tuple[int, ...], list[int]] = {}
    for hour, minutes in minutes_of.items():
        hours_of.setdefault(tuple(minutes), []).append(hour)
    return tuple(
        f"{_field(minutes, 60)} {_field(hours, 24)} * * *" for minutes, hours in hours_of.items()
    )


def _field(values: Sequence[int], size: int) -> str:
    """Evenly spaced values of a field that counts from 0 to `size - 1`, up to its end."""
    if len(values) == size:
        return "*"
    if len(values) < 3:
        return ",".join(map(str, values))
    start = f"{values[0]}-{size - 1}" if values[0] else "*"
    return f"{start}/{values[1] - values[0]}"
