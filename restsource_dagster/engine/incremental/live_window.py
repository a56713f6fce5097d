"""The ranges of time that live runs ask for one after the other (`incremental.window`).

A range starts at the cursor and ends `size` later, or `delay` before the run's start. When its rows are
read, the cursor moves to its end, with or without rows: no empty range is asked for twice. `lag` is taken
off as from any cursor, so that late rows come in the next range.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from restsource_dagster.connector.cursor_format import (
    CursorFormat,
    CursorValueError,
    IsoDate,
    detect_cursor_format,
    nanoseconds_since_epoch,
)
from restsource_dagster.connector.models.incremental_cursor import Incremental
from restsource_dagster.connector.time_formats import moved_by, precision_of
from restsource_dagster.engine.errors import ResourceError

__all__ = ["LiveWindow", "is_outdated"]

_DAY = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class LiveWindow:
    """The range of cursor values that one call of a live run asks for."""

    until: Any
    """Its end, in the form of the cursor: rows from here on belong to the next window."""
    reached: Any
    """The cursor once its rows are read. It is `until`, but of dates the day that is not over yet."""
    is_last: bool
    """True if nothing is left up to the present."""
    is_empty: bool
    """True if it has no length: there is nothing to ask for yet."""

    @classmethod
    def of(cls, resource: str, cursor: Incremental, start: Any, now: datetime) -> Self | None:
        """Return the window that begins at `start`; None if the file has no windows.

        `now` is when the run started. Raises `ResourceError` if `start` is no time.
        """
        window = cursor.window
        if window is None:
            return None
        form, begin = _as_time(resource, start)
        limit = _floored(moved_by(now, window.delay or "0s", -1), cursor.sent_format)
        end = moved_by(begin, window.size) if window.size else limit
        is_last = end >= limit
        end = limit if is_last else end
        reached = form.render(end)
        until = reached
        if isinstance(form, IsoDate) and is_last:
            # today has rows already, and will have more
            until = form.render(limit + _DAY - _MICROSECOND)
        return cls(until, reached, is_last, form.parse(until) <= begin)

    def reached_like(self, row: Any) -> Any:
        """Return `reached` as rows spell the cursor, if they can: `initial_value` may be a date only."""
        try:
            form, given = detect_cursor_format(row), detect_cursor_format(self.reached)
            respelled = form.render(given.parse(self.reached))
            is_same = form.parse(respelled) == given.parse(self.reached)
        except (CursorValueError, ValueError):
            return self.reached
        return respelled if is_same else self.reached


def is_outdated(resource: str, cursor: Incremental, start: Any, now: datetime) -> bool:
    """True if a start is older than what the API keeps (`retention`)."""
    if cursor.retention is None or start is None:
        return False
    return _as_time(resource, start)[1] < moved_by(now, cursor.retention, -1)


def _as_time(resource: str, value: Any) -> tuple[CursorFormat, datetime]:
    try:
        form = detect_cursor_format(value)
        moment: datetime | None = form.parse(value) if form.is_time else None
    except CursorValueError:
        moment = None
    if moment is not None:
        return form, moment
    raise ResourceError(
        resource,
        f"`window` and `retention` need a cursor that is a time, and it stands at {value!r}. Write an "
        "`initial_value` that is a time, and `cursor_format` if rows spell it in a form of their own",
    )


def _floored(moment: datetime, sent_format: str | None) -> datetime:
    """Return a moment that a format can say, at or before another one; in days, the moment itself.

    An end is rounded up when it is sent, and the API may refuse one after the delay.
    """
    step = precision_of(sent_format) if sent_format else 1
    if step >= _DAY // _MICROSECOND * 1000:
        return moment
    since = nanoseconds_since_epoch(moment)
    return moment - timedelta(microseconds=since % step // 1000)
