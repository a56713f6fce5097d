"""Which checks the table of a resource has: those that its file gives, and those that cost next to nothing.

`check`, the engine and Dagster's assets all ask `checks_of`. A check that a resource gives itself and can't have
is refused, with the reason.
"""

from collections.abc import Mapping, Sequence

from restsource_dagster.connector.cursor_format import CursorValueError, detect_cursor_format
from restsource_dagster.connector.model import Resource
from restsource_dagster.connector.models.checks import (
    CheckSettings,
    CompletenessCheck,
    PrimaryKeyCheck,
    RowsCheck,
    SchemaDriftCheck,
)
from restsource_dagster.connector.validation.merged_resource import MergedResource

__all__ = ["CHECK_NAMES", "check_table_checks", "checks_of", "may_ask_table", "why_impossible"]

CHECK_NAMES = ("primary_key", "completeness", "schema_drift", "rows", "lag")
"""The checks that have a result after each load."""
_DEFAULTS: Mapping[str, CheckSettings] = {
    "primary_key": PrimaryKeyCheck(),
    "completeness": CompletenessCheck(),
    "schema_drift": SchemaDriftCheck(),
    "rows": RowsCheck(),
}
_QUERIED_BY_DEFAULT = ("duckdb", "postgres")
"""Types of destinations where a query costs no money."""


def checks_of(
    resource: Resource, destination: str, *, by_default: bool = True
) -> dict[str, CheckSettings]:
    """Return the checks of a resource's table by name, in the order of `CHECK_NAMES`.

    `destination` is dlt's type of it, such as `postgres`. Without `by_default`, only what the file gives.
    """
    found = {}
    for name in CHECK_NAMES:
        given = getattr(resource.checks, name)
        if given is None and by_default and _is_default(resource, name, destination):
            given = _DEFAULTS.get(name)
        # A check of `resource_defaults` holds for the resources that can have it.
        if isinstance(given, CheckSettings) and why_impossible(resource, name) is None:
            found[name] = given
    return found


def may_ask_table(resource: Resource, name: str, destination: str) -> bool:
    """True if a check may query the table: it costs no money, or the file asks for the check."""
    return destination in _QUERIED_BY_DEFAULT or bool(getattr(resource.checks, name))


def why_impossible(resource: Resource, name: str) -> tuple[str, str] | None:
    """Return why a resource can't have a check, and what to do about it; None if it can."""
    if not resource.selected or resource.disposition.value == "skip":
        return "The resource isn't loaded, so there is nothing to check", "Leave it out"
    if name == "primary_key":
        if not resource.primary_key:
            return "The table has no primary key", 'Add "primary_key", or leave the check out'
        if resource.disposition.strategy == "scd2":
            return (
                "With `scd2` the table has a row for each version, so keys come several times",
                "Leave it out",
            )
    if name == "lag" and not _has_time_cursor(resource):
        return (
            "Only a resource with an incremental cursor that is a time has a lag",
            "Leave it out",
        )
    return None


def _is_default(resource: Resource, name: str, destination: str) -> bool:
    if name == "primary_key":
        # Appended rows may have a key several times: once for each change of a record.
        is_kept_unique = resource.disposition.value in ("merge", "replace")
        return is_kept_unique and destination in _QUERIED_BY_DEFAULT
    return True


def _has_time_cursor(resource: Resource) -> bool:
    cursor = resource.incremental
    if cursor is None:
        return False
    # Without a usable value the first row decides, in a run.
    try:
        return cursor.sample is None or detect_cursor_format(cursor.sample).is_time
    except CursorValueError:
        return True


def check_table_checks(
    merged_resources: Sequence[MergedResource], resources: Sequence[Resource]
) -> None:
    """Report each check that a resource gives and can't have.

    Those of `resource_defaults` hold for the resources that can have them.
    """
    by_name = {resource.name: resource for resource in resources}
    tables = [resource.table for resource in resources]
    for merged in merged_resources:
        resource, given = by_name.get(merged.name), merged.given.checks
        if resource is None or given is None:
            continue
        for name in CHECK_NAMES:
            check = getattr(given, name)
            if isinstance(check, CheckSettings) and (found := why_impossible(resource, name)):
                message, fix = found
                merged.report(
                    (*merged.at, "checks", name), message, fix=fix, code="deliberate:checks"
                )
        if _counts_shared_table(given.completeness, tables.count(resource.table)):
            merged.report(
                (*merged.at, "checks", "completeness", "counts"),
                "Other resources load into the same table, so its rows are not those of this one",
                fix='Write "query", or leave it out',
                code="deliberate:checks",
            )


def _counts_shared_table(completeness: object, users: int) -> bool:
    return (
        isinstance(completeness, CompletenessCheck) and completeness.counts == "table" and users > 1
    )
