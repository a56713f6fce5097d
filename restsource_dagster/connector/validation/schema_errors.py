"""Turn pydantic's errors into findings: where, what was found, what was expected, how to fix it."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError

from restsource_dagster.connector.models.auth import (
    AUTH_ALIASES,
    ApiKeyAuth,
    BearerAuth,
    HttpBasicAuth,
    OAuth2ClientCredentialsAuth,
)
from restsource_dagster.connector.models.connector_file import (
    Client,
    ConnectorFile,
    HttpSettings,
    ResourceObject,
)
from restsource_dagster.connector.models.endpoint import Endpoint
from restsource_dagster.connector.models.incremental_cursor import Incremental, SyncToken
from restsource_dagster.connector.models.paginators import (
    PAGINATOR_ALIASES,
    CursorPaginator,
    JsonLinkPaginator,
    OffsetPaginator,
    PageNumberPaginator,
)
from restsource_dagster.connector.models.schedule import IntervalSchedule
from restsource_dagster.connector.validation.diagnostics import (
    FieldPath,
    Finding,
    describe_value,
    json_pointer,
    may_be_secret,
    nearest_name,
    quoted_list,
    quoted_name,
)
from restsource_dagster.connector.validation.dlt_rules import refusal_code

__all__ = [
    "PYTHON_ONLY_FIELDS",
    "python_only_finding",
    "schema_findings",
    "suggest_field_name",
    "suggest_missing_field",
    "suggest_value",
]

_AUTH_EXAMPLES = {
    "oauth2_client_credentials": '"oauth2_client_credentials" with `access_token_url`, '
    "`client_id` and `client_secret`",
    "api_key": '"api_key" with `api_key`, `name` (of the header or parameter) and `location`',
    "http_basic": '"http_basic" with `username` and `password`',
    "bearer": '"bearer" with `token`',
    "oauth2_refresh_token": '"oauth2_refresh_token" with `access_token_url`, `client_id`, '
    "`client_secret` and `refresh_token`",
    "oauth2_password": '"oauth2_password" with `access_token_url`, `username` and `password`',
    "oauth2_jwt_bearer": '"oauth2_jwt_bearer" with `access_token_url`, `issuer` and `signing_key`',
}
# Other tools have a word for "no authentication"; here the field is left out.
_NO_AUTH = ("none", "no_auth", "noauth", "null", "anonymous", "")

# Words of HTTP and of other ingestion tools, which are too far from ours for a comparison of letters.
# Of several meanings the first that is known at the place counts.
_FIELD_SYNONYMS = {
    "type": "format",
    "charset": "encoding",
    "delimiter_char": "delimiter",
    "quotechar": "quote",
    "escapechar": "escape",
    "columns": "column_names",
    "has_header": "header",
    "skip_rows": "skip_lines",
    "na_values": "null_values",
    "header_name": "name",
    "header": "name",
    "param_name": "name",
    "in": "location",
    "value": "api_key token",
    "key": "api_key name",
    "bearer_token": "token",
    "token_url": "access_token_url",
    "token_endpoint": "access_token_url",
    "user": "username",
    "pass": "password",
    "url": "base_url path",
    "uri": "base_url path",
    "host": "base_url",
    "authentication": "auth",
    "credentials": "auth",
    "pagination": "paginator",
    "query": "params",
    "query_params": "params",
    "array_format": "params_style",
    "list_style": "params_style",
    "param_style": "params_style",
    "parameters": "params",
    "body": "json",
    "json_body": "json",
    "http_method": "method",
    "selector": "data_selector",
    "data_path": "data_selector",
    "records_path": "data_selector",
    "cursor_field": "cursor_path",
    "sync_token_path": "token_path",
    "sync_token_param": "token_param",
    "sync_token": "token_path",
    "delta_link": "token_path",
    "delta_link_path": "token_path",
    "reset_status": "reset_on",
    "full_sync_on": "reset_on",
    "initial_params": "first_run_params first_page_params",
    "cursor": "cursor_path",
    "max_results": "max_rows",
    "max_records": "max_rows",
    "result_limit": "max_rows",
    "max_result_window": "max_rows",
    "step": "window size",
    "chunk": "window",
    "window_size": "window size",
    "max_range": "window size",
    "length": "size",
    "safety_delay": "delay",
    "offset_seconds": "delay",
    "max_age": "retention",
    "lookback": "lag",
    "next_url": "next_url_path next_url_header",
    "next_header": "next_url_header",
    "next_page_header": "next_url_header",
    "link_header": "next_url_header",
    "total_pages_header": "total_header",
    "body_path": "body",
    "period": "per",
    "path_pattern": "match",
    "total_count_header": "total_header",
    "has_more": "has_more_path",
    "more_path": "has_more_path",
    "end_of_stream": "end_path",
    "end_of_stream_path": "end_path",
    "is_last_path": "end_path",
    "last_page_path": "end_path",
    "stop_on_repeat": "stop_when_repeated",
    "first_params": "first_page_params",
    "next_path": "next_url_path",
    "page_size": "limit",
    "start_value": "initial_value",
    "primary_keys": "primary_key",
    "id_field": "primary_key",
    "key_properties": "primary_key",
    "write_mode": "write_disposition",
    "disposition": "write_disposition",
    "table": "table_name",
    "defaults": "resource_defaults",
    "streams": "resources",
    "endpoints": "resources",
    "every": "interval",
    "cron": "interval",
    "timeout": "timeout_seconds",
    "from": "start",
    "since": "start",
    "to": "end",
    "until": "end",
    "window": "partition",
    "partitions": "partition",
    "granularity": "partition",
    "parallel": "max_parallel",
    "attempts": "max_attempts",
    "retries": "max_attempts",
}

_FIELD_EXAMPLES = {
    "schedule": '"schedule": {"mode": "hours", "interval": 1}, or {"mode": "manual"} for none',
    "mode": '"mode": "minutes", "hours", "days" or "manual"',
    "client": '"client": {"base_url": "https://api.example.com/v1"}',
    "base_url": '"base_url": "https://api.example.com/v1"',
    "resources": '"resources": [{"name": "orders", "endpoint": {"path": "orders"}}]',
    "name": '"name": and a name of letters, digits and underscores',
    "type": '"type"',
    "limit": '"limit": 100',
    "cursor_path": '"cursor_path": "updated_at", the field that grows',
    "field": '"field": "id"',
    "resource": '"resource": and the name of the parent',
    "disposition": '"disposition": "merge"',
    "start": '"start": "2024-01-01"',
    "partition": '"partition": "hourly", "daily", "weekly" or "monthly"',
}

_VALUE_SYNONYMS = {
    "format": {"ndjson": "jsonl", "json_lines": "jsonl", "jsonlines": "jsonl", "tsv": "csv"},
    "compression": {"gz": "gzip", "gunzip": "gzip", "null": "none"},
    "data_type": {
        "integer": "bigint",
        "int": "bigint",
        "string": "text",
        "varchar": "text",
        "float": "double",
        "number": "double",
        "boolean": "bool",
        "datetime": "timestamp",
        "object": "json",
        "numeric": "decimal",
    },
    "params_style": {
        "csv": "comma",
        "comma_separated": "comma",
        "[]": "brackets",
        "array": "brackets",
        "bracket": "brackets",
        "multi": "repeat",
        "indices": "repeat",
    },
    "partition": {"hour": "hourly", "day": "daily", "week": "weekly", "month": "monthly"},
    "write_disposition": {
        "overwrite": '"replace"',
        "full_refresh": '"replace"',
        "truncate": '"replace"',
        "incremental": '"merge" with a `primary_key`, or "append"',
        "upsert": '{"disposition": "merge", "strategy": "upsert"}',
        "scd2": '{"disposition": "merge", "strategy": "scd2"}',
    },
}

PYTHON_ONLY_FIELDS = {
    "session": "Leave it out: every request goes through the session of this project, which "
    "retries and keeps secrets out of the log",
}


def suggest_field_name(path: Sequence[str | int], known: Sequence[str]) -> str | None:
    """Return the fix for an unknown field that is another word for a field here, or None."""
    name = str(path[-1]).lower()
    # OAuth has them as fields of its own; dlt sends whatever stands in the token request.
    if name in ("scope", "scopes", "audience") and "access_token_request_data" in known:
        return f'Write "access_token_request_data": {{"{name}": ...}}'
    if path[:1] == ("resource_defaults",) and name == "backfill":
        return "Write `backfill` in each incremental resource whose past is to be loaded"
    meant = next((word for word in _FIELD_SYNONYMS.get(name, "").split() if word in known), None)
    return f"Write `{meant}`" if meant else None


def suggest_missing_field(path: Sequence[str | int]) -> str | None:
    """Return an example of a missing field, or None."""
    name = path[-1]
    if name == "type" and "params" in path[:-1]:
        return (
            'Write a nested parameter flat, as the API spells it: "filter[status]": "open". '
            'Objects are {"type": "resolve", ...} and {"type": "incremental", ...} only'
        )
    example = _FIELD_EXAMPLES.get(str(name))
    return f"Add {example}" if example else None


def suggest_value(path: Sequence[str | int], given: Any) -> str | None:
    """Return the fix for a value of the wrong type or with an unknown name, or None."""
    field = path[-1] if path else ""
    inner = path[-2] if len(path) > 1 and field == "type" else field
    if inner == "auth":
        return _suggest_auth(given)
    if inner == "paginator" and isinstance(given, str) and given.lower() in PAGINATOR_ALIASES:
        return f'Write "{PAGINATOR_ALIASES[given.lower()]}"'
    if field == "action" and not isinstance(given, str):
        return 'Write "ignore", the only action that a file can ask for'
    return _suggest_spelling(field, given) if isinstance(given, str) else None


def _suggest_spelling(field: str | int, given: str) -> str | None:
    if word := _VALUE_SYNONYMS.get(str(field), {}).get(given.lower()):
        return f"Write {word}" if word.startswith(('"', "{")) else f'Write "{word}"'
    # Longer ones fit no column of whole numbers: they are identifiers, and text is right.
    if re.fullmatch(r"-?\d{1,19}", given):
        return f"Leave out the quotes: {given}"
    return None


def python_only_finding(path: tuple[str | int, ...], given: Any) -> Finding:
    """Return the finding for a field that takes Python objects, which a file can't contain."""
    field = next((str(step) for step in reversed(path) if step in PYTHON_ONLY_FIELDS), "session")
    return Finding(
        json_pointer(path),
        f"{quoted_name(field)} takes Python objects only, and a file has none",
        describe_value(given, path),
        fix=PYTHON_ONLY_FIELDS[field],
    )


