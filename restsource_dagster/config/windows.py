"""Windows of history: where they begin and end, what they are called, and where the live stream starts.

All times are UTC. A window is half open, from its start up to but without its end, so that windows
meet exactly and every row lies in one of them. That is also why `range_start` and `range_end` of the
connector file are not applied here: they say what a person wants at the two outer ends of a range of
their own; at a boundary between two windows an open start would lose the rows that stand exactly on
it, and a closed end would load them twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import get_args

from restsource_dagster.config.instants import in_utc
from restsource_dagster.config.resources import Backfill, Partition

__all__ = [
    "KEY_FORMATS",
    "PARTITIONS",
    "Window",
    "ceiling",
    "desired",
    "floor",
    "following",
    "history_end",
    "live_start",
    "window_of_key",
    "windows_of",
]

PARTITIONS: tuple[Partition, ...] = get_args(Partition)
KEY_FORMATS: dict[Partition, str] = {
    "hourly": "%Y-%m-%d-%H:%M",
    "daily": "%Y-%m-%d",
    "weekly": "%Y-%m-%d",
    "monthly": "%Y-%m-%d",
}
"""How Dagster writes the keys of its time partitions: the start of the window."""
_STEPS: dict[Partition, timedelta] = {
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(days=7),
}


@dataclass(frozen=True)
class Window:
    """The moments from `start` up to, but without, `end`. `key` is Dagster's partition key."""

    start: datetime
    end: datetime
    key: str


def floor(partition: Partition, moment: datetime) -> datetime:
    """The start of the window that a moment lies in. Raises `ValueError` without a time zone.

    Weeks start on Monday, as in ISO 8601; Dagster's weekly partitions do with `day_offset=1`.
    """
    hour = in_utc(moment).replace(minute=0, second=0, microsecond=0)
    if partition == "hourly":
        return hour
    day = hour.replace(hour=0)
    if partition == "weekly":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if partition == "monthly" else day


def ceiling(partition: Partition, moment: datetime) -> datetime:
    """The moment itself if a window starts there, else the start of the next one."""
    start = floor(partition, moment)
    return start if start == moment else following(partition, start)


def following(partition: Partition, start: datetime) -> datetime:
    """Where the window that begins at `start` ends, and the next one begins."""
    if partition != "monthly":
        return start + _STEPS[partition]
    years, month = divmod(start.month, 12)
    return start.replace(year=start.year + years, month=month + 1)


def windows_of(partition: Partition, start: datetime, end: datetime) -> tuple[Window, ...]:
    """The windows from `start` to `end`, oldest first; none if the end is not after the start.

    Raises `ValueError` if either is no boundary of this partition, or has no time zone.
    """
    for name, moment in (("start", start), ("end", end)):
        if floor(partition, moment) != moment:
            raise ValueError(f"{name} is {moment.isoformat()}, where no {partition} window begins")
    return tuple(_windows(partition, in_utc(start), end))


def _windows(partition: Partition, start: datetime, end: datetime) -> Iterator[Window]:
    while start < end:
        yield _window(partition, start)
        start = following(partition, start)


def _window(partition: Partition, start: datetime) -> Window:
    key = start.strftime(KEY_FORMATS[partition])
    return Window(start, following(partition, start), key)


def window_of_key(partition: Partition, key: str) -> Window:
    """The window with this partition key. Raises `ValueError` if there is none."""
    try:
        start = datetime.strptime(key, KEY_FORMATS[partition]).replace(tzinfo=UTC)
    except ValueError:
        start = None
    if start is None or _window(partition, floor(partition, start)).key != key:
        raise ValueError(f"{key!r} is no key of a {partition} window")
    return _window(partition, start)


def live_start(partition: Partition, created_at: datetime) -> datetime:
    """Where the live stream of a connector with a `backfill` block starts.

    It is the start of the window in which the connector was created: the first run loads that
    window only, and all windows before it are history.
    """
    return floor(partition, created_at)


def history_end(
    backfill: Backfill, created_at: datetime, *, live_from: datetime | None = None
) -> datetime:
    """Where the history ends, which is the live stream's start unless `end` comes before.

    `live_from` is where the live stream really began, if that is known: the cursor of a connector
    that ran before it got a `backfill` block, or whose windows were shorter then. History reaches up
    to it, to the end of its window, so that no stretch is left between the two.
    """
    end = live_start(backfill.partition, created_at)
    if live_from is not None:
        end = max(end, ceiling(backfill.partition, live_from))
    return end if backfill.end is None else min(end, backfill.end)


def desired(
    backfill: Backfill, created_at: datetime, *, live_from: datetime | None = None
) -> tuple[Window, ...]:
    """The windows of a resource's history, newest first; see `history_end` for `live_from`.

    Raises `ValueError` if `created_at` or `live_from` has no time zone.
    """
    end = history_end(backfill, created_at, live_from=live_from)
    return windows_of(backfill.partition, backfill.start, end)[::-1]
