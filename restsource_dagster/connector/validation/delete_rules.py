"""Rules about deleted rows: what says that they are, and where the table can follow."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from restsource_dagster.connector.model import DeletesIn, Resource, families_of
from restsource_dagster.connector.models.deletes import DELETED_AT, DeletesFrom
from restsource_dagster.connector.models.processing_steps import removed_fields
from restsource_dagster.connector.naming import key_column
from restsource_dagster.connector.validation.diagnostics import (
    Finding,
    nearest_name,
    quoted_list,
    quoted_name,
)
from restsource_dagster.connector.validation.merged_resource import MergedResource

__all__ = ["check_deletes", "why_not_listed"]

_STRATEGIES = (None, "delete-insert", "upsert")
"""Merges after which the table has the rows as they are now."""
_FIELDS = ("deleted_when", "deletes_from", "sweep")


def check_deletes(
    merged_resources: Sequence[MergedResource],
    resources: Sequence[Resource],
    structural: Sequence[Finding],
) -> tuple[Resource, ...]:
    """Return the resources, each with the tables whose deleted rows its records name (`deletes_in`).

    Refuses `deleted_when` and `deletes_from` where no row is found by its key, or where other rows would
    stay without it. `structural` are the findings about the form of fields, whose values are left out here.
    """
    by_name = {resource.name: resource for resource in resources}
    parents = {resource.parent for resource in resources}
    tables = [resource.table for resource in resources]
    # the blocks become those of the resources after these rules
    with_backfill = {one.name for one in merged_resources if one.resource.backfill is not None}
    malformed = {finding.pointer for finding in structural}
    for merged in merged_resources:
        resource = by_name.get(merged.name)
        if resource is None:
            continue
        for field in _FIELDS:
            if getattr(resource, field) is None:
                continue
            problems = [
                *_problems(resource, field, is_parent=resource.name in parents),
                *(_problems_of_sweep(resource, tables, with_backfill) if field == "sweep" else ()),
                *(
                    _problems_of_source(resource, by_name, with_backfill)
                    if field == "deletes_from"
                    else ()
                ),
            ]
            # one at a time: what helps against the first often changes the rest
            _report(merged, field, problems[:1])
        # a field with a wrong form is left out here, and would count as one that the file lacks
        is_malformed = any(f"{resource.pointer}/{field}" in malformed for field in _FIELDS)
        if "on_delete" in merged.resource.given and not is_malformed:
            given = any(getattr(resource, field) is not None for field in _FIELDS)
            missing = (
                "Nothing says which rows are deleted",
                'Add "deleted_when", "deletes_from" or "sweep"',
            )
            _report(merged, "on_delete", () if given else (missing,))
    return _with_deletes(resources)


def _report(merged: MergedResource, field: str, problems: Sequence[tuple[str, str]]) -> None:
    for problem, fix in problems:
        merged.report(merged.place(field), problem, fix=fix, code="deliberate:deletes", on_key=True)


def _problems(resource: Resource, field: str, *, is_parent: bool) -> Iterator[tuple[str, str]]:
    """Yield why deleted rows can't leave the table, or be marked in it, each with what to do."""
    value, strategy = resource.disposition.value, resource.disposition.strategy
    if value == "replace":
        yield (
            "The table is replaced by each load, and nothing has to be removed from it",
            'Leave such records out: "processing_steps": [{"filter": "(CONDITION) | not"}]'
            if field == "deleted_when"
            else "Leave it out",
        )
    elif value != "merge" or strategy not in _STRATEGIES:
        yield (
            f"A deleted row is found by its key in a merge; this is {strategy or value}",
            'Add a "primary_key", and leave `write_disposition` out',
        )
    elif not resource.primary_key:
        yield "A deleted row is found by its primary key, and there is none", 'Add a "primary_key"'
    if field == "deleted_when" and resource.hints.has_hard_delete:
        yield (
            "A column has `hard_delete`, and one thing says which rows are deleted",
            "Leave one out",
        )
    # dlt would take the file's type for it, which may hold no time
    if DELETED_AT in resource.hints.columns_by_name:
        yield f"`{DELETED_AT}` is the column that this fills in", "Leave the column out"
    # nothing names the rows below: the key of the removed row is in none of their columns
    if is_parent and resource.on_delete == "remove":
        yield (
            "The rows of dependents below a removed row would stay",
            'Write "on_delete": "mark", or leave it out',
        )


