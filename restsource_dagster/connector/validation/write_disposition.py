"""The write disposition of a resource: as the file says, or derived from keys and cursors."""

from functools import lru_cache

from restsource_dagster.connector.models.table_hints import DispositionName, PlainDisposition
from restsource_dagster.connector.resources import Disposition
from restsource_dagster.connector.validation.diagnostics import quoted_name
from restsource_dagster.connector.validation.dlt_rules import merge_strategy_findings
from restsource_dagster.connector.validation.merged_resource import MergedResource

__all__ = ["check_table_hints", "disposition_of"]

_STRATEGIES_BY_PRIMARY_KEY = ("upsert", "insert-only", "cdc")


def disposition_of(merged: MergedResource, incremental_parent: str | None) -> Disposition:
    """Return the write disposition and its reason; report refusals.

    `incremental_parent` names the nearest of its parents that has a cursor.
    """
    given, incremental = merged.resource.write_disposition, merged.endpoint.cursor is not None
    primary, merge = (merged.resource.key_columns(hint) for hint in ("primary_key", "merge_key"))
    if given is None:
        return _derive_disposition(primary, incremental, incremental_parent)
    value: DispositionName = given if isinstance(given, str) else given.disposition
    strategy = None if isinstance(given, str) else getattr(given, "strategy", None)
    where = "" if merged.is_own("write_disposition") else " in `resource_defaults`"
    reason = f"{value}, as the file says{where}"
    disposition = Disposition(value, strategy, derived=False, reason=reason)
    if value == "merge":
        _check_keys(merged, strategy or "delete-insert", primary, merge)
    if value == "replace":
        _check_replace(merged, incremental, incremental_parent)
    return disposition


@lru_cache(maxsize=4096)  # most resources of a code location have one of a few
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


def _check_keys(
    merged: MergedResource, strategy: str, primary: tuple[str, ...], merge: tuple[str, ...]
) -> None:
    if strategy in _STRATEGIES_BY_PRIMARY_KEY and not primary:
        needed = "a primary key"
    elif strategy == "delete-insert" and not primary and not merge:
        needed = "a primary key or a merge key"
    else:
        return
    merged.report(
        merged.place("write_disposition"),
        f"Merge ({strategy}) needs {needed}, and {quoted_name(merged.name)} has none: rows would "
        "pile up",
        fix='Add "primary_key": "id" (the column that identifies a row), or write "append"',
        code="deliberate:merge-without-key",
    )


def _check_replace(
    merged: MergedResource, incremental: bool, incremental_parent: str | None
) -> None:
    if incremental_parent:
        merged.report(
            merged.place("write_disposition"),
            f"Replace would drop the rows of all parents that {quoted_name(incremental_parent)}, "
            "which is incremental, doesn't bring this time",
            fix='Add "primary_key" and write "merge", or write "append"',
            code="deliberate:replace-below-incremental",
        )
    elif incremental:
        merged.report(
            merged.place("write_disposition"),
            "With replace and a cursor, each run leaves only the newest rows in the table",
            fix='Leave out `incremental`, or write "merge" or "append"',
            severity="warning",
        )


def check_table_hints(merged: MergedResource) -> None:
    """Report what dlt refuses in the hints when it builds the resource or makes the table."""
    given = merged.resource.write_disposition
    if isinstance(given, PlainDisposition):
        merged.findings.extend(merge_strategy_findings(given, merged.place("write_disposition")))
    for index, reference in enumerate(merged.resource.references or ()):
        ours, theirs = reference.columns, reference.referenced_columns
        if not (reference.referenced_table and ours and len(ours) == len(theirs)):
            merged.report(
                (*merged.place("references"), index),
                "A reference names its columns, the other table, and as many columns there",
                fix='{"columns": ["customer_id"], "referenced_table": "customers", '
                '"referenced_columns": ["id"]}',
                code="deliberate:reference",
            )
