"""Run a connector: extract, normalize and load its families."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, cast

import dlt

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.resources import Family
from restsource_dagster.engine.destination.replace_rows import can_replace_rows
from restsource_dagster.engine.errors import UnknownResourceError
from restsource_dagster.engine.http.cancellation import Sleep
from restsource_dagster.engine.incremental.cursor_overrides import (
    AppliedOverrides,
    CursorOverrides,
    apply_overrides,
)
from restsource_dagster.engine.run.family_load import (
    ConnectorRun,
    LoadOptions,
    SelectedFamily,
    open_connector_run,
)
from restsource_dagster.engine.run.family_prefetch import FamilyPrefetch
from restsource_dagster.engine.run.load_groups import group_families
from restsource_dagster.engine.run.outcome import Observer, Outcome
from restsource_dagster.settings import Settings

__all__ = ["ingest"]


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
    """Load the connector's resources, or the named ones, and yield an outcome for each.

    `live_from` is, by resource, the cursor value at which the live stream starts if no cursor is
    stored yet; what is before belongs to the resource's history. `full_refresh` are resources whose
    cursor starts anew and whose rows are replaced by those that come; `set_cursor` gives a stored
    cursor another value before the run. Either counts only if the load succeeds.

    Outcomes come as their families end; a failure is an outcome, not an exception. Raises
    `UnknownResourceError`, `IngestError` for a cursor that can't be changed so, `MissingReferences`
    for variables of the file that the environment lacks, `ConnectorBusyError`; all before anything
    was requested. `sleep` waits, in seconds, before a request is tried again.
    """
    wanted = _selected_names(connector, resources)
    starts = CursorOverrides(live_from or {}, full_refresh, set_cursor or {})
    starts.check(connector, wanted)

    turns = list(_select_families(connector, wanted))

    def prepare(
        run: ConnectorRun, pipeline: dlt.Pipeline, family: Family, names: Collection[str]
    ) -> LoadOptions:
        foresight.look(run, pipeline, family)
        asked = starts.for_family(run.pipelines.unfinished, names)
        return LoadOptions(_override_cursors(asked, run, pipeline, family, names))

    with open_connector_run(
        connector,
        settings,
        environment,
        observer,
        sleep,
        pipeline=connector.name,
        prepare=prepare,
    ) as run:
        foresight = FamilyPrefetch(
            [(turn.family, turn.names) for turn in turns],
            lambda names: starts.for_family(run.pipelines.unfinished, names).is_empty,
        )
        foresight.begin(run)
        for together in group_families(
            turns,
            is_plain=lambda turn: foresight.is_plain(turn.names),
            wait_for_first=lambda turn, most: foresight.wait_for_first(run, turn.family, most),
            is_read=lambda turn: run.endpoints.is_read(turn.family.root.name),
        ):
            if len(together) == 1:
                yield from run.load(together[0])
            else:
                yield from run.load_group(together)
            for turn in together:
                run.endpoints.end_family(turn.family.root.name)


def _select_families(connector: Connector, wanted: Collection[str]) -> Iterator[SelectedFamily]:
    for family in connector.families:
        selected = [member for member in family.members if member.name in wanted]
        if selected:
            yield SelectedFamily(family, selected)


def _override_cursors(
    starts: CursorOverrides,
    run: ConnectorRun,
    pipeline: dlt.Pipeline,
    family: Family,
    names: Collection[str],
) -> AppliedOverrides:
    if starts.is_empty:
        return AppliedOverrides()
    falling = {
        name
        for name in names
        for plan in run.plans(family, [name]).values()
        if plan.resource.name == name and plan.incremental
        if plan.incremental.last_value_func is min
    }
    with pipeline.managed_state() as state:
        moves = apply_overrides(
            starts,
            family,
            names,
            cast("dict[str, Any]", state),
            run.connector.name,
            falling=falling,
        )
    if not can_replace_rows(pipeline.destination):
        # where the live stream begins nothing is there yet, unless a person has loaded it
        moves.replacements[:] = [one for one in moves.replacements if one.table not in moves.begun]
    return moves


def _selected_names(connector: Connector, resources: Collection[str] | None) -> set[str]:
    known = [resource.name for resource in connector.resources]
    if resources is None:
        return {resource.name for resource in connector.resources if resource.selected}
    unknown = sorted(set(resources) - set(known))
    if unknown:
        raise UnknownResourceError(
            f"connector {connector.name} has no resource {', '.join(unknown)}; "
            f"it has {', '.join(known)}"
        )
    return set(resources)
