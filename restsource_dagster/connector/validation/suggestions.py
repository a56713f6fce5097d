"""What to write instead of a wrong field name or value: other tools' words, places, spellings."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from restsource_dagster.connector.models.auth import (
    AUTH_ALIASES,
    ApiKeyAuth,
    BearerAuth,
    HttpBasicAuth,
)
from restsource_dagster.connector.models.connector_file import Client, ConnectorFile, ResourceObject
from restsource_dagster.connector.models.endpoint import Endpoint
from restsource_dagster.connector.models.http_settings import HttpSettings
from restsource_dagster.connector.models.incremental_cursor import Incremental, SyncToken
from restsource_dagster.connector.models.oauth_logins import OAuth2ClientCredentialsAuth
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
    describe_value,
    nearest_name,
    quoted_list,
)

__all__ = [
    "PYTHON_ONLY_FIELDS",
    "Suggestion",
    "suggest_field",
    "suggest_jsonpath",
    "suggest_literal",
    "suggest_missing_field",
    "suggest_value",
]


@dataclass(frozen=True)
class Suggestion:
    """What to write. `replacement` is the name or value itself, if nothing else has to change."""

    fix: str
    replacement: Any = None

    @classmethod
    def of_name(cls, name: str) -> "Suggestion":
        """Return the suggestion to write this name for a field."""
        return cls(f"Write `{name}`", name)

    @classmethod
    def of_text(cls, text: str) -> "Suggestion":
        """Return the suggestion to write this text for a value."""
        return cls(f'Write "{text}"', text)


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
    "login": '"login" with `path` and `token_path`, and `json` or `data`',
    "digest": '"digest" with `username` and `password`',
    "hmac": '"hmac" with `secret`, `message` and `headers`',
    "aws_sigv4": '"aws_sigv4" with `access_key_id`, `secret_access_key`, `region` and `service`',
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
    "request": "endpoint",
    "sync_token_path": "token_path",
    "sync_token_param": "token_param",
    "sync_token": "token_path",
    "delta_link": "token_path",
    "delta_link_path": "token_path",
    "reset_status": "reset_on",
    "full_sync_on": "reset_on",
    "initial_params": "first_run_params first_page_params",
    "cursor": "cursor_path incremental",
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
    "method": "mode write_disposition",
    "page_size_param": "limit_param",
    "per_page_param": "limit_param",
    "size_param": "limit_param",
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
    "row_order": {
        "ascending": "asc",
        "descending": "desc",
        "increasing": "asc",
        "decreasing": "desc",
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


def suggest_field(path: FieldPath, given: Any, model: type[BaseModel] | None) -> Suggestion:
    """Return what to write for a field that `model`, the object around it, doesn't have."""
    fields = (
        {field.alias or key: field for key, field in model.model_fields.items()} if model else {}
    )
    # `x-` stands for all that start so
    known = [name for name in fields if name != "x-"]
    meant = [
        word for word in _FIELD_SYNONYMS.get(str(path[-1]).lower(), "").split() if word in known
    ]
    places = _places_of(path)
    return (
        # from what is surely meant to what is merely alike
        _suggest_other_form(path, given, known)
        # `method` of a resource is `write_disposition` if it is "merge", but not if it is "POST"
        or next((Suggestion.of_name(word) for word in meant if _accepts(fields[word], given)), None)
        or next((_in_place(path, place) for place, field in places if _accepts(field, given)), None)
        or next((Suggestion(f"Write `{word}`") for word in meant), None)
        or next((_in_place(path, place) for place, _ in places), None)
        or _suggest_nearest(str(path[-1]), {word: fields[word] for word in known}, given)
    )


def _suggest_other_form(path: FieldPath, given: Any, known: Sequence[str]) -> Suggestion | None:
    """Return the fix for an unknown field that is said in another form here, or None."""
    name = str(path[-1]).lower()
    # OAuth has them as fields of its own; dlt sends whatever stands in the token request.
    if name in ("scope", "scopes", "audience") and "access_token_request_data" in known:
        return Suggestion(f'Write "access_token_request_data": {{"{name}": ...}}')
    if path[:1] == ("resource_defaults",) and name == "backfill":
        return Suggestion(
            "Write `backfill` in each incremental resource whose past is to be loaded"
        )
    if name in _SIZE_OF_A_PAGE and "page_param" in known:
        # `page_size_param: per_page` names the param, `per_page: 100` does not
        size = given if isinstance(given, str) and len(given) < 40 else "per_page"
        return Suggestion(
            "Write the size of a page as a param of the endpoint, as the API names it: "
            f'"params": {{"{size}": 100}}'
        )
    return None


def _in_place(path: FieldPath, place: str) -> Suggestion:
    return Suggestion(f"Write `{path[-1]}` in {place}")


def _accepts(field: FieldInfo, given: Any) -> bool:
    """True if a value is a valid one of a field."""
    annotation: Any = field.annotation
    if field.metadata:
        annotation = Annotated[annotation, *field.metadata]
    try:
        TypeAdapter(annotation).validate_python(given)
    except ValidationError:
        return False
    return True


def _suggest_nearest(name: str, fields: Mapping[str, FieldInfo], given: Any) -> Suggestion:
    """Return the fix for a misspelt field: of the names that are like it the first that takes the value."""
    known = list(fields)
    close: list[str] = []
    while len(close) < 3 and (found := nearest_name(name, known)):
        close.append(found)
        known.remove(found)
    if close:
        fitting = (one for one in close if _accepts(fields[one], given))
        return Suggestion.of_name(next(fitting, close[0]))
    listing = (field for field in fields if field not in PYTHON_ONLY_FIELDS)
    return Suggestion(f"Known here: {quoted_list(listing, 'and')}")