def _suggest_auth(given: Any) -> str | None:
    if not isinstance(given, str):
        return None
    name = given.lower().strip()
    if name in _NO_AUTH:
        return "Leave out `auth`: then requests are not authenticated"
    meant = AUTH_ALIASES.get(name) or (name if name in _AUTH_EXAMPLES else None)
    return f"Write {_AUTH_EXAMPLES[meant]}" if meant else None


_EXPECTED_BY_ERROR_TYPE = {
    "string_type": "text",
    "bool_type": "true or false",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dict_type": "an object",
    "list_type": "a list",
    "too_short": "at least one",
    "string_too_short": "at least one character",
}
_PROBLEMS = {
    "not_valid": "is not valid",
    "too_short": "is empty",
    "string_too_short": "is empty",
}
"""What is wrong with a value, by the type of the error; else it has the wrong type."""


def schema_findings(model: type[BaseModel], error: ValidationError, value: Any) -> list[Finding]:
    """Return the findings for everything that pydantic refused in `value`."""
    # pydantic's links lead to its own documentation, which says nothing about connector files.
    return [_finding(model, item, value) for item in error.errors(include_url=False)]


def _finding(model: type[BaseModel], error: Mapping[str, Any], value: Any) -> Finding:
    path = _path_in_file(error["loc"], value)
    kind = error["type"]
    code = refusal_code(path, error["loc"], kind, error["input"])
    return replace(_finding_by_error_type(model, error, value, path), code=code)


