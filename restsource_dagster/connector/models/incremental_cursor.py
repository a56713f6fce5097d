"""What tells new records from old ones: a cursor, or a token of the API in its place.

https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api/basic#incremental-loading
"""

import re
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainValidator, Tag, WithJsonSchema

from restsource_dagster.connector.models.fields import (
    Duration,
    FileModel,
    Flag,
    Number,
    ReadTimeFormat,
    SingleValuePath,
    Text,
    TimeFormat,
    ZoneName,
    by_kind,
    refuse_type,
    refuse_value,
)
from restsource_dagster.connector.time_formats import (
    is_relative_time,
    read_time,
    relative_format,
    relative_time,
    write_moment,
    zone_named,
)

__all__ = [
    "END_VALUE_PLACEHOLDER",
    "TOKEN_PLACEHOLDER",
    "ColumnNames",
    "CursorWindow",
    "Incremental",
    "IncrementalField",
    "IncrementalParam",
    "SyncToken",
    "fill_relative_time",
    "is_relative_text",
]

END_VALUE_PLACEHOLDER = "{incremental.end_value"
"""The beginning of the placeholder of a window's end. A param with it is left out in live runs."""
TOKEN_PLACEHOLDER = "{incremental.token"  # noqa: S105 - the beginning of a placeholder
"""The beginning of the placeholder of a token."""


def _names_kind(value: Any) -> str | None:
    return "#one" if isinstance(value, str) else "#many" if isinstance(value, list) else None


ColumnNames = Annotated[
    Annotated[Text, Tag("#one")] | Annotated[list[Text], Tag("#many")],
    by_kind(_names_kind, custom_error_message="the name of a column, or a list of names"),
]


TimeFormats = Annotated[
    Annotated[ReadTimeFormat, Tag("#one")]
    | Annotated[list[ReadTimeFormat], Field(min_length=1), Tag("#many")],
    by_kind(_names_kind, custom_error_message="a format of times, or a list of formats"),
]


def _first_paths(value: Any) -> Any:
    # a list of one is that one, and so is its stored cursor
    is_one = isinstance(value, list) and len(value) == 1 and isinstance(value[0], str)
    return value[0] if is_one else value


CursorPaths = Annotated[
    Annotated[SingleValuePath, Tag("#one")]
    | Annotated[list[SingleValuePath], Field(min_length=1), Tag("#many")],
    by_kind(_names_kind, custom_error_message="a JSON path, or a list of JSON paths"),
    BeforeValidator(_first_paths),
]


_SAMPLE_START = datetime(2024, 1, 1, tzinfo=UTC)
_RELATIVE_TEXT = re.compile(r"\{([^{}:!]+)(?::([^{}]+))?\}")


def is_relative_text(text: str) -> bool:
    """True if a text is one placeholder of a relative time, such as `{today-1mo:%Y-%m-%d}`."""
    found = _RELATIVE_TEXT.fullmatch(text)
    return found is not None and is_relative_time(found[1])


def fill_relative_time(text: str, start: datetime) -> int | str:
    """Return what a text of one relative time stands for. Raises `ValueError` for a wrong one."""
    found = _RELATIVE_TEXT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text} is no relative time")
    return write_moment(relative_time(found[1], start), found[2] or relative_format(found[1]))


