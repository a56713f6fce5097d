"""Partitions of a backfill, and windows of cursor values.

A *partition* is a time slice in UTC, with Dagster's partition key. A *window* is a range of cursor
values, in the cursor's own format, that one run requests. A partition becomes a window by
`window_of_partition`; a range that a person asks for becomes windows by `split_into_windows`.

Both are half open: they include their start and exclude their end. So they meet exactly, and each
row lies in one of them. This is why `range_start` and `range_end` of the connector file don't apply:
between two windows an open start would lose the rows on the boundary, and a closed end would load
them twice.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, get_args

from restsource_dagster.connector.cursor_format import (
    CursorFormat,
    CursorValueError,
    EpochTime,
    PlainNumber,
    PlainText,
    detect_cursor_format,
    in_utc,
)
from restsource_dagster.connector.validation.diagnostics import describe_value

__all__ = [
    "MAX_WINDOWS",
    "PARTITION_GRANULARITIES",
    "PARTITION_KEY_FORMATS",
    "Partition",
    "PartitionGranularity",
    "Window",
    "live_start",
    "next_partition_start",
    "partition_ceiling",
    "partition_floor",
    "partition_of_key",
    "partitions_between",
    "split_into_windows",
    "window_of_partition",
]

PartitionGranularity = Literal["hourly", "daily", "weekly", "monthly"]
"""The length of a backfill's partitions. Weeks start on Monday."""
PARTITION_GRANULARITIES: tuple[PartitionGranularity, ...] = get_args(PartitionGranularity)
PARTITION_KEY_FORMATS: dict[PartitionGranularity, str] = {
    "hourly": "%Y-%m-%d-%H:%M",
    "daily": "%Y-%m-%d",
    "weekly": "%Y-%m-%d",
    "monthly": "%Y-%m-%d",
}
"""Dagster's formats of partition keys: the start of the partition."""
_PARTITION_LENGTHS: dict[PartitionGranularity, timedelta] = {
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(days=7),
}


@dataclass(frozen=True)
class Partition:
    """A time slice of a backfill, from `start` to `end` (excluded), with Dagster's partition key."""

    start: datetime
    end: datetime
    key: str


def partition_floor(granularity: PartitionGranularity, moment: datetime) -> datetime:
    """Return the start of the partition that contains a moment.

    Weeks start on Monday, as in ISO 8601; Dagster's weekly partitions do so with `day_offset=1`.
    Raises `ValueError` for a moment without a time zone.
    """
    # in UTC no day has 23 or 25 hours
    hour = in_utc(moment).replace(minute=0, second=0, microsecond=0)
    if granularity == "hourly":
        return hour
    day = hour.replace(hour=0)
    if granularity == "weekly":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if granularity == "monthly" else day


def partition_ceiling(granularity: PartitionGranularity, moment: datetime) -> datetime:
    """Return the moment itself if a partition starts there, else the start of the next one."""
    start = partition_floor(granularity, moment)
    return start if start == moment else next_partition_start(granularity, start)


def next_partition_start(granularity: PartitionGranularity, start: datetime) -> datetime:
    """Return the end of the partition that starts at `start`, which is the start of the next one."""
    if granularity != "monthly":
        return start + _PARTITION_LENGTHS[granularity]
    # December, 12, gives (1, 0): the first month of the next year.
    years, month = divmod(start.month, 12)
    return start.replace(year=start.year + years, month=month + 1)


def partitions_between(
    granularity: PartitionGranularity, start: datetime, end: datetime
) -> tuple[Partition, ...]:
    """Return the partitions from `start` to `end`, oldest first; none if `end` is not after `start`.

    Raises `ValueError` if either is not the start of a partition, or has no time zone.
    """
    for name, moment in (("start", start), ("end", end)):
        if partition_floor(granularity, moment) != moment:
            raise ValueError(
                f"{name} is {moment.isoformat()}, where no {granularity} partition starts"
            )
    return tuple(_iterate_partitions(granularity, in_utc(start), end))


def _iterate_partitions(
    granularity: PartitionGranularity, start: datetime, end: datetime
) -> Iterator[Partition]:
    while start < end:
        yield _build_partition(granularity, start)
        start = next_partition_start(granularity, start)


