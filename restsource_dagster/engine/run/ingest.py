"""Loads the resources of a connector from their stored cursors: a live run.

Families that are small and already fetched share a load package, a *load group*.
"""

import math
import re
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, cast

import dlt

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.destination.replace_rows import can_replace_rows
from restsource_dagster.engine.http.cancellation import Sleep
from restsource_dagster.engine.incremental.cursor_overrides import (
    AppliedOverrides,
    CursorOverrides,
    apply_overrides,
    check_resources_exist,
)
from restsource_dagster.engine.run.family_load import (
    ConnectorRun,
    LoadOptions,
    SelectedFamily,
    open_connector_run,
)
from restsource_dagster.engine.run.family_prefetch import FamilyPrefetch
from restsource_dagster.engine.run.outcome import Observer, Outcome
from restsource_dagster.settings import Settings

__all__ = ["group_families", "ingest"]


def ingest(
    connector: Connector,
    *,
    settings: Settings,
    environment: Mapping[str, str],
    resources: Collection[str] | None = None,
    observer: Observer | None = None,
    sleep: Sleep | None = None,
    live_from: Mapping[str, Any] | None = None,
    full_refresh: Collection[str] = (),
    set_cursor: Mapping[str, Any] | None = None,
) -> Iterator[Outcome]:
    """Load the connector's resources, or the named ones; yield an outcome for each.

    `live_from` has, by resource, the cursor value at which the live stream starts if no cursor is
    stored; rows before it are loaded by the resource's backfill. `full_refresh` names resources whose
    cursor is reset and whose rows are replaced. `set_cursor` replaces stored cursors before the run.
    These changes are stored only if the load succeeds.

    Outcomes come family by family; a failure is an outcome, not an exception. Raises, before the
    first request, `UnknownResourceError`, `IngestError` for a cursor that can't be changed so,
    `MissingReferences` for variables of the file that the environment lacks, `ConnectorBusyError`.
    `sleep` replaces the wait, in seconds, before a request is retried.
    """
    wanted = _selected_names(connector, resources)
    overrides = CursorOverrides(live_from or {}, full_refresh, set_cursor or {})
    # before the lock: a wrong argument should not wait for another run
    overrides.check(connector, wanted)
    families = list(_select_families(connector, wanted))

    def overrides_for(run: ConnectorRun, selected: SelectedFamily) -> CursorOverrides:
        # what an earlier run left pending is known once the pipeline is open
        return overrides.for_family(run.pipelines.pending_overrides, selected.names)

    def prepare(run: ConnectorRun, pipeline: dlt.Pipeline, selected: SelectedFamily) -> LoadOptions:
        # the families after this one are fetched while it is loaded
        prefetch.prefetch_from(pipeline, selected)
        return LoadOptions(_override_cursors(overrides_for(run, selected), run, pipeline, selected))

    with open_connector_run(
        connector,
        settings,
        environment,
        observer,
        sleep,
        pipeline=connector.name,
        prepare=prepare,
    ) as run:
        prefetch = FamilyPrefetch(run, families, lambda one: overrides_for(run, one).is_empty)
        prefetch.start()
        yield from _load_groups(families, run, prefetch)


def _load_groups(
    families: Sequence[SelectedFamily], run: ConnectorRun, prefetch: FamilyPrefetch
) -> Iterator[Outcome]:
    for group in group_families(
        families,
        loads_from_cursor=prefetch.loads_from_cursor,
        wait_for_first_page=prefetch.wait_for_first_page,
        is_prefetched=lambda selected: run.endpoints.is_prefetched(selected.root),
    ):
        if len(group) == 1:
            yield from run.load(group[0])
        else:
            yield from run.load_group(group)
        for selected in group:
            # a prefetch that was not used holds memory and connections
            run.endpoints.cancel_family(selected.root)


