"""Whether a table and the memory of what it holds still belong together.

A table that rows are appended to is right only if every row in it was remembered. If the file
changes how a table is loaded, the rows that are there may come again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from restsource_dagster.engine.cursor_state import beginning_of
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.plans import ResourcePlan
from restsource_dagster.engine.positions import SEEN

__all__ = ["check_continuity"]

State = Mapping[str, Any]


def check_continuity(
    plans: Mapping[str, ResourcePlan],
    state: State,
    count_rows: Callable[[str], int | None],
    *,
    family: Mapping[str, ResourcePlan] | None = None,
) -> None:
    """Refuse to append rows that may be in the table already.

    `state` is dlt's state of the connector's source, `family` all plans of the family if there are
    more than those to look at. Raises `IngestError` naming the table.
    """
    for plan in plans.values():
        name = plan.resource.name
        known = state.get("resources", {}).get(name, {})
        if not plan.loaded or not plan.appends or _is_remembered(plan, family or plans, known):
            continue
        if count_rows(plan.resource.table):
            error = IngestError(
                f"resource {name}: the table {plan.resource.table} has rows from before it was "
                "appended to by this cursor, and nobody can tell which of them the API would send "
                'again. Give it another "table_name", or a "primary_key" so that rows are merged, '
                "or empty the table."
            )
            error.resource = name
            raise error


def _is_remembered(plan: ResourcePlan, plans: Mapping[str, ResourcePlan], known: State) -> bool:
    """Whether rows are appended without a cursor anyway, or the state knows those of the table."""
    ours = known.get("restsource", {})
    incremental = plan.incremental
    if incremental is not None:
        if incremental.end_value is not None:
            return True
        if incremental.range_start == "open" and not incremental.lag:
            return bool(known.get("incremental", {}).get(incremental.cursor_path))
        if _is_at_its_beginning(ours, known, incremental.cursor_path):
            return True
        if ours.get("table", plan.resource.table) != plan.resource.table:
            return False
        single = known.get("incremental", {}).get(incremental.cursor_path, {})
        parents = ours.get("parents", {}).get(incremental.cursor_path, {})
        return any(_has_rows(one) for one in (single, *parents.values()))
    above = list(_incremental_above(plan, plans))
    follows = ours.get("follows", {})
    return not above or any(_has_rows(one) for one in _positions(follows, above))


def _is_at_its_beginning(ours: State, known: State, path: str) -> bool:
    """Whether nothing was had since the stream's beginning; older rows are not read again."""
    last = known.get("incremental", {}).get(path, {}).get("last_value")
    begins = beginning_of(ours)
    return begins is not None and last in (None, begins)


def _incremental_above(
    plan: ResourcePlan, plans: Mapping[str, ResourcePlan]
) -> Iterator[ResourcePlan]:
    parent = plan.resource.parent
    while parent:
        above = plans[parent]
        if above.incremental is not None and above.incremental.end_value is None:
            yield above
        parent = above.resource.parent


def _positions(follows: State, above: Iterable[ResourcePlan]) -> Iterator[State]:
    for plan in above:
        for states in follows.get(plan.resource.name, {}).values():
            yield from states.values()


def _has_rows(state: State) -> bool:
    return bool(state.get(SEEN) or state.get("unique_hashes"))
