"""Write values into a call: placeholders are filled in, each value as its place wants it.

Times are written in the format of their place, and what goes into a path or a query is encoded for it.
"""

import string
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from urllib.parse import quote

from restsource_dagster.connector.cursor_format import EPOCH_START, moment_of
from restsource_dagster.connector.models.endpoint import as_url_text
from restsource_dagster.connector.time_formats import (
    is_relative_time,
    is_time_format,
    relative_format,
    relative_time,
    write_moment,
)
from restsource_dagster.connector.validation.diagnostics import describe_value
from restsource_dagster.engine.errors import CallValueError

__all__ = ["RUN_START", "SentTime", "fill_path", "fill_values", "plain_value"]

RUN_START = "\0run start"
"""The key of the run's start among the values of placeholders; no placeholder has this name."""


@dataclass(frozen=True)
class SentTime:
    """A value that a placeholder may write as a time, such as `{incremental.start_value:%Y-%m-%d}`."""

    value: Any
    """As it is stored: a text, a number, or a `datetime`."""
    time_format: str | None = None
    """How it is written unless the placeholder says; None: as it is stored."""
    zone: tzinfo = UTC
    rounds_up: bool = False

    def written(self, spec: str | None = None) -> Any:
        """Return the value to send. Raises `CallValueError` for one that is no time but must be."""
        time_format = spec if spec and is_time_format(spec) else self.time_format
        if time_format is None:
            return self.value
        moment = moment_of(self.value)
        if moment is None:
            raise CallValueError(
                f"{describe_value(self.value)} is no time, so it can't be written as `{time_format}`"
            )
        try:
            return write_moment(moment, time_format, self.zone, rounds_up=self.rounds_up)
        except ValueError as error:
            raise CallValueError(
                f"{describe_value(self.value)} can't be written as `{time_format}`: {error}"
            ) from error

    def __format__(self, spec: str) -> str:
        """Return the text of a placeholder with this format specification."""
        if is_time_format(spec):
            return str(self.written(spec))
        return format(as_url_text(self.written()), spec)


_URL_STARTS = ("http://", "https://", "/")
_VALUE_MARK = "\0"
"""Stands before an encoded value while a path is built; encoding leaves no such character."""

Values = Mapping[str, Any]
"""What placeholders stand for: values of the parent by placeholder, and the cursor as `incremental`."""


class _Formatter(string.Formatter):
    """Formats placeholders, which may have dots and brackets in their names."""

    def get_field(self, field_name: str, args: Any, kwargs: Values) -> Any:
        # whole, or `string.Formatter` would take `resources.users.id` for attributes
        if field_name in kwargs:
            return kwargs[field_name], field_name
        if is_relative_time(field_name) and RUN_START in kwargs:
            moment = relative_time(field_name, kwargs[RUN_START])
            return SentTime(_as_datetime(moment), relative_format(field_name)), field_name
        return super().get_field(field_name, args, kwargs)

    def format_field(self, value: Any, format_spec: str) -> str:
        # a field of a parent's record may be a time, too
        if is_time_format(format_spec) and not isinstance(value, SentTime):
            value = SentTime(value)
        return str(super().format_field(as_url_text(value), format_spec))


_FORMATTER = _Formatter()


def plain_value(value: Any) -> Any:
    """Return a time as it is sent; any other value as it is."""
    return value.written() if isinstance(value, SentTime) else value


