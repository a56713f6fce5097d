"""What dlt accepts and this project refuses, each with its reason: the whole list.

dlt checks a configuration when it builds the source. What it lets pass there and what then fails,
or silently does something else, is refused here while the file is open in the editor.
"""

from collections.abc import Sequence
from typing import Any

from restsource_dagster.config.own_fields import MODE_FIELDS

__all__ = ["REFUSALS", "code_for"]

REFUSALS = {
    "merge-without-key": "A merge that needs a key without one: delete-insert without a primary or "
    "merge key, upsert, insert-only and cdc without a primary key. dlt appends, and rows pile up.",
    "replace-below-incremental": "`replace` below an incremental parent. It would drop the rows of "
    "all parents that the run didn't ask for.",
    "same-table": "Two resources whose tables get one name (snake_case: `orderItems`, "
    "`order-items`).",
    "same-asset": "Two resources whose assets get one name in Dagster (`a-b`, `a.b`).",
    "asset-name": "A resource's name that Dagster can't hold: letters, digits, `_`, `-` and `.` "
    "only, and no reference.",
    "reserved-table": "A table that starts with `_dlt`: those are dlt's own.",
    "no-resources": "A connector without resources: nothing to load, nothing to show.",
    "columns": "Column hints that dlt refuses when the first rows arrive: unknown properties (other "
    "than `x-...`), unknown types.",
    "no-cursor-path": "An incremental cursor without `cursor_path`. dlt ignores it, or fails when "
    "the first page arrives.",
    "incremental-param": "A field of the wrong type in a param of type `incremental`. dlt checks "
    "`endpoint.incremental` and not this.",
    "resolve-param": "An unknown field in a param of type `resolve`. dlt ignores it.",
    "resolve-twice": "A `resolve` param that stands in the path twice. dlt fills in the first only.",
    "default-param": "An object of an unknown type in the params of `resource_defaults`, even where "
    "each resource overrides it.",
    "auth-field": "A field of another type of auth (`token` in `api_key`). dlt drops it.",
    "secret-not-text": "A list or an object as a secret. dlt's check sees only a mask of it.",
    "auto-params": "A paginator `auto` with parameters. dlt drops them.",
    "python-only": "`processing_steps` with anything in it: a file has no Python functions.",
    "empty-placeholder": "`{}` where dlt fills in placeholders. In a path dlt drops it, elsewhere "
    "it fails at the first request.",
    "path-braces": "Doubled braces in a path. dlt undoubles them too early and fails at the first "
    "request.",
    "incremental-null": 'A placeholder `{incremental...}` with `"incremental": null`. dlt fails at '
    "the first request.",
    "incremental-attribute": "A placeholder `{incremental.NAME}` with a name that the cursor "
    "doesn't have. dlt fails at the first request.",
    "two-bodies": "`json` and `data` together. dlt fails at the first request.",
    "data-selector": "A `data_selector` that is no JSON path. dlt fails at the first page.",
    "no-action": "A response action without `action`. dlt fails at the first answer.",
    "no-start": "A paginator that starts at `null`. dlt fails at the second page.",
    "validity-columns": "`validity_column_names` other than two. dlt fails when the table is made.",
    "reference": "A table reference without columns, without the other table, or with unequal "
    "numbers of columns.",
    "backfill-form": "A `backfill` block that isn't well formed. dlt doesn't know the block; it is "
    "not handed on.",
    "mode": "`mode` or `nested` with a word that is none of theirs. dlt doesn't know them; they are "
    "not handed on.",
    "backfill-not-incremental": "`backfill` of a resource without an incremental cursor.",
    "backfill-below-parent": "`backfill` of a dependent resource. Its history comes with its "
    "parent's windows.",
    "backfill-falling": "`backfill` with a cursor that falls (`min`).",
    "backfill-end-value": "`backfill` with `end_value`, which is a fixed window already.",
    "backfill-cursor": "`backfill` with an `initial_value` that is missing or no time: the ends of a "
    "window are written in its form. Hourly windows with a date.",
    "backfill-replace": "`backfill` with `replace` or `skip`.",
    "backfill-order": "`backfill` with scd2 or cdc, which count on rows in the order of time.",
    "backfill-no-key": "`backfill` of rows that are appended, with a cursor that is no column: a "
    "window that is loaded again could not replace its rows.",
    "backfill-merge-key": "`backfill` with a merge key that the cursor is not part of: two windows "
    "would delete each other's rows.",
    "backfill-child-no-key": "`backfill` of a resource with dependents that are appended to: their "
    "rows would be there twice when a window is loaded again.",
    "backfill-name": "`backfill` of `orders` beside a resource `orders_history`: the history is "
    "shown under that name.",
    "template": "`{{ dlt.secrets['x'] }}` and its like: sent to the API as it stands.",
    "reference-name": "`${...}` without a valid name: sent to the API as it stands.",
    "depth": "Nesting deeper than 100 levels. dlt gives up somewhat deeper.",
    "not-json": "NaN and infinity, which are no JSON.",
    "not-unicode": "Text with half a character (a lone surrogate), which can't be sent.",
}
"""By code; a finding's code is `deliberate:` and one of these."""