def _finding_by_error_type(
    model: type[BaseModel], error: Mapping[str, Any], value: Any, path: FieldPath
) -> Finding:
    kind, given = error["type"], error["input"]
    if kind == "rule":
        return _broken_rule(error["ctx"], path, value)
    # Functions, because each reads what only an error of its own type has.
    by_kind: dict[str, Callable[[], Finding]] = {
        "extra_forbidden": lambda: _unknown_field(model, error["loc"], path),
        "missing": lambda: _missing_field(path),
        "literal_error": lambda: _unknown_literal(model, error, path),
        "python_only": lambda: python_only_finding(path, given),
        "jsonpath": lambda: _no_jsonpath(path, given),
        "path_of_many": lambda: _path_of_many(path, given),
        "jq": lambda: _no_jq(path, given, error["ctx"]["problem"]),
        "explained": lambda: Finding(
            json_pointer(path),
            error["ctx"]["text"],
            describe_value(given, path),
            fix=error["ctx"]["fix"],
        ),
    }
    return by_kind[kind]() if kind in by_kind else _wrong_value(error, path)


def _broken_rule(context: Mapping[str, str], path: FieldPath, value: Any) -> Finding:
    at = (*path, context["field"]) if context["field"] else path
    found = _describe_found(value, at) if context["field"] else None
    return Finding(json_pointer(at), context["text"], found)


