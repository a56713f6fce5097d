"""Writes what is made from the models: `python -m restsource_dagster.connector.reference_docs`.

What `docs/reference.md` says before and after the tables that are made from the models.

`docs/reference.md`: what a connector file may hold, written from the schema.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from restsource_dagster.connector.json_schema import connector_schema
from restsource_dagster.connector.validation.dlt_rules import REFUSALS

__all__ = [
    "GENERATED_FILES",
    "REFERENCE_INTRODUCTION",
    "REFERENCE_RULES",
    "file_reference_markdown",
    "write_generated_files",
]

REFERENCE_INTRODUCTION = """\
# Connector files

<!-- Written by `python -m restsource_dagster.connector.reference_docs`; edit the models instead. -->

A connector file is one JSON object (or the same in YAML) in the folder `configs/`. Its `client`,
`resource_defaults` and `resources` are the configuration of dlt's
[REST API source](https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api/basic), so what
dlt's documentation shows can be pasted in. `restsource check` says what is wrong with a file, and
where.

```json
{
  "schedule": {"mode": "minutes", "interval": 10},
  "client": {
    "base_url": "https://api.example.com/v1",
    "auth": {"type": "bearer", "token": "${SHOP_TOKEN}"},
    "paginator": {"type": "json_link", "next_url_path": "paging.next"}
  },
  "resources": [
    {
      "name": "orders",
      "primary_key": "id",
      "endpoint": {
        "path": "orders",
        "data_selector": "data",
        "params": {"updated_since": "{incremental.start_value}"},
        "incremental": {"cursor_path": "updated_at", "initial_value": "1970-01-01T00:00:00Z"}
      }
    },
    "countries"
  ]
}
```

In VS Code, `"$schema": "../schema/connector.schema.json"` in the file gives completion and these
texts on hovering.
"""
"""The start of the page."""

REFERENCE_RULES = """\
## Secrets and other references

`${NAME}` in any text is the environment variable `NAME`, read when a run starts. Several may
stand in one text. `$${` is a literal `${`. dlt's own placeholders, `{resources...}` and
`{incremental...}`, have no `$`. A name is letters, digits and underscores.

A secret that is left out is looked up where dlt looks: `sources.<connector>.credentials` in
secrets.toml, its environment variables and its vaults. A secret that stands in the file works, with a warning.

## What happens to the rows that are there already

`write_disposition` as given, in the resource or in the defaults. Left out, it is

| when | write disposition |
|---|---|
| the resource has a primary key | `merge` |
| it has none, and it or one of its parents is incremental | `append` |
| neither | `replace` |

`restsource check` shows which it is, and why. A primary key may be given as `primary_key` or as
`"primary_key": true` of columns.

## History

With `backfill`, an incremental resource loads its history in windows beside the live stream:

```json
"backfill": {"start": "2024-01-01", "partition": "monthly"}
```

A window is a stretch of the cursor in UTC: from its start up to, but without, its end, which is the
start of the next one. Hours, days, months and weeks (which start on Monday) are those of the
calendar, so `start` and `end` must be moments at which one begins; others are refused, with the two
nearest that would do. `range_start`, `range_end` and `lag` are for the live stream and are not
applied where windows meet.

The live stream starts with the window in which the connector was created, and the history is what
lies before it. So each row lies in one window or in the live stream; rows without a cursor belong to
the live stream.

The ends of a window are written as the API spells its cursor, in the form of `initial_value`: a
date, a time with or without fraction and zone, seconds or milliseconds since 1970. Rows are compared
with them as points in time, however they are spelt. A time without a zone is UTC.

A window is due until it is loaded, and again when what decides its rows changes:

| counts | doesn't count |
|---|---|
| `base_url`, `path`, `method`, `params`, `json`, `data`, `headers`, `data_selector`, `response_actions` | `auth`; params and headers named like a credential; `User-Agent` |
| the paginator | the size of a page: its `limit`, params such as `per_page` (they count with `single_page`) |
| `cursor_path`, the form of `initial_value`, `start_param`, `end_param`, `last_value_func`, `on_cursor_value_missing` | the value of `initial_value`, `lag`, `row_order`, `range_start`, `range_end` |
| the table, its keys and write disposition, `columns`, `nested_hints`, `max_table_nesting`, `schema_contract`, `include_from_parent`, `selected` | descriptions, `references`, `table_format`, `file_format`, `parallelized` |
| `partition` of the block | its other fields (an earlier `start` adds windows) |
| the same of all resources that depend on it | their order, and whether a field stands in `resource_defaults` |

Loading a window again must leave each row there once, so `backfill` needs rows that are merged by a
`primary_key`, or rows that are appended whose cursor is a column: those between the ends of the
window are replaced. Resources that depend on one with `backfill` come with its windows, and need a
`primary_key`. An API that returns several versions of a row, each with a cursor of its own, is not
for `merge` here: the newest window is loaded first, and older versions would come after newer ones.

For other cursors, such as ids that count up, there is `restsource backfill`, which takes any range.

## Warnings

