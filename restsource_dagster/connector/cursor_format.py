"""The formats of cursor values: parse a value of an API, and write any moment in the same format.

JSON has no times, so a cursor is a text or a number. One sample, the `initial_value` of the file or
a stored value, shows the format. Times are compared as times, never as text: `...00Z` and
`...00.000Z` are one moment. A moment is an int of nanoseconds since 1970, because floats and
`datetime` lose digits that some APIs send.
"""

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import ROUND_FLOOR, Decimal
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, ClassVar, Literal

from restsource_dagster.connector.validation.diagnostics import describe_value

__all__ = [
    "EPOCH_START",
    "HTTP_DATE",
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
    "TextKind",
    "describe_unit_change",
    "detect_cursor_format",
    "epoch_units_per_second",
    "in_utc",
    "moment_of",
    "nanoseconds_of",
    "nanoseconds_of_text",
    "nanoseconds_since_epoch",
    "parse_number",
    "parse_zone",
    "text_sort_key",
    "units_to_nanoseconds",
]

# `re.ASCII`: otherwise `\d` matches the digits of every script, and `int` reads them.
ISO_TIME = re.compile(
    r"(?P<day>\d{4}-\d{2}-\d{2})(?:(?P<separator>[T ])(?P<minutes>\d{2}:\d{2})"
    r"(?P<seconds>:\d{2}(?:(?P<point>[.,])(?P<fraction>\d+))?)?"
    r"(?P<zone>[Zz]|[+-]\d{2}(?::?\d{2})?)?)?",
    re.ASCII,
)
"""A date, or a date with a time of day, in ISO 8601."""
NUMBER_TEXT = re.compile(r"[+-]?\d+(?:\.(\d+))?", re.ASCII)
"""A number in a text; the group has the digits after the point."""
HTTP_DATE = re.compile(
    r"(?:[A-Z][a-z]{2}, )?\d{1,2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}(?::\d{2})? "
    r"(?:GMT|UTC?|Z|[+-]\d{4})",
    re.ASCII,
)
"""A time as HTTP and e-mail write it: `Wed, 25 Nov 2026 00:00:00 GMT` (RFC 5322)."""
_UNORDERED_DATE = re.compile(
    r"\d{1,2}[./-]\d{1,2}[./-]\d{4}(?!\d).*"  # 25/11/2026, 11-25-2026, 25.11.2026 10:00
    r"|\d{1,2}/\d{1,2}/\d{2}(?!\d).*"  # 25/11/26
    r"|[+-]?\d{5,}-\d{2}-\d{2}(?!\d).*"  # years past 9999
    r"|.*\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\b.*\d.*"
    r"|.*\d.*\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\b.*"
    r"|.*\d{1,2}:\d{2}.*\b[AaPp]\.?[Mm]\b.*"  # 10:00 PM
    r"|\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}.*",  # a zone by its name, 24:00
    re.ASCII | re.IGNORECASE | re.DOTALL,
)
"""Dates and times in forms that sort neither as texts nor, without a guess, as times."""
_EPOCH_SECONDS = (1e8, 1e10)  # 1973 to 2286
_EPOCH_MILLISECONDS = (1e11, 1e13)
_EPOCHS = {
    "seconds": _EPOCH_SECONDS,
    "milliseconds": _EPOCH_MILLISECONDS,
    "microseconds": (1e14, 1e16),
    "nanoseconds": (1e17, 1e19),
}
_SAME_TIMES = (0.3, 3)
"""The quotients of two times since 1970 that belong to one cursor."""
_LEAST_UNIT_QUOTIENT = 300
EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)
NANOSECONDS_PER_SECOND = 10**9


def nanoseconds_of(value: Any) -> int | None:
    """Return a time as nanoseconds since 1970; None for a value that is not clearly a time."""
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


def moment_of(value: Any) -> int | None:
    """Return what `nanoseconds_of` does, and also HTTP dates and epochs in any unit by their size."""
    if isinstance(value, str):
        kind, key = text_sort_key(value)
        if kind == "time":
            return int(key[0]) * NANOSECONDS_PER_SECOND + int(key[1][:9].ljust(9, "0"))
    number = parse_number(value)
    if number is None:
        return nanoseconds_of(value)
    for unit, step in zip(_EPOCHS, (10**9, 10**6, 10**3, 1), strict=True):
        if _is_between(number, _EPOCHS[unit]):
            return units_to_nanoseconds(number, step)
    return None


