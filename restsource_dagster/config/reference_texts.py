"""What `docs/reference.md` says before and after the tables that are made from the models."""

__all__ = ["INTRODUCTION", "RULES"]

INTRODUCTION = """\
# Connector files

<!-- Written by `python -m restsource_dagster.config.generate`; edit the models instead. -->

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

RULES = """\
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
