"""How times are written and read: named formats, strftime patterns, and times relative to a run's start.

One vocabulary serves `incremental.convert`, `incremental.cursor_format`, `{incremental.start_value:%Y-%m-%d}`
and `{now-30d:epoch_seconds}`. A moment is an int of nanoseconds since 1970, as in `cursor_format`.
"""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache
from itertools import product
from typing import Literal, get_args
from zoneinfo import ZoneInfo, available_timezones

from restsource_dagster.connector.validation.diagnostics import nearest_name, quoted_list

__all__ = [
    "NAMED_FORMATS",
    "duration_fix",
    "is_relative_time",
    "is_time_format",
    "meant_relative_time",
    "moved_by",
    "patterns_for",
    "precision_of",
    "read_moment",
    "read_time",
    "relative_format",
    "relative_time",
    "time_format_problem",
    "write_moment",
    "zone_named",
    "zone_problem",
]

NamedFormat = Literal[
    "epoch_seconds", "epoch_milliseconds", "epoch_microseconds", "date", "iso8601", "rfc2822"
]
NAMED_FORMATS: tuple[str, ...] = get_args(NamedFormat)
_EPOCH_UNITS = {
    "epoch_seconds": 10**9,
    "epoch_milliseconds": 10**6,
    "epoch_microseconds": 10**3,
}
"""The nanoseconds of a unit."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400 * 10**9
_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)
# those that every platform writes alike and Python can read; `%s` is the local zone's
_DIRECTIVES = "aAbBdfHIjmMpSyYzZ%"
_PRECISIONS = (("f", 1_000), ("S", 10**9), ("M", 60 * 10**9), ("HI", 3_600 * 10**9))
"""The nanoseconds of the smallest directive of a pattern; without any of them, a day."""
_OTHER_NAMES = {
    "unix": "epoch_seconds",
    "timestamp": "epoch_seconds",
    "epoch": "epoch_seconds",
    "seconds": "epoch_seconds",
    "s": "epoch_seconds",
    "unix_ms": "epoch_milliseconds",
    "epoch_ms": "epoch_milliseconds",
    "milliseconds": "epoch_milliseconds",
    "ms": "epoch_milliseconds",
    "us": "epoch_microseconds",
    "iso": "iso8601",
    "iso_8601": "iso8601",
    "datetime": "iso8601",
    "isoformat": "iso8601",
    "rfc3339": "iso8601",
    "rfc_2822": "rfc2822",
    "http_date": "rfc2822",
}
_LETTERS = (
    *(("YYYY", "%Y"), ("yyyy", "%Y"), ("DD", "%d"), ("dd", "%d"), ("HH", "%H"), ("hh", "%I")),
    *(("mm", "%M"), ("MM", "%m"), ("SS", "%S"), ("ss", "%S")),
)
"""Letters of other systems and the directives that they mean; `mm` are minutes beside `HH`."""


def is_time_format(text: str) -> bool:
    """True if a text is a named format or has a directive such as `%Y`; it may still be wrong."""
    return text in NAMED_FORMATS or re.search(r"%[A-Za-z]", text) is not None


def time_format_problem(text: str, *, is_read: bool = False) -> tuple[str, str] | None:
    """Return what is wrong with a format and what to write instead; None if it is right.

    With `is_read` times are read by it, so it must tell the day.
    """
    if text in NAMED_FORMATS:
        return None
    if "%" not in text:
        # other tools' words first: `unix` is near to no name of ours
        meant = _OTHER_NAMES.get(text.lower().strip()) or nearest_name(text, NAMED_FORMATS)
        return (
            "This is no format of times",
            f"Write `{meant or _from_letters(text) or '%Y-%m-%d %H:%M:%S'}`",
        )
    found: list[str] = _DIRECTIVE.findall(text)
    for directive in found:
        if not directive or directive not in _DIRECTIVES:
            # `%s` is what people write for an epoch
            instead = "epoch_seconds" if directive == "s" else "%Y-%m-%dT%H:%M:%S%z"
            return (
                f"`%{directive}` is no part of a format of times",
                f"Write one of {', '.join(f'%{one}' for one in _DIRECTIVES)}, as in `{instead}`",
            )
    if is_read and not _tells_the_day(found):
        return "This format leaves the day open, so times have no order", "Write `%d/%m/%Y`"
    return None


def _from_letters(text: str) -> str | None:
    made = text
    for letters, directive in _LETTERS:
        made = made.replace(letters, directive)
    return made if made != text else None


def _tells_the_day(directives: Sequence[str]) -> bool:
    given = set(directives)
    return bool(given & {"y", "Y"}) and (
        "j" in given or ("d" in given and bool(given & {"m", "b", "B"}))
    )


def zone_problem(name: str) -> str | None:
    """Return what to write instead of an unknown time zone; None if it is known."""
    try:
        zone_named(name)
    except (ValueError, OSError):
        close = nearest_name(name, sorted(available_timezones()))
        return f"Write {quoted_list([close] if close else ['UTC', 'Europe/Berlin'])}"
    return None


@lru_cache(maxsize=256)
def zone_named(name: str | None) -> tzinfo:
    """Return a time zone of the IANA database; UTC for None. Raises `ValueError` or `OSError`."""
    try:
        return UTC if name is None else ZoneInfo(name)
    except LookupError as error:
        raise ValueError(f"{name} is no time zone") from error


def write_moment(
    moment: int, time_format: str, zone: tzinfo = UTC, *, rounds_up: bool = False
) -> int | str:
    """Return a moment in a format: an int for epochs, else a text.

    What the format can't say is cut off. With `rounds_up` it is rounded up, for the end of a range:
    the API is asked for too much rather than too little. Dates and patterns are in `zone`.
    Raises `ValueError` for a moment outside the years 1 to 9999.
    """
    if rounds_up:
        step = precision_of(time_format)
        # a moment that the format can say stays as it is
        moment = _floored(moment + step - 1, step, zone)
    if unit := _EPOCH_UNITS.get(time_format):
        return moment // unit
    local = _as_datetime(moment).astimezone(zone)
    match time_format:
        case "date":
            return local.date().isoformat()
        case "rfc2822":
            return format_datetime(local.astimezone(UTC), usegmt=True)
        case "iso8601":
            text = local.astimezone(UTC).replace(tzinfo=None).isoformat()
            return f"{text}Z"
    # `strftime` writes years before 1000 without zeros on some platforms
    return local.strftime(time_format.replace("%Y", f"{local.year:04}"))


def _as_datetime(moment: int) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=moment // 1000)
    except OverflowError as error:
        raise ValueError("the time is outside the years 1 to 9999") from error


def precision_of(time_format: str) -> int:
    """Return the nanoseconds of the smallest step that a format can say."""
    if unit := _EPOCH_UNITS.get(time_format):
        return unit
    if time_format in NAMED_FORMATS:
        # Python's times have microseconds
        return {"date": _DAY, "rfc2822": 10**9}.get(time_format, 1_000)
    given = set(_DIRECTIVE.findall(time_format))
    return next((step for letters, step in _PRECISIONS if given & set(letters)), _DAY)


def _floored(moment: int, step: int, zone: tzinfo) -> int:
    """Return the last multiple of `step` before a moment; days are those of the zone."""
    if step < _DAY:
        return moment // step * step
    local = _as_datetime(moment).astimezone(zone)
    # not a multiple of 24 hours: days are 23 or 25 hours long twice a year
    midnight = datetime(local.year, local.month, local.day, tzinfo=zone)
    return (midnight - _EPOCH) // timedelta(microseconds=1) * 1000


def read_moment(text: str, time_format: str, zone: tzinfo = UTC) -> int | date:
    """Return the moment that a text in this format means; a `date` if the format has no time of day.

    A time without a zone is in `zone`; one that comes twice when clocks are set back is the first of
    the two. Raises `ValueError` if the text has another format.
    """
    if time_format == "rfc2822":
        moment = parsedate_to_datetime(text)
    elif time_format in ("iso8601", "date"):
        moment = datetime.fromisoformat(text)
    elif unit := _EPOCH_UNITS.get(time_format):
        return int(text) * unit
    else:
        moment = datetime.strptime(text, time_format)  # noqa: DTZ007 - the zone is added below
    if precision_of(time_format) == _DAY:
        return moment.date()
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def read_time(text: str, time_formats: Sequence[str], zone: tzinfo = UTC) -> str | None:
    """Return a time in UTC, or a date, as ISO 8601, read by the first format that fits; else None."""
    for time_format in time_formats:
        try:
            found = read_moment(text, time_format, zone)
            return (
                found.isoformat()
                if isinstance(found, date)
                else str(write_moment(found, "iso8601"))
            )
        except (ValueError, OverflowError):
            continue
    return None


_DATES = (
    *("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y"),
    *("%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%b %d %Y", "%d %B %Y", "%B %d, %Y"),
    *("%a, %d %b %Y", "%a %b %d %Y", "%Y-%m-%d", "%Y/%m/%d"),
)
_CLOCKS = ("%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p", "%I:%M%p", "%H:%M:%S.%f")
_GUESSES = (
    *_DATES,
    *(
        f"{day}{gap}{clock}{zone}"
        for day, gap, clock, zone in product(
            _DATES, (" ", "T", ", "), _CLOCKS, ("", " %z", "%z", " %Z")
        )
    ),
    *("%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S %Y"),
)


@lru_cache(maxsize=256)
def patterns_for(text: str) -> tuple[str, ...]:
    """Return the patterns that read a date or time; two if days and months could be either."""
    found = []
    for pattern in _GUESSES:
        try:
            datetime.strptime(text, pattern)  # noqa: DTZ007 - only its form counts
        except ValueError:
            continue
        found.append(pattern)
        if len(found) == 2:  # day first and month first
            break
    return tuple(found)


_RELATIVE = re.compile(r"(?P<base>now|today)(?P<steps>(?:[+-]\d{1,6}(?:mo|[smhdwy]))*)", re.ASCII)
_STEP = re.compile(r"([+-])(\d+)(mo|[smhdwy])", re.ASCII)
_STEP_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_LIKE_RELATIVE = re.compile(
    r"\s*(?:utc)?(?P<base>now|today|yesterday|tomorrow)(?![a-z])(?:\(\))?(?P<rest>(?:\s*[+-]?\s*\d*\s*[a-z]*)*)\s*",
    re.IGNORECASE,
)
_LIKE_STEP = re.compile(r"([+-])\s*(\d+)\s*([a-z]+)", re.IGNORECASE)
_OTHER_BASES = {"yesterday": "today-1d", "tomorrow": "today+1d"}


def is_relative_time(name: str) -> bool:
    """True if a placeholder's name is a time relative to the run's start, such as `now-30d`."""
    return name[:3] in ("now", "tod") and _RELATIVE.fullmatch(name) is not None


def relative_time(name: str, start: datetime) -> int:
    """Return the moment of a relative time; `start` is when the run began.

    `today` begins at midnight UTC. A month before March 31 is the last day of February. Raises
    `ValueError` for a name that is none, or that leaves the years 1 to 9999.
    """
    found = _RELATIVE.fullmatch(name)
    if found is None:
        raise ValueError(f"{name} is no relative time")
    moment = start.astimezone(UTC)
    if found["base"] == "today":
        moment = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    for sign, digits, unit in _STEP.findall(found["steps"]):
        try:
            moment = _moved(moment, int(sign + digits), unit)
        except OverflowError as error:
            raise ValueError(f"{name} is outside the years 1 to 9999") from error
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _moved(moment: datetime, count: int, unit: str) -> datetime:
    if seconds := _STEP_SECONDS.get(unit):
        return moment + timedelta(seconds=count * seconds)
    return _add_months(moment, count * (12 if unit == "y" else 1))


_DURATION = re.compile(r"(?P<count>\d{1,6})(?P<unit>mo|[smhdwy])", re.ASCII)
_LIKE_DURATION = re.compile(r"P?T?(\d{1,6})\s*([a-z]+)", re.IGNORECASE | re.ASCII)


def duration_fix(text: str) -> str | None:
    """Return what to write instead of a wrong length of time; None if `30d`, `1mo` or the like is right."""
    if _DURATION.fullmatch(text):
        return None
    found = _LIKE_DURATION.fullmatch(text.strip())
    meant = f"{found[1]}{_unit_of(found[2])}" if found else ""
    return meant if _DURATION.fullmatch(meant) else "30d"


def moved_by(moment: datetime, duration: str, sign: int = 1) -> datetime:
    """Return a moment moved by a length of time such as `30d` or `1mo`, back with the sign -1.

    Months follow the calendar, as in `relative_time`. It stays within the years 1 to 9999.
    """
    found = _DURATION.fullmatch(duration)
    if found is None:
        raise ValueError(f"{duration} is no length of time")
    try:
        return _moved(moment, sign * int(found["count"]), found["unit"])
    except OverflowError:
        year = 1 if sign < 0 else 9999
        return datetime(year, 1, 1, tzinfo=moment.tzinfo)


def relative_format(name: str) -> NamedFormat:
    """Return the format of a relative time that names none: `date` for days, else `iso8601`."""
    is_day = name.startswith("today") and not re.search(r"\d[smh](?!o)", name)
    return "date" if is_day else "iso8601"


def _add_months(moment: datetime, count: int) -> datetime:
    year, month = divmod(moment.year * 12 + moment.month - 1 + count, 12)
    # the last day that the month has, if it is too short
    for day in (moment.day, 30, 29, 28):
        try:
            return moment.replace(year=year, month=month + 1, day=min(day, moment.day))
        except ValueError:
            continue
    raise OverflowError


def meant_relative_time(name: str) -> str | None:
    """Return the relative time that a misspelt one probably means; None if it is nothing like it."""
    # a long text would take the pattern long to refuse
    found = _LIKE_RELATIVE.fullmatch(name) if len(name) < 60 else None
    if found is None:
        return None
    base = found["base"].lower()
    steps = [
        f"{sign}{digits}{_unit_of(unit)}"
        for sign, digits, unit in _LIKE_STEP.findall(found["rest"])
    ]
    meant = _OTHER_BASES.get(base, base) + "".join(steps)
    return meant if is_relative_time(meant) else None


def _unit_of(word: str) -> str:
    # `M` is a month and `m` a minute, as in most systems
    if word == "M" or word.lower().startswith("mo"):
        return "mo"
    return word[0].lower()