def _build_partition(granularity: PartitionGranularity, start: datetime) -> Partition:
    key = start.strftime(PARTITION_KEY_FORMATS[granularity])
    return Partition(start, next_partition_start(granularity, start), key)


def partition_of_key(granularity: PartitionGranularity, key: str) -> Partition:
    """Return the partition with this key. Raises `ValueError` if there is none."""
    try:
        start = datetime.strptime(key, PARTITION_KEY_FORMATS[granularity]).replace(tzinfo=UTC)
    except ValueError:
        start = None
    # strptime reads keys that Dagster never writes: "2024-1-1", or a Tuesday as a week's start
    if (
        start is None
        or _build_partition(granularity, partition_floor(granularity, start)).key != key
    ):
        raise ValueError(f"{key!r} is not the key of a {granularity} partition")
    return _build_partition(granularity, start)


def live_start(granularity: PartitionGranularity, created_at: datetime) -> datetime:
    """Return where the live stream of a connector with a `backfill` block starts.

    It is the start of the partition in which the connector was created: the first run loads this
    partition, and the backfill loads all before it.
    """
    return partition_floor(granularity, created_at)


MAX_WINDOWS = 100_000
"""More windows than this are refused as a typing error."""
# 18 digits fit 64 bits, and `re.ASCII` keeps out digits of other scripts
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
    """The cursor values from `start` to `end` (excluded), both in the cursor's own format."""

    start: Any
    end: Any
    cursor_format: CursorFormat

    @property
    def label(self) -> str:
        """Both ends, for messages and tags: `2024-01-01..2024-02-01`."""
        return f"{self.start}..{self.end}"

    @cached_property
    def _keys(self) -> tuple[Any, Any]:
        # computed once: `contains` is called for each row
        key = self.cursor_format.comparison_key
        return key(self.start), key(self.end)

    def contains(self, value: Any) -> bool:
        """Return True if a cursor value lies in the window; times are compared as times.

        Raises `CursorValueError` for a value that can't be compared; None is one.
        """
        start, end = self._keys
        return bool(start <= self.cursor_format.comparison_key(value) < end)


def window_of_partition(partition: Partition, cursor_format: CursorFormat) -> Window:
    """Return the window of cursor values of a partition.

    Raises `CursorValueError` if the format can't express its ends: a date has no hours.
    """
    return Window(
        _exact_cursor_value(partition.start, cursor_format),
        _exact_cursor_value(partition.end, cursor_format),
        cursor_format,
    )


def split_into_windows(
    from_: Any, to: Any, window: str | None = None, *, cursor_format: CursorFormat | None = None
) -> tuple[Window, ...]:
    """Return the windows from `from_` to `to` (excluded), oldest first; the last may be shorter.

    `from_` and `to` are cursor values, or texts that a person typed, in any spelling if the cursor is
    a time. `cursor_format` is the cursor's format, by default that of `from_`. `window` is the length:
    a number for numbers (`10000`; for epochs in their unit), a duration for times (`30s, 15min, 12h,
    7d, 2w, 1mo, 1y`), None for a single window. Months follow the calendar: from January 31 on, a
    window of a month ends on the last day of February, the next on March 31.

    Raises `ValueError`, with a sentence for the person, if an end can't be parsed, the range is empty,
    the length doesn't suit the cursor or there would be more than `MAX_WINDOWS` windows.
    """
    cursor_format = cursor_format or _format_of_argument(from_)
    start = _parse_range_end("from", from_, cursor_format)
    end = _parse_range_end("to", to, cursor_format)
    if not cursor_format.comparison_key(start) < cursor_format.comparison_key(end):
        raise ValueError(
            f"There is nothing from {describe_value(from_)} to {describe_value(to)}: `to` is not "
            "part of the range and must come after `from`."
        )
    bounds = (
        (start, end) if window is None else tuple(_window_bounds(start, end, window, cursor_format))
    )
    values = [_exact_cursor_value(bound, cursor_format) for bound in bounds]
    return tuple(Window(one, other, cursor_format) for one, other in pairwise(values))


