"""Rules about deleted rows: what says that they are, and where the table can follow."""

from collections.abc import Iterator, Sequence

from restsource_dagster.connector.model import Resource
from restsource_dagster.connector.models.deletes import DELETED_AT
from restsource_dagster.connector.validation.diagnostics import Finding
from restsource_dagster.connector.validation.merged_resource import MergedResource

__all__ = ["check_deletes"]

_STRATEGIES = (None, "delete-insert", "upsert")
"""Merges after which the table has the rows as they are now."""


def check_deletes(
    merged_resources: Sequence[MergedResource],
    resources: Sequence[Resource],
    structural: Sequence[Finding],
) -> None:
    """Refuse `deleted_when` where no row is found by its key, or where it leaves other rows behind.

    `structural` are the findings about the form of fields, whose values are left out here.
    """
    malformed = {finding.pointer for finding in structural}
    by_name = {merged.name: merged for merged in merged_resources}
    parents = {resource.parent for resource in resources}
    for resource in resources:
        merged = by_name[resource.name]
        if resource.deleted_when is not None:
            problems = _problems(resource, is_parent=resource.name in parents)
        elif (
            "on_delete" in merged.resource.given
            and f"{resource.pointer}/deleted_when" not in malformed
        ):
            problems = iter((("Nothing says which rows are deleted", 'Add "deleted_when"'),))
        else:
            continue
        place = "on_delete" if resource.deleted_when is None else "deleted_when"
        for problem, fix in problems:
            merged.report(
                merged.place(place), problem, fix=fix, code="deliberate:deletes", on_key=True
            )
            break


def _problems(resource: Resource, *, is_parent: bool) -> Iterator[tuple[str, str]]:
    """Yield why deleted rows can't leave the table, or be marked in it, each with what to do."""
    value, strategy = resource.disposition.value, resource.disposition.strategy
    if value == "replace":
        yield (
            "The table is replaced by each load, and nothing has to be removed from it",
            'Leave such records out: "processing_steps": [{"filter": "(CONDITION) | not"}]',
        )
    elif value != "merge" or strategy not in _STRATEGIES:
        yield (
            f"A deleted row is found by its key in a merge; this is {strategy or value}",
            'Add a "primary_key", and leave `write_disposition` out',
        )
    elif not resource.primary_key:
        yield "A deleted row is found by its primary key, and there is none", 'Add a "primary_key"'
    if resource.hints.has_hard_delete:
        yield (
            "A column has `hard_delete`, and one thing says which rows are deleted",
            "Leave one out",
        )
    if DELETED_AT in resource.hints.columns_by_name:
        yield f"`{DELETED_AT}` is the column that this fills in", "Leave the column out"
    if is_parent and resource.on_delete == "remove":
        yield (
            "The rows of dependents below a removed row would stay",
            'Write "on_delete": "mark", or leave it out',
        )
