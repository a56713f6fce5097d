"""Run a connector: extract, normalize and load its families."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, cast

import dlt

from restsource_dagster.config.connector import Connector, Family
from restsource_dagster.engine.errors import UnknownResourceError
from restsource_dagster.engine.family_run import FamilyRun, Preparation, Turn, opened_run
from restsource_dagster.engine.foresight import Foresight
from restsource_dagster.engine.http.leash import Sleep
from restsource_dagster.engine.moves import Moves, move
from restsource_dagster.engine.outcome import Observer, Outcome
from restsource_dagster.engine.replacing import can_replace
from restsource_dagster.engine.starts import Starts
from restsource_dagster.engine.turns import in_turn
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
    wanted = _wanted(connector, resources)
    starts = Starts(live_from or {}, full_refresh, set_cursor or {})
    starts.check(connector, wanted)

    turns = list(_turns(connector, wanted))

    def prepare(
        run: FamilyRun, pipeline: dlt.Pipeline, family: Family, names: Collection[str]
    ) -> Preparation:
        foresight.look(run, pipeline, family)
        asked = starts.of_family(run.pipelines.unfinished, names)
        return Preparation(_moved(asked, run, pipeline, family, names))

    with opened_run(
        connector,
        settings,
        environment,
        observer,
        sleep,
        pipeline=connector.name,
        prepare=prepare,
    ) as run:
        foresight = Foresight(
            [(turn.family, turn.names) for turn in turns],
            lambda names: starts.of_family(run.pipelines.unfinished, names).is_empty,
        )
        foresight.begin(run)
        for together in in_turn(
            turns,
            is_plain=lambda turn: foresight.is_plain(turn.names),
            wait_for_first=lambda turn, most: foresight.wait_for_first(run, turn.family, most),
            is_read=lambda turn: run.maker.is_read(turn.family.root.name),
        ):
            if len(together) == 1:
                yield from run.load(together[0])
            else:
                yield from run.load_together(together)
            for turn in together:
                run.maker.end_family(turn.family.root.name)


def _turns(connector: Connector, wanted: Collection[str]) -> Iterator[Turn]:
    for family in connector.families:
        selected = [member for member in family.members if member.name in wanted]
        if selected:
            yield Turn(family, selected)


def _moved(
    starts: Starts, run: FamilyRun, pipeline: dlt.Pipeline, family: Family, names: Collection[str]
) -> Moves:
    if starts.is_empty:
        return Moves()
    falling = {
        name
        for name in names
        for plan in run.plans(family, [name]).values()
        if plan.resource.name == name and plan.incremental
        if plan.incremental.last_value_func is min
    }
    with pipeline.managed_state() as state:
        moves = move(
            starts,
            family,
            names,
            cast("dict[str, Any]", state),
            run.connector.name,
            falling=falling,
        )
    if not can_replace(pipeline.destination):
        # where the live stream begins nothing is there yet, unless a person has loaded it
        moves.replacements[:] = [one for one in moves.replacements if one.table not in moves.begun]
    return moves


def _wanted(connector: Connector, resources: Collection[str] | None) -> set[str]:
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
