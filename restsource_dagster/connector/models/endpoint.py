"""One endpoint of an API: its request, and how to read the response.

Which placeholders an endpoint has, how params get into its path and what its cursor is follows
`dlt.sources.rest_api.config_setup`. `check` and the engine both ask the model.

https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api/basic#endpoint-configuration
"""

import json
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import ConfigDict, Field, PlainValidator, Tag, WithJsonSchema

from restsource_dagster.connector.env_references import without_references
from restsource_dagster.connector.models.auth import Auth
from restsource_dagster.connector.models.body_format import BodyFormat
from restsource_dagster.connector.models.fields import (
    FileModel,
    JsonPath,
    MethodName,
    Text,
    by_kind,
    closest_kind,
    count_from_one,
    finds_one_value,
    refuse_type,
)
from restsource_dagster.connector.models.graphql import GraphQL
from restsource_dagster.connector.models.incremental_cursor import (
    END_VALUE_PLACEHOLDER,
    TOKEN_PLACEHOLDER,
    Incremental,
    IncrementalField,
    IncrementalParam,
    SyncToken,
    is_relative_text,
)
from restsource_dagster.connector.models.job import Job
from restsource_dagster.connector.models.paginators import Paginator
from restsource_dagster.connector.models.response_action import ActionName, ResponseAction
from restsource_dagster.connector.time_formats import (
    is_relative_time,
)
from restsource_dagster.connector.validation.diagnostics import FieldPath

__all__ = [
    "BIND_TYPES",
    "EACH_PREFIX",
    "BindType",
    "Endpoint",
    "EndpointDefaults",
    "Placeholder",
    "ResolveParam",
    "as_url_text",
    "bind_path",
    "placeholder_names",
]


BindType = Literal["resolve", "incremental"]
BIND_TYPES: tuple[str, ...] = get_args(BindType)


class ResolveParam(FileModel):
    """A path parameter with the value of a field of the parent's record."""

    type: Literal["resolve"] = Field(description="Always `resolve`.")
    resource: Text = Field(description="The name of the parent resource.")
    field: JsonPath = Field(
        description="JSON path of the field in the parent's record. A path with `[*]`, such as "
        "`variants[*].id`, makes a call for each value; dlt takes the first value only. Such a param is sent in "
        "the query, unless the path or the body names it: `{variant}`."
    )
    batch: Annotated[int, *count_from_one(10_000)] | None = Field(
        default=None,
        description="How many values one call takes, of several parents together. Not part of dlt's configuration.",
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
    def is_plain(self) -> bool:
        """True if it has none of the fields that dlt doesn't have, and takes no field of a parent."""
        own = (self.response, self.for_each, self.job)
        return not any(one is not None for one in own) and not self.resolve_params

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
