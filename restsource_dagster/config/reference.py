"""`docs/reference.md`: what a connector file may hold, written from the schema."""

import json
from collections.abc import Iterator
from typing import Any

from restsource_dagster.config.deliberate import REFUSALS
from restsource_dagster.config.json_schema import connector_schema
from restsource_dagster.config.reference_texts import INTRODUCTION, RULES

__all__ = ["reference_markdown"]

_HEADINGS = {
    "Connector": "The file",
    "ManualSchedule": "Schedule: manual",
    "IntervalSchedule": "Schedule: minutes, hours, days",
    "HttpSettings": "HTTP settings",
    "BearerAuth": "Auth: bearer",
    "ApiKeyAuth": "Auth: api_key",
    "HttpBasicAuth": "Auth: http_basic",
    "OAuth2ClientCredentialsAuth": "Auth: oauth2_client_credentials",
    "JsonLinkPaginator": "Paginator: json_link",
    "HeaderLinkPaginator": "Paginator: header_link",
    "HeaderCursorPaginator": "Paginator: header_cursor",
    "CursorPaginator": "Paginator: cursor",
    "PageNumberPaginator": "Paginator: page_number",
    "OffsetPaginator": "Paginator: offset",
    "SinglePagePaginator": "Paginator: single_page",
    "AutoPaginator": "Paginator: auto",
    "ResourceDefaults": "Resource defaults",
    "ResourceObject": "Resource",
    "EndpointDefaults": "Endpoint (in resource defaults)",
    "ResponseAction": "Response action",
    "EndpointIncremental": "Incremental cursor",
    "IncrementalParam": "Param: incremental",
    "ResolveParam": "Param: resolve",
    "PlainDisposition": "Write disposition",
    "DeleteInsert": "Merge: delete-insert",
    "Upsert": "Merge: upsert",
    "InsertOnly": "Merge: insert-only",
    "Scd2": "Merge: scd2",
    "Cdc": "Merge: cdc",
    "NamedColumn": "Column in a list",
    "BackfillBlock": "Backfill",
    "ContractByEntity": "Schema contract",
    "TableReference": "Table reference",
    "NestedHints": "Hints for a nested table",
}
_FORMATS = {"json-path": "JSON path", "date": "date", "date-time": "time"}
_TYPES = {"string": "text", "integer": "whole number", "boolean": "true or false", "null": ""}
_SAME = {"EndpointDefaults": "Endpoint", "NamedColumn": "Column"}
"""Objects with the fields of another one: not repeated."""


def reference_markdown() -> str:
    """The whole page."""
    schema = connector_schema()
    parts = {"Connector": schema, **schema["$defs"]}
    sections = [_section(name, parts) for name in _order(parts) if name not in _SAME]
    rows = [f"| `{code}` | {_cell(reason)} |" for code, reason in sorted(REFUSALS.items())]
    return "\n".join([INTRODUCTION, *sections, RULES + "\n".join(rows), ""])


def _order(parts: dict[str, Any]) -> list[str]:
    """The objects in the order in which a reader meets them."""
    seen: list[str] = []
    queue = ["Connector"]
    while queue:
        name = queue.pop(0)
        if name not in seen:
            seen.append(name)
            inner = [item for field in parts[name]["properties"].values() for item in _refs(field)]
            queue = [*inner, *queue]
    return seen


def _refs(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"].rsplit("/", 1)[-1]
        for value in node.values():
            yield from _refs(value)
    elif isinstance(node, list):
        for item in node:
            yield from _refs(item)


def _section(name: str, parts: dict[str, Any]) -> str:
    part = parts[name]
    required = part.get("required", [])
    rows = [
        f"| `{field}` | {_words(about)} | {_default(field, about, required)} "
        f"| {_cell(about.get('description') or _about(about, parts))} |"
        for field, about in sorted(part["properties"].items(), key=lambda f: f[0] not in required)
        if not about.get("description", "").startswith("Python only")
    ]
    head = "| field | what | default | |\n|---|---|---|---|"
    return f"## {_heading(name)}\n\n{part['description']}\n\n{head}\n" + "\n".join(rows) + "\n"


def _about(field: dict[str, Any], parts: dict[str, Any]) -> str:
    return next((parts[name]["description"] for name in _refs(field)), "")


def _default(field: str, about: dict[str, Any], required: list[str]) -> str:
    if field in required:
        return "required"
    default = about.get("default")
    if default in (None, "", [], {}) or isinstance(default, dict):
        return ""
    return f"`{json.dumps(default)}`"


def _words(node: Any) -> str:
    """What a value may be, in words and links."""
    if not isinstance(node, dict):
        return "anything"
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        name = _SAME.get(name, name)
        return f"[{_heading(name)}](#{_anchor(name)})"
    if "const" in node or "enum" in node:
        return ", ".join(f"`{value}`" for value in node.get("enum", [node.get("const")]))
    if "anyOf" in node:
        words = [_words(item) for item in node["anyOf"]]
        return ", ".join(dict.fromkeys(word for word in words if word))
    return _simple(node)


def _simple(node: dict[str, Any]) -> str:
    kind = node.get("type", "anything")
    if kind in ("array", "object"):
        inner = _words(node.get("items" if kind == "array" else "additionalProperties", {}))
        container = "list" if kind == "array" else "object"
        return f"{container} of {inner}" if inner != "anything" else container
    if isinstance(kind, list):
        return "a value"
    return _FORMATS.get(node.get("format", "")) or _TYPES.get(kind, kind)


def _heading(name: str) -> str:
    return _HEADINGS.get(name, name)


def _anchor(name: str) -> str:
    kept = "".join(c for c in _heading(name).lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|")