class IncrementalBase(FileModel):
    """Fields that both forms of an incremental cursor share."""

    cursor_path: CursorPaths = Field(
        description="JSON path of the cursor in a record, such as `updated_at`: a value that grows "
        "when a record is added or changed. Of a list the first that a record has, and that is not null, "
        'counts: `["updated_at", "created_at"]`. Lists are not part of dlt\'s configuration.'
    )
    initial_value: Any = Field(
        default=None, description="The cursor of the first run, when no cursor is stored yet."
    )
    end_value: Any = Field(
        default=None,
        description="End of the window. With it, a run loads exactly the window from "
        "`initial_value` to `end_value`, and neither uses nor moves the stored cursor.",
    )
    last_value_func: Literal["max", "min"] | None = Field(
        default="max", description="`max` if the cursor grows, `min` if it falls."
    )
    primary_key: ColumnNames | None = Field(
        default=None,
        description="Columns that identify rows with the same cursor. If left out, the resource's "
        "primary key.",
    )
    lag: Number | None = Field(
        default=None,
        description="How far before the stored cursor each run starts: seconds for times, days for "
        "dates, otherwise the cursor's own unit.",
    )
    row_order: Literal["asc", "desc"] | None = Field(
        default=None,
        description="The order in which the API returns records by cursor, if it is known. It lets "
        "a run stop early.",
    )
    on_cursor_value_missing: Literal["raise", "include", "exclude"] = Field(
        default="raise", description="What to do with a record without a cursor value."
    )
    range_start: Literal["open", "closed"] | None = Field(
        default="closed",
        description="`closed`: records whose cursor equals the start are loaded. `open`: they are "
        "left out.",
    )
    range_end: Literal["open", "closed"] | None = Field(
        default="open",
        description="`closed`: records whose cursor equals `end_value` are loaded. `open`: they "
        "are left out.",
    )
    allow_external_schedulers: Flag | None = Field(
        default=None, description="`true`: an outer scheduler sets the window to load."
    )
    convert: TimeFormat | None = Field(
        default=None,
        description="How the API wants the cursor, if rows spell it otherwise: `epoch_seconds`, "
        "`epoch_milliseconds`, `epoch_microseconds`, `date`, `iso8601`, `rfc2822`, or a pattern such as "
        "`%Y-%m-%d %H:%M`. What the format can't say is cut off at a start, and rounded up at an end. "
        "`{incremental.start_value:%Y-%m-%d}` is for one place only.",
    )
    cursor_format: TimeFormats | None = Field(
        default=None,
        description="How rows spell the cursor, if not as ISO 8601, an HTTP date, seconds or milliseconds "
        "since 1970, or a number: a format as for `convert`, or several that are tried in order. The column "
        "then holds times in UTC, or dates. Without `convert`, the cursor is sent in the first of them. Not "
        "part of dlt's configuration.",
    )
    timezone: ZoneName | None = Field(
        default=None,
        description="The time zone of times without one, in rows (`cursor_format`) and as `convert` writes "
        "them, such as `Europe/Berlin`. If left out, UTC. Not part of dlt's configuration.",
    )

    @property
    def paths(self) -> tuple[str, ...]:
        """The JSON paths of the cursor: in a record the first counts that has a value."""
        given = self.cursor_path
        return (given,) if isinstance(given, str) else tuple(given)

    @property
    def path(self) -> str:
        """The JSON path of the cursor; of several their union, `updated_at|created_at`: it names the state."""
        if len(self.paths) == 1:
            return self.paths[0]
        # in a JSON path `|` binds tighter than a dot
        return "|".join(one if one.isidentifier() else f"({one})" for one in self.paths)

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats of `cursor_format`; none if rows spell the cursor as usual."""
        # tried in this order, so the first that reads a text decides between day and month
        given = self.cursor_format
        return (given,) if isinstance(given, str) else tuple(given or ())

    @property
    def sent_format(self) -> str | None:
        """The format in which the cursor is sent; None: as it is stored."""
        return self.convert or next(iter(self.formats), None)

    def in_standard_form(self) -> Self:
        """Return the cursor with its values in ISO 8601 where `cursor_format` reads them."""
        # a value that no format reads is in ISO 8601 already
        made = {
            name: read_time(str(value), self.formats, self.zone) or value
            for name, value in (
                ("initial_value", self.initial_value),
                ("end_value", self.end_value),
            )
            if self.formats and value is not None
        }
        return type(self).of({**self.given, **made}) if made else self

    @property
    def zone(self) -> tzinfo:
        """The time zone of dates and times that name none."""
        return zone_named(self.timezone)

    def at(self, start: datetime) -> Self:
        """Return the cursor with relative times such as `{now-30d}` filled in for a run's start."""
        made = {
            name: fill_relative_time(value, start)
            for name, value in (
                ("initial_value", self.initial_value),
                ("end_value", self.end_value),
            )
            if isinstance(value, str) and is_relative_text(value)
        }
        return type(self).of({**self.given, **made}) if made else self

    @property
    def sample(self) -> Any:
        """The `initial_value`, or one like it if it is relative: it shows how the cursor is spelt."""
        return self.at(_SAMPLE_START).initial_value


