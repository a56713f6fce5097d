"""Cursor values as an API spells them: read as points in time, written in the very same form.

JSON has no times, so a cursor is a text or a number. The form of one sample (the `initial_value` of
the file, or a value that is remembered) says how any other moment is written for this API. Values
are never compared as text where they are times: `...00Z` and `...00.000Z` are one moment.

Values that mean a moment or a number, read exactly: nanoseconds since 1970, whole or decimal.
"""

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import ROUND_FLOOR, Decimal
from functools import lru_cache
from typing import Any, ClassVar, Literal

from restsource_dagster.connector.validation.diagnostics import describe_value

__all__ = [
    "EPOCH_START",
    "ISO_TIME",
    "NANOSECONDS_PER_SECOND",
    "NUMBER_TEXT",
    "CursorFormat",
    "CursorValueError",
    "EpochTime",
    "IsoDate",
    "IsoTime",
    "PlainNumber",
    "PlainText",
    "detect_cursor_format",
    "epoch_units_per_second",
    "in_utc",
    "nanoseconds_of",
    "nanoseconds_of_text",
    "nanoseconds_since_epoch",
    "parse_number",
    "parse_zone",
    "units_to_nanoseconds",
]

ISO_TIME = re.compile(
    r"(?P<day>\d{4}-\d{2}-\d{2})(?:(?P<separator>[T ])(?P<minutes>\d{2}:\d{2})"
    r"(?P<seconds>:\d{2}(?:(?P<point>[.,])(?P<fraction>\d+))?)?"
    r"(?P<zone>[Zz]|[+-]\d{2}(?::?\d{2})?)?)?",
    re.ASCII,
)
"""A date, or a date with a time of day."""
NUMBER_TEXT = re.compile(r"[+-]?\d+(?:\.(\d+))?", re.ASCII)
"""A number in a text; the group is what stands after the point."""
_EPOCH_SECONDS = (1e8, 1e10)  # 1973 to 2286
_EPOCH_MILLISECONDS = (1e11, 1e13)
EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)
NANOSECONDS_PER_SECOND = 10**9
"""In nanoseconds."""


