"""The order of cursor values, and the lag that is taken off them.

JSON has no times, so most cursors are text. Text compares by its characters. That is wrong for
times as soon as their spelling varies (`00:00:00Z` and `00:00:00.5Z`, `+01:00` and `+02:00`), and
for numbers of different length: new rows would count as old ones and be lost.
"""

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Self

from restsource_dagster.connector.cursor_format import (
    EPOCH_START,
    HTTP_DATE,
    NUMBER_TEXT,
    describe_unit_change,
    text_sort_key,
)
from restsource_dagster.connector.time_formats import patterns_for
from restsource_dagster.engine.dlt_compat import apply_lag, detect_datetime_format

__all__ = [
    "CursorOrder",
    "IncomparableError",
    "apply_cursor_lag",
    "check_ordered",
    "fast_min_max",
    "text_as_moment",
]

_DIGITS = re.compile(r"[0-9]+")
_SortKey = tuple[str, Any]
"""The kind of a value and what to compare. Only keys of one kind are compared."""


class IncomparableError(TypeError):
    """Cursor values that have no order, for example a number and a text."""

    @classmethod
    def between(cls, one: Any, other: Any, why: str | None = None) -> Self:
        """Return the error of two values."""
        reason = f": {why}" if why else ""
        return cls(
            f"{_described(one)} and {_described(other)} can't be compared{reason}; write "
            "`initial_value` in the API's form, or load all rows again (full_refresh) if the API "
            "has changed it"
        )


class CursorOrder:
    """The order of cursor values. With `descending`, the newest value is the least."""

    def __init__(self, *, descending: bool = False) -> None:
        self._descending = descending

    def is_after(self, one: Any, other: Any) -> bool:
        """True if `one` is strictly newer. Raises `IncomparableError`."""
        first, second = _comparable_keys(one, other)
        return bool(first < second if self._descending else first > second)

    def is_before(self, one: Any, other: Any) -> bool:
        """True if `one` is strictly older. Raises `IncomparableError`."""
        return self.is_after(other, one)

    def is_same(self, one: Any, other: Any) -> bool:
        """True if both are the same moment, number or text in any spelling."""
        first, second = _comparable_keys(one, other)
        return bool(first == second)

    def can_compare(self, one: Any, other: Any) -> bool:
        """True if two values have an order."""
        try:
            _comparable_keys(one, other)
        except IncomparableError:
            return False
        return True


def check_ordered(value: Any) -> None:
    """Raise `IncomparableError` for a text whose form has no order, such as `25/11/2026`."""
    if isinstance(value, str) and text_sort_key(value)[0] == "date without an order":
        patterns = " or ".join(f'"cursor_format": "{one}"' for one in patterns_for(value))
        advice = f"Add {patterns} to the cursor" if patterns else "Use another field as the cursor"
        raise IncomparableError(
            f"{value!r} is a date or time in a form that has no order: it can't be told from older "
            f"ones. {advice}, or leave `incremental` out"
        )


def text_as_moment(text: str) -> datetime | None:
    """Return an ISO 8601 text as a time in UTC, or None. A text without a zone is in UTC."""
    kind, key = text_sort_key(text)
    if kind != "time":
        return None
    return EPOCH_START + timedelta(seconds=key[0]) + timedelta(seconds=float(f"0.{key[1] or 0}"))


def apply_cursor_lag(
    value: Any, lag: float | None, initial: Any, *, descending: bool = False
) -> Any:
    """Return the value to read from, so that rows late by up to `lag` are read again.

    The arithmetic is dlt's, extended to more spellings. The result is never before `initial`.
    """
    if not lag or value is None:
        return value
    start = _shift_by_lag(value, lag, descending=descending)
    order = CursorOrder(descending=descending)
    return initial if initial is not None and order.is_before(start, initial) else start


