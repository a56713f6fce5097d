"""What this project refuses though dlt accepts it, each with its reason, and the codes of such findings.

dlt accepts these values, and then fails in a run or silently does something else. `REFUSALS` has the
reasons of rules and of the models; the reference shows them.
"""

from collections.abc import Sequence
from typing import Any

from restsource_dagster.connector.models.auth import OWN_AUTH_TYPES
from restsource_dagster.connector.models.oauth_logins import OWN_AUTH_FIELDS
from restsource_dagster.connector.validation.diagnostics import FieldPath

__all__ = ["REFUSALS", "refusal_code"]

REFUSALS = {
    "merge-without-key": "A merge without the key that it needs: delete-insert without a "
    "primary or merge key; upsert, insert-only and cdc without a primary key. dlt appends, "
    "and each load adds the rows again.",
    "cdc-incremental": "The strategy cdc of a resource with a cursor, without a merge key or "
    "`destination_scope`: it deletes all rows that a load does not bring.",
    "replace-below-incremental": "`replace` below an incremental parent. It would delete the rows "
    "of all parents that the run does not request.",
    "same-table": "Two resources whose tables get the same name (snake_case: "
    "`orderItems`, `order-items`).",
    "shared-table": "Two resources with one `table_name` whose loads would undo one another, or whose hints differ: "
    "dlt takes those of the last one.",
    "same-asset": "Two resources whose assets get the same name in Dagster (`a-b`, `a.b`).",
    "asset-name": "A resource's name that Dagster doesn't accept: only letters, "
    "digits, `_`, `-` and `.` are valid, and no reference.",
    "reserved-table": "A table that starts with `_dlt`: those are dlt's own.",
    "no-resources": "A connector without resources: it has nothing to load.",
    "columns": "Column hints that dlt refuses when the first rows arrive: unknown properties (other "
    "than `x-...`), unknown types.",
    "no-cursor-path": "An incremental cursor without `cursor_path`, or with an empty list of them. dlt ignores it, or fails when "
    "the first page arrives.",
    "incremental-param": "A field of the wrong type in a param of type `incremental`. dlt "
    "checks `endpoint.incremental`, but not this param.",
    "resolve-param": "An unknown field in a param of type `resolve`. dlt ignores it.",
    "resolve-twice": "A `resolve` param that is twice in the path. dlt fills in only the first.",
    "default-param": "An object of an unknown type in the params of `resource_defaults`, even where "
    "each resource overrides it.",
    "auth-field": "A field of another type of auth (`token` in `api_key`). dlt drops it.",
    "secret-not-text": "A list or an object as a secret. dlt masks it before its check.",
    "login": "A type of `auth` that dlt doesn't have, or a field of OAuth 2.0 that it doesn't have, that is not "
    "valid or contradicts another field.",
    "auto-params": "A paginator `auto` with parameters. dlt drops them.",
    "processing-steps": "A step that a file can't have in `processing_steps`. dlt takes any object there.",
    "empty-placeholder": "`{}` where dlt fills in placeholders. In a path dlt drops it, elsewhere "
    "it fails at the first request.",
    "path-braces": "Doubled braces in a path. dlt turns them into single braces too "
    "early and fails at the first request.",
    "incremental-null": 'A placeholder `{incremental...}` with `"incremental": null`. dlt fails at '
    "the first request.",
    "incremental-attribute": "A placeholder `{incremental.NAME}` with a name that the cursor "
    "doesn't have. dlt fails at the first request.",
    "no-cursor-value": "A cursor without `initial_value` in a placeholder within a longer text or a "
    "path (or one without `end_value`). dlt sends the word `None`.",
    "placeholder-format": "A placeholder with a format that no value can have, such as "
    "`{incremental.start_value:%s}`. dlt fails at the first request.",
    "null-in-path": "A param that is null and goes into the path. dlt sends the word `None`.",
    "children": "`children` that isn't valid, or where the rows of a parent can't be told apart, are not "
    "all that a call returns, are not merged by a primary key, or have others below them. dlt doesn't have "
    "this field and doesn't get it.",
    "deletes": "`deleted_when`, `deletes_from`, `sweep` or `on_delete` that isn't valid, or of a resource whose rows are not "
    "merged by a primary key. dlt doesn't have these fields and doesn't get them.",
    "asset-options": "`asset` that isn't valid. dlt doesn't have this field and doesn't get it.",
    "checks": "`checks` that isn't valid, or that the table of the resource can't have. dlt doesn't have this "
    "field and doesn't get it.",
    "rename-from": "`rename_from` that isn't valid, or of a resource whose rows no single call returns. dlt "
    "doesn't have this field and doesn't get it.",
    "gone": "`gone` where the rows of a parent can't be told apart or have others below them. dlt ignores "
    "this action.",
    "key-in-json": "A key inside of an object that is stored as JSON. dlt reads the dot as a part of a "
    "name, and fails when the first rows arrive.",
    "no-order": "An `initial_value` or `end_value` that has no order (`31/01/2024`), or two of different "
    "kinds. dlt compares them by their characters.",
    "skip": "The write disposition `skip`. dlt requests all rows and refuses them in the load.",
    "two-bodies": "`json` and `data` together. dlt fails at the first request.",
    "data-selector": "A `data_selector` that is no JSON path. dlt fails at the first page.",
    "action-body": "A `body` of a response action that isn't valid. dlt doesn't have this field and doesn't get "
    "it.",
    "action-in-file": "A `content` or `body` of a response action whose rows are read from a file "
    "(`response`). dlt doesn't have `response` and doesn't get it.",
    "no-action": "A response action without `action`. dlt fails at the first response.",
    "no-name": "A paginator whose link, header or param has no name. dlt fails at the first page, or "
    "reads one page only.",
    "no-limit": "An offset paginator with a limit below 1. dlt requests the same page forever.",
    "no-start": "A paginator that starts at `null`. dlt fails at the second page.",
    "nullable-key": "A key of a merge whose column is `nullable`. Null is equal to nothing in SQL, so rows "
    "without a value are lost or doubled.",
    "nested-disposition": "A nested table without a key of its own that has another write disposition "
    "than its resource. dlt writes the two apart, so rows are lost or doubled.",
    "validity-columns": "`validity_column_names` with more or fewer than two names. dlt "
    "fails when it creates the table.",
    "reference": "A table reference without columns, without the other table, or with unequal "
    "numbers of columns.",
    "backfill-form": "A `backfill` block that isn't valid. dlt doesn't have this "
    "block and doesn't get it.",
    "mode": "`mode` or `nested` with an unknown value. dlt doesn't have "
    "these fields and doesn't get them.",
    "paging-end": "Fields of a paginator that contradict one another or that dlt doesn't have: "
    "`total_header` beside `total_path`, `next_url_header` beside `links_next_key`, a param of the paging in "
    "`first_page_params`, or one that is not sent; a wrong value of them.",
    "params-style": "`params_style` with an unknown value. dlt doesn't have this field and doesn't get it.",
    "method": "A `method` that is no word of letters. dlt has GET and POST only.",
    "time-format": "`convert`, `cursor_format` or `timezone` with an unknown value. dlt takes a function "
    "for `convert`, doesn't have the others, and gets none of them.",
    "relative-time": "A relative time such as `{now-30d}` that is misspelt or outside the years 1 to 9999. dlt "
    "doesn't have them.",
    "convert": "`convert` of a cursor that is no time, or with nothing that sends the cursor.",
    "max-rows": "`max_rows` of a paginator that isn't valid, or where the paging can't start anew from the last "
    "row: without a cursor that is sent, ascending order and merged rows. dlt doesn't have this field and "
    "doesn't get it.",
    "window": "A `window` of the cursor that isn't valid, or that a run could not honour: without a place for "
    "its end in the request, with a cursor that is no time, below a parent, with `replace`. dlt doesn't have "
    "this field and doesn't get it.",
    "retention": "`retention` that is no length of time, or of rows that are not merged: those read again "
    "would be stored twice. dlt doesn't have this field and doesn't get it.",
    "sync-token": "A token (`token_path`) beside what needs an order, such as `lag` or a cursor; of a resource "
    "with a parent or dependents; with `replace`, scd2 or cdc; wrong values of its fields. dlt doesn't have "
    "tokens.",
    "graphql": 'A `graphql` block that isn\'t valid, or beside `"method": "GET"` or a `json` with a query. '
    "dlt doesn't have this block and doesn't get it.",
    "job": "A `job` that isn't valid: requests about it that don't name it, neither `url_path` nor `download`, or "
    "both; below a parent, or with a paginator, `for_each`, `window` or a token. dlt doesn't have this block and "
    "doesn't get it.",
    "for-each": "A `for_each` that isn't valid: a list without values or with one of them twice, a list that no "
    "request mentions, a placeholder `{each.NAME}` without a list. dlt doesn't have this field and doesn't get it.",
    "batch": "`batch` or `separator` that isn't valid, a batch beside a cursor of its own or with fields of "
    "the parent, two lists in a call. dlt takes the first value of a list.",
    "response": "A `response` block that isn't valid, or that another field contradicts: an option of another "
    "format, `data_selector` or a paginator that reads a JSON body where the rows are CSV or JSON lines, XML "
    "without the path of its records. dlt doesn't have this block and doesn't get it.",
    "partial-errors": "`partial_errors` with an unknown value. dlt doesn't have this field and doesn't "
    "get it.",
    "backfill-not-incremental": "`backfill` of a resource without an incremental cursor.",
    "backfill-below-parent": "`backfill` of a dependent resource. Its past is loaded with the "
    "partitions of its parent.",
    "backfill-job": "`backfill` of a resource that is loaded by jobs.",
    "backfill-for-each": "`backfill` of a resource with `for_each`, which has a cursor for each value.",
    "backfill-falling": "`backfill` with a cursor that falls (`min`).",
    "backfill-end-value": "`backfill` with `end_value`, which already sets a fixed window.",
    "backfill-cursor": "`backfill` with an `initial_value` that is missing or no time, "
    "because the ends of a partition are sent in its form. Hourly partitions with a date.",
    "backfill-replace": "`backfill` with `replace` or `skip`.",
    "backfill-order": "`backfill` with scd2 or cdc, which need rows in the order of time.",
    "backfill-no-key": "`backfill` of appended rows with a cursor that is no column: a "
    "partition that is loaded again could not replace its rows.",
    "backfill-merge-key": "`backfill` with a merge key that the cursor is not part of: two "
    "partitions would delete each other's rows.",
    "backfill-child-no-key": "`backfill` of a resource with dependent resources that are "
    "appended to: a partition that is loaded twice would store their rows twice.",
    "backfill-name": "`backfill` of `orders` beside a resource `orders_history`, "
    "which is the name of the asset of the backfill.",
    "template": "`{{ dlt.secrets['x'] }}` and similar templates. They are sent "
    "to the API unchanged.",
    "many-values": "A `cursor_path`, or the path in a placeholder, that can match several values of "
    "a record: `[*]`, `..`, slices, filters. dlt takes the first one and drops the others.",
    "url": "A `base_url`, a full URL in `path` or an `access_token_url` that nothing can be requested "
    "from: without scheme or host, with spaces, of another scheme than http and https, or with a part "
    "that is to be filled in (`<your-domain>`).",
    "reference-name": "`${...}` without a valid name. It is sent to the API unchanged.",
    "depth": "Nesting deeper than 100 levels. dlt fails at a slightly deeper level.",
    "not-json": "NaN and infinity, which JSON doesn't have.",
    "not-unicode": "Text with half a character (a lone surrogate), which can't be sent.",
}
"""The reasons by name. The code of such a finding is `deliberate:NAME`."""

