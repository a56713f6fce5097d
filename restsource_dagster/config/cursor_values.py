"""Cursor values as an API spells them: read as points in time, written in the very same form.

JSON has no times, so a cursor is a text or a number. The form of one sample (the `initial_value` of
the file, or a value that is remembered) says how any other moment is written for this API. Values
are never compared as text where they are times: `...00Z` and `...00.000Z` are one moment.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import Any, ClassVar, Literal

from restsource_dagster.config.instants import (
    ISO,
    NUMBER,
    SECOND,
    START,
    epoch_unit,
    in_utc,
    nanoseconds_of,
    nanoseconds_of_text,
    nanoseconds_since_start,
    number_of,
    scaled,
    zone_of,
)
from restsource_dagster.config.wording import rendered

__all__ = [
    "CursorFormat",
    "CursorValueError",
    "Epoch",
    "IsoDate",
    "IsoTime",
    "PlainNumber",
    "PlainText",
    "format_of",
]


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


class _Times(CursorFormat):
    @property
    @abstractmethod
    def precision(self) -> timedelta:
        """The smallest step that the form can say, at least a microsecond."""

    def parse(self, value: Any) -> datetime:
        try:
            return START + timedelta(microseconds=self.key(value) // 1000)
        except OverflowError as error:
            raise CursorValueError(f"{rendered(value)} lies beyond the year 9999") from error

    def key(self, value: Any) -> int:
        found = nanoseconds_of(value)
        if found is None:
            raise CursorValueError(
                f"{rendered(value)} is no time that can be compared with {self.words}"
            )
        return found


@dataclass(frozen=True)
class IsoTime(_Times):
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
        local = in_utc(moment).astimezone(zone_of(self.zone)).replace(tzinfo=None)
        text = local.isoformat(self.separator, "seconds" if self.seconds else "minutes")
        if self.digits:
            fraction = f"{local.microsecond:06}"[: self.digits].ljust(self.digits, "0")
            text = f"{text}{self.point}{fraction}"
        return text + self.zone


@dataclass(frozen=True)
class IsoDate(_Times):
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
class Epoch(_Times):
    """The time since 1970 as a number, or as a text with a number in it."""

    words: ClassVar[str] = "a time in seconds or milliseconds since 1970"
    per_second: Literal[1, 1000] = 1
    kind: Literal["int", "float", "text"] = "int"
    digits: int = 0
    """Digits after the point."""

    @property
    def precision(self) -> timedelta:
        """The smallest step that the form can say."""
        places = self.digits + (3 if self.per_second == 1000 else 0)
        return timedelta(microseconds=10 ** max(6 - places, 0))

    def render(self, moment: datetime) -> int | float | str:
        """The moment as a number of this form."""
        exact = Decimal(nanoseconds_since_start(in_utc(moment))) / (SECOND // self.per_second)
        rounded = exact.quantize(Decimal(1).scaleb(-self.digits), ROUND_FLOOR)
        if self.kind == "int":
            return int(rounded)
        return float(rounded) if self.kind == "float" else f"{rounded:f}"

    def key(self, value: Any) -> int:
        """Nanoseconds since 1970. A number counts in this form's unit, whatever its size."""
        number = number_of(value)
        return super().key(value) if number is None else scaled(number, SECOND // self.per_second)


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
        number = number_of(value)
        if number is None:
            raise CursorValueError(f"{rendered(value)} is no number")
        return float(number) if isinstance(number, Decimal) else number

    def key(self, value: Any) -> int | float | Decimal:
        """The number, exactly."""
        number = number_of(value)
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
            raise CursorValueError(f"{rendered(value)} is no text")
        return value

    def key(self, value: Any) -> str:
        """The text."""
        return self.parse(value)


def format_of(value: Any) -> CursorFormat:
    """The form that a sample has. Raises `CursorValueError` for what can't be a cursor.

    Numbers are epochs where they would be plausible ones: seconds from 1973 on, milliseconds
    likewise. Smaller and larger ones, 0 too, are numbers.
    """
    if isinstance(value, date):
        value = value.isoformat()
    if isinstance(value, str) and nanoseconds_of_text(value) is not None:
        return _iso_format(value)
    number = number_of(value)
    if number is None:
        if not isinstance(value, str):
            raise CursorValueError(f"{rendered(value)} is no time, number or text")
        return PlainText()
    per_second = epoch_unit(number)
    if per_second is None:
        return PlainNumber(as_text=isinstance(value, str))
    if isinstance(value, str):
        written = NUMBER.fullmatch(value)
        return Epoch(per_second, "text", len(written[1] or "") if written else 0)
    if isinstance(value, int):
        return Epoch(per_second)
    return Epoch(per_second, "float", 6 if per_second == 1 else 3)


def _iso_format(text: str) -> CursorFormat:
    found = ISO.fullmatch(text)
    if found is None or found["separator"] is None:
        return IsoDate()
    return IsoTime(
        separator=found["separator"],
        seconds=found["seconds"] is not None,
        point=found["point"] or ".",
        digits=len(found["fraction"] or ""),
        zone=found["zone"] or "",
    )
