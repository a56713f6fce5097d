"""One run of a connector: families loaded one after the other, or several in one go.

A family (a resource and its dependents) is in one load package: its rows and its cursors arrive
together or not at all. A failed family does not touch the others.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import dlt

from restsource_dagster.config.connector import Connector, Family, Resource
from restsource_dagster.config.references import resolve_rest_api_config
from restsource_dagster.engine.changes import read_tables
from restsource_dagster.engine.columnar.parts import Parts
from restsource_dagster.engine.configuration import configure_dlt
from restsource_dagster.engine.continuity import check_continuity
from restsource_dagster.engine.destination import open_warehouse
from restsource_dagster.engine.endpoints import EndpointMaker
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.failures import failed_outcome, reason_of
from restsource_dagster.engine.http.leash import Sleep
from restsource_dagster.engine.loaded_outcomes import Before, outcomes_of
from restsource_dagster.engine.moves import Moves
from restsource_dagster.engine.outcome import Observer, Outcome, Silent
from restsource_dagster.engine.pipelines import Loaded, Pipelines
from restsource_dagster.engine.plans import ResourcePlan, read_plans
from restsource_dagster.engine.progress import Progress
from restsource_dagster.engine.redaction import Redactor
from restsource_dagster.engine.secrets import secrets_of
from restsource_dagster.engine.source import FamilySource, build_family_source, joined
from restsource_dagster.engine.window_rows import Window
from restsource_dagster.engine.workspace import connector_workspace
from restsource_dagster.settings import Settings

__all__ = ["FamilyRun", "Preparation", "Prepare", "Turn", "opened_run"]


@dataclass(frozen=True)
class Preparation:
    """What a family's load does beside loading new rows."""

    moves: Moves = field(default_factory=Moves)
    window: Window | None = None
    """The window of history that is loaded; None for a live run."""

    @property
    def ends(self) -> tuple[Any, Any] | None:
        """The ends of that window."""
        return (self.window.asked.start, self.window.asked.end) if self.window else None


Prepare = Callable[["FamilyRun", dlt.Pipeline, Family, Collection[str]], Preparation]
"""Is told the run, its pipeline, the family and the resources of it that are loaded."""


@contextmanager
def opened_run(
    connector: Connector,
    settings: Settings,
    environment: Mapping[str, str],
    observer: Observer | None,
    sleep: Sleep | None,
    *,
    pipeline: str,
    prepare: Prepare,
) -> Iterator["FamilyRun"]:
    """Hold the connector, and clean up afterwards. `pipeline` is the name of dlt's pipeline.

    Raises `MissingReferences` for variables of the file that the environment lacks and
    `ConnectorBusyError`.
    """
    config = resolve_rest_api_config(connector.rest_api_config(), environment)
    redactor = Redactor(secrets_of(connector.rest_api_config(), environment))
    progress = Progress(observer or Silent(), redactor)
    configure_dlt()
    with (
        redactor.guarding(IngestError),
        connector_workspace(
            settings.state_dir, connector.name, progress.message, settings.lock_wait_seconds
        ) as folder,
        closing(EndpointMaker(connector, config["client"], redactor, progress, sleep)) as maker,
    ):
        pipelines = Pipelines(
            pipeline, open_warehouse(settings), progress, folder, dataset=connector.name
        )
        yield FamilyRun(connector, config, maker, pipelines, redactor, progress, prepare)


@dataclass(frozen=True)
class Turn:
    """A family whose turn it is, and the members of it that are loaded."""

    family: Family
    selected: Sequence[Resource]

    @property
    def names(self) -> list[str]:
        """The names of those members."""
        return [resource.name for resource in self.selected]


@dataclass
class _Attempt:
    """What a load of some families has come to."""

    turns: Sequence[Turn]
    started: float = field(default_factory=time.monotonic)
    sources: list[FamilySource] = field(default_factory=list)


