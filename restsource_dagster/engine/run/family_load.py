"""One run of a connector: families loaded one after the other, or several in one go.

A family (a resource and its dependents) is in one load package: its rows and its cursors arrive
together or not at all. A failed family does not touch the others.

From an exception to the outcome of a resource that was not loaded.

From a load to the outcomes of its resources.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import dlt
from dlt.common.schema import Schema
from dlt.pipeline.exceptions import PipelineStepFailed

from restsource_dagster.connector.env_references import resolve_rest_api_config
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.resources import Family, Resource
from restsource_dagster.engine.columnar.column_loader import ColumnLoader
from restsource_dagster.engine.columnar.parquet_files import ParquetFiles
from restsource_dagster.engine.destination.dlt_config import configure_dlt
from restsource_dagster.engine.destination.pipeline import LoadSummary, PipelineManager
from restsource_dagster.engine.destination.recovery import check_safe_to_append
from restsource_dagster.engine.destination.tables import (
    TableSnapshots,
    describe_schema_changes,
    read_loaded_columns,
    read_table_snapshots,
)
from restsource_dagster.engine.destination.warehouse import warehouse_from_settings
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.http.cancellation import Sleep
from restsource_dagster.engine.http.redaction import Redactor, find_secrets
from restsource_dagster.engine.http.usage import Usage
from restsource_dagster.engine.incremental.cursor_overrides import AppliedOverrides
from restsource_dagster.engine.incremental.cursor_state import read_cursor_progress
from restsource_dagster.engine.incremental.window_filter import BackfillWindow
from restsource_dagster.engine.run.outcome import (
    DltLoad,
    Failure,
    Observer,
    Outcome,
    Progress,
    SilentObserver,
)
from restsource_dagster.engine.run.workspace import connector_workspace
from restsource_dagster.engine.source.dlt_source import (
    FamilySource,
    build_family_source,
    join_sources,
)
from restsource_dagster.engine.source.endpoint_factory import EndpointFactory
from restsource_dagster.engine.source.resource_plan import ResourcePlan, build_resource_plans
from restsource_dagster.settings import Settings

__all__ = [
    "ConnectorRun",
    "LoadBaseline",
    "LoadOptions",
    "PrepareLoad",
    "SelectedFamily",
    "failed_outcome",
    "failure_reason",
    "loaded_outcomes_of",
    "open_connector_run",
]


def failure_reason(error: Exception) -> str:
    """What went wrong at the root of dlt's wrappers, in one line."""
    return _error_message(_root_cause(error)[1]).partition("\n")[0]


def failed_outcome(
    error: Exception,
    family: Family,
    resource: Resource,
    source: FamilySource | None,
    started: float,
    redactor: Redactor,
) -> Outcome:
    """The outcome of a member of a family that failed; `started` is a `time.monotonic()`."""
    step, cause = _root_cause(error)
    if source and step == "normalize":
        # a number that was too big shows here, long after its row has been read
        beyond = (values.first_oversized for values in source.values.values())
        cause = next((known for known in beyond if known), cause)
    culprit = getattr(cause, "resource", None) or family.root.name
    tally = source.counts.get(resource.name) if source else None
    return Outcome(
        resource=resource.name,
        table=resource.table,
        seconds=time.monotonic() - started,
        usage=tally.usage_counter.usage if tally else Usage(),
        failure=Failure(culprit, step, redactor(_error_message(cause))),
    )


def _root_cause(error: BaseException) -> tuple[str, BaseException]:
    """The step that failed and the error at the root of dlt's wrappers."""
    step = "prepare"
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, IngestError):
            return step, current
        if isinstance(current, PipelineStepFailed):
            step = current.step
        error, current = current, current.__cause__ or current.__context__
    return step, error


def _error_message(error: BaseException) -> str:
    return str(error) if isinstance(error, IngestError) else f"{type(error).__name__}: {error}"


_FALLBACK_REASON_CHARS = 300  # characters: it shows the value that did not fit


@dataclass(frozen=True)
class LoadBaseline:
    """How things stood before a load."""

    started: float
    state: Mapping[str, Any]
    tables: TableSnapshots
    window: tuple[Any, Any] | None
    """The ends of the window of history that is loaded; None for a live run."""
    overridden_cursors: Mapping[str, tuple[Any, Any]]
    """By resource, the stored cursor and the value that a person put in its place."""