_SIZE_OF_A_PAGE = (
    "page_size",
    "page_size_param",
    "per_page",
    "per_page_param",
    "limit",
    "limit_param",
    "size_param",
)


def _places_of(path: FieldPath) -> list[tuple[str, FieldInfo]]:
    """Return where else in the file a field of this name belongs, the nearest place first."""
    name = str(path[-1])
    # a paginator and an auth have fields of their type, and these two are everywhere
    if name in ("type", "name", "x-") or {"paginator", "auth"} & {*path[:-1]}:
        return []
    in_resource = path[0] in ("resources", "resource_defaults")
    # a field of a resource is looked for there first, as it is likely one level off
    places = (
        (*_RESOURCE_PLACES, *_FILE_PLACES) if in_resource else (*_FILE_PLACES, *_RESOURCE_PLACES)
    )
    return [
        (place, field)
        for place, models in places
        for model in models
        for key, field in model.model_fields.items()
        if name == (field.alias or key)
    ]


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


def suggest_value(path: Sequence[str | int], given: Any, expected: str = "") -> Suggestion | None:
    """Return the fix for a value of the wrong type or with an unknown name, or None."""
    field = path[-1] if path else ""
    inner = path[-2] if len(path) > 1 and field == "type" else field
    if inner == "auth":
        return _suggest_auth(given)
    if inner == "paginator" and isinstance(given, str) and given.lower() in PAGINATOR_ALIASES:
        return Suggestion.of_text(PAGINATOR_ALIASES[given.lower()])
    if field == "action" and not isinstance(given, str):
        return Suggestion('Write "ignore", "fail", "retry" or another name of an action, as text')
    if expected == "a list" and isinstance(given, dict | str) and given:
        return _suggest_list(path, given)
    if (
        expected.startswith("an object")
        and isinstance(given, str)
        and (entry := _COLONLESS.fullmatch(given))
    ):
        return Suggestion(f"Write a colon and a space after the name: `{entry['name']}: ...`")
    return _suggest_spelling(field, given) if isinstance(given, str) else None


_COLONLESS = re.compile(r"(?P<name>[a-z_]+)(?:\s+|:(?=\S))\S.*", re.DOTALL)
"""An entry of YAML without the colon, or without the space after it: then it is a text."""


def _suggest_list(path: Sequence[str | int], given: dict[str, Any] | str) -> Suggestion:
    if isinstance(given, str):
        return Suggestion(f"Put it in brackets: [{describe_value(given, path)}]", [given])
    return Suggestion("Put the object into a list: in brackets in JSON, after a dash in YAML")


def _suggest_spelling(field: str | int, given: str) -> Suggestion | None:
    if word := _VALUE_SYNONYMS.get(str(field), {}).get(given.lower()):
        if word.startswith("{"):
            return Suggestion(f"Write {word}", json.loads(word))
        # a text with quotes of its own gives a choice, so nothing can be replaced
        return Suggestion(f"Write {word}") if word.startswith('"') else Suggestion.of_text(word)
    # Longer ones fit no column of whole numbers: they are identifiers, and text is right.
    if re.fullmatch(r"-?\d{1,19}", given):
        return Suggestion(f"Leave out the quotes: {given}", int(given))
    if given.lower() in ("true", "false"):
        return Suggestion(f"Leave out the quotes: {given.lower()}", given.lower() == "true")
    return None


def suggest_literal(path: FieldPath, given: Any, names: Sequence[str]) -> Suggestion | None:
    """Return the fix for a text that is none of the names that a field may have, or None."""
    if known := suggest_value(path, given):
        return known
    close = nearest_name(given, names) if isinstance(given, str) else None
    return Suggestion.of_text(close) if close else None


def _suggest_auth(given: Any) -> Suggestion | None:
    if not isinstance(given, str):
        return None
    name = given.lower().strip()
    if name in _NO_AUTH:
        return Suggestion("Leave out `auth`: then requests are not authenticated")
    meant = AUTH_ALIASES.get(name) or (name if name in _AUTH_EXAMPLES else None)
    return Suggestion(f"Write {_AUTH_EXAMPLES[meant]}", meant) if meant else None


def suggest_jsonpath(given: Any) -> str:
    """Return what to write for a text that is no JSON path."""
    text = given if isinstance(given, str) else ""
    # what stands in quotes is a name
    outside = re.sub(r"'[^']*'|\"[^\"]*\"", "", text)
    names = text.strip("/.")
    fixes = {
        "Close the bracket: each `[` needs a `]`": outside.count("[") > outside.count("]"),
        "Leave the `]` out: nothing opens it": outside.count("]") > outside.count("["),
        "Close the bracket: each `(` needs a `)`": outside.count("(") > outside.count(")"),
        "Close the quote": "'" in outside or '"' in outside,
        f"Write names with dots between them: `{names.replace('/', '.')}`": "/" in outside,
        f"Leave out the dots at the start and the end: `{names}`": text.strip(".") != text,
    }
    other = "Put a name with spaces or other special characters in quotes: `'first name'`"
    return next((fix for fix, fits in fixes.items() if fits), other)