def _as_datetime(moment: int) -> datetime:
    # moments are in nanoseconds, and a `datetime` has microseconds
    return EPOCH_START + timedelta(microseconds=moment // 1000)


_ABSENT = object()
"""In place of a text that is one placeholder without a value."""


def fill_values(given: Any, values: Values, *, keeps_types: bool = False) -> Any:
    """Return params, headers or a body with its placeholders filled in.

    A text that is one placeholder without a value is left out with its name, as a cursor has none
    before the first run. With `keeps_types`, for JSON, such a text becomes the value itself; else
    `true` and `false` become text. Raises `CallValueError` for a longer text without a value.
    """
    filled = _fill(given, values, keeps_types=keeps_types)
    return None if filled is _ABSENT else filled


def fill_path(path: str, values: Values) -> str:
    """Return a path with its placeholders filled in, each value percent-encoded for its place.

    A placeholder that is the whole path, or the whole query, is sent as it is, and so is a URL at
    the start. Raises `CallValueError` for a value that would make another path: none, an empty text,
    `.` or `..`.
    """
    parts = list(string.Formatter().parse(path))
    built = ""
    for number, (literal, name, spec, conversion) in enumerate(parts):
        built += literal
        if name is None:
            continue
        text = _format(name, spec, conversion, values)
        # the whole path, or the whole query
        is_whole = number == len(parts) - 1 and (not built or built.endswith("?"))
        is_url = not built and text.lower().startswith(_URL_STARTS)
        built += text if is_whole or is_url else _VALUE_MARK + _encoded(text)
    _check_segments(path, built)
    return built.replace(_VALUE_MARK, "")


def _encoded(text: str) -> str:
    # a slash, too: it must not begin another segment of the path
    return quote(text, safe="", errors="surrogatepass")


def _check_segments(path: str, built: str) -> None:
    """Refuse a path in which a value makes a segment that leads elsewhere."""
    if path and not built:
        raise CallValueError(f"the path `{path}` is empty with the value that it takes")
    for segment in built.split("?", 1)[0].split("/"):
        text = segment.replace(_VALUE_MARK, "")
        if _VALUE_MARK in segment and text in ("", ".", ".."):
            raise CallValueError(
                f'the value "{text}" can\'t be a segment of the path `{path}`: it would lead to '
                "another path"
            )


def _fill(given: Any, values: Values, *, keeps_types: bool) -> Any:
    if isinstance(given, str):
        return _fill_text(given, values, keeps_types=keeps_types)
    if isinstance(given, dict):
        pairs = (
            (_fill(key, values, keeps_types=False), _fill(item, values, keeps_types=keeps_types))
            for key, item in given.items()
        )
        return {key: item for key, item in pairs if key is not _ABSENT and item is not _ABSENT}
    if isinstance(given, list | tuple):
        items = (_fill(item, values, keeps_types=keeps_types) for item in given)
        return [item for item in items if item is not _ABSENT]
    # requests would send `True`, as Python prints it
    return as_url_text(given) if isinstance(given, bool) and not keeps_types else given


def _fill_text(text: str, values: Values, *, keeps_types: bool) -> Any:
    if "{" not in text and "}" not in text:
        return text
    parts = list(string.Formatter().parse(text))
    literal, name, spec, conversion = parts[0]
    # the text is one placeholder: in JSON it may be a number or a list
    if len(parts) == 1 and name is not None and not literal:
        value, _ = _FORMATTER.get_field(name, (), values)
        if value is None:
            return _ABSENT
        if keeps_types and conversion is None:
            if isinstance(value, SentTime) and (not spec or is_time_format(spec)):
                with _named_placeholder(name, spec):
                    return value.written(spec)
            if not spec:
                return value
    return "".join(
        literal if name is None else literal + _format(name, spec, conversion, values)
        for literal, name, spec, conversion in parts
    )


def _format(name: str, spec: str | None, conversion: str | None, values: Values) -> str:
    """Return the text of one placeholder."""
    value, _ = _FORMATTER.get_field(name, (), values)
    if value is None:
        raise CallValueError(
            f"`{{{name}}}` has no value yet, and it stands in a longer text. Add an "
            '"initial_value" to the cursor, or give the placeholder a param of its own'
        )
    with _named_placeholder(name, spec):
        # `!s` is for the text that is sent, not for that of our own class
        converted = _FORMATTER.convert_field(
            plain_value(value) if conversion else value, conversion
        )
        return _FORMATTER.format_field(converted, spec or "")


@contextmanager
def _named_placeholder(name: str, spec: str | None) -> Iterator[None]:
    """Raise `CallValueError`, with the placeholder, for a value that can't be written as it says."""
    try:
        yield
    except (CallValueError, ValueError) as error:
        placeholder = f"{name}:{spec}" if spec else name
        raise CallValueError(f"`{{{placeholder}}}` can't be written so: {error}") from error
