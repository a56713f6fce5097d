"""One endpoint of an API: its request, and how to read the response.

Which placeholders an endpoint has, how params get into its path and what its cursor is follows
`dlt.sources.rest_api.config_setup`. `check` and the engine both ask the model.

https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api/basic#endpoint-configuration
"""

import json
import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BeforeValidator, ConfigDict, Field, PlainValidator, Tag, WithJsonSchema

from restsource_dagster.connector.env_references import without_references
from restsource_dagster.connector.models.auth import Auth
from restsource_dagster.connector.models.body_format import BodyFormat
from restsource_dagster.connector.models.fields import (
    Duration,
    FileModel,
    Flag,
    JsonPath,
    MethodName,
    Number,
    ReadTimeFormat,
    SingleValue,
    SingleValuePath,
    Text,
    TimeFormat,
    WholeNumber,
    ZoneName,
    by_kind,
    closest_kind,
    count_from_one,
    finds_one_value,
    refuse_type,
)
from restsource_dagster.connector.models.graphql import GraphQL
from restsource_dagster.connector.models.job import Job
from restsource_dagster.connector.models.paginators import Paginator
from restsource_dagster.connector.models.sync_token import TOKEN_PLACEHOLDER, SyncToken
from restsource_dagster.connector.time_formats import (
    is_relative_time,
    read_time,
    relative_format,
    relative_time,
    write_moment,
    zone_named,
)
from restsource_dagster.connector.validation.diagnostics import FieldPath

__all__ = [
    "ACTION_NAMES",
    "BIND_TYPES",
    "EACH_PREFIX",
    "END_VALUE_PLACEHOLDER",
    "ActionName",
    "BindType",
    "ColumnNames",
    "CursorWindow",
    "Endpoint",
    "EndpointDefaults",
    "Incremental",
    "IncrementalParam",
    "Placeholder",
    "ResolveParam",
    "ResponseAction",
    "as_url_text",
    "bind_path",
    "fill_relative_time",
    "is_relative_text",
    "placeholder_names",
]


END_VALUE_PLACEHOLDER = "{incremental.end_value"
"""The beginning of the placeholder of a window's end. A param with it is left out in live runs."""

BindType = Literal["resolve", "incremental"]
BIND_TYPES: tuple[str, ...] = get_args(BindType)


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
        given = self.cursor_format
        return (given,) if isinstance(given, str) else tuple(given or ())

    @property
    def sent_format(self) -> str | None:
        """The format in which the cursor is sent; None: as it is stored."""
        return self.convert or next(iter(self.formats), None)

    def in_standard_form(self) -> Self:
        """Return the cursor with its values in ISO 8601 where `cursor_format` reads them."""
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


class ResolveParam(FileModel):
    """A path parameter with the value of a field of the parent's record."""

    type: Literal["resolve"] = Field(description="Always `resolve`.")
    resource: Text = Field(description="The name of the parent resource.")
    field: JsonPath = Field(
        description="JSON path of the field in the parent's record. A path with `[*]`, such as "
        "`variants[*].id`, makes a call for each value; dlt takes the first value only."
    )
    batch: Annotated[int, *count_from_one(10_000)] | None = Field(
        default=None,
        description="How many values one call takes, of several parents together. Such a param may also "
        "stand in the query. Not part of dlt's configuration.",
    )
    separator: Text | None = Field(
        default=",",
        description="What stands between the values of a batch. `null`: they are a list, sent as "
        "`params_style` says. Not part of dlt's configuration.",
    )

    @property
    def takes_many(self) -> bool:
        """True if a parent's record may have several values, or a call takes several."""
        return self.batch is not None or not finds_one_value(without_references(self.field))