def _shift_by_lag(value: Any, lag: float, *, descending: bool) -> Any:
    if isinstance(value, int | float | Decimal):
        # an int stays an int: ids beyond 2**53 lose digits as floats
        step: Any = int(lag) if float(lag).is_integer() else lag
        step = Decimal(step) if isinstance(value, Decimal) else step
        shifted = value + step if descending else value - step
        return int(shifted) if isinstance(value, int) else shifted
    # dlt reads the direction off the function that picks the last value
    function = min if descending else max
    if not isinstance(value, str) or detect_datetime_format(value):
        return apply_lag(lag, None, value, function)
    if HTTP_DATE.fullmatch(value):
        shift = timedelta(seconds=lag if descending else -lag)
        is_gmt = value.endswith("GMT")
        return format_datetime(parsedate_to_datetime(value) + shift, usegmt=is_gmt)
    if NUMBER_TEXT.fullmatch(value):
        number = float(value) if "." in value else int(value)
        return str(_shift_by_lag(number, lag, descending=descending))
    # dlt knows ISO times with a T only
    with_t = value.replace(" ", "T", 1)
    moved = apply_lag(lag, None, with_t, function)
    text = moved.isoformat() if isinstance(moved, date) else str(moved)
    return text.replace("T", " ", 1) if with_t != value else text


def _comparable_keys(one: Any, other: Any) -> tuple[Any, Any]:
    check_ordered(one)
    check_ordered(other)
    first, second = _sort_key(one), _sort_key(other)
    if first[0] != second[0]:
        raise IncomparableError.between(one, other)
    if first[0] == "text":
        return _text_keys(one, other)
    if "number" in first[0] and (why := describe_unit_change(first[1], second[1])):
        raise IncomparableError.between(one, other, why)
    return first[1], second[1]


def _sort_key(value: Any) -> _SortKey:
    if isinstance(value, str):
        return text_sort_key(value)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        # not the kind of a number in a text: an API that sends both has changed its cursor's type
        return "plain number", value
    return type(value).__name__, value


def _text_keys(one: str, other: str) -> tuple[Any, Any]:
    """Return what to compare of two texts: their numbers if nothing else differs (`v9`, `v10`)."""
    if _DIGITS.sub("0", one) != _DIGITS.sub("0", other):
        return one, other
    if len(one) == len(other) and one.isalnum():
        return one, other  # an id such as a ULID, in which digits are no numbers
    return tuple(map(int, _DIGITS.findall(one))), tuple(map(int, _DIGITS.findall(other)))


def _described(value: Any) -> str:
    kind = {"str": "text", "int": "number", "float": "number", "bool": "flag"}
    return f"{value!r} ({kind.get(type(value).__name__, type(value).__name__)})"


_TIME_TEXT = re.compile(r"[0-9]{4}(-[0-9]{2}){2}([T ][0-9]{2}(:[0-9]{2}){2}(\.[0-9]+)?Z?)?")
_DIGITS_TO_ZERO = bytes(48 if 48 <= code <= 57 else code for code in range(256))
"""A table for `bytes.translate` that turns each digit into 0: what is left is the spelling."""


def fast_min_max(values: Sequence[Any]) -> tuple[Any, Any] | None:
    """Return the least and the greatest value, or None if they must be compared one by one.

    Whole numbers compare as they are. Times compare as text if all have one spelling without an
    offset: then the order of the characters is the order of the times.
    """
    kinds = set(map(type, values))
    if kinds == {int} or (kinds == {str} and _share_one_time_format(values)):
        return min(values), max(values)
    return None


def _share_one_time_format(values: Sequence[str]) -> bool:
    length = len(values[0])
    if not _TIME_TEXT.fullmatch(values[0]) or set(map(len, values)) != {length}:
        return False
    # one pass over the whole page; a regular expression per value takes ten times as long
    spellings = "".join(values).encode("utf-8", "surrogatepass").translate(_DIGITS_TO_ZERO)
    return spellings == spellings[:length] * len(values)
