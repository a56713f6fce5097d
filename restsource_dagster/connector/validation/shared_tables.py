"""Rules of resources that load into one table: all have the same key, and no load removes another's rows."""

from collections.abc import Iterator, Sequence

from restsource_dagster.connector.model import Resource
from restsource_dagster.connector.models.fields import as_json
from restsource_dagster.connector.validation.diagnostics import quoted_list, quoted_name
from restsource_dagster.connector.validation.merged_resource import MergedResource

__all__ = ["check_shared_tables"]

_STRATEGIES = (None, "delete-insert", "upsert")
"""Merges by which a row of one resource takes the place of a row of another."""
_OWN_HINTS = frozenset({"table_name", "write_disposition", "primary_key"})
"""Hints that may be written differently, and are compared by what they mean."""


def check_shared_tables(merged: Sequence[MergedResource], resources: Sequence[Resource]) -> None:
    """Refuse resources in one table whose loads would undo one another."""
    by_name = {one.name: one for one in merged}
    parents = {one.name: one.parent for one in resources}
    first: dict[str, Resource] = {}
    for resource in resources:
        earlier = first.setdefault(resource.table, resource)
        one = by_name[resource.name]
        if earlier is resource or not one.shares_table(by_name[earlier.name]):
            continue
        for problem, fix in _problems(earlier, resource, parents):
            one.report(
                one.place("table_name" if one.resource.table_name else "name"),
                f"{quoted_name(resource.name)} and {quoted_name(earlier.name)} load into the table "
                f"{quoted_name(resource.table)}, and {problem}",
                fix=fix,
                code="deliberate:shared-table",
            )
            break


def _problems(
    one: Resource, other: Resource, parents: dict[str, str | None]
) -> Iterator[tuple[str, str]]:
    """Yield why two resources can't share a table, each with what to do."""
    # without order: a merge compares the columns by name
    keys = [sorted(resource.primary_key) for resource in (one, other)]
    if not all(keys) or keys[0] != keys[1]:
        yield (
            "they need the same primary key",
            'Give both the same "primary_key", or one of them another "table_name"',
        )
    dispositions = {(each.disposition.value, each.disposition.strategy) for each in (one, other)}
    value, strategy = next(iter(dispositions))
    if len(dispositions) > 1 or value != "merge" or strategy not in _STRATEGIES:
        yield (
            "only a merge of both leaves the other's rows in place (delete-insert or upsert)",
            'Write "merge" for both, or give one of them another "table_name"',
        )
    if _root(one.name, parents) == _root(other.name, parents):
        yield (
            "one of them depends on the other, or both on one parent, so that one load has both",
            'Give one of them another "table_name"',
        )
    if any(each.endpoint.token and each.endpoint.token.reset_on for each in (one, other)):
        yield (
            "a token that is reset would replace the rows of both",
            'Leave "reset_on" out, or give one of them another "table_name"',
        )
    if different := sorted(_different_hints(one, other)):
        yield (
            f"they describe it differently: {quoted_list(different, 'and')}",
            "Write the same for both, or write it in `resource_defaults`",
        )


def _deletes(resource: Resource) -> str | None:
    """Return what becomes of deleted rows; None if nothing says which are."""
    return None if resource.deleted_when is None else resource.on_delete


def _root(name: str, parents: dict[str, str | None]) -> str:
    seen = {name}
    while (parent := parents.get(name)) is not None and parent not in seen:
        seen.add(parent)
        name = parent
    return name


def _different_hints(one: Resource, other: Resource) -> Iterator[str]:
    ours, theirs = as_json(one.hints), as_json(other.hints)
    # dlt merges the hints of both into one table: which of two wins would depend on the last run
    for name in (ours.keys() | theirs.keys()) - _OWN_HINTS:
        if ours.get(name) != theirs.get(name):
            yield name
    if _deletes(one) != _deletes(other):
        yield "on_delete"
    if one.max_table_nesting != other.max_table_nesting:
        yield "max_table_nesting"
