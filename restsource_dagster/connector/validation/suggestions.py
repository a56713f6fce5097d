"""Suggestions for the most frequent mistakes of people and programs."""

import re
from collections.abc import Sequence
from typing import Any

from restsource_dagster.connector.models.auth import AUTH_ALIASES
from restsource_dagster.connector.models.paginators import PAGINATOR_ALIASES
from restsource_dagster.connector.validation.diagnostics import (
    Finding,
    describe_value,
    json_pointer,
    quoted_name,
)

__all__ = [
    "PYTHON_ONLY_FIELDS",
    "python_only_finding",
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
}
_NO_AUTH = ("none", "no_auth", "noauth", "null", "anonymous", "")
_JWT_AUTH = ("jwt", "oauth_jwt", "oauthjwt", "service_account")

_FIELD_SYNONYMS = {
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
    "parameters": "params",
    "body": "json",
    "json_body": "json",
    "http_method": "method",
    "selector": "data_selector",
    "data_path": "data_selector",
    "records_path": "data_selector",
    "cursor_field": "cursor_path",
    "cursor": "cursor_path",
    "next_url": "next_url_path",
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
    "convert": "Leave it out: there is no way yet to convert a cursor in a file. Choose an "
    "`initial_value` in the API's own format",
    "processing_steps": "Leave it out: there is no way yet to filter or change rows in a file. "
    "Filter with `params`, or in the warehouse",
}


def suggest_field_name(path: Sequence[str | int], known: Sequence[str]) -> str | None:
    """Return the fix for an unknown field that is another word for a field here, or None."""
    name = str(path[-1]).lower()
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
    if field == "method" and given.upper() in ("GET", "POST"):
        return f'Write "{given.upper()}"'
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
    if name in _JWT_AUTH:
        return (
            "JSON web tokens are not supported yet; if the API takes a long-lived token, write "
            f"{_AUTH_EXAMPLES['bearer']}"
        )
    meant = AUTH_ALIASES.get(name) or (name if name in _AUTH_EXAMPLES else None)
    return f"Write {_AUTH_EXAMPLES[meant]}" if meant else None
