"""What happens to the rows that are there already: as the file says, or concluded from it."""

from typing import Any, Literal, cast

from restsource_dagster.connector.models.table_hints import MERGE_STRATEGIES
from restsource_dagster.connector.resources import Disposition, Incremental
from restsource_dagster.connector.validation.diagnostics import quoted_name
from restsource_dagster.connector.validation.merged_resource import MergedResource

__all__ = [
    "check_table_hints",
    "disposition_of",
    "incremental_fields",
    "incremental_of",
    "key_columns",
]

DispositionName = Literal["append", "merge", "replace", "skip"]
_STRATEGIES_BY_PRIMARY_KEY = ("upsert", "insert-only", "cdc")


def key_columns(
    draft: MergedResource, hint: Literal["primary_key", "merge_key"]
) -> tuple[str, ...]:
    """The columns of a key: the resource's hint, else the columns that say they belong to it."""
    given = draft.resource.get(hint)
    if isinstance(given, str):
        return (given,) if given else ()
    if isinstance(given, list):
        return tuple(name for name in given if isinstance(name, str))
    columns = draft.resource.get("columns") or {}
    return tuple(name for name, column in columns.items() if column.get(hint) is True)


def incremental_fields(draft: MergedResource) -> dict[str, Any]:
    """The cursor of an endpoint in the file's words; empty if it has none.

    An incremental param is a cursor whose `start_param` is the name of the param.
    """
    for name, value in draft.endpoint.get("params", {}).items():
        if isinstance(value, dict) and value.get("type") == "incremental":
            return {**value, "start_param": name}
    given = draft.endpoint.get("incremental")
    return given if isinstance(given, dict) else {}


def incremental_of(draft: MergedResource) -> Incremental | None:
    """The cursor of an endpoint, from an incremental param or from `incremental`."""
    given = incremental_fields(draft)
    if not given:
        return None
    start_param = given.get("start_param") or None
    return Incremental(
        cursor_path=given.get("cursor_path") or "",
        initial_value=given.get("initial_value"),
        end_value=given.get("end_value"),
        lag=given.get("lag"),
        row_order=given.get("row_order"),
        start_param=start_param,
        server_side=bool(start_param) or _has_cursor_placeholder(draft),
    )


def _has_cursor_placeholder(draft: MergedResource) -> bool:
    """Whether a placeholder of the cursor stands anywhere in the endpoint."""
    stack: list[Any] = [draft.bound_path, draft.endpoint.get("path")]
    stack.extend(draft.endpoint.get(part) for part in ("params", "json", "data", "headers"))
    while stack:
        item = stack.pop()
        if isinstance(item, str) and "{incremental." in item:
            return True
        if isinstance(item, dict):
            stack.extend(item.values())
            stack.extend(item.keys())
        elif isinstance(item, list):
            stack.extend(item)
    return False


def disposition_of(
    draft: MergedResource, incremental: bool, incremental_parent: str | None
) -> Disposition:
    """The write disposition and its reason; refusals are reported to the draft.

    `incremental` says whether the resource has a cursor, `incremental_parent` names the nearest
    of its parents that has one.
    """
    given = draft.resource.get("write_disposition")
    primary, merge = key_columns(draft, "primary_key"), key_columns(draft, "merge_key")
    if not given:
        return _derive_disposition(primary, incremental, incremental_parent)
    value, strategy = _name_and_strategy(given)
    where = "" if "write_disposition" in draft.own else " in `resource_defaults`"
    reason = f"{value}, as the file says{where}"
    disposition = Disposition(
        cast("DispositionName", value), strategy, derived=False, reason=reason
    )
    if value == "merge":
        _check_keys(draft, strategy or "delete-insert", primary, merge)
    if value == "replace":
        _check_replace(draft, incremental, incremental_parent)
    return disposition


def _derive_disposition(
    primary: tuple[str, ...], incremental: bool, incremental_parent: str | None
) -> Disposition:
    if primary:
        key = ", ".join(primary)
        return _derived_disposition(
            "merge", f"merge, because the resource has a primary key ({key})"
        )
    if incremental:
        return _derived_disposition(
            "append", "append, because the resource is incremental and has no primary key"
        )
    if incremental_parent:
        reason = (
            f"append, because its parent {incremental_parent} is incremental and it has no "
            "primary key"
        )
        return _derived_disposition("append", reason)
    return _derived_disposition(
        "replace", "replace, because the resource has neither a primary key nor a cursor"
    )


def _derived_disposition(value: DispositionName, reason: str) -> Disposition:
    return Disposition(value, None, derived=True, reason=reason)


def _name_and_strategy(given: Any) -> tuple[str, str | None]:
    if isinstance(given, dict):
        return str(given.get("disposition")), given.get("strategy")
    return str(given), None


def _check_keys(
    draft: MergedResource, strategy: str, primary: tuple[str, ...], merge: tuple[str, ...]
) -> None:
    if strategy in _STRATEGIES_BY_PRIMARY_KEY and not primary:
        needed = "a primary key"
    elif strategy == "delete-insert" and not primary and not merge:
        needed = "a primary key or a merge key"
    else:
        return
    draft.report(
        draft.place("write_disposition"),
        f"Merge ({strategy}) needs {needed}, and {quoted_name(draft.name)} has none: rows would "
        "pile up",
        fix='Add "primary_key": "id" (the column that identifies a row), or write "append"',
        code="deliberate:merge-without-key",
    )


def _check_replace(
    draft: MergedResource, incremental: bool, incremental_parent: str | None
) -> None:
    if incremental_parent:
        draft.report(
            draft.place("write_disposition"),
            f"Replace would drop the rows of all parents that {quoted_name(incremental_parent)}, "
            "which is incremental, doesn't bring this time",
            fix='Add "primary_key" and write "merge", or write "append"',
            code="deliberate:replace-below-incremental",
        )
    elif incremental:
        draft.report(
            draft.place("write_disposition"),
            "With replace and a cursor, each run leaves only the newest rows in the table",
            fix='Leave out `incremental`, or write "merge" or "append"',
            severity="warning",
        )


def check_table_hints(draft: MergedResource) -> None:
    """Reports what dlt refuses in the hints when it builds the resource or makes the table."""
    given = draft.resource.get("write_disposition")
    if isinstance(given, dict) and given.get("strategy") in MERGE_STRATEGIES:
        _check_strategy(draft, given)
    for index, reference in enumerate(draft.resource.get("references") or ()):
        ours, theirs = reference.get("columns", []), reference.get("referenced_columns", [])
        if not (reference.get("referenced_table") and ours and len(ours) == len(theirs)):
            draft.report(
                (*draft.place("references"), index),
                "A reference names its columns, the other table, and as many columns there",
                fix='{"columns": ["customer_id"], "referenced_table": "customers", '
                '"referenced_columns": ["id"]}',
                code="deliberate:reference",
            )


def _check_strategy(draft: MergedResource, given: dict[str, Any]) -> None:
    from restsource_dagster.connector.validation.dlt_rules import merge_strategy_findings

    draft.findings.extend(merge_strategy_findings(given, draft.place("write_disposition")))
