"""The rows of a twin: made after previewed ones, each with a number, a version and a place in time."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from restsource_dagster.connector.cursor_format import (
    EpochTime,
    IsoDate,
    IsoTime,
    PlainNumber,
    detect_cursor_format,
    moment_of,
    nanoseconds_since_epoch,
    parse_number,
)
from restsource_dagster.connector.models.incremental_cursor import Incremental
from restsource_dagster.connector.time_formats import precision_of, write_moment

__all__ = [
    "LATE_BY",
    "MARKER",
    "VERSION",
    "CannotModelError",
    "TwinCursor",
    "TwinRow",
    "TwinShape",
    "place_value",
    "twin_cursor",
    "value_at",
]

MARKER, VERSION = "twin_id", "twin_version"
"""Fields of each row, by which it is found in the table."""
LATE_BY = 21
"""How many steps older than the newest row a late row is: odd, so that it ties with none."""
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
_SAMPLE = "2024-01-01T00:00:00Z"


class CannotModelError(Exception):
    """What a twin can't do. The text says it in words."""


@dataclass(frozen=True)
class TwinRow:
    """A row of the twin's truth. `at` is its place in time, in steps; rows of one place tie."""

    id: int
    at: int
    version: int = 1
    group: int = 0
    """The number of the row above it, in the table of its parent; 0 without a parent."""


@dataclass(frozen=True)
class TwinCursor:
    """How rows spell a place in time, and what a request means that asks for rows from there on."""

    path: str
    write: Callable[[int], Any]
    read: Callable[[str], Any]
    """Returns what `key` does for a value in a request; None for no bound."""
    key: Callable[[int], Any]
    step: str
    """A step in words, such as `1 minute`."""
    late_by: int
    """`LATE_BY` steps in the unit of `lag`."""


def twin_cursor(cursor: Incremental, sample: Any, started: datetime) -> TwinCursor:
    """Return the cursor of a twin; `sample` is a value of a row, None for none.

    Raises `CannotModelError` for a form that has no order.
    """
    path = cursor.paths[0]
    if cursor.formats:
        time_format = cursor.formats[0]
        step = _DAY if precision_of(time_format) > _MINUTE.seconds * 10**9 else _MINUTE
        return _time_cursor(
            path,
            step,
            started,
            cursor,
            lambda moment: write_moment(nanoseconds_since_epoch(moment), time_format, cursor.zone),
        )
    value = cursor.sample if sample is None else sample
    form = detect_cursor_format(_SAMPLE if value is None else value)
    if isinstance(form, IsoTime | EpochTime):
        return _time_cursor(path, _MINUTE, started, cursor, form.render)
    if isinstance(form, IsoDate):
        return _time_cursor(path, _DAY, started, cursor, form.render)
    if isinstance(form, PlainNumber):
        return _number_cursor(path, cursor, as_text=isinstance(value, str))
    if moment_of(value) is not None:
        rfc = "rfc2822"
        return _time_cursor(
            path,
            _MINUTE,
            started,
            cursor,
            lambda moment: write_moment(nanoseconds_since_epoch(moment), rfc),
        )
    raise CannotModelError(f"its cursor `{path}` is neither a time nor a number")


def _time_cursor(
    path: str,
    step: timedelta,
    started: datetime,
    cursor: Incremental,
    render: Callable[[datetime], Any],
) -> TwinCursor:
    # rows end before now, as those of an API do
    start = started.replace(second=0, microsecond=0) - 60 * step
    if step == _DAY:
        start = start.replace(hour=0, minute=0)
    first = moment_of(cursor.initial_value)
    if first is not None and first > nanoseconds_since_epoch(start):
        start = datetime.fromtimestamp(first // 10**9, UTC) + step

    def moment(at: int) -> datetime:
        return start + at * step

    return TwinCursor(
        path,
        write=lambda at: render(moment(at)),
        read=lambda text: moment_of(parse_number(text) if text.isdigit() else text),
        key=lambda at: nanoseconds_since_epoch(moment(at)),
        step="1 day" if step == _DAY else "1 minute",
        late_by=LATE_BY if step == _DAY else LATE_BY * 60,
    )


def _number_cursor(path: str, cursor: Incremental, *, as_text: bool) -> TwinCursor:
    start = int(parse_number(cursor.initial_value) or 0)
    return TwinCursor(
        path,
        write=lambda at: str(start + at) if as_text else start + at,
        read=parse_number,
        key=lambda at: start + at,
        step="1",
        late_by=LATE_BY,
    )


@dataclass(frozen=True)
class TwinShape:
    """What the rows of a resource look like."""

    prototypes: Sequence[Mapping[str, Any]]
    """Previewed rows; fields of columns that the file names, without a preview."""
    key: tuple[str, ...] = ()
    cursor: TwinCursor | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key_is_cursor(self) -> bool:
        """True if the cursor counts the rows, so that a row never changes its place."""
        return self.cursor is not None and self.cursor.path in self.key

    def record(self, row: TwinRow) -> dict[str, Any]:
        """Return a row as the API sends it."""
        made: dict[str, Any] = deepcopy(dict(self.prototypes[row.id % len(self.prototypes)]))
        for name in self.key:
            place_value(made, name, _numbered(value_at(made, name), row.id))
        if self.cursor is not None:
            place_value(made, self.cursor.path, self.cursor.write(row.at))
        return {**made, MARKER: row.id, VERSION: row.version}


def _numbered(value: Any, number: int) -> Any:
    """Return a key of the form of a value."""
    if isinstance(value, str) and not value.isdigit():
        return f"{value[:20]}-{number}"
    return str(number) if isinstance(value, str) else number


def _names(path: str) -> list[str]:
    names = path.removeprefix("$.").split(".")
    if not all(
        name.replace("_", "a").replace("-", "a").replace("@", "a").isalnum() for name in names
    ):
        raise CannotModelError(f"the path `{path}` is more than names")
    return names


def value_at(record: Mapping[str, Any], path: str) -> Any:
    """Return the value at a path of names; None if there is none. Raises `CannotModelError`."""
    value: Any = record
    for name in _names(path):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def place_value(record: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a path of names, and make the objects above it. Raises `CannotModelError`."""
    *above, last = _names(path)
    for name in above:
        if not isinstance(record.get(name), dict):
            record[name] = {}
        record = record[name]
    record[last] = value