def _problems_of_source(
    resource: Resource, by_name: Mapping[str, Resource], with_backfill: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield why another resource can't say which rows are deleted, each with what to do."""
    given = resource.deletes_from or DeletesFrom.of({"resource": ""})
    source = by_name.get(given.resource)
    if source is None:
        others = sorted(by_name.keys() - {resource.name})
        close = nearest_name(given.resource, others)
        yield (
            f"There is no resource {quoted_name(given.resource)}",
            f'Write "{close}"' if close else f"Write one of {quoted_list(others)}",
        )
        return
    # rows are removed before a load, so one that it brings again stays
    if _root_of(source, by_name) == _root_of(resource, by_name):
        yield (
            "Both are loaded together, and a deleted row could come back in the same load",
            "Name a resource of another family; one that doesn't depend on the same parent",
        )
    if source.table == resource.table:
        yield (
            "Both load into one table, where a record can say itself that it is deleted",
            f'Leave it out, and write "deleted_when": "true" in {quoted_name(source.name)}',
        )
    if not source.selected:
        yield (
            f"{quoted_name(source.name)} has `selected`: false, so runs don't read the keys",
            f"Leave `selected` of {quoted_name(source.name)} out",
        )
    if source.deletes_from is not None:
        yield "A resource that names deleted rows has none deleted itself", "Leave one out"
    # live runs read deletions in their order, a backfill reads them years later
    if source.name in with_backfill:
        yield (
            "A backfill of old deletions would remove rows that came back since",
            f"Leave the `backfill` of {quoted_name(source.name)} out",
        )
    fields = given.fields or list(resource.primary_key)
    if len(fields) != len(resource.primary_key):
        yield (
            f"`fields` hold the primary key, which has {len(resource.primary_key)} columns",
            f"Name the fields that hold {quoted_list(resource.primary_key, 'and')}",
        )
    removed = removed_fields(source.processing_steps)
    for name in fields:
        if name.partition(".")[0] in removed:
            yield f"The steps of {quoted_name(source.name)} leave out {name}", "Keep the field"


def _problems_of_sweep(
    resource: Resource, tables: Sequence[str], with_backfill: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield why a list of keys is not the whole table, each with what to do."""
    if why := why_not_listed(resource, shares_table=tables.count(resource.table) > 1):
        yield f"No list has all rows of the table: {why}", "Leave it out"
    if resource.name in with_backfill:
        yield (
            "A backfill loads rows that are older than those the list begins with",
            "Leave `sweep` or `backfill` out",
        )


def why_not_listed(resource: Resource, *, shares_table: bool) -> str | None:
    """Return why no list of keys is that of the whole table; None if one is."""
    endpoint, cursor = resource.endpoint, resource.incremental
    cases = (
        (not resource.primary_key, "it has no primary key"),
        (resource.parent is not None, "its rows come in calls for each record of a parent"),
        (bool(endpoint.for_each), "its rows come in calls for each value of a list"),
        (endpoint.token is not None, "its API says only what changed"),
        (endpoint.job is not None, "its rows come from an export"),
        (
            endpoint.has_relative_times,
            "it asks for a range of time that moves, and the table has more",
        ),
        (
            cursor is not None and cursor.end_value is not None,
            "its API is asked for one range only",
        ),
        (bool(cursor and cursor.window), "its API is asked for one range of time after the other"),
        (shares_table, "other resources load into the same table"),
    )
    return next((why for holds, why in cases if holds), None)


def _root_of(resource: Resource, by_name: Mapping[str, Resource]) -> str:
    families = families_of(by_name.values())
    found = (family.root.name for family in families if resource.name in family.names)
    return next(found, resource.name)


def _with_deletes(resources: Sequence[Resource]) -> tuple[Resource, ...]:
    deletes: dict[str, list[DeletesIn]] = {}
    for resource in resources:
        if (given := resource.deletes_from) is not None:
            key = tuple(map(key_column, resource.primary_key))
            fields = tuple(given.fields or resource.primary_key)
            found = DeletesIn(resource.table, key, fields, resource.on_delete)
            deletes.setdefault(given.resource, []).append(found)
    return tuple(
        replace(resource, deletes_in=tuple(deletes[resource.name]))
        if resource.name in deletes
        else resource
        for resource in resources
    )
