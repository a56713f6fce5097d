"""Generates the JSON Schema and `docs/reference.md` from the models, and `docs/templates.md`.

Run `python -m restsource_dagster.connector.reference_docs` (or `make docs`) to write all three.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from restsource_dagster.connector.json_schema import connector_schema, file_schema
from restsource_dagster.connector.loader import load_file
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.template_head import TemplateChange, TemplateInput
from restsource_dagster.connector.templates import (
    Template,
    find_shipped_template,
    shipped_templates,
)
from restsource_dagster.connector.validation.refusals import REFUSALS

__all__ = [
    "GENERATED_FILES",
    "REFERENCE_INTRODUCTION",
    "REFERENCE_RULES",
    "file_reference_markdown",
    "templates_markdown",
    "write_generated_files",
]

REFERENCE_INTRODUCTION = """\
# Connector files

<!-- Written by `python -m restsource_dagster.connector.reference_docs`; edit the models instead. -->

A connector file is one JSON object (or the same in YAML) in the folder `configs/`. Its `client`,
`resource_defaults` and `resources` are the configuration of dlt's
[REST API source](https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api/basic): examples
from dlt's documentation can be pasted in. `restsource check` reports what is wrong in a file, and
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

With `"$schema": "../schema/connector.schema.json"` in the file, VS Code completes fields and shows
the texts of this page.
"""
"""The page up to the first table."""

REFERENCE_RULES = """\
## Secrets and other references

A text in `client`, `resource_defaults` or `resources` may contain references. A run reads them when it
starts, before the first request:

| reference | value |
|---|---|
| `${NAME}` | the environment variable `NAME`: letters, digits and underscores |
| `${NAME:-default}` | the same, or `default` if the variable is not set or empty; `${NAME:-}` may be empty |
| `${file:/run/secrets/token}` | the text of a file, without the line break at its end; at most 64 KiB of UTF-8, by an absolute path |
| `${dlt:sources.shop.token}` | what dlt has for this key: in `SOURCES__SHOP__TOKEN`, secrets.toml, config.toml or a vault |

A text may contain several. `$${` is a literal `${`. dlt's own placeholders, `{resources...}` and
`{incremental...}`, have no `$`. A run fails before its first request if a value is missing, empty or can't be
read, and names all of them. All values are hidden in messages and logs, but for those in the host and path of
`base_url`.

[Logins](logins.md) has a file for each type of `auth`.

If a secret is left out of one of dlt's own types, dlt looks it up: `sources.<connector>.credentials` in secrets.toml, in
environment variables and in vaults. A secret in the file itself works, with a warning.

## Times

A run begins at one moment, which its metadata shows (`relative_times/now`). Params, bodies, headers, paths,
`initial_value` and `end_value` may contain times relative to it:

| text | value of a run that begins on 2026-11-27 at 10:00:30 UTC |
|---|---|
| `{now}` | `2026-11-27T10:00:30Z` |
| `{now-30d}`, `{now-1h}` | `2026-10-28T10:00:30Z`, `2026-11-27T09:00:30Z` |
| `{today}`, `{today-1mo}` | `2026-11-27`, `2026-10-27`: days are those of UTC |
| `{today-1mo:%d.%m.%Y}`, `{now:epoch_seconds}` | `27.10.2026`, `1795773630` |