_AUTH_FIELDS = (
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


def code_for(
    path: tuple[str | int, ...], loc: Sequence[str | int], kind: str, given: Any
) -> str | None:
    """The code of a structural finding if dlt would, or might, accept what it is about.

    `loc` is the path with the tags of the unions' members.
    """
    name = _name_for(path, loc, kind, given)
    return f"deliberate:{name}" if name else None


def _name_for(
    path: tuple[str | int, ...], loc: Sequence[str | int], kind: str, given: Any
) -> str | None:
    if _is_column_hint(path[2:] if path[:1] == ("resources",) else path[1:]):
        return "columns"
    if path[:1] == ("resources",) and path[2:3] == ("backfill",):
        return "backfill-form"
    if _is_resource_field(path) and path[-1] in MODE_FIELDS:
        return "mode"
    if "auth" in path:
        return _auth_name(path, kind, given)
    if "params" in path:
        return _param_name(path, kind, given)
    cases = (
        ("no-action", path[-1:] == ("action",) and given == []),
        ("python-only", "processing_steps" in path),
        ("no-cursor-path", "incremental" in path and _is_no_cursor(path, kind, given)),
        ("auto-params", kind == "extra_forbidden" and "#auto" in loc),
    )
    return next((name for name, holds in cases if holds), None)


def _is_resource_field(path: tuple[str | int, ...]) -> bool:
    return (path[:1], len(path)) in ((("resources",), 3), (("resource_defaults",), 2))


def _is_column_hint(path: tuple[str | int, ...]) -> bool:
    return path[:1] == ("columns",) or (path[:1] == ("nested_hints",) and path[2:3] == ("columns",))


def _is_no_cursor(path: tuple[str | int, ...], kind: str, given: Any) -> bool:
    return path[-1] == "cursor_path" and (kind == "missing" or not given)


def _param_name(path: tuple[str | int, ...], kind: str, given: Any) -> str | None:
    if path[0] == "resource_defaults":
        return "default-param"
    if _is_no_cursor(path, kind, given):
        return "no-cursor-path"
    if kind == "extra_forbidden":
        return "resolve-param"
    inner = path[path.index("params") + 2 :]
    return "incremental-param" if inner and inner[0] not in ("type", "resource", "field") else None


def _auth_name(path: tuple[str | int, ...], kind: str, given: Any) -> str | None:
    if kind == "extra_forbidden" and path[-1] in _AUTH_FIELDS:
        return "auth-field"
    if isinstance(given, list | dict) and path[-1] in _AUTH_FIELDS:
        return "secret-not-text"
    return None
