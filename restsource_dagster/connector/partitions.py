"""Stretches of a cursor, in the cursor's own form: what one run of a window asks the API for.

A span is half open, as a window is: `range_start` and `range_end` of the connector file are not
applied to it, for the reason that `windows` gives. Windows of a history become spans by
`span_of`; the ranges that a person asks for, of any cursor, by `split`.

Windows of history: where they begin and end, what they are called, and where the live stream starts.

All times are UTC. A window is half open, from its start up to but without its end, so that windows
meet exactly and every row lies in one of them. That is also why `range_start` and `range_end` of the
connector file are not applied here: they say what a person wants at the two outer ends of a range of
their own; at a boundary between two windows an open start would lose the rows that stand exactly on
it, and a closed end would load them twice.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any, get_args

from restsource_dagster.connector.cursor_format import (
    CursorFormat,
    CursorValueError,
    EpochTime,
    PlainNumber,
    PlainText,
    detect_cursor_format,
    in_utc,
)
from restsource_dagster.connector.resources import Backfill, PartitionGranularity
from restsource_dagster.connector.validation.diagnostics import describe_value

__all__ = [
    "MAX_WINDOWS",
    "PARTITION_GRANULARITIES",
    "PARTITION_KEY_FORMATS",
    "Partition",
    "Window",
    "backfill_end",
    "backfill_partitions",
    "live_start",
    "next_partition_start",
    "partition_ceiling",
    "partition_floor",
    "partition_of_key",
    "partitions_between",
    "split_into_windows",
    "window_of_partition",
]

PARTITION_GRANULARITIES: tuple[PartitionGranularity, ...] = get_args(PartitionGranularity)
PARTITION_KEY_FORMATS: dict[PartitionGranularity, str] = {
    "hourly": "%Y-%m-%d-%H:%M",
    "daily": "%Y-%m-%d",
    "weekly": "%Y-%m-%d",
    "monthly": "%Y-%m-%d",
}
"""How Dagster writes the keys of its time partitions: the start of the window."""
_PARTITION_LENGTHS: dict[PartitionGranularity, timedelta] = {
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(days=7),
}


@dataclass(frozen=True)
class Partition:
    """The moments from `start` up to, but without, `end`. `key` is Dagster's partition key."""

    start: datetime
    end: datetime
    key: str


def partition_floor(partition: PartitionGranularity, moment: datetime) -> datetime:
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


def partition_ceiling(partition: PartitionGranularity, moment: datetime) -> datetime:
    """The moment itself if a window starts there, else the start of the next one."""
    start = partition_floor(partition, moment)
    return start if start == moment else next_partition_start(partition, start)


def next_partition_start(partition: PartitionGranularity, start: datetime) -> datetime:
    """Where the window that begins at `start` ends, and the next one begins."""
    if partition != "monthly":
        return start + _PARTITION_LENGTHS[partition]
    years, month = divmod(start.month, 12)
    return start.replace(year=start.year + years, month=month + 1)


def partitions_between(
    partition: PartitionGranularity, start: datetime, end: datetime
) -> tuple[Partition, ...]:
    """The windows from `start` to `end`, oldest first; none if the end is not after the start.

    Raises `ValueError` if either is no boundary of this partition, or has no time zone.
    """
    for name, moment in (("start", start), ("end", end)):
        if partition_floor(partition, moment) != moment:
            raise ValueError(f"{name} is {moment.isoformat()}, where no {partition} window begins")
    return tuple(_iterate_partitions(partition, in_utc(start), end))


def _iterate_partitions(
    partition: PartitionGranularity, start: datetime, end: datetime
) -> Iterator[Partition]:
    while start < end:
        yield _build_partition(partition, start)
        start = next_partition_start(partition, start)


def _build_partition(partition: PartitionGranularity, start: datetime) -> Partition:
    key = start.strftime(PARTITION_KEY_FORMATS[partition])
    return Partition(start, next_partition_start(partition, start), key)