class CursorWindow(FileModel):
    """How a live run cuts what it asks for into ranges of time, each stored before the next is asked for."""

    size: Duration | None = Field(
        default=None,
        description="The longest range that a request asks for: `30d`, `12h`, `1mo`. A run asks for one "
        "after the other, up to now, so the request needs a place for the end: `end_param`, or "
        "`{incremental.end_value}`. If left out, one range.",
    )
    delay: Duration | None = Field(
        default=None,
        description="How far before now the last range ends, such as `1m`, a minute: rows after it are left "
        "to the next run. If left out, it ends now.",
    )


class Incremental(IncrementalBase):
    """The cursor of an endpoint: each run requests only records that are new since the last run.

    To send the cursor, write `{incremental.start_value}` in a parameter, or set `start_param`.
    """

    start_param: Text | None = Field(
        default=None, description="The query parameter that sends the start of the cursor."
    )
    end_param: Text | None = Field(
        default=None,
        description="The query parameter that sends `end_value`, or the end of a `window`.",
    )
    window: CursorWindow | None = Field(
        default=None,
        description="Asks for ranges of time, for APIs that refuse long ones or the newest rows. Not part "
        "of dlt's configuration.",
    )
    retention: Duration | None = Field(
        default=None,
        description="How long the API keeps its changes, such as `90d`. A run whose cursor is older starts "
        "at `initial_value` again, and says so. Not part of dlt's configuration.",
    )


_FIRST_ERROR, _LAST_ERROR = 400, 599


def _check_status(value: object) -> int:
    expected = f"a status code of an error, from {_FIRST_ERROR} to {_LAST_ERROR}, such as 410"
    # `True` is an `int` in Python
    if isinstance(value, bool) or not isinstance(value, int):
        refuse_type(expected)
    return value if _FIRST_ERROR <= value <= _LAST_ERROR else refuse_value(expected)


ErrorStatus = Annotated[
    int,
    PlainValidator(_check_status),
    WithJsonSchema({"type": "integer", "minimum": _FIRST_ERROR, "maximum": _LAST_ERROR}),
]


class SyncToken(FileModel):
    """A token in place of a cursor: each run sends the token of the last one, and gets what changed since.

    The token is stored together with the rows. Without `token_param` and without the placeholder
    `{incremental.token}` the token is a link, which the next run requests in place of path and params.
    Not part of dlt's configuration.
    """

    token_path: SingleValuePath = Field(
        description="JSON path of the token in an answer, such as `$.nextSyncToken`. The last one of a run is "
        "stored; an answer without one, or with null, leaves the one before."
    )
    token_param: Text | None = Field(
        default=None,
        description="The query parameter that sends the token. `{incremental.token}` sends it elsewhere: in "
        "a param, a header or the body, which is left out as long as there is no token.",
        min_length=1,
    )
    first_run_params: list[Text] = Field(
        default=[],
        description="The names of params that are sent only as long as there is no token, such as "
        "`start_time`.",
    )
    reset_on: list[ErrorStatus] = Field(
        default=[],
        description="Statuses with which the API refuses a token, such as `[410]`: then all rows are loaded "
        "without a token, and replace those in the table.",
    )


_TOKEN_FIELDS = frozenset(SyncToken.model_fields)


def _incremental_kind(value: Any) -> str:
    is_token = isinstance(value, dict) and not _TOKEN_FIELDS.isdisjoint(value)
    return "#token" if is_token or isinstance(value, SyncToken) else "#cursor"


IncrementalField = Annotated[
    Annotated[Incremental, Tag("#cursor")] | Annotated[SyncToken, Tag("#token")],
    by_kind(_incremental_kind, custom_error_message="an object with a `cursor_path`"),
]


class IncrementalParam(IncrementalBase):
    """A query parameter that sends the incremental cursor."""

    type: Literal["incremental"] = Field(description="Always `incremental`.")