_ALL_AUTH_FIELDS = (
    "token",
    "api_key",
    "name",
    "location",
    "username",
    "password",
    "access_token",
    "access_token_url",
    "client_id",
    "client_secret",
    "access_token_request_data",
    "default_token_expiration",
    "session",
)


def refusal_code(path: FieldPath, loc: Sequence[str | int], kind: str, given: Any) -> str | None:
    """Return the code of a structural finding about a value that dlt accepts, or may accept; else None.

    `loc` is the path with the tags of the unions' members.
    """
    is_of_many = kind == "path_of_many"
    name = "many-values" if is_of_many else _refusal_name(path, loc, kind, given)
    return f"deliberate:{name}" if name else None


def _refusal_name(path: FieldPath, loc: Sequence[str | int], kind: str, given: Any) -> str | None:
    # The order matters: a column may be called `auth` or `params`.
    if _is_column_hint(path[2:] if path[:1] == ("resources",) else path[1:]):
        return "columns"
    if path[:1] == ("resources",) and path[2:3] == ("backfill",):
        return "backfill-form"
    if _is_resource_field(path) and path[-1] in _OWN_RESOURCE_FIELDS:
        return _OWN_RESOURCE_FIELDS[str(path[-1])]
    if "auth" in path:
        return _auth_refusal_name(path, loc, kind, given)
    if "params" in path:
        return _param_refusal_name(path, kind, given)
    cases = (
        ("login", path[:2] == ("client", "tls")),
        # dlt also takes a list of functions here, so an empty list passes its check.
        ("no-action", path[-1:] == ("action",) and given == []),
        ("action-body", "response_actions" in path and "body" in path),
        ("checks", "checks" in path[1:3]),
        ("asset-options", "asset" in path[1:3]),
        ("deletes", bool({"deletes_from", "sweep"} & {*path[1:3]})),
        ("processing-steps", "processing_steps" in path),
        ("rename-from", "rename_from" in path),
        ("partial-errors", path[-1:] == ("partial_errors",)),
        ("response", "response" in path),
        ("for-each", "for_each" in path),
        ("job", "job" in path and path[path.index("job") - 1] == "endpoint"),
        ("graphql", "graphql" in path),
        ("params-style", path[-1:] == ("params_style",)),
        ("method", path[-1:] == ("method",)),
        ("max-rows", path[-2:] == ("paginator", "max_rows")),
        ("paging-end", "paginator" in path and bool(_OWN_PAGING_FIELDS & {*path[-2:]})),
        ("window", "incremental" in path and "window" in path),
        ("retention", path[-2:] == ("incremental", "retention")),
        ("time-format", bool({"convert", "cursor_format", "timezone"} & {*path[-2:]})),
        ("sync-token", "#token" in loc),
        ("no-cursor-path", "incremental" in path and _lacks_cursor_path(path, kind, given)),
        ("auto-params", kind == "extra_forbidden" and "#auto" in loc),
    )
    return next((name for name, holds in cases if holds), None)