@dataclass(frozen=True)
class FamilyRun:
    """One run: its families fail alone, and what they have in common is here."""

    connector: Connector
    config: Mapping[str, Any]
    maker: EndpointMaker
    pipelines: Pipelines
    redactor: Redactor
    progress: Progress
    prepare: Prepare
    _plans: dict[tuple[str, ...], Mapping[str, ResourcePlan]] = field(
        default_factory=dict, init=False, repr=False
    )

    def plans(self, family: Family, loaded: Collection[str]) -> Mapping[str, ResourcePlan]:
        """The plans of the members that are loaded or needed by one that is, by name, parents first."""
        key = (family.root.name, *sorted(loaded))
        if key not in self._plans:
            found = read_plans(family, self.config, loaded)
            self._plans[key] = {plan.resource.name: plan for plan in found}
        return self._plans[key]

    def load(self, turn: Turn) -> Iterator[Outcome]:
        """Load a family and tell what became of each of its members that were selected."""
        attempt = _Attempt([turn])
        try:
            outcomes = self._load(attempt)
        except Exception as error:  # noqa: BLE001 - families are isolated: any error is an outcome
            self.pipelines.abandon()
            source = attempt.sources[0] if attempt.sources else None
            outcomes = [
                failed_outcome(error, turn.family, resource, source, attempt.started, self.redactor)
                for resource in turn.selected
            ]
        yield from outcomes

    def load_together(self, turns: Sequence[Turn]) -> Iterator[Outcome]:
        """Load families in one package, from where their cursors stand; if that fails, one by one.

        It is cheaper than to load each by itself, and comes to the same. If one of them fails the
        others do not: each is loaded by itself, of what was fetched.
        """
        with self.maker.repeatable() as start_again:
            try:
                outcomes = self._load(_Attempt(turns))
            except Exception as error:  # noqa: BLE001 - one of them meets it again, and tells
                self.pipelines.abandon()
                reason = reason_of(error)
            else:
                yield from outcomes
                return
            start_again([name for turn in turns for name in turn.names])
            roots = ", ".join(turn.family.root.name for turn in turns)
            self.progress.message(
                f"{roots} could not be loaded in one go, so each is loaded by itself: {reason}"
            )
            for turn in turns:
                yield from self.load(turn)

    def _load(self, attempt: _Attempt) -> list[Outcome]:
        turns = attempt.turns
        pipeline = self.pipelines.open()
        preparation = self._prepared(pipeline, turns)
        self.pipelines.expect(preparation.moves)
        before = Before(
            attempt.started,
            deepcopy(dict(pipeline.state)),
            read_tables(self.pipelines.schema()),
            preparation.ends,
            preparation.moves.cursors,
        )
        loaded = self._run(attempt, pipeline, preparation)
        return [
            outcome
            for turn, source in zip(turns, attempt.sources, strict=True)
            for outcome in outcomes_of(
                self.connector.name, turn.selected, source, pipeline, loaded, before, self.redactor
            )
        ]

    def _run(self, attempt: _Attempt, pipeline: dlt.Pipeline, preparation: Preparation) -> Loaded:
        with self.pipelines.parts() as parts:
            for turn in attempt.turns:
                source = self._source(turn, preparation.window, parts)
                attempt.sources.append(source)
                self._check(pipeline, source, preparation)
            return self.pipelines.run(
                pipeline,
                [turn.family.root.name for turn in attempt.turns],
                joined([source.source for source in attempt.sources]),
                parts,
            )

    def _prepared(self, pipeline: dlt.Pipeline, turns: Sequence[Turn]) -> Preparation:
        preparations = [self.prepare(self, pipeline, turn.family, turn.names) for turn in turns]
        if len(preparations) > 1 and any(one != Preparation() for one in preparations):
            raise IngestError("several families are loaded together only for their new rows")
        return preparations[0]

    def _source(self, turn: Turn, window: Window | None, parts: Parts | None) -> FamilySource:
        source = build_family_source(
            self.connector,
            self.maker,
            self.plans(turn.family, turn.names),
            turn.family.root.name,
            say=self.progress.message,
            schema=self.pipelines.stored_schema,
            window=window,
            parts=parts,
        )
        for plan in source.plans.values():
            if not plan.loaded:
                self.progress.message(
                    f"{plan.resource.name} is asked for because {', '.join(turn.names)} needs it; "
                    "it is not loaded and its cursor stays where it is"
                )
        return source

    def _check(
        self, pipeline: dlt.Pipeline, source: FamilySource, preparation: Preparation
    ) -> None:
        if preparation.window is not None:
            return
        replaced = {one.table for one in preparation.moves.replacements}
        plans = {
            name: plan for name, plan in source.plans.items() if plan.resource.table not in replaced
        }
        state = pipeline.state.get("sources", {}).get(self.connector.name, {})
        check_continuity(plans, state, self.pipelines.count_rows, family=source.plans)