A warning doesn't keep a connector from running: a secret in the file; `true` for a number;
`<id>` or `:id` in a path, which is sent as it stands; a response action that dlt doesn't know; a
status code in quotes; `replace` of an incremental resource; `endpoint.incremental` beside an
incremental param.

## What only Python can say

`session`, `convert`, `processing_steps`, custom `auth` and `paginator` classes, functions as
`last_value_func`, hints or response actions, and ready-made dlt resources are Python objects. A
file can't hold them, and the message for each says what to do instead.

## Where this differs from dlt

What stock dlt takes or refuses, a connector file takes or refuses, too, with these exceptions:
dlt accepts them when it builds the source, and they fail later or do something else than they
say.

| refused | why |
|---|---|
"""
"""The end of the page; the rows of its last table follow."""

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
_FORMAT_WORDS = {"json-path": "JSON path", "date": "date", "date-time": "time"}
_TYPE_WORDS = {"string": "text", "integer": "whole number", "boolean": "true or false", "null": ""}
_SAME_FIELDS_AS = {"EndpointDefaults": "Endpoint", "NamedColumn": "Column"}
"""Objects with the fields of another one: not repeated."""


def file_reference_markdown() -> str:
    """The whole page."""
    schema = connector_schema()
    parts = {"Connector": schema, **schema["$defs"]}
    sections = [
        _model_section(name, parts)
        for name in _models_in_reading_order(parts)
        if name not in _SAME_FIELDS_AS
    ]
    rows = [f"| `{code}` | {_cell(reason)} |" for code, reason in sorted(REFUSALS.items())]
    return "\n".join([REFERENCE_INTRODUCTION, *sections, REFERENCE_RULES + "\n".join(rows), ""])


def _models_in_reading_order(parts: dict[str, Any]) -> list[str]:
    """The objects in the order in which a reader meets them."""
    seen: list[str] = []
    queue = ["Connector"]
    while queue:
        name = queue.pop(0)
        if name not in seen:
            seen.append(name)
            inner = [
                item
                for field in parts[name]["properties"].values()
                for item in _referenced_models(field)
            ]
            queue = [*inner, *queue]
    return seen


def _referenced_models(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"].rsplit("/", 1)[-1]
        for value in node.values():
            yield from _referenced_models(value)
    elif isinstance(node, list):
        for item in node:
            yield from _referenced_models(item)


def _model_section(name: str, parts: dict[str, Any]) -> str:
    part = parts[name]
    required = part.get("required", [])
    rows = [
        f"| `{field}` | {_type_words(about)} | {_default_cell(field, about, required)} "
        f"| {_cell(about.get('description') or _referenced_description(about, parts))} |"
        for field, about in sorted(part["properties"].items(), key=lambda f: f[0] not in required)
        if not about.get("description", "").startswith("Python only")
    ]
    head = "| field | what | default | |\n|---|---|---|---|"
    return f"## {_heading(name)}\n\n{part['description']}\n\n{head}\n" + "\n".join(rows) + "\n"


def _referenced_description(field: dict[str, Any], parts: dict[str, Any]) -> str:
    return next((parts[name]["description"] for name in _referenced_models(field)), "")


def _default_cell(field: str, about: dict[str, Any], required: list[str]) -> str:
    if field in required:
        return "required"
    default = about.get("default")
    if default in (None, "", [], {}) or isinstance(default, dict):
        return ""
    return f"`{json.dumps(default)}`"


def _type_words(node: Any) -> str:
    """What a value may be, in words and links."""
    if not isinstance(node, dict):
        return "anything"
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        name = _SAME_FIELDS_AS.get(name, name)
        return f"[{_heading(name)}](#{_anchor(name)})"
    if "const" in node or "enum" in node:
        return ", ".join(f"`{value}`" for value in node.get("enum", [node.get("const")]))
    if "anyOf" in node:
        words = [_type_words(item) for item in node["anyOf"]]
        return ", ".join(dict.fromkeys(word for word in words if word))
    return _simple_type_words(node)


def _simple_type_words(node: dict[str, Any]) -> str:
    kind = node.get("type", "anything")
    if kind in ("array", "object"):
        inner = _type_words(node.get("items" if kind == "array" else "additionalProperties", {}))
        container = "list" if kind == "array" else "object"
        return f"{container} of {inner}" if inner != "anything" else container
    if isinstance(kind, list):
        return "a value"
    return _FORMAT_WORDS.get(node.get("format", "")) or _TYPE_WORDS.get(kind, kind)


def _heading(name: str) -> str:
    return _HEADINGS.get(name, name)


def _anchor(name: str) -> str:
    kept = "".join(c for c in _heading(name).lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|")


def _schema_text() -> str:
    return json.dumps(connector_schema(), indent=2) + "\n"


GENERATED_FILES = {
    Path("schema/connector.schema.json"): _schema_text,
    Path("docs/reference.md"): file_reference_markdown,
}
"""Each generated file, from the root of the repository, and what makes its text."""


def write_generated_files() -> None:
    """Rewrites the generated files of the repository that this package stands in."""
    root = Path(__file__).parents[2]
    for path, text in GENERATED_FILES.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    write_generated_files()
