"""A short hash of all that decides the rows of a resource's windows.

When it changes, the windows that were loaded before hold something else than they would now, so
they are due again. What counts, for the resource and for all that depend on it:

- where and how it is asked: `base_url`, path, method, params, JSON and form bodies, headers, the
  paginator (but not the size of a page), `data_selector`, `response_actions`;
- the cursor: `cursor_path`, the form of `initial_value` (not the value), `start_param`,
  `end_param`, `last_value_func`, `on_cursor_value_missing`;
- what becomes of the rows: table, keys, write disposition, `columns`, `nested_hints`,
  `max_table_nesting`, `schema_contract`, `include_from_parent`, `selected`;
- the length of its windows (`partition`), as the first day of a month and the month itself have
  one partition key.

What does not: the spelling and order of the file, whether something stands in the resource or in
`resource_defaults`, texts for people, `schedule`, `http`, `auth` and whatever else is named like a
credential, the other numbers of `backfill`, `lag`, `row_order`, `range_start` and `range_end`
(not applied in windows), and how the load files are written.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from restsource_dagster.config.cursor_values import CursorValueError, PlainText, format_of
from restsource_dagster.config.dispositions import cursor_of
from restsource_dagster.config.drafts import Draft
from restsource_dagster.config.resources import Resource

__all__ = ["definition_keys"]

_LENGTH = 16
_EXAMPLE = datetime(2024, 1, 31, 13, 45, 30, 123_456, tzinfo=UTC)
_CREDENTIAL = re.compile(
    r"token|secret|passw|api[-_]?key|authorization|cookie|credential|signature", re.IGNORECASE
)
_PAGE_SIZES = {
    *("limit", "_limit", "page[limit]", "per_page", "perpage", "page_size", "pagesize"),
    *("page[size]", "size", "_size", "count", "max_results", "maxresults", "top", "$top"),
}
_CURSOR = ("cursor_path", "start_param", "end_param")
_ENDPOINT = ("path", "json", "data", "data_selector", "response_actions")
_HINTS = ("nested_hints", "schema_contract")
_NOT_IN_COLUMNS = ("name", "description", "primary_key", "merge_key")
"""The name is the object's key, the keys are told apart from the columns."""


def definition_keys(
    drafts: Sequence[Draft], resources: Sequence[Resource], client: Mapping[str, Any]
) -> dict[str, str]:
    """The key of each resource by its name: 16 hexadecimal digits."""
    by_name = {draft.name: draft for draft in drafts}
    own = {
        resource.name: _text(_definition(by_name[resource.name], resource, client))
        for resource in resources
    }
    children: dict[str, list[str]] = {}
    for resource in resources:
        if resource.parent is not None:
            children.setdefault(resource.parent, []).append(resource.name)
    return {name: _hash([text, *_below(name, children, own)]) for name, text in own.items()}


def _below(name: str, children: Mapping[str, list[str]], own: Mapping[str, str]) -> list[str]:
    """What defines the dependents of a resource, at any depth, in an order of its own."""
    seen: set[str] = {name}
    queue = [name]
    while queue:
        for child in children.get(queue.pop(), ()):
            if child not in seen:
                seen.add(child)
                queue.append(child)
    return sorted(own[member] for member in seen - {name})


def _definition(draft: Draft, resource: Resource, client: Mapping[str, Any]) -> dict[str, Any]:
    endpoint = draft.endpoint
    paginator = endpoint.get("paginator") or client.get("paginator")
    return {
        "url": client.get("base_url"),
        "method": resource.method,
        **{name: endpoint.get(name) for name in _ENDPOINT},
        "params": _params(endpoint.get("params") or {}, paginator),
        "headers": _headers({**(client.get("headers") or {}), **(endpoint.get("headers") or {})}),
        "paginator": _paginator(paginator),
        "cursor": _cursor(draft, resource),
        "table": resource.table,
        "parent": resource.parent,
        "keys": [sorted(resource.primary_key), sorted(resource.merge_key)],
        "disposition": _disposition(draft, resource),
        "columns": _columns(draft.resource.get("columns") or {}),
        **{name: draft.resource.get(name) for name in _HINTS},
        "max_table_nesting": resource.max_table_nesting,
        "include_from_parent": sorted(draft.resource.get("include_from_parent") or ()),
        "not_selected": not resource.selected,
        "partition": (draft.resource.get("backfill") or {}).get("partition"),
    }


def _params(params: Mapping[str, Any], paginator: Any) -> dict[str, Any]:
    kind = paginator.get("type") if isinstance(paginator, dict) else paginator
    sizes = set[str]() if kind == "single_page" else _PAGE_SIZES
    return {
        name: "incremental" if _is_incremental(value) else value
        for name, value in params.items()
        if name.lower() not in sizes and not _CREDENTIAL.search(name)
    }


def _is_incremental(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") == "incremental"


def _headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.lower(): value
        for name, value in headers.items()
        if name.lower() != "user-agent" and not _CREDENTIAL.search(name)
    }


def _paginator(paginator: Any) -> Any:
    if isinstance(paginator, str):
        return {"type": paginator}
    if not isinstance(paginator, dict):
        return None
    return {name: value for name, value in paginator.items() if name != "limit"}


def _cursor(draft: Draft, resource: Resource) -> dict[str, Any] | None:
    given = cursor_of(draft)
    if resource.incremental is None:
        return None
    return {
        **{name: given.get(name) for name in _CURSOR},
        "function": given.get("last_value_func") or "max",
        "missing": given.get("on_cursor_value_missing") or "raise",
        "form": _form(given.get("initial_value")),
    }


def _form(sample: Any) -> str | None:
    """How the API spells a cursor, by an example that is the same for all samples."""
    try:
        form = format_of(sample)
    except CursorValueError:
        return None
    if form.is_time:
        return repr(form.render(_EXAMPLE))
    return "text" if isinstance(form, PlainText) else "number"


def _disposition(draft: Draft, resource: Resource) -> dict[str, Any]:
    given = draft.resource.get("write_disposition")
    options = given if isinstance(given, dict) else {}
    value = resource.disposition.value
    strategy = resource.disposition.strategy or ("delete-insert" if value == "merge" else None)
    return {**options, "disposition": value, "strategy": strategy}


def _columns(columns: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    told = {
        name: {key: value for key, value in column.items() if key not in _NOT_IN_COLUMNS}
        for name, column in columns.items()
    }
    return _without_empty({name: _without_empty(column) for name, column in told.items()})


def _without_empty(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields without those that mean as much as being left out."""
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}


def _text(definition: Mapping[str, Any]) -> str:
    fields = _without_empty(definition)
    try:
        return json.dumps(fields, sort_keys=True)
    except ValueError:  # Python doesn't write whole numbers of thousands of digits
        return json.dumps(_in_hexadecimal(fields), sort_keys=True)


def _in_hexadecimal(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _in_hexadecimal(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_in_hexadecimal(item) for item in value]
    return hex(value) if isinstance(value, int) else value


def _hash(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:_LENGTH]