def loaded_outcomes_of(
    connector: str,
    resources: Collection[Resource],
    source: FamilySource,
    pipeline: dlt.Pipeline,
    loaded: LoadSummary,
    before: LoadBaseline,
    redactor: Redactor,
) -> Iterator[Outcome]:
    """What became of resources that were loaded, of one family."""
    schema, state = pipeline.default_schema, pipeline.state
    after = read_table_snapshots(schema)
    for resource in resources:
        tally = source.counts[resource.name]
        table = schema.naming.normalize_table_identifier(resource.table)
        move = read_cursor_progress(before.state, state, connector, resource)
        yield Outcome(
            resource=resource.name,
            table=table,
            seconds=time.monotonic() - before.started,
            usage=tally.usage_counter.usage,
            received=tally.received,
            promised=tally.stated_total,
            skipped=tuple(map(redactor, tally.skipped)),
            rows_loaded=loaded.rows.get(table, 0),
            row_count=loaded.counts.get(table),
            dataset=pipeline.dataset_name,
            destination=pipeline.destination.destination_name,
            cursor=None if before.window else move,
            cursor_set=before.overridden_cursors.get(resource.name),
            window=before.window,
            columns=read_loaded_columns(schema, table),
            written=redactor.snippet(
                _describe_write_mode(source.feeds.get(resource.name)), _FALLBACK_REASON_CHARS
            ),
            schema_changes=describe_schema_changes(table, before.tables, after),
            nested_tables=_nested_row_counts(schema, table, loaded.rows),
            load=DltLoad(pipeline, source.source.resources[resource.name], loaded.info),
        )


def _nested_row_counts(schema: Schema, table: str, rows: Mapping[str, int]) -> Mapping[str, int]:
    prefix = f"{table}{schema.naming.PATH_SEPARATOR}"
    return {name: count for name, count in rows.items() if name.startswith(prefix)}


def _describe_write_mode(feed: ColumnLoader | None) -> str:
    if feed is None:
        return "rows"
    if feed.refusal is None:
        return "columns"
    some = f"columns for the first {feed.rows:,} rows, then rows" if feed.rows else "rows"
    return f"{some}: {feed.refusal}"


@dataclass(frozen=True)
class LoadOptions:
    """What a family's load does beside loading new rows."""

    moves: AppliedOverrides = field(default_factory=AppliedOverrides)
    window: BackfillWindow | None = None
    """The window of history that is loaded; None for a live run."""

    @property
    def window_ends(self) -> tuple[Any, Any] | None:
        """The ends of that window."""
        return (self.window.asked.start, self.window.asked.end) if self.window else None


PrepareLoad = Callable[["ConnectorRun", dlt.Pipeline, Family, Collection[str]], LoadOptions]
"""Is told the run, its pipeline, the family and the resources of it that are loaded."""


@contextmanager
def open_connector_run(
    connector: Connector,
    settings: Settings,
    environment: Mapping[str, str],
    observer: Observer | None,
    sleep: Sleep | None,
    *,
    pipeline: str,
    prepare: PrepareLoad,
) -> Iterator["ConnectorRun"]:
    """Hold the connector, and clean up afterwards. `pipeline` is the name of dlt's pipeline.

    Raises `MissingReferences` for variables of the file that the environment lacks and
    `ConnectorBusyError`.
    """
    config = resolve_rest_api_config(connector.rest_api_config(), environment)
    redactor = Redactor(find_secrets(connector.rest_api_config(), environment))
    progress = Progress(observer or SilentObserver(), redactor)
    configure_dlt()
    with (
        redactor.redacted_errors(IngestError),
        connector_workspace(
            settings.state_dir, connector.name, progress.message, settings.lock_wait_seconds
        ) as folder,
        closing(EndpointFactory(connector, config["client"], redactor, progress, sleep)) as maker,
    ):
        pipelines = PipelineManager(
            pipeline, warehouse_from_settings(settings), progress, folder, dataset=connector.name
        )
        yield ConnectorRun(connector, config, maker, pipelines, redactor, progress, prepare)


@dataclass(frozen=True)
class SelectedFamily:
    """A family whose turn it is, and the members of it that are loaded."""

    family: Family
    selected: Sequence[Resource]

    @property
    def names(self) -> list[str]:
        """The names of those members."""
        return [resource.name for resource in self.selected]


@dataclass
class _LoadAttempt:
    """What a load of some families has come to."""

    turns: Sequence[SelectedFamily]
    started: float = field(default_factory=time.monotonic)
    sources: list[FamilySource] = field(default_factory=list)


@dataclass(frozen=True)
class ConnectorRun:
    """One run: its families fail alone, and what they have in common is here."""

    connector: Connector
    config: Mapping[str, Any]
    endpoints: EndpointFactory
    pipelines: PipelineManager
    redactor: Redactor
    progress: Progress
    prepare: PrepareLoad
    _plans: dict[tuple[str, ...], Mapping[str, ResourcePlan]] = field(
        default_factory=dict, init=False, repr=False
    )

    def plans(self, family: Family, loaded: Collection[str]) -> Mapping[str, ResourcePlan]:
        """The plans of the members that are loaded or needed by one that is, by name, parents first."""
        key = (family.root.name, *sorted(loaded))
        if key not in self._plans:
            found = build_resource_plans(family, self.config, loaded)
            self._plans[key] = {plan.resource.name: plan for plan in found}
        return self._plans[key]

    def load(self, turn: SelectedFamily) -> Iterator[Outcome]:
        """Load a family and tell what became of each of its members that were selected."""
        attempt = _LoadAttempt([turn])
        try:
            outcomes = self._load(attempt)
        except Exception as error:  # noqa: BLE001 - families are isolated: any error is an outcome
            self.pipelines.discard()
            source = attempt.sources[0] if attempt.sources else None
            outcomes = [
                failed_outcome(error, turn.family, resource, source, attempt.started, self.redactor)
                for resource in turn.selected
            ]
        yield from outcomes

    def load_group(self, turns: Sequence[SelectedFamily]) -> Iterator[Outcome]:
        """Load families in one package, from where their cursors stand; if that fails, one by one.

        It is cheaper than to load each by itself, and comes to the same. If one of them fails the
        others do not: each is loaded by itself, of what was fetched.
        """
        with self.endpoints.replayable() as start_again:
            try:
                outcomes = self._load(_LoadAttempt(turns))
            except Exception as error:  # noqa: BLE001 - one of them meets it again, and tells
                self.pipelines.discard()
                reason = failure_reason(error)
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

    def _load(self, attempt: _LoadAttempt) -> list[Outcome]:
        turns = attempt.turns
        pipeline = self.pipelines.open()
        preparation = self._prepare_group(pipeline, turns)
        self.pipelines.prepare_load(preparation.moves)
        before = LoadBaseline(
            attempt.started,
            deepcopy(dict(pipeline.state)),
            read_table_snapshots(self.pipelines.schema()),
            preparation.window_ends,
            preparation.moves.cursors,
        )
        loaded = self._run(attempt, pipeline, preparation)
        return [
            outcome
            for turn, source in zip(turns, attempt.sources, strict=True)
            for outcome in loaded_outcomes_of(
                self.connector.name, turn.selected, source, pipeline, loaded, before, self.redactor
            )
        ]

    def _run(
        self, attempt: _LoadAttempt, pipeline: dlt.Pipeline, preparation: LoadOptions
    ) -> LoadSummary:
        with self.pipelines.parts() as parts:
            for turn in attempt.turns:
                source = self._source(turn, preparation.window, parts)
                attempt.sources.append(source)
                self._check(pipeline, source, preparation)
            return self.pipelines.run(
                pipeline,
                [turn.family.root.name for turn in attempt.turns],
                join_sources([source.source for source in attempt.sources]),
                parts,
            )

    def _prepare_group(
        self, pipeline: dlt.Pipeline, turns: Sequence[SelectedFamily]
    ) -> LoadOptions:
        preparations = [self.prepare(self, pipeline, turn.family, turn.names) for turn in turns]
        if len(preparations) > 1 and any(one != LoadOptions() for one in preparations):
            raise IngestError("several families are loaded together only for their new rows")
        return preparations[0]

    def _source(
        self, turn: SelectedFamily, window: BackfillWindow | None, parts: ParquetFiles | None
    ) -> FamilySource:
        source = build_family_source(
            self.connector,
            self.endpoints,
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
        self, pipeline: dlt.Pipeline, source: FamilySource, preparation: LoadOptions
    ) -> None:
        if preparation.window is not None:
            return
        replaced = {one.table for one in preparation.moves.replacements}
        plans = {
            name: plan for name, plan in source.plans.items() if plan.resource.table not in replaced
        }
        state = pipeline.state.get("sources", {}).get(self.connector.name, {})
        check_safe_to_append(plans, state, self.pipelines.count_rows, family=source.plans)