# the rows of a page have few distinct times, and each is compared several times
@lru_cache(maxsize=4096)
def nanoseconds_of_text(text: str) -> int | None:
    """Return an ISO 8601 date or time as nanoseconds since 1970; None for other texts.

    A text without a zone is in UTC.
    """
    found = ISO_TIME.fullmatch(text)
    if found is None:
        return None
    # `datetime` takes six digits of a fraction at most, so the fraction is added as an int
    clock = f"{found['minutes'] or '00:00'}{(found['seconds'] or ':00')[:3]}"
    try:
        local = datetime.fromisoformat(f"{found['day']}T{clock}")
        whole = nanoseconds_since_epoch(local.replace(tzinfo=parse_zone(found["zone"] or "")))
    except ValueError:
        return None
    # Cut at nine digits, a nanosecond. Some APIs send more, and `int` of them all would be another
    # unit.
    return whole + int((found["fraction"] or "")[:9].ljust(9, "0"))


TextKind = Literal["time", "number", "date without an order", "text"]


# a page has many rows per cursor value, and each row is compared several times
@lru_cache(maxsize=4096)
def text_sort_key(text: str) -> tuple[TextKind, Any]:
    """Return the kind of a cursor value that is a text, and what to compare.

    Only keys of one kind are compared: nanoseconds since 1970 for times in ISO 8601 and HTTP dates, a
    number, or the text itself. A date without an order is never compared.
    """
    if ISO_TIME.fullmatch(text):
        # all digits of the fraction, beyond nanoseconds
        moment, fraction = nanoseconds_of_text(text), re.search(r"[.,](\d+)", text)
        if moment is not None:
            return "time", (
                moment // NANOSECONDS_PER_SECOND,
                (fraction[1] if fraction else "").rstrip("0"),
            )
        return ("date without an order" if ":" in text else "text"), text
    if HTTP_DATE.fullmatch(text):
        try:
            return "time", (nanoseconds_since_epoch(_http_date(text)) // NANOSECONDS_PER_SECOND, "")
        except ValueError:
            return "date without an order", text
    if NUMBER_TEXT.fullmatch(text):
        return "number", Decimal(text) if "." in text else int(text)
    return ("date without an order" if _UNORDERED_DATE.fullmatch(text) else "text"), text


def _http_date(text: str) -> datetime:
    moment = parsedate_to_datetime(text)
    # `-0000` and unknown zones have no zone there, and are in UTC
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def describe_unit_change(one: Any, other: Any) -> str | None:
    """Return what differs if two numbers are times since 1970 in two units; else None.

    The quotient of a time in milliseconds and one in seconds is about a thousand. A number that
    counts up does not jump so.
    """
    small, large = sorted((abs(one), abs(other)))
    if large < small * _LEAST_UNIT_QUOTIENT:
        return None  # nearly always
    for unit, limits in _EPOCHS.items():
        for larger, larger_limits in _EPOCHS.items():
            if _is_between(small, limits) and _is_between(large, larger_limits):
                quotient = float(large) / float(small) / (larger_limits[0] / limits[0])
                if larger != unit and _is_between(quotient, _SAME_TIMES):
                    return f"one is in {unit}, the other in {larger}"
    return None


def nanoseconds_since_epoch(moment: datetime) -> int:
    """Return a moment with a time zone as nanoseconds since 1970."""
    # floor division of timedeltas is exact, `timestamp()` is a float
    return (moment - EPOCH_START) // timedelta.resolution * 1000


def parse_number(value: Any) -> int | Decimal | None:
    """Return the exact number in a number or a text; None if there is none."""
    if isinstance(value, str):
        # the limit keeps `int` away from megabytes of digits, which take it minutes
        found = NUMBER_TEXT.fullmatch(value) if value.isascii() and len(value) < 100 else None
        if found is None:
            return None
        return int(value) if found[1] is None else Decimal(value)
    if isinstance(value, int):
        return None if isinstance(value, bool) else value
    if isinstance(value, float):
        # by way of `repr`: 0.1 is meant, not 0.1000000000000000055...
        return Decimal(repr(value)) if math.isfinite(value) else None
    return value if isinstance(value, Decimal) and value.is_finite() else None


def epoch_units_per_second(number: float | Decimal) -> Literal[1, 1000] | None:
    """Return 1 for an epoch in seconds, 1000 for milliseconds, None for any other number.

    A number is an epoch if it is between 1973 and 2286. Ids that count up are smaller.
    """
    if _is_between(number, _EPOCH_SECONDS):
        return 1
    return 1000 if _is_between(number, _EPOCH_MILLISECONDS) else None


def _is_between(number: float | Decimal, limits: tuple[float, float]) -> bool:
    return limits[0] <= number < limits[1]


def units_to_nanoseconds(number: int | Decimal, unit: int) -> int:
    """Return `number` times `unit` (in nanoseconds), rounded down to whole nanoseconds."""
    if isinstance(number, int):
        return number * unit
    return int((number * unit).to_integral_value(ROUND_FLOOR))


def in_utc(moment: datetime) -> datetime:
    """Return the moment in UTC. Raises `ValueError` if it has no time zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone, so its moment is unknown")
    return moment.astimezone(UTC)


def parse_zone(text: str) -> timezone:
    """Return the zone of `Z`, `+01`, `+0100`, `+01:00` or an empty text (UTC)."""
    if text in ("", "Z", "z"):
        return UTC
    # an offset without minutes, +01, becomes 0100
    digits = text[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == "-" else offset)


class CursorValueError(ValueError):
    """A value that can't be a cursor, or has another format than this cursor."""


class CursorFormat(ABC):
    """How an API writes the values of a cursor."""

    description: ClassVar[str]
    """What a value is, for messages: "a date"."""
    is_time: ClassVar[bool] = True
    """True if the values are points in time, so that a backfill can have partitions."""

    @abstractmethod
    def render(self, moment: datetime) -> Any:
        """Return a moment in this format, rounded down to its precision.

        Raises `ValueError` for a moment without a time zone, or if the format has no times.
        """

    @abstractmethod
    def parse(self, value: Any) -> Any:
        """Return the value as a `datetime` in UTC, a number or a text. Raises `CursorValueError`."""

    @abstractmethod
    def comparison_key(self, value: Any) -> Any:
        """Return what to compare in place of the value: equal for equal moments in any spelling.

        Nanoseconds since 1970 for times, else a number or a text. Raises `CursorValueError`.
        """


class _TimeFormat(CursorFormat):
    @property
    @abstractmethod
    def precision(self) -> timedelta:
        """The smallest step between two values, at least a microsecond."""

    def parse(self, value: Any) -> datetime:
        try:
            # `datetime` has microseconds. Comparisons use nanoseconds, so nothing is decided by
            # this value.
            return EPOCH_START + timedelta(microseconds=self.comparison_key(value) // 1000)
        except OverflowError as error:
            raise CursorValueError(f"{describe_value(value)} is after the year 9999") from error

    def comparison_key(self, value: Any) -> int:
        found = nanoseconds_of(value)
        if found is None:
            raise CursorValueError(
                f"{describe_value(value)} is not a time that can be compared with {self.description}"
            )
        return found


@dataclass(frozen=True)
class IsoTime(_TimeFormat):
    """A date and a time of day as text in ISO 8601. Without a zone it is in UTC."""

    description: ClassVar[str] = "a time"
    separator: str = "T"
    seconds: bool = True
    decimal_mark: str = "."
    """The character before the fraction: "." or ","."""
    digits: int = 0
    """The number of digits of the fraction of a second."""
    zone: str = "Z"
    """The zone as it is written; "" for none."""

    @property
    def precision(self) -> timedelta:
        """The smallest step between two values."""
        if not self.seconds:
            return timedelta(minutes=1)
        return timedelta(microseconds=10 ** max(6 - self.digits, 0))

    def render(self, moment: datetime) -> str:
        """Return the moment as a text in this format."""
        local = in_utc(moment).astimezone(parse_zone(self.zone)).replace(tzinfo=None)
        text = local.isoformat(self.separator, "seconds" if self.seconds else "minutes")
        if self.digits:
            # cut off, not rounded: rounding up could leave the second, and so the window
            fraction = f"{local.microsecond:06}"[: self.digits].ljust(self.digits, "0")
            text = f"{text}{self.decimal_mark}{fraction}"
        return text + self.zone


@dataclass(frozen=True)
class IsoDate(_TimeFormat):
    """A date as text, `2024-01-31`: the moment at which that day begins in UTC."""

    description: ClassVar[str] = "a date"

    @property
    def precision(self) -> timedelta:
        """A day."""
        return timedelta(days=1)

    def render(self, moment: datetime) -> str:
        """Return the day of the moment."""
        return in_utc(moment).date().isoformat()


@dataclass(frozen=True)
class EpochTime(_TimeFormat):
    """The time since 1970 as a number, or as a number in a text."""

    description: ClassVar[str] = "a time in seconds or milliseconds since 1970"
    units_per_second: Literal[1, 1000] = 1
    kind: Literal["int", "float", "text"] = "int"
    digits: int = 0
    """The number of digits after the point."""

    @property
    def precision(self) -> timedelta:
        """The smallest step between two values."""
        places = self.digits + (3 if self.units_per_second == 1000 else 0)
        return timedelta(microseconds=10 ** max(6 - places, 0))

    def render(self, moment: datetime) -> int | float | str:
        """Return the moment as a number in this format."""
        # in decimals: a float of milliseconds is off by some microseconds
        exact = Decimal(nanoseconds_since_epoch(in_utc(moment))) / (
            NANOSECONDS_PER_SECOND // self.units_per_second
        )
        rounded = exact.quantize(Decimal(1).scaleb(-self.digits), ROUND_FLOOR)
        if self.kind == "int":
            return int(rounded)
        return float(rounded) if self.kind == "float" else f"{rounded:f}"

    def comparison_key(self, value: Any) -> int:
        """Return nanoseconds since 1970. A number is in this format's unit, whatever its size.

        A small number in a column of epochs is an early moment, not an id.
        """
        number = parse_number(value)
        if number is None:
            return super().comparison_key(value)
        if self.units_per_second == 1 and _is_between(number, _EPOCH_MILLISECONDS):
            raise CursorValueError(f"{describe_value(value)} is no time in seconds since 1970")
        return units_to_nanoseconds(number, NANOSECONDS_PER_SECOND // self.units_per_second)


@dataclass(frozen=True)
class PlainNumber(CursorFormat):
    """A number that is not a time, for example an id that counts up."""

    description: ClassVar[str] = "a number"
    is_time: ClassVar[bool] = False
    as_text: bool = False

    def render(self, moment: datetime) -> Any:
        """Raise `CursorValueError`: the format has no times."""
        raise CursorValueError(
            f"{moment:%Y-%m-%d} can't be written as {self.description} like an id"
        )

    def parse(self, value: Any) -> int | float:
        """Return the number."""
        number = parse_number(value)
        if number is None:
            raise CursorValueError(f"{describe_value(value)} is not a number")
        return float(number) if isinstance(number, Decimal) else number

    def comparison_key(self, value: Any) -> int | float | Decimal:
        """Return the exact number."""
        number = parse_number(value)
        # `parse` makes floats, in which ids beyond 2**53 would be equal
        return self.parse(value) if number is None else number


@dataclass(frozen=True)
class PlainText(CursorFormat):
    """A text that is neither a time nor a number. Values are compared by their characters."""

    description: ClassVar[str] = "a text"
    is_time: ClassVar[bool] = False

    def render(self, moment: datetime) -> Any:
        """Raise `CursorValueError`: the format has no times."""
        raise CursorValueError(f"{moment:%Y-%m-%d} can't be written in an unknown format")

    def parse(self, value: Any) -> str:
        """Return the text."""
        if not isinstance(value, str):
            raise CursorValueError(f"{describe_value(value)} is not a text")
        return value

    def comparison_key(self, value: Any) -> str:
        """Return the text."""
        return self.parse(value)


def detect_cursor_format(value: Any) -> CursorFormat:
    """Return the format of a sample. Raises `CursorValueError` for a value that can't be a cursor.

    A number is an epoch, in seconds or milliseconds, if it is between 1973 and 2286. All others, 0
    included, are plain numbers.
    """
    if isinstance(value, date):
        # Also a `datetime`, which is a subclass of `date`.
        value = value.isoformat()
    if isinstance(value, str) and nanoseconds_of_text(value) is not None:
        return _iso_format(value)
    number = parse_number(value)
    if number is None:
        if not isinstance(value, str):
            raise CursorValueError(f"{describe_value(value)} is not a time, a number or a text")
        return PlainText()
    per_second = epoch_units_per_second(number)
    if per_second is None:
        return PlainNumber(as_text=isinstance(value, str))
    if isinstance(value, str):
        written = NUMBER_TEXT.fullmatch(value)
        return EpochTime(per_second, "text", len(written[1] or "") if written else 0)
    if isinstance(value, int):
        return EpochTime(per_second)
    # a float has microseconds at best, whatever the sample shows of them
    return EpochTime(per_second, "float", 6 if per_second == 1 else 3)


def _iso_format(text: str) -> CursorFormat:
    found = ISO_TIME.fullmatch(text)
    if found is None or found["separator"] is None:
        return IsoDate()
    return IsoTime(
        separator=found["separator"],
        seconds=found["seconds"] is not None,
        decimal_mark=found["point"] or ".",
        digits=len(found["fraction"] or ""),
        zone=found["zone"] or "",
    )