Steps are whole numbers of `s`, `m`, `h`, `d`, `w`, `mo` (months) and `y`, and several may follow one another
(`{today-1mo+1d}`). After the colon stands a format: `epoch_seconds`, `epoch_milliseconds`,
`epoch_microseconds`, `date`, `iso8601`, `rfc2822`, or a pattern of
[strftime](https://docs.python.org/3/library/datetime.html#format-codes). In a JSON body a text that is one
placeholder of an epoch becomes a number.

The same formats say how the API wants the cursor: `"convert": "epoch_seconds"` in `incremental` for all places,
`{incremental.start_value:%Y-%m-%d %H:%M}` for one, and `{resources.orders.created:date}` for a field of a parent's
record. What is stored and compared stays as rows spell it.

Rows may spell the cursor as ISO 8601, an HTTP date (RFC 2822), seconds or milliseconds since 1970, or any number. For
others `cursor_format` says how: `"cursor_format": "%d/%m/%Y %H:%M"` with `"timezone": "Europe/Berlin"`, or a list of
formats that are tried in order. The column then holds times in UTC (dates, if the format has no time of day), and
`initial_value` may be in the API's form or in ISO 8601. A local time that comes twice when clocks are set back is
read as the first of the two; with a `lag` of 3600 rows of that hour are asked for again.

## Write dispositions

The write disposition says what happens to rows that are in the table already. The resource or the
defaults may give it. If `write_disposition` is left out, it is

| when | write disposition |
|---|---|
| the resource has a primary key | `merge` |
| it has none, and it or one of its parents is incremental | `append` |
| neither | `replace` |

`restsource check` shows which one applies, and why. A primary key is given as `primary_key`, or as
`"primary_key": true` on columns.

## Backfills

With `backfill`, an incremental resource loads its past in partitions, beside the live runs:

```json
"backfill": {"start": "2024-01-01", "partition": "monthly"}
```

A partition is a range of time in UTC. Rows at its start belong to it, rows at its end belong to the
next one. Hours, days, months and weeks (which start on Monday) are those of the calendar, so `start`
and `end` must be moments at which a partition begins; for others, the error names the two nearest.
`range_start`, `range_end` and `lag` apply to live runs only.

Live runs start with the partition in which the connector was created. The backfill loads what lies
before. So each row belongs to one partition or to the live runs; rows without a cursor value belong
to the live runs.

The ends of a partition are sent to the API in the form of `initial_value`: a date, a time with or
without fraction and zone, seconds or milliseconds since 1970. Rows are compared with them as points in
time, in whatever form the API writes them. A time without a zone is UTC.

A partition is due until it is loaded, and again when what decides its rows changes:

| counts | doesn't count |
|---|---|
| `base_url`, `path`, `method`, `params`, `json`, `data`, `headers`, `data_selector`, `response_actions` | `auth`; params and headers named like a credential; `User-Agent` |
| the paginator | the size of a page: its `limit`, params such as `per_page` (they count with `single_page`) |
| `cursor_path`, the form of `initial_value`, `convert`, `cursor_format`, `timezone`, `start_param`, `end_param`, `last_value_func`, `on_cursor_value_missing` | the value of `initial_value`, `lag`, `row_order`, `range_start`, `range_end` |
| the table, its keys and write disposition, `columns`, `nested_hints`, `max_table_nesting`, `schema_contract`, `include_from_parent`, `selected` | descriptions, `references`, `table_format`, `file_format`, `parallelized` |
| `partition` of the block | its other fields (an earlier `start` adds partitions) |
| the same of all resources that depend on it | their order, and whether a field stands in `resource_defaults` |

Loading a partition again must leave each row in the table once. So `backfill` needs rows that are
merged by a `primary_key`, or appended rows whose cursor is a column: rows between the ends of the
partition are then replaced. Resources that depend on one with `backfill` are loaded with its partitions,
and need a `primary_key`. `merge` doesn't suit an API that returns several versions of a row, each with
its own cursor value: the newest partition is loaded first, and older versions come after newer ones.

For other cursors, such as ids, `restsource backfill` loads any range.

## Pages

A run reads pages as dlt does, except where dlt would load a part of the rows and report success:

- A page is empty if the list in it has no items before a filter in `data_selector`. dlt stops at a page
  whose records are all filtered out.
- A path of a paginator means the key that is spelt so, dots included: `@odata.nextLink` needs no quotes.
- `null`, an empty text or `false` at `next_url_path`, `cursor_path` or in a header is the end. If the
  place itself was in no answer of the resource, in this run or an earlier one, it may be misspelt. The
  resource fails if the answer names a next page elsewhere, states a larger total, or is a full page (as
  many rows as `limit`, `per_page`, `$top` or a similar param asks for); otherwise the log says so, once.
- Without a paginator the next link of OData is followed, too. A next page that the answer names and that
  can't be followed fails the resource. `"paginator": "single_page"` says that the first page is all.
- An error beside rows, such as `{"data": [...], "errors": [...]}` or `"success": false`, fails the
  resource, unless the endpoint has `"partial_errors": "load"`. Fields of a row, and of an object with an
  id that the rows belong to, are data.
- A row that comes twice in one run, by its primary key, is stored once with any write disposition. Of two
  versions a merge (delete-insert) keeps the one with the newer cursor, an upsert refuses them. dlt keeps
  any of them, or both.
- If the API's total falls while pages are read by offset or number, rows may have been skipped: the
  cursor stays, and the next run reads them again. An append fails instead.
- JSON is UTF-8 unless the response names another charset; bytes that are no such text are refused.

## Warnings

A connector with warnings runs. They are about: a secret in the file; `true` for a number; `<id>` or
`:id` in a path, which is sent unchanged; a response action that neither dlt nor this project knows;
`replace` of an incremental resource; `endpoint.incremental` beside an incremental param.

## What only Python can say

`session`, `convert`, custom `auth` and `paginator` classes, functions as
`last_value_func`, hints or response actions, and dlt resources are Python objects. A file can't
contain them; the message for each says what to do instead.

## Where this differs from dlt

A connector file accepts and refuses what dlt does, with the exceptions below. dlt accepts these when
it builds the source; later they fail, or do something else than they say.

| refused | why |
|---|---|
"""
"""The page after the tables; the rows of its last table follow."""

_HEADINGS = {
    "Connector": "The file",
    "ManualSchedule": "Schedule: manual",
    "IntervalSchedule": "Schedule: minutes, hours, days",
    "HttpSettings": "HTTP settings",
    "Tls": "Client: tls",
    "BearerAuth": "Auth: bearer",
    "ApiKeyAuth": "Auth: api_key",
    "HttpBasicAuth": "Auth: http_basic",
    "OAuth2ClientCredentialsAuth": "Auth: oauth2_client_credentials",
    "OAuth2RefreshTokenAuth": "Auth: oauth2_refresh_token",
    "OAuth2PasswordAuth": "Auth: oauth2_password",
    "OAuth2JwtBearerAuth": "Auth: oauth2_jwt_bearer",
    "LoginAuth": "Auth: login",
    "DigestAuth": "Auth: digest",
    "HmacAuth": "Auth: hmac",
    "AwsSigV4Auth": "Auth: aws_sigv4",
    "Authorization": "Auth: authorization",
    "SendAs": "Auth: send_as",
    "SigningKey": "Auth: signing_key, client_key",
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
    "Incremental": "Incremental cursor",
    "IncrementalParam": "Param: incremental",
    "ResolveParam": "Param: resolve",
    "PlainDisposition": "Write disposition",
    "DeleteInsert": "Merge: delete-insert",
    "Upsert": "Merge: upsert",
    "InsertOnly": "Merge: insert-only",
    "Scd2": "Merge: scd2",
    "Cdc": "Merge: cdc",
    "NamedColumn": "Column in a list",
    "ContractByEntity": "Schema contract",
    "TableReference": "Table reference",
    "NestedHints": "Hints for a nested table",
}
_FORMAT_WORDS = {"json-path": "JSON path", "date": "date", "date-time": "time"}
_TYPE_WORDS = {"string": "text", "integer": "whole number", "boolean": "true or false", "null": ""}
_SAME_FIELDS_AS = {"EndpointDefaults": "Endpoint", "NamedColumn": "Column"}
"""Models with the same fields as another one, which the page shows once."""


def file_reference_markdown() -> str:
    """Return `docs/reference.md`."""
    schema = file_schema()
    parts = {"Connector": schema, **schema["$defs"]}
    sections = [
        _model_section(name, parts)
        for name in _models_in_reading_order(parts)
        if name not in _SAME_FIELDS_AS
    ]
    rows = [f"| `{code}` | {_cell(reason)} |" for code, reason in sorted(REFUSALS.items())]
    return "\n".join([REFERENCE_INTRODUCTION, *sections, REFERENCE_RULES + "\n".join(rows), ""])


def _models_in_reading_order(parts: dict[str, Any]) -> list[str]:
    """Return the models in the order in which the page mentions them, depth first."""
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
        # The sort is stable: required fields first, and all in the order of the model.
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
    """Return what a value may be, in words and links."""
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
    # GitHub's rule for the anchor of a heading.
    kept = "".join(c for c in _heading(name).lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|")


_TEMPLATES_INTRODUCTION = """\
# Templates

<!-- Written by `python -m restsource_dagster.connector.reference_docs`; edit the templates instead. -->

A template is a connector file that someone else has written. A file that uses one says which, and
gives it the inputs that it needs:

```json
{
  "template": "github",
  "inputs": {"owner": "dagster-io", "repo": "dagster", "token": "${GITHUB_TOKEN}"},
  "schedule": {"mode": "minutes", "interval": 15}
}
```

This is a whole connector: its tables, keys, cursors and paging come from the template.
`restsource check --expanded` prints the connector file that it stands for.

## What else the file may say

- `resources` picks some of the template's: `"resources": ["issues", "labels"]`. A parent that a picked
  resource needs is requested, and is not loaded.
- An object with the name of one of them overrides its fields, and `"*"` stands for all others:
  `"resources": ["*", {"name": "labels", "write_disposition": "append"}]`.
- An object with another name is a resource of the file's own.
- All other fields, such as `client` or `http`, override those of the template. Objects are merged key by
  key in `client`, `http`, `resource_defaults`, `endpoint`, `params`, `headers`, `json` and `columns`. Of all
  others the file's own wins as a whole.

A problem is shown at the line of the file that causes it, or at the line of the template.

## A template of your own

Write a connector file into `configs/templates/NAME.json`, with these fields beside the usual ones:

```json
{
  "title": "Our shop",
  "version": "1",
  "inputs": {
    "subdomain": {"description": "The part before .shop.example.", "pattern": "[a-z0-9-]+"},
    "token": {"description": "An API token.", "secret": true},
    "page_size": {"description": "Rows of a page.", "type": "number", "default": 100}
  },
  "client": {
    "base_url": "https://${input.subdomain}.shop.example/v1",
    "auth": {"type": "bearer", "token": "${input.token}"}
  },
  "resources": [{"name": "orders", "endpoint": {"params": {"limit": "${input.page_size}"}}}]
}
```

| field of an input | what |
|---|---|
"""
_TEMPLATES_RULES = """
An input without `default` is needed. A text that is nothing but `${input.NAME}` becomes the input's value, of its
type; with the value `null`, the field is left out. An input is not needed in a file that overrides all that uses it,
such as `client.auth` for another login. The metadata of each asset has the template's name and version
(`template`). A template of your own comes before a shipped one of the same name.

## A new version of a template

When a template changes what is in tables that it has loaded before, give it a new `version`, and say so in `changes`:

```json
"version": "2",
"changes": [
  {"version": "2", "resources": ["orders"], "change": "`total` is a number of cents, no text."}
]
```

Each load notes the version by resource in the state (`RESTSOURCE_STATE_DIR/template_versions`, or the database of
`RESTSOURCE_STATE`). `restsource check` warns of the changes that came after it, before the next load makes them. Where
loads have another state, `check` doesn't know what was loaded, and says so. To keep the tables as they are, copy the template of before into `configs/templates/`.

| field of a change | what |
|---|---|
"""


def templates_markdown() -> str:
    """Return `docs/templates.md`."""
    fields = [
        f"| `{name}` | {_cell(field.description or '')} |"
        for name, field in TemplateInput.model_fields.items()
    ]
    sections = [_template_section(find_shipped_template(name)) for name in shipped_templates()]
    changes = [
        f"| `{name}` | {_cell(field.description or '')} |"
        for name, field in TemplateChange.model_fields.items()
    ]
    rules = _TEMPLATES_RULES + "\n".join(changes)
    head = [_TEMPLATES_INTRODUCTION + "\n".join(fields), rules, "\n## Shipped templates"]
    return "\n".join([*head, *sections])


def _template_section(template: Template) -> str:
    inputs = [
        f"| `{name}` | {_cell(each.description)} | {_input_default(each)} |"
        for name, each in template.head.inputs.items()
    ]
    rows = [
        f"| `{resource.name}` | {', '.join(resource.primary_key)} | "
        f"{resource.incremental.cursor_path if resource.incremental else ''} | "
        f"{resource.disposition.value} |"
        for resource in _connector_of(template).resources
    ]
    return "\n".join(
        [
            f"\n### {template.name}: {template.head.title}\n",
            f"Version {template.head.version}, by {template.head.documentation}.\n",
            "| input | what | default |\n|---|---|---|",
            *inputs,
            "\n| resource | key | cursor | rows |\n|---|---|---|---|",
            *rows,
            "",
            *(f"- Version {each.version}: {each.change}" for each in template.head.changes),
            *(f"- {limit}" for limit in template.head.limits),
            "",
        ]
    )


def _connector_of(template: Template) -> Connector:
    """Return the connector of a file that gives a template's needed inputs only."""
    value = {
        "template": template.name,
        "inputs": {name: "${X}" for name, each in template.head.inputs.items() if each.is_needed},
        "schedule": {"mode": "manual"},
    }
    with TemporaryDirectory() as folder:
        path = Path(folder) / "used.json"
        path.write_text(json.dumps(value), encoding="utf-8")
        file = load_file(path)
    if file.connector is None:
        raise ValueError(f"the template {template.name} has errors: {file.problems}")
    return file.connector


def _input_default(each: TemplateInput) -> str:
    if each.is_needed:
        return "needed"
    return "" if each.default is None else f"`{json.dumps(each.default)}`"


def _schema_text() -> str:
    return json.dumps(connector_schema(), indent=2) + "\n"


GENERATED_FILES = {
    Path("schema/connector.schema.json"): _schema_text,
    Path("docs/reference.md"): file_reference_markdown,
    Path("docs/templates.md"): templates_markdown,
}
"""The generated files, relative to the root of the repository, and the functions that return their text."""


def write_generated_files() -> None:
    """Write the generated files of the repository that contains this package."""
    root = Path(__file__).parents[2]
    for path, text in GENERATED_FILES.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    write_generated_files()