_OWN_PAGING_FIELDS = {
    *("end_path", "stop_when_repeated", "first_page_params", "next_url_header", "total_header"),
    "has_more_path",
}


_OWN_RESOURCE_FIELDS = {
    **dict.fromkeys(("mode", "nested"), "mode"),
    **dict.fromkeys(("deleted_when", "deletes_from", "sweep", "on_delete"), "deletes"),
}


def _is_resource_field(path: FieldPath) -> bool:
    return (path[:1], len(path)) in ((("resources",), 3), (("resource_defaults",), 2))


def _is_column_hint(path: FieldPath) -> bool:
    return path[:1] == ("columns",) or (path[:1] == ("nested_hints",) and path[2:3] == ("columns",))


def _lacks_cursor_path(path: FieldPath, kind: str, given: Any) -> bool:
    return path[-1] == "cursor_path" and (kind == "missing" or not given)


def _param_refusal_name(path: FieldPath, kind: str, given: Any) -> str | None:
    if path[0] == "resource_defaults":
        return "default-param"
    if _lacks_cursor_path(path, kind, given):
        return "no-cursor-path"
    if path[-1] in ("batch", "separator"):
        return "batch"
    if kind == "extra_forbidden":
        return "resolve-param"
    inner = path[path.index("params") + 2 :]
    return "incremental-param" if inner and inner[0] not in ("type", "resource", "field") else None


def _auth_refusal_name(
    path: FieldPath, loc: Sequence[str | int], kind: str, given: Any
) -> str | None:
    inside = path[path.index("auth") + 1 :]
    if OWN_AUTH_FIELDS & {*inside[:1]} or any(f"#{name}" in loc for name in OWN_AUTH_TYPES):
        return "login"
    if kind == "extra_forbidden" and path[-1] in _ALL_AUTH_FIELDS:
        return "auth-field"
    if isinstance(given, list | dict) and path[-1] in _ALL_AUTH_FIELDS:
        return "secret-not-text"
    return None
