"""Stretches of a cursor, in the cursor's own form: what one run of a window asks the API for.

A span is half open, as a window is: `range_start` and `range_end` of the connector file are not
applied to it, for the reason that `windows` gives. Windows of a history become spans by
`span_of`; the ranges that a person asks for, of any cursor, by `split`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any

from restsource_dagster.config.cursor_values import (
    CursorFormat,
    CursorValueError,
    Epoch,
    PlainNumber,
    PlainText,
    format_of,
)
from restsource_dagster.config.windows import Window
from restsource_dagster.config.wording import rendered

__all__ = ["MOST_SPANS", "Span", "span_of", "split"]

MOST_SPANS = 100_000
"""More windows than this are taken for a slip of the finger."""
_LENGTH = re.compile(r"(\d{1,18})\s*([a-zA-Z]*)", re.ASCII)
_UNITS = {
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_MONTHS = {"mo": 1, "y": 12}
_EXAMPLES = "30s, 15min, 12h, 7d, 2w, 1mo or 1y"


@dataclass(frozen=True)
class Span:
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


def span_of(window: Window, form: CursorFormat) -> Span:
    """A window in the form of the cursor. Raises `CursorValueError` if the form is too coarse."""
    return Span(_exactly(window.start, form), _exactly(window.end, form), form)


def split(
    from_: Any, to: Any, window: str | None = None, *, form: CursorFormat | None = None
) -> tuple[Span, ...]:
    """The spans from `from_` up to `to`, oldest first, each `window` long and the last one shorter.

    `from_` and `to` are cursor values, or texts that a person typed; where the cursor is a time,
    any spelling of a time will do. `form` is the form of the cursor; left out, it is that of
    `from_`. `window` is a number for numbers (`10000`; for epochs in their own unit), a length for
    times (`30s, 15min, 12h, 7d, 2w, 1mo, 1y`), None for one span. Months are those of the calendar:
    from January 31 on, a window of a month ends on the last day of February, then on March 31.

    Raises `ValueError`, with a sentence for the person, if an end can't be read, the range is empty,
    the window doesn't suit the cursor or there would be more than `MOST_SPANS` windows.
    """
    form = form or _form_of_argument(from_)
    start, end = _read("from", from_, form), _read("to", to, form)
    if not form.key(start) < form.key(end):
        raise ValueError(
            f"There is nothing from {rendered(from_)} up to {rendered(to)}: `to` itself is not part of the range and "
            "must come after `from`."
        )
    bounds = (start, end) if window is None else tuple(_bounds(start, end, window, form))
    values = [_exactly(bound, form) for bound in bounds]
    return tuple(Span(one, other, form) for one, other in pairwise(values))


def _form_of_argument(value: Any) -> CursorFormat:
    """The form of a value, where digits are a number even if they were typed as text."""
    form = format_of(value)
    if isinstance(form, Epoch) and form.kind == "text":
        return Epoch(form.per_second, "float" if form.digits else "int", form.digits)
    return PlainNumber() if isinstance(form, PlainNumber) else form


def _read(name: str, value: Any, form: CursorFormat) -> Any:
    try:
        return form.parse(value)
    except CursorValueError as error:
        raise ValueError(
            f"`{name}` is {rendered(value)}, and the cursor is {form.words}. Give it in that form."
        ) from error


def _bounds(start: Any, end: Any, window: str, form: CursorFormat) -> Iterator[Any]:
    """Where the spans begin, and where the last one ends."""
    count, bound = 0, start
    while bound < end:
        if count > MOST_SPANS:
            raise ValueError(
                f"A window of {window} would give more than {MOST_SPANS:,} windows. Take a longer "
                "one."
            )
        yield bound
        count += 1
        bound = _after(start, count, window, form)
    yield end


def _after(start: Any, count: int, window: str, form: CursorFormat) -> Any:
    """The start of the window with the number `count`, counted from the first one.

    Not from the one before: a month after January 31 and another one is March 31, not 29.
    """
    number, unit = _length(window, form)
    try:
        if unit in _MONTHS:
            return _months_after(start, count * number * _MONTHS[unit])
        if unit in _UNITS:
            return start + count * number * _UNITS[unit]
        if isinstance(form, Epoch):
            return start + count * number * timedelta(seconds=1) / form.per_second
        return start + count * number
    except (OverflowError, ValueError):  # beyond the year 9999, and so beyond any end
        return datetime.max.replace(tzinfo=start.tzinfo)


def _length(window: str, form: CursorFormat) -> tuple[int, str]:
    found = _LENGTH.fullmatch(window.strip())
    number, unit = (int(found[1]), found[2].lower()) if found else (0, "")
    if isinstance(form, PlainText):
        raise ValueError(
            "The cursor is a text that is no time, so its range can't be cut. Leave out `window`."
        )
    if form.is_time:
        fits = unit in _UNITS or unit in _MONTHS or (not unit and isinstance(form, Epoch))
        expected = f"a length such as {_EXAMPLES}"
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


def _exactly(bound: Any, form: CursorFormat) -> Any:
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