def _format_of_argument(value: Any) -> CursorFormat:
    """Return the format of a typed value. Digits are a number: a shell knows text only."""
    found = detect_cursor_format(value)
    if isinstance(found, EpochTime) and found.kind == "text":
        return EpochTime(found.units_per_second, "float" if found.digits else "int", found.digits)
    return PlainNumber() if isinstance(found, PlainNumber) else found


def _parse_range_end(name: str, value: Any, cursor_format: CursorFormat) -> Any:
    try:
        return cursor_format.parse(value)
    except CursorValueError as error:
        raise ValueError(
            f"`{name}` is {describe_value(value)}, and the cursor is {cursor_format.description}. "
            "Write it in that format."
        ) from error


def _window_bounds(start: Any, end: Any, window: str, cursor_format: CursorFormat) -> Iterator[Any]:
    """Yield the start of each window, then the end of the last one."""
    count, bound = 0, start
    while bound < end:
        # checked on the way: seconds since 1970 would be billions of windows
        if count > MAX_WINDOWS:
            raise ValueError(
                f"A window of {window} would give more than {MAX_WINDOWS:,} windows. Choose a "
                "longer one."
            )
        yield bound
        count += 1
        bound = _window_bound_after(start, count, window, cursor_format)
    yield end


def _window_bound_after(start: Any, count: int, window: str, cursor_format: CursorFormat) -> Any:
    """Return the end of the window number `count`, counted from the first one.

    It is not counted from the window before: two months after January 31 is March 31, but a month
    after February 29 is March 29.
    """
    number, unit = _parse_window_length(window, cursor_format)
    try:
        if unit in _MONTHS_PER_UNIT:
            return _months_after(start, count * number * _MONTHS_PER_UNIT[unit])
        if unit in _WINDOW_UNITS:
            return start + count * number * _WINDOW_UNITS[unit]
        if isinstance(cursor_format, EpochTime):
            seconds = count * number * timedelta(seconds=1)
            return start + seconds / cursor_format.units_per_second
        return start + count * number
    except (OverflowError, ValueError):
        # after the year 9999, and so after any end that can be written
        return datetime.max.replace(tzinfo=start.tzinfo)


def _parse_window_length(window: str, cursor_format: CursorFormat) -> tuple[int, str]:
    """Return the number and the unit of a length. Raises `ValueError` if it doesn't suit the cursor."""
    found = _WINDOW_LENGTH.fullmatch(window.strip())
    number, unit = (int(found[1]), found[2].lower()) if found else (0, "")
    if isinstance(cursor_format, PlainText):
        raise ValueError(
            "The cursor is a text that is not a time, so its range can't be split. Leave out "
            "`window`."
        )
    if cursor_format.is_time:
        fits = (
            unit in _WINDOW_UNITS
            or unit in _MONTHS_PER_UNIT
            or (not unit and isinstance(cursor_format, EpochTime))
        )
        expected = f"a length such as {_LENGTH_EXAMPLES}"
    else:
        fits, expected = not unit, "a whole number such as 10000"
    if not number or not fits:
        # a lone m is refused: minutes and months are both plausible, and far apart
        hint = " Minutes are `min`, months `mo`." if unit == "m" else ""
        raise ValueError(f"`window` is {window}, and the cursor needs {expected}.{hint}")
    return number, unit


def _months_after(start: datetime, months: int) -> datetime:
    """Return the same day so many months later, or the last day of a month that is too short."""
    years, month = divmod(start.month - 1 + months, 12)
    first = start.replace(year=start.year + years, month=month + 1, day=1)
    following = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    last = (following - timedelta(days=1)).day
    return first.replace(day=min(start.day, last))


def _exact_cursor_value(bound: Any, cursor_format: CursorFormat) -> Any:
    """Return a boundary in the cursor's format. Raises `CursorValueError` if it isn't exact.

    A rounded boundary would move rows from one window to the next.
    """
    if not cursor_format.is_time:
        as_text = isinstance(cursor_format, PlainNumber) and cursor_format.as_text
        return str(bound) if as_text else bound
    value = cursor_format.render(bound)
    if cursor_format.parse(value) != bound:
        raise CursorValueError(
            f"The cursor is {cursor_format.description}, and windows would meet at "
            f"{bound.isoformat()}, which lies between two of its values. Choose a range and a "
            "window that fit."
        )
    return value