def _check_each_value(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        refuse_type("a text or a number")
    return value


EachValue = Annotated[
    Any, PlainValidator(_check_each_value), WithJsonSchema({"type": ["string", "number"]})
]
"""One value of `for_each`."""
EACH_PREFIX = "each."
"""How the placeholders of `for_each` begin, and its columns in `include_from_parent`."""


class UnknownParam(FileModel):
    """A parameter object of an unknown type. Only its type is checked."""

    model_config = ConfigDict(extra="allow")

    type: BindType


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


def _param_kind(value: Any) -> str:
    if not isinstance(value, dict):
        return "#plain"
    return closest_kind(value.get("type"), BIND_TYPES, {})


Param = Annotated[
    Annotated[
        Any,
        Tag("#plain"),
        # All but an object, which dlt takes for a param of a type.
        WithJsonSchema({"type": ["string", "number", "boolean", "array", "null"]}),
    ]
    | Annotated[ResolveParam, Tag("#resolve")]
    | Annotated[IncrementalParam, Tag("#incremental")]
    | Annotated[UnknownParam, Tag("#unknown")],
    by_kind(_param_kind, custom_error_message="a value"),
]


def _status_kind(value: Any) -> str | None:
    # `true` passes as a number, as in dlt, and `boolean_warnings` reports it.
    return "#text" if isinstance(value, str) else "#number" if isinstance(value, int) else None


ActionName = Literal["ignore", "retry", "fail", "skip", "end", "gone"]
ACTION_NAMES: tuple[ActionName, ...] = get_args(ActionName)
"""The names of response actions. dlt has `ignore` only."""
_STATUS_CODE = re.compile(r"[1-9][0-9]{2}", re.ASCII)
_STATUS_CLASS = re.compile(r"[1-5]xx", re.ASCII | re.IGNORECASE)


class ResponseAction(FileModel):
    """What to do with a certain response, for example to treat a 404 as "no rows".

    An action matches if all its conditions hold. dlt's configuration has `status_code` without classes
    such as `5xx`, `content` and `ignore`.
    """

    status_code: (
        Annotated[
            Annotated[WholeNumber, Tag("#number")] | Annotated[Text, Tag("#text")],
            by_kind(_status_kind, custom_error_message="a status code such as 404"),
        ]
        | None
    ) = Field(
        default=None,
        description="The status code of the response, or a class of status codes (`5xx`).",
    )
    header: dict[str, Text] | None = Field(
        default=None,
        description="Headers of the response, each with a text that the header contains. An empty "
        "text matches any value.",
    )
    content: Text | None = Field(
        default=None, description="A text that the body of the response contains."
    )
    body: dict[JsonPath, SingleValue] | None = Field(
        default=None,
        description='Values in the JSON body, by their JSON paths: `{"error.code": "no_licence"}`. Each must '
        "be there and equal.",
    )
    # Any text, because dlt accepts any and a reference may stand here. `check` warns of an unknown
    # word.
    action: Text | None = Field(
        default=None,
        description="`ignore`: the response counts as an empty page, and the paging ends. `retry`: "
        "the request is repeated, as after a 503. `fail`: the resource fails at once, "
        "whatever the status. `skip`: the resource and its dependents are left as they are, and the run goes "
        "on; it fails if rows came before. `end`: the rows of this response are the last ones; a "
        "response that is an error ends the paging, and fails as the first one. `gone`: the parent's record no "
        "longer exists, so its rows are removed and it is never requested again.",
    )

    @property
    def known_action(self) -> ActionName | None:
        """The action; None for an unknown word, which dlt and the engine ignore."""
        return next((name for name in ACTION_NAMES if name == self.action), None)

    @cached_property
    def statuses(self) -> range | None:
        """The status codes that `status_code` means; None if no response can have it."""
        # A reference has become text by now, perhaps with a line end from the variable.
        text = str(self.status_code).strip()
        if _STATUS_CODE.fullmatch(text):
            return range(int(text), int(text) + 1)
        if _STATUS_CLASS.fullmatch(text):
            return range(int(text[0]) * 100, int(text[0]) * 100 + 100)
        return None

    @property
    def has_condition(self) -> bool:
        """True if it names a status, headers, a text or a value; an action without any never matches."""
        named = self.status_code is not None or self.content is not None
        return named or bool(self.header) or bool(self.body)

    def matches(
        self, status: int, headers: Mapping[str, str], body: bytes, charset: str | None
    ) -> bool:
        """True if a response has the status, headers and text that the action names. `body` is not compared.

        The names of `headers` are compared as they are, so pass a mapping that ignores their case.
        `charset` is that of the response's `Content-Type`; None without one.
        """
        return (
            self.has_condition
            and (self.status_code is None or status in (self.statuses or ()))
            and all(
                # Media types and most tokens in headers have no case (RFC 9110).
                name in headers and text.lower() in headers[name].lower()
                for name, text in (self.header or {}).items()
            )
            and (self.content is None or _body_contains(body, charset, self.content))
        )


def _body_contains(body: bytes, charset: str | None, text: str) -> bool:
    """True if the body holds the text. Most bodies are UTF-8, and guessing a charset is slow."""
    # A variable that isn't UTF-8 holds lone surrogates, which `encode` would refuse.
    if text.encode("utf-8", "surrogatepass") in body:
        return True
    if not charset or charset.lower() in ("utf-8", "utf8"):
        return False
    try:
        return text in body.decode(charset, "replace")
    except (LookupError, ValueError):  # a charset that Python doesn't know
        return False


class EndpointDefaults(FileModel):
    """An endpoint: its path after `base_url`, its request, and how to read the response."""

    path: Text = Field(
        default="",
        description="The path after `base_url`, or a full URL. It may contain "
        "`{resources.parent.id}` and `{incremental.start_value}`. If left out, the "
        "resource's name.",
    )
    method: MethodName | None = Field(
        default="GET",
        description="The HTTP method: GET, POST, or any other word, such as SEARCH. Pages of other methods "
        "than GET, HEAD, POST, QUERY and SEARCH are not requested ahead.",
    )
    params: dict[str, Param] = Field(
        default={},
        description="Query parameters. Values may contain `{resources.parent.field}` and "
        "`{incremental.start_value}`. Write a literal brace twice: `{{`.",
    )
    params_style: Literal["repeat", "brackets", "comma"] = Field(
        default="repeat",
        description="How a param that is a list is sent: `repeat`: `a=1&a=2`. `brackets`: `a[]=1&a[]=2`. "
        "`comma`: `a=1,2`. Not part of dlt's configuration.",
    )
    # With an underscore, because `json` is a method of pydantic's models.
    json_: dict[str, Any] = Field(
        default={},
        alias="json",
        description="The request's body as JSON. It may contain the same placeholders as `params`.",
    )
    data: Any = Field(
        default=None,
        description="The request's body: a form (object) or plain text. Not together with `json`.",
    )
    headers: dict[str, Any] | None = Field(
        default=None, description="Additional headers for this endpoint."
    )
    auth: Auth | None = Field(
        default=None, description="Authentication of this endpoint, instead of the client's."
    )
    paginator: Paginator | None = Field(
        default=None, description="Pagination of this endpoint, instead of the client's."
    )
    data_selector: Text | None = Field(
        default=None,
        description="JSON path of the records in the response, such as `data.items`. If left out, "
        "the list of records is searched for.",
    )
    response_actions: list[ResponseAction] | None = Field(
        default=None,
        description="What to do with certain responses. The first action that matches applies.",
    )
    response: BodyFormat | None = Field(
        default=None,
        description="The format of the responses, if they are no plain JSON: CSV, JSON lines, XML, packed "
        "files. Not part of dlt's configuration.",
    )
    partial_errors: Literal["fail", "load"] = Field(
        default="fail",
        description='What to do with rows beside an error, as in `{"data": [...], "errors": [...]}`: '
        "`fail`: the resource fails. `load`: the rows are loaded, and the log has a line. Not part of "
        "dlt's configuration.",
    )
    incremental: IncrementalField | None = Field(
        default=None,
        description="The cursor, with which each run requests only new records; or a token of the API in its "
        "place (`token_path`).",
    )


class Endpoint(EndpointDefaults):
    """An endpoint: its path after `base_url`, its request, and how to read the response."""

    for_each: dict[str, list[EachValue]] | None = Field(
        default=None,
        description='Lists of values, for each of which the endpoint is called: with `{"site": ["a", '
        '"b"]}`, `{each.site}` in the path, the params, the headers or the body is `a` and then `b`. Of '
        "several lists each combination is called. Each value has a cursor of its own. Not part of dlt's "
        "configuration.",
    )
    job: Job | None = Field(
        default=None,
        description="The request of the endpoint creates a job, which is asked for until it is done; the "
        "rows are in its file. Not part of dlt's configuration.",
    )
    graphql: GraphQL | None = Field(
        default=None,
        description="A GraphQL query as the request, in place of `method` and `json`. Not part of dlt's "
        "configuration.",
    )

    BRACE_DOUBLINGS: ClassVar[Mapping[str, int]] = {
        # Read first for params and then for placeholders, like the path in dlt.
        "path": 2,
        "params": 1,
        "json_": 1,
        "data": 1,
        "headers": 1,
    }
    """The fields in which placeholders are filled in, and how often each is read for them."""

    def with_graphql_request(self) -> "Endpoint":
        """Return the endpoint with its GraphQL query as the request; itself without one."""
        if self.graphql is None:
            return self
        body = {**self.json_, **self.graphql.request_body()}
        return Endpoint.of({**self.given, "method": "POST", "json_": body})

    @property
    def incremental_params(self) -> dict[str, IncrementalParam]:
        """The params that take the cursor, by name. A valid endpoint has one at most."""
        return {n: p for n, p in self.params.items() if isinstance(p, IncrementalParam)}

    @property
    def cursor(self) -> Incremental | None:
        """The cursor: that of an incremental param, else `incremental`; its values in standard form.

        An incremental param is a cursor whose `start_param` is the name of the param.
        """
        for name, param in self.incremental_params.items():
            # The type says where the cursor stands, which `Incremental` says by `start_param`.
            given = {key: value for key, value in param.given.items() if key != "type"}
            return Incremental.of({**given, "start_param": name}).in_standard_form()
        cursor = self.incremental
        return cursor.in_standard_form() if isinstance(cursor, Incremental) else None

    @property
    def token(self) -> SyncToken | None:
        """The token in place of a cursor; None without one."""
        return self.incremental if isinstance(self.incremental, SyncToken) else None

    @property
    def follows_token(self) -> bool:
        """True if the token is a link, which takes the place of the path and the params."""
        token = self.token
        return token is not None and not token.token_param and not self.mentions(TOKEN_PLACEHOLDER)

    def at(self, start: datetime) -> "Endpoint":
        """Return the endpoint with the relative times of its cursor filled in for a run's start."""
        params = {
            name: param.at(start) if isinstance(param, IncrementalParam) else param
            for name, param in self.params.items()
        }
        found = self.incremental
        cursor = found.at(start) if isinstance(found, Incremental) else found
        if cursor is self.incremental and all(params[name] is self.params[name] for name in params):
            return self
        return Endpoint.of({**self.given, "params": params, "incremental": cursor})

    @property
    def has_relative_times(self) -> bool:
        """True if a request or the cursor depends on when the run starts."""
        cursor = self.cursor
        values = (cursor.initial_value, cursor.end_value) if cursor else ()
        return any(isinstance(value, str) and is_relative_text(value) for value in values) or any(
            found.name is not None and is_relative_time(found.name) for found in self.placeholders
        )

    @property
    def sends_start(self) -> bool:
        """True if the API is asked for the records from the cursor's start on: it decides what is new."""
        cursor = self.cursor
        # a placeholder may be in the path, the params, the headers or the body
        placeholders = ("{incremental.start_value", "{incremental.last_value")
        return cursor is not None and (
            bool(cursor.start_param) or any(map(self.mentions, placeholders))
        )

    @property
    def sends_end(self) -> bool:
        """True if the end of a window has a place in the request."""
        cursor = self.cursor
        return cursor is not None and (
            bool(cursor.end_param) or self.mentions(END_VALUE_PLACEHOLDER)
        )

    @property
    def placeholder_prefixes(self) -> tuple[str, ...]:
        """The first words that a placeholder of this endpoint may have."""
        # dlt looks only for the field: with `"incremental": null` a placeholder fails in a run
        has_cursor = "incremental" in self.model_fields_set
        known = ("resources", "incremental") if has_cursor else ("resources",)
        return (*known, "each") if self.for_each else known

    @property
    def resolve_params(self) -> dict[str, ResolveParam]:
        """The params with a field of the parent's record, by name."""
        return {n: p for n, p in self.params.items() if isinstance(p, ResolveParam)}

    @property
    def list_params(self) -> dict[str, ResolveParam]:
        """The params with several values of a parent's record, or several in a call, by name."""
        return {name: param for name, param in self.resolve_params.items() if param.takes_many}

    def has_action(self, name: ActionName) -> bool:
        """True if a response action of that name is given."""
        return any(action.known_action == name for action in self.response_actions or ())

    @property
    def parent_fields(self) -> dict[str, ResolveParam]:
        """The fields of the parent's row that a call needs, by placeholder. Bind the path first."""
        # in the order of the file: the values, in this order, are the key of a stored cursor
        fields = self.resolve_params
        for found in self.placeholders:
            name = found.name or ""
            steps = name.strip().split(".", maxsplit=2)
            # `check` reports a placeholder without a field, and asks for the others meanwhile
            if name.startswith("resources.") and len(steps) == 3:
                given = {"type": "resolve", "resource": steps[1], "field": steps[2]}
                fields.setdefault(name, ResolveParam.of(given))
        return fields

    @property
    def placeholders(self) -> list["Placeholder"]:
        """Each placeholder of the request, in the order of the file."""
        found: list[Placeholder] = []
        for part in self.BRACE_DOUBLINGS:
            for given, place in _texts_in(getattr(self, part), (part,)):
                if "{" in given or "}" in given:
                    found.extend(_placeholders_in(given, place))
        return found

    def mentions(self, placeholder: str) -> bool:
        """True if a text anywhere in the request starts a placeholder such as `{incremental.`."""
        parts = (getattr(self, part) for part in self.BRACE_DOUBLINGS)
        return any(placeholder in text for part in parts for text, _ in _texts_in(part, ()))


def as_url_text(value: Any) -> Any:
    """Return `true`, `false`, lists and objects as JSON writes them; any other value as it is."""
    if isinstance(value, bool | dict | list):
        return json.dumps(value, ensure_ascii=False)
    return value


def bind_path(path: str, params: Mapping[str, Any]) -> str:
    """Put params into a path. Other placeholders stay; doubled braces become single ones.

    Raises `ValueError` for a lone brace, and for a number of thousands of digits.
    """
    # dlt parses paths with the same formatter, so braces mean the same to both
    segments = []
    for literal, name, spec, conversion in string.Formatter().parse(path):
        segments.append(literal)
        if name:
            shown = f"{name}!{conversion}" if conversion else name
            shown = f"{shown}:{spec}" if spec else shown
            segments.append(str(as_url_text(params[name])) if name in params else f"{{{shown}}}")
    return "".join(segments)


def placeholder_names(text: str) -> list[str]:
    """Return the placeholders in a text, `{}` as "". Raises `ValueError` for a lone brace."""
    return [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]


@dataclass(frozen=True)
class Placeholder:
    """A placeholder in a text of the request."""

    name: str | None
    """What stands in the braces; "" for `{}`, None for a text with a lone brace."""
    at: FieldPath
    """The steps from the endpoint to the text, such as `("params", "since")`."""
    is_whole: bool
    """True if the text is this placeholder and nothing else."""
    text: str
    """The text, without references."""


def _placeholders_in(given: str, at: FieldPath) -> Iterator[Placeholder]:
    text = without_references(given)
    try:
        names: list[Any] = placeholder_names(text)
    except ValueError:
        names = [None]
    is_whole = text == given and text.startswith("{") and text.find("}") == len(text) - 1
    yield from (Placeholder(name, at, is_whole, text) for name in names)


def _texts_in(value: Any, at: FieldPath) -> Iterator[tuple[str, FieldPath]]:
    """Yield the texts and keys in a value, in the order of the file, without recursion."""
    stack: list[tuple[Any, FieldPath]] = [(value, at)]
    while stack:
        item, place = stack.pop()
        if isinstance(item, FileModel):
            item = item.as_json()
        if isinstance(item, str):
            yield item, place
        elif isinstance(item, dict):
            pairs = list(item.items())
            # Reversed, because a stack gives the last one back first.
            for key, inner in reversed(pairs):
                stack.extend(((inner, (*place, key)), (key, (*place, key))))
        elif isinstance(item, list):
            stack.extend((item[index], (*place, index)) for index in reversed(range(len(item))))