def partition_of_key(partition: PartitionGranularity, key: str) -> Partition:
    """The window with this partition key. Raises `ValueError` if there is none."""
    try:
        start = datetime.strptime(key, PARTITION_KEY_FORMATS[partition]).replace(tzinfo=UTC)
    except ValueError:
        start = None
    if start is None or _build_partition(partition, partition_floor(partition, start)).key != key:
        raise ValueError(f"{key!r} is no key of a {partition} window")
    return _build_partition(partition, start)


def live_start(partition: PartitionGranularity, created_at: datetime) -> datetime:
    """Where the live stream of a connector with a `backfill` block starts.

    It is the start of the window in which the connector was created: the first run loads that
    window only, and all windows before it are history.
    """
    return partition_floor(partition, created_at)


def backfill_end(
    backfill: Backfill, created_at: datetime, *, live_from: datetime | None = None
) -> datetime:
    """Where the history ends, which is the live stream's start unless `end` comes before.

    `live_from` is where the live stream really began, if that is known: the cursor of a connector
    that ran before it got a `backfill` block, or whose windows were shorter then. History reaches up
    to it, to the end of its window, so that no stretch is left between the two.
    """
    end = live_start(backfill.partition, created_at)
    if live_from is not None:
        end = max(end, partition_ceiling(backfill.partition, live_from))
    return end if backfill.end is None else min(end, backfill.end)


def backfill_partitions(
    backfill: Backfill, created_at: datetime, *, live_from: datetime | None = None
) -> tuple[Partition, ...]:
    """The windows of a resource's history, newest first; see `history_end` for `live_from`.

    Raises `ValueError` if `created_at` or `live_from` has no time zone.
    """
    end = backfill_end(backfill, created_at, live_from=live_from)
    return partitions_between(backfill.partition, backfill.start, end)[::-1]