def nanoseconds_of(value: Any) -> int | None:
    """Any value that is plainly a time, since 1970; None for all others."""
    if isinstance(value, str) and (found := nanoseconds_of_text(value)) is not None:
        return found
    if isinstance(value, datetime):
        return nanoseconds_since_epoch(value if value.tzinfo else value.replace(tzinfo=UTC))
    if isinstance(value, date):
        return nanoseconds_since_epoch(datetime(value.year, value.month, value.day, tzinfo=UTC))
    number = parse_number(value)
    per_second = None if number is None else epoch_units_per_second(number)
    if number is None or per_second is None:
        return None
    return units_to_nanoseconds(number, NANOSECONDS_PER_SECOND // per_second)


@lru_cache(maxsize=4096)
def nanoseconds_of_text(text: str) -> int | None:
    """A date or time in ISO 8601, since 1970; UTC if it names no zone. None for other texts."""
    found = ISO_TIME.fullmatch(text)
    if found is None:
        return None
    clock = f"{found['minutes'] or '00:00'}{(found['seconds'] or ':00')[:3]}"
    try:
        local = datetime.fromisoformat(f"{found['day']}T{clock}")
        whole = nanoseconds_since_epoch(local.replace(tzinfo=parse_zone(found["zone"] or "")))
    except ValueError:
        return None
    return whole + int((found["fraction"] or "")[:9].ljust(9, "0"))


def nanoseconds_since_epoch(moment: datetime) -> int:
    """A moment that has a time zone, since 1970."""
    return (moment - EPOCH_START) // timedelta.resolution * 1000


def parse_number(value: Any) -> int | Decimal | None:
    """The exact number in a number or a text; None if it is none."""
    if isinstance(value, str):
        found = NUMBER_TEXT.fullmatch(value) if value.isascii() and len(value) < 100 else None
        if found is None:
            return None
        return int(value) if found[1] is None else Decimal(value)
    if isinstance(value, int):
        return None if isinstance(value, bool) else value
    if isinstance(value, float):
        return Decimal(repr(value)) if math.isfinite(value) else None
    return value if isinstance(value, Decimal) and value.is_finite() else None


def epoch_units_per_second(number: int | Decimal) -> Literal[1, 1000] | None:
    """How many units make a second if the number is a plausible epoch: 1973 to 2286."""
    if _EPOCH_SECONDS[0] <= number < _EPOCH_SECONDS[1]:
        return 1
    return 1000 if _EPOCH_MILLISECONDS[0] <= number < _EPOCH_MILLISECONDS[1] else None


def units_to_nanoseconds(number: int | Decimal, unit: int) -> int:
    """A number of units of so many nanoseconds, rounded down to whole nanoseconds."""
    if isinstance(number, int):
        return number * unit
    return int((number * unit).to_integral_value(ROUND_FLOOR))


def in_utc(moment: datetime) -> datetime:
    """The moment in UTC. Raises `ValueError` if it has no time zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone, so its moment is not known")
    return moment.astimezone(UTC)


def parse_zone(text: str) -> timezone:
    """The zone that is written `Z`, `+01`, `+0100`, `+01:00` or not at all (UTC)."""
    if text in ("", "Z", "z"):
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == "-" else offset)


class CursorValueError(ValueError):
    """A value that can't be a cursor, or not one of this form."""


class CursorFormat(ABC):
    """How an API spells a cursor."""

    words: ClassVar[str]
    """What such a value is, for people: "a date"."""
    is_time: ClassVar[bool] = True
    """Whether the values are points in time, so that windows of time can be made of them."""

    @abstractmethod
    def render(self, moment: datetime) -> Any:
        """A moment in this form, rounded down to what the form can say.

        Raises `ValueError` for a moment without a time zone, or if this is no form of times.
        """

    @abstractmethod
    def parse(self, value: Any) -> Any:
        """The value as a `datetime` in UTC, a number or a text. Raises `CursorValueError`."""

    @abstractmethod
    def key(self, value: Any) -> Any:
        """What to compare instead of the value: the same for the same moment, however spelt.

        Nanoseconds since 1970 for times, else a number or a text. Raises `CursorValueError`.
        """


class _TimeFormat(CursorFormat):
    @property
    @abstractmethod
    def precision(self) -> timedelta:
        """The smallest step that the form can say, at least a microsecond."""

    def parse(self, value: Any) -> datetime:
        try:
            return EPOCH_START + timedelta(microseconds=self.key(value) // 1000)
        except OverflowError as error:
            raise CursorValueError(f"{describe_value(value)} lies beyond the year 9999") from error

    def key(self, value: Any) -> int:
        found = nanoseconds_of(value)
        if found is None:
            raise CursorValueError(
                f"{describe_value(value)} is no time that can be compared with {self.words}"
            )
        return found


@dataclass(frozen=True)
class IsoTime(_TimeFormat):
    """A date and a time of day as text in ISO 8601; without a zone it is taken for UTC."""

    words: ClassVar[str] = "a time"
    separator: str = "T"
    seconds: bool = True
    point: str = "."
    digits: int = 0
    """Digits of the fraction of a second."""
    zone: str = "Z"
    """The zone as it is written; "" for none."""

    @property
    def precision(self) -> timedelta:
        """The smallest step that the form can say."""
        if not self.seconds:
            return timedelta(minutes=1)
        return timedelta(microseconds=10 ** max(6 - self.digits, 0))

    def render(self, moment: datetime) -> str:
        """The moment as a text of this form."""
        local = in_utc(moment).astimezone(parse_zone(self.zone)).replace(tzinfo=None)
        text = local.isoformat(self.separator, "seconds" if self.seconds else "minutes")
        if self.digits:
            fraction = f"{local.microsecond:06}"[: self.digits].ljust(self.digits, "0")
            text = f"{text}{self.point}{fraction}"
        return text + self.zone


@dataclass(frozen=True)
class IsoDate(_TimeFormat):
    """A date as text, `2024-01-31`: the moment at which that day begins in UTC."""

    words: ClassVar[str] = "a date"

    @property
    def precision(self) -> timedelta:
        """A day."""
        return timedelta(days=1)

    def render(self, moment: datetime) -> str:
        """The day that the moment lies in."""
        return in_utc(moment).date().isoformat()


@dataclass(frozen=True)
class EpochTime(_TimeFormat):
    """The time since 1970 as a number, or as a text with a number in it."""

    words: ClassVar[str] = "a time in seconds or milliseconds since 1970"
    units_per_second: Literal[1, 1000] = 1
    kind: Literal["int", "float", "text"] = "int"
    digits: int = 0
    """Digits after the point."""

    @property
    def precision(self) -> timedelta:
        """The smallest step that the form can say."""
        places = self.digits + (3 if self.units_per_second == 1000 else 0)
        return timedelta(microseconds=10 ** max(6 - places, 0))

    def render(self, moment: datetime) -> int | float | str:
        """The moment as a number of this form."""
        exact = Decimal(nanoseconds_since_epoch(in_utc(moment))) / (
            NANOSECONDS_PER_SECOND // self.units_per_second
        )
        rounded = exact.quantize(Decimal(1).scaleb(-self.digits), ROUND_FLOOR)
        if self.kind == "int":
            return int(rounded)
        return float(rounded) if self.kind == "float" else f"{rounded:f}"

    def key(self, value: Any) -> int:
        """Nanoseconds since 1970. A number counts in this form's unit, whatever its size."""
        number = parse_number(value)
        return (
            super().key(value)
            if number is None
            else units_to_nanoseconds(number, NANOSECONDS_PER_SECOND // self.units_per_second)
        )


@dataclass(frozen=True)
class PlainNumber(CursorFormat):
    """A number that is no time, such as an id that counts up."""

    words: ClassVar[str] = "a number"
    is_time: ClassVar[bool] = False
    as_text: bool = False

    def render(self, moment: datetime) -> Any:
        """Not possible: raises `CursorValueError`."""
        raise CursorValueError(f"{moment:%Y-%m-%d} can't be written as {self.words} like an id")

    def parse(self, value: Any) -> int | float:
        """The number."""
        number = parse_number(value)
        if number is None:
            raise CursorValueError(f"{describe_value(value)} is no number")
        return float(number) if isinstance(number, Decimal) else number

    def key(self, value: Any) -> int | float | Decimal:
        """The number, exactly."""
        number = parse_number(value)
        return self.parse(value) if number is None else number


@dataclass(frozen=True)
class PlainText(CursorFormat):
    """A text that is neither a time nor a number; it compares by its characters."""

    words: ClassVar[str] = "a text"
    is_time: ClassVar[bool] = False

    def render(self, moment: datetime) -> Any:
        """Not possible: raises `CursorValueError`."""
        raise CursorValueError(f"{moment:%Y-%m-%d} can't be written in an unknown form")

    def parse(self, value: Any) -> str:
        """The text."""
        if not isinstance(value, str):
            raise CursorValueError(f"{describe_value(value)} is no text")
        return value

    def key(self, value: Any) -> str:
        """The text."""
        return self.parse(value)


def detect_cursor_format(value: Any) -> CursorFormat:
    """The form that a sample has. Raises `CursorValueError` for what can't be a cursor.

    Numbers are epochs where they would be plausible ones: seconds from 1973 on, milliseconds
    likewise. Smaller and larger ones, 0 too, are numbers.
    """
    if isinstance(value, date):
        value = value.isoformat()
    if isinstance(value, str) and nanoseconds_of_text(value) is not None:
        return _iso_format(value)
    number = parse_number(value)
    if number is None:
        if not isinstance(value, str):
            raise CursorValueError(f"{describe_value(value)} is no time, number or text")
        return PlainText()
    per_second = epoch_units_per_second(number)
    if per_second is None:
        return PlainNumber(as_text=isinstance(value, str))
    if isinstance(value, str):
        written = NUMBER_TEXT.fullmatch(value)
        return EpochTime(per_second, "text", len(written[1] or "") if written else 0)
    if isinstance(value, int):
        return EpochTime(per_second)
    return EpochTime(per_second, "float", 6 if per_second == 1 else 3)


def _iso_format(text: str) -> CursorFormat:
    found = ISO_TIME.fullmatch(text)
    if found is None or found["separator"] is None:
        return IsoDate()
    return IsoTime(
        separator=found["separator"],
        seconds=found["seconds"] is not None,
        point=found["point"] or ".",
        digits=len(found["fraction"] or ""),
        zone=found["zone"] or "",
    )
