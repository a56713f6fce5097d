"""Values that mean a moment or a number, read exactly: nanoseconds since 1970, whole or decimal."""

import math
import re
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import ROUND_FLOOR, Decimal
from functools import lru_cache
from typing import Any, Literal

__all__ = [
    "ISO",
    "NUMBER",
    "SECOND",
    "START",
    "epoch_unit",
    "in_utc",
    "nanoseconds_of",
    "nanoseconds_of_text",
    "nanoseconds_since_start",
    "number_of",
    "scaled",
    "zone_of",
]

ISO = re.compile(
    r"(?P<day>\d{4}-\d{2}-\d{2})(?:(?P<separator>[T ])(?P<minutes>\d{2}:\d{2})"
    r"(?P<seconds>:\d{2}(?:(?P<point>[.,])(?P<fraction>\d+))?)?"
    r"(?P<zone>[Zz]|[+-]\d{2}(?::?\d{2})?)?)?",
    re.ASCII,
)
"""A date, or a date with a time of day."""
NUMBER = re.compile(r"[+-]?\d+(?:\.(\d+))?", re.ASCII)
"""A number in a text; the group is what stands after the point."""
_EPOCH_SECONDS = (1e8, 1e10)  # 1973 to 2286
_EPOCH_MILLISECONDS = (1e11, 1e13)
START = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 10**9
"""In nanoseconds."""


def nanoseconds_of(value: Any) -> int | None:
    """Any value that is plainly a time, since 1970; None for all others."""
    if isinstance(value, str) and (found := nanoseconds_of_text(value)) is not None:
        return found
    if isinstance(value, datetime):
        return nanoseconds_since_start(value if value.tzinfo else value.replace(tzinfo=UTC))
    if isinstance(value, date):
        return nanoseconds_since_start(datetime(value.year, value.month, value.day, tzinfo=UTC))
    number = number_of(value)
    per_second = None if number is None else epoch_unit(number)
    if number is None or per_second is None:
        return None
    return scaled(number, SECOND // per_second)


@lru_cache(maxsize=4096)
def nanoseconds_of_text(text: str) -> int | None:
    """A date or time in ISO 8601, since 1970; UTC if it names no zone. None for other texts."""
    found = ISO.fullmatch(text)
    if found is None:
        return None
    clock = f"{found['minutes'] or '00:00'}{(found['seconds'] or ':00')[:3]}"
    try:
        local = datetime.fromisoformat(f"{found['day']}T{clock}")
        whole = nanoseconds_since_start(local.replace(tzinfo=zone_of(found["zone"] or "")))
    except ValueError:
        return None
    return whole + int((found["fraction"] or "")[:9].ljust(9, "0"))


def nanoseconds_since_start(moment: datetime) -> int:
    """A moment that has a time zone, since 1970."""
    return (moment - START) // timedelta.resolution * 1000


def number_of(value: Any) -> int | Decimal | None:
    """The exact number in a number or a text; None if it is none."""
    if isinstance(value, str):
        found = NUMBER.fullmatch(value) if value.isascii() and len(value) < 100 else None
        if found is None:
            return None
        return int(value) if found[1] is None else Decimal(value)
    if isinstance(value, int):
        return None if isinstance(value, bool) else value
    if isinstance(value, float):
        return Decimal(repr(value)) if math.isfinite(value) else None
    return value if isinstance(value, Decimal) and value.is_finite() else None


def epoch_unit(number: int | Decimal) -> Literal[1, 1000] | None:
    """How many units make a second if the number is a plausible epoch: 1973 to 2286."""
    if _EPOCH_SECONDS[0] <= number < _EPOCH_SECONDS[1]:
        return 1
    return 1000 if _EPOCH_MILLISECONDS[0] <= number < _EPOCH_MILLISECONDS[1] else None


def scaled(number: int | Decimal, unit: int) -> int:
    """A number of units of so many nanoseconds, rounded down to whole nanoseconds."""
    if isinstance(number, int):
        return number * unit
    return int((number * unit).to_integral_value(ROUND_FLOOR))


def in_utc(moment: datetime) -> datetime:
    """The moment in UTC. Raises `ValueError` if it has no time zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone, so its moment is not known")
    return moment.astimezone(UTC)


def zone_of(text: str) -> timezone:
    """The zone that is written `Z`, `+01`, `+0100`, `+01:00` or not at all (UTC)."""
    if text in ("", "Z", "z"):
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == "-" else offset)