MAX_WINDOWS = 100_000
"""More windows than this are taken for a slip of the finger."""
_WINDOW_LENGTH = re.compile(r"(\d{1,18})\s*([a-zA-Z]*)", re.ASCII)
_WINDOW_UNITS = {
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_MONTHS_PER_UNIT = {"mo": 1, "y": 12}
_LENGTH_EXAMPLES = "30s, 15min, 12h, 7d, 2w, 1mo or 1y"


@dataclass(frozen=True)
class Window:
    """The cursor values from `start` up to, but without, `end`, both in the cursor's own form."""

    start: Any
    end: Any
    form: CursorFormat

    @property
    def name(self) -> str:
        """Both ends, for people and tags: `2024-01-01..2024-02-01`."""
        return f"{self.start}..{self.end}"

    @cached_property
    def _keys(self) -> tuple[Any, Any]:
        return self.form.key(self.start), self.form.key(self.end)

    def holds(self, value: Any) -> bool:
        """Whether a row with this cursor value lies in the span; times compare as times.

        Raises `CursorValueError` for a value that can't be compared, None too.
        """
        start, end = self._keys
        return bool(start <= self.form.key(value) < end)


def window_of_partition(window: Partition, form: CursorFormat) -> Window:
    """A window in the form of the cursor. Raises `CursorValueError` if the form is too coarse."""
    return Window(
        _exact_cursor_value(window.start, form), _exact_cursor_value(window.end, form), form
    )


def split_into_windows(
    from_: Any, to: Any, window: str | None = None, *, form: CursorFormat | None = None
) -> tuple[Window, ...]:
    """The spans from `from_` up to `to`, oldest first, each `window` long and the last one shorter.

    `from_` and `to` are cursor values, or texts that a person typed; where the cursor is a time,
    any spelling of a time will do. `form` is the form of the cursor; left out, it is that of
    `from_`. `window` is a number for numbers (`10000`; for epochs in their own unit), a length for
    times (`30s, 15min, 12h, 7d, 2w, 1mo, 1y`), None for one span. Months are those of the calendar:
    from January 31 on, a window of a month ends on the last day of February, then on March 31.

    Raises `ValueError`, with a sentence for the person, if an end can't be read, the range is empty,
    the window doesn't suit the cursor or there would be more than `MOST_SPANS` windows.
    """
    form = form or _format_of_argument(from_)
    start, end = _parse_range_end("from", from_, form), _parse_range_end("to", to, form)
    if not form.key(start) < form.key(end):
        raise ValueError(
            f"There is nothing from {describe_value(from_)} up to {describe_value(to)}: `to` itself is not part of the range and "
            "must come after `from`."
        )
    bounds = (start, end) if window is None else tuple(_window_bounds(start, end, window, form))
    values = [_exact_cursor_value(bound, form) for bound in bounds]
    return tuple(Window(one, other, form) for one, other in pairwise(values))


def _format_of_argument(value: Any) -> CursorFormat:
    """The form of a value, where digits are a number even if they were typed as text."""
    form = detect_cursor_format(value)
    if isinstance(form, EpochTime) and form.kind == "text":
        return EpochTime(form.units_per_second, "float" if form.digits else "int", form.digits)
    return PlainNumber() if isinstance(form, PlainNumber) else form


def _parse_range_end(name: str, value: Any, form: CursorFormat) -> Any:
    try:
        return form.parse(value)
    except CursorValueError as error:
        raise ValueError(
            f"`{name}` is {describe_value(value)}, and the cursor is {form.words}. Give it in that form."
        ) from error


def _window_bounds(start: Any, end: Any, window: str, form: CursorFormat) -> Iterator[Any]:
    """Where the spans begin, and where the last one ends."""
    count, bound = 0, start
    while bound < end:
        if count > MAX_WINDOWS:
            raise ValueError(
                f"A window of {window} would give more than {MAX_WINDOWS:,} windows. Take a longer "
                "one."
            )
        yield bound
        count += 1
        bound = _window_bound_after(start, count, window, form)
    yield end


def _window_bound_after(start: Any, count: int, window: str, form: CursorFormat) -> Any:
    """The start of the window with the number `count`, counted from the first one.

    Not from the one before: a month after January 31 and another one is March 31, not 29.
    """
    number, unit = _parse_window_length(window, form)
    try:
        if unit in _MONTHS_PER_UNIT:
            return _months_after(start, count * number * _MONTHS_PER_UNIT[unit])
        if unit in _WINDOW_UNITS:
            return start + count * number * _WINDOW_UNITS[unit]
        if isinstance(form, EpochTime):
            return start + count * number * timedelta(seconds=1) / form.units_per_second
        return start + count * number
    except (OverflowError, ValueError):  # beyond the year 9999, and so beyond any end
        return datetime.max.replace(tzinfo=start.tzinfo)


def _parse_window_length(window: str, form: CursorFormat) -> tuple[int, str]:
    found = _WINDOW_LENGTH.fullmatch(window.strip())
    number, unit = (int(found[1]), found[2].lower()) if found else (0, "")
    if isinstance(form, PlainText):
        raise ValueError(
            "The cursor is a text that is no time, so its range can't be cut. Leave out `window`."
        )
    if form.is_time:
        fits = (
            unit in _WINDOW_UNITS
            or unit in _MONTHS_PER_UNIT
            or (not unit and isinstance(form, EpochTime))
        )
        expected = f"a length such as {_LENGTH_EXAMPLES}"
    else:
        fits, expected = not unit, "a whole number such as 10000"
    if not number or not fits:
        hint = " Minutes are `min`, months `mo`." if unit == "m" else ""
        raise ValueError(f"`window` is {window}, and the cursor needs {expected}.{hint}")
    return number, unit


def _months_after(start: datetime, months: int) -> datetime:
    years, month = divmod(start.month - 1 + months, 12)
    first = start.replace(year=start.year + years, month=month + 1, day=1)
    following = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    last = (following - timedelta(days=1)).day
    return first.replace(day=min(start.day, last))


def _exact_cursor_value(bound: Any, form: CursorFormat) -> Any:
    """A boundary in the cursor's form, if the form can say it exactly."""
    if not form.is_time:
        return str(bound) if isinstance(form, PlainNumber) and form.as_text else bound
    value = form.render(bound)
    if form.parse(value) != bound:
        raise CursorValueError(
            f"The cursor is {form.words}, and windows would meet at {bound.isoformat()}, which is "
            "between two of them. Take a range and a window that fit."
        )
    return value