def _select_families(connector: Connector, wanted: Collection[str]) -> Iterator[SelectedFamily]:
    for family in connector.families:
        selected = [member for member in family.members if member.name in wanted]
        if selected:
            yield SelectedFamily(family, selected)


def _override_cursors(
    overrides: CursorOverrides,
    run: ConnectorRun,
    pipeline: dlt.Pipeline,
    selected: SelectedFamily,
) -> AppliedOverrides:
    """Apply the overrides of a family to the pipeline's state."""
    if overrides.is_empty:
        return AppliedOverrides()
    plans = run.plans(selected)
    descending = {
        name
        for name in selected.names
        if (incremental := plans[name].incremental) and incremental.last_value_func is min
    }
    with pipeline.managed_state() as state:
        applied = apply_overrides(
            overrides,
            selected.family,
            selected.names,
            cast("dict[str, Any]", state),
            run.connector.name,
            descending=descending,
        )
    if not can_replace_rows(pipeline.destination):
        # a live stream that starts has an empty table, unless a person loaded a window before
        applied.deletions[:] = [
            deletion
            for deletion in applied.deletions
            if deletion.table not in applied.started_tables
        ]
    return applied


def _selected_names(connector: Connector, resources: Collection[str] | None) -> set[str]:
    if resources is None:
        return {resource.name for resource in connector.resources if resource.selected}
    check_resources_exist(connector, resources)
    return set(resources)


_MAX_GROUP_WAIT_SECONDS = 0.25
"""How long a fetched family waits for others: about what a load package costs."""
_NESTING_SEPARATOR = re.compile(r"__|[^A-Za-z0-9_-]")
"""Separates a nested table's name from its root's, in all of dlt's naming conventions."""


def group_families(
    families: Sequence[SelectedFamily],
    loads_from_cursor: Callable[[SelectedFamily], bool],
    wait_for_first_page: Callable[[SelectedFamily, float], object],
    is_prefetched: Callable[[SelectedFamily], bool],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Sequence[SelectedFamily]]:
    """Yield load groups: families in order, those that share a load package together.

    A package costs some tenths of a second, whatever is in it. Families share one if each has a
    single resource with tables of its own, loads from its cursor (`loads_from_cursor`) and has all
    its pages fetched (`is_prefetched`). `wait_for_first_page` is called before these two. It waits for
    the first page of a family, often the only one, for at most so many seconds.
    """

    def may_share(selected: SelectedFamily, seconds: float) -> bool:
        if len(selected.family.members) > 1:
            return False
        wait_for_first_page(selected, seconds)
        return loads_from_cursor(selected) and is_prefetched(selected)

    waiting = deque(families)
    while waiting:
        group = [waiting.popleft()]
        # the first family is loaded next in any case, so waiting for it costs nothing
        if waiting and may_share(group[0], math.inf):
            ends_at = clock() + _MAX_GROUP_WAIT_SECONDS
            while waiting and not _may_share_table(group, waiting[0]):
                # after the time is up the wait is 0 or less: a fetched family still joins
                if not may_share(waiting[0], ends_at - clock()):
                    break
                group.append(waiting.popleft())
        yield group


def _may_share_table(group: Sequence[SelectedFamily], other: SelectedFamily) -> bool:
    """Return True if a table of the other family, nested ones included, may be one of the group's.

    The naming convention isn't known here, so names that any of them makes equal are equal.
    """
    table = other.family.root.table
    return any(_may_be_same_table(table, selected.family.root.table) for selected in group)


def _may_be_same_table(one: str, other: str) -> bool:
    shorter, longer = sorted((_folded_table_name(one), _folded_table_name(other)), key=len)
    if shorter == longer:
        return True
    may_nest = _NESTING_SEPARATOR.search(one) or _NESTING_SEPARATOR.search(other)
    return longer.startswith(shorter) and may_nest is not None


def _folded_table_name(table: str) -> str:
    """Return the part of a name that all of dlt's naming conventions keep."""
    return "".join(character for character in table.lower() if character.isalnum())