def _wrong_value(error: Mapping[str, Any], path: FieldPath) -> Finding:
    kind = error["type"]
    expected = error.get("ctx", {}).get("expected") or _EXPECTED_BY_ERROR_TYPE.get(
        kind, error["msg"]
    )
    return Finding(
        json_pointer(path),
        f"{_subject(path)} {_PROBLEMS.get(kind, 'is of the wrong type')}",
        describe_value(error["input"], path),
        expected,
        suggest_value(path, error["input"]),
    )


def _unknown_field(model: type[BaseModel], loc: Sequence[str | int], path: FieldPath) -> Finding:
    known = _field_names(model, loc[:-1])
    name = str(path[-1])
    if "token_path" in known and name in Incremental.model_fields:
        return _beside_token(path)
    fix = suggest_field_name(path, known) or _suggest_place(path)
    if fix is None:
        close = nearest_name(name, known)
        listing = (field for field in known if field not in PYTHON_ONLY_FIELDS)
        fix = f"Write `{close}`" if close else f"Known here: {quoted_list(listing, 'and')}"
    return Finding(
        json_pointer(path), f"There is no field {quoted_name(name)} here", fix=fix, on_key=True
    )


def _beside_token(path: FieldPath) -> Finding:
    """Return the finding for a field of a cursor beside those of a token."""
    name = str(path[-1])
    return Finding(
        json_pointer(path),
        f"{quoted_name(name)} needs a cursor, and this is a token in its place: it has no order, and nothing "
        "can be added to it or taken off it",
        fix=f"Leave `{name}` out; or use the cursor alone, without the fields of the token",
        on_key=True,
    )


def _suggest_place(path: FieldPath) -> str | None:
    """Return the fix for a field that belongs elsewhere in the file, or None."""
    name = str(path[-1])
    # a paginator and an auth have fields of their type, and these two are everywhere
    if name in ("type", "name", "x-") or {"paginator", "auth"} & {*path[:-1]}:
        return None
    in_resource = path[0] in ("resources", "resource_defaults")
    places = (
        (*_RESOURCE_PLACES, *_FILE_PLACES) if in_resource else (*_FILE_PLACES, *_RESOURCE_PLACES)
    )
    for place, models in places:
        if any(
            name == (field.alias or key)
            for model in models
            for key, field in model.model_fields.items()
        ):
            return f"Write `{name}` in {place}"
    return None


_Place = tuple[str, tuple[type[BaseModel], ...]]
_FILE_PLACES: tuple[_Place, ...] = (
    ("the file itself, beside `client`", (ConnectorFile,)),
    ("`client`", (Client,)),
    ("`http`", (HttpSettings,)),
    ("`schedule`", (IntervalSchedule,)),
)
_RESOURCE_PLACES: tuple[_Place, ...] = (
    ("the resource's `endpoint`", (Endpoint,)),
    ("the resource", (ResourceObject,)),
    ("the `incremental` of an `endpoint`", (Incremental, SyncToken)),
    ("the `paginator`", (OffsetPaginator, PageNumberPaginator, CursorPaginator, JsonLinkPaginator)),
    ("the `auth`", (BearerAuth, ApiKeyAuth, HttpBasicAuth, OAuth2ClientCredentialsAuth)),
)
"""Where fields belong, and the models that have them."""


def _missing_field(path: FieldPath) -> Finding:
    where = f" in {_subject(path[:-1])}" if len(path) > 1 else ""
    fix = suggest_missing_field(path)
    return Finding(json_pointer(path[:-1]), f"`{path[-1]}` is missing{where}", fix=fix)


def _unknown_literal(model: type[BaseModel], error: Mapping[str, Any], path: FieldPath) -> Finding:
    names = _allowed_names(model, error)
    given = error["input"]
    fix = suggest_value(path, given)
    # A word with a known correction, such as a type of auth, is shown: it is no secret.
    hidden = may_be_secret(path) and fix is None
    if fix is None and isinstance(given, str) and (close := nearest_name(given, names)):
        fix = f'Write "{close}"'
    return Finding(
        json_pointer(path),
        f"{_subject(path)} is none of the names it may be",
        describe_value(given, path if hidden else ()),
        quoted_list(names),
        fix,
    )


def _no_jsonpath(path: FieldPath, given: Any) -> Finding:
    return Finding(
        json_pointer(path),
        f"{_subject(path)} is not a JSON path that dlt can read",
        describe_value(given, path),
        "a path such as `data.items` or `$.items[*]`",
        "Put a name with spaces or other special characters in quotes: `'first name'`",
    )


def _path_of_many(path: FieldPath, given: Any) -> Finding:
    return Finding(
        json_pointer(path),
        f"{_subject(path)} can match several values of a record, and one is needed",
        describe_value(given, path),
        "a path without `[*]`, `..`, slices and filters",
        'Write the path of one value, such as `items[0].id`; or set "data_selector" to the list, '
        "so that each of its items is a record",
    )


def _no_jq(path: FieldPath, given: Any, problem: str) -> Finding:
    return Finding(
        json_pointer(path),
        f"{_subject(path)} is not a jq program: {problem}",
        describe_value(given, path),
        'a program that gets one record, such as `.status == "open"`',
        "See https://jqlang.org/manual/",
    )


def _subject(path: FieldPath) -> str:
    """Return the last name of a path, with the indices after it: `auth`, `owners[0]`."""
    text = ""
    for step in reversed(path):
        text = f"[{step}]{text}" if isinstance(step, int) else f"{step}{text}"
        if isinstance(step, str):
            break
    return quoted_name(text) if path else "The file"


def _describe_found(value: Any, path: FieldPath) -> str | None:
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return describe_value(value, path)


def _path_in_file(loc: Sequence[str | int], value: Any) -> FieldPath:
    """Return pydantic's location without what is not in the file, such as the tags of unions."""
    path: list[str | int] = []
    for step in loc:
        is_field = isinstance(value, dict) and step in value
        # pydantic's own words for a tag, and for the key of an object
        is_tag = isinstance(step, str) and (step.startswith("#") or step == "[key]")
        if is_tag and not is_field:
            continue
        path.append(step)
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            value = None
    return tuple(path)


def _allowed_names(model: type[BaseModel], error: Mapping[str, Any]) -> list[str]:
    """Return the names that a literal may be; for the tag of a union, those of all its members."""
    loc = error["loc"]
    if len(loc) > 1 and isinstance(loc[-2], str) and loc[-2].startswith("#"):
        siblings = [
            _annotation_of_field(member, loc[-1])
            for member in _union_members(_annotation_at(model, loc[:-2]))
        ]
        return list(dict.fromkeys(name for item in siblings for name in _literal_values(item)))
    return list(_literal_values(_annotation_at(model, loc)))


def _literal_values(annotation: Any) -> Iterator[str]:
    for item in get_args(annotation):
        if isinstance(item, str):
            yield item
        else:
            yield from _literal_values(item)


def _field_names(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    target = _without_annotated(_without_none(_annotation_at(model, loc)))
    if not (isinstance(target, type) and issubclass(target, BaseModel)):
        return []
    names = (field.alias or name for name, field in target.model_fields.items())
    return [name for name in names if name != "x-"]  # stands for all that start so


def _annotation_at(model: type[BaseModel], loc: Sequence[str | int]) -> Any:
    """Return the type that the models have at a location."""
    current: Any = model
    for step in loc:
        current = _annotation_below(_without_none(current), step)
    return current


def _annotation_below(current: Any, step: str | int) -> Any:
    if isinstance(step, str) and step.startswith("#"):
        for member in _union_members(current):
            if Tag(step) in getattr(member, "__metadata__", ()):
                return member
    plain = _without_annotated(current)
    origin = get_origin(plain)
    if origin in (list, dict):
        return get_args(plain)[-1]
    return _annotation_of_field(plain, step)


def _annotation_of_field(annotation: Any, name: str | int) -> Any:
    plain = _without_annotated(annotation)
    if not (isinstance(plain, type) and issubclass(plain, BaseModel)):
        return None
    for key, field in plain.model_fields.items():
        if name in (key, field.alias):
            inner = field.annotation
            return Annotated[inner, *field.metadata] if field.metadata else inner
    return None


def _union_members(annotation: Any) -> tuple[Any, ...]:
    plain = _without_annotated(_without_none(annotation))
    return get_args(plain) if get_origin(plain) in (Union, UnionType) else ()


def _without_none(annotation: Any) -> Any:
    plain = _without_annotated(annotation)
    if get_origin(plain) not in (Union, UnionType):
        return annotation
    others = [item for item in get_args(plain) if item is not NoneType]
    return others[0] if len(others) == 1 else annotation


def _without_annotated(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation
