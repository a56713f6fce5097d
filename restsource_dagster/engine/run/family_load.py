"""Loads the families of one run, each in a load package of its own or several in one.

A family (a resource and its dependents) is always in one load package: its rows and its cursors
arrive together or not at all. A family that fails does not affect the others.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import dlt
from dlt.common.schema import Schema

from restsource_dagster.connector.env_references import read_references
from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.columnar.column_loader import ParquetFiles
from restsource_dagster.engine.destination.dlt_config import (
    configure_dlt,
    dlt_setting,
    find_destination_secrets,
)
from restsource_dagster.engine.destination.merge_sql import check_destination_can_merge
from restsource_dagster.engine.destination.package_load import LoadSummary, PackageLoad
from restsource_dagster.engine.destination.pipeline import PipelineManager
from restsource_dagster.engine.destination.tables import TableQuestions, read_table_snapshots
from restsource_dagster.engine.destination.warehouse import warehouse_from_settings
from restsource_dagster.engine.errors import (
    IngestError,
    PlaceRefusedError,
    SkippedResourceError,
    SyncTokenRefusedError,
)
from restsource_dagster.engine.http.cancellation import Sleep
from restsource_dagster.engine.http.redaction import Redactor, find_secrets
from restsource_dagster.engine.http.token_store import TokenStore
from restsource_dagster.engine.incremental.family_cursors import check_safe_to_append
from restsource_dagster.engine.plan.resource_plan import (
    ResourcePlan,
    build_resource_plans,
    root_call,
)
from restsource_dagster.engine.run.load_parts import (
    FamilyPlans,
    LoadAttempt,
    LoadOptions,
    LoadParts,
    SelectedFamily,
    known_rows_of,
    swap_of,
)
from restsource_dagster.engine.run.outcome import (
    LoadBaseline,
    LoadResult,
    Outcome,
    failed_outcome,
    failure_reason,
    join_all_parts,
    left_outcome,
    loaded_outcomes_of,
    root_cause,
)
from restsource_dagster.engine.run.workspace import connector_workspace
from restsource_dagster.engine.run_progress import Observer, Progress, SilentObserver
from restsource_dagster.engine.source.checkpoint import Checkpoint, LoadPart
from restsource_dagster.engine.source.dlt_source import (
    FamilySource,
    TableOwners,
    build_family_source,
    join_sources,
)
from restsource_dagster.engine.source.endpoint_factory import EndpointFactory
from restsource_dagster.engine.source.repeated_rows import RepeatedRows
from restsource_dagster.settings import Settings
from restsource_dagster.state.store import open_state

if TYPE_CHECKING:
    from restsource_dagster.engine.incremental.window_filter import BackfillWindow

__all__ = [
    "ConnectorRun",
    "PrepareLoad",
    "open_connector_run",
]

_logger = logging.getLogger(__name__)

PrepareLoad = Callable[["ConnectorRun", dlt.Pipeline, SelectedFamily, Collection[str]], LoadOptions]
"""Called before the load of a family, with the open pipeline, and with the resources whose rows are all
replaced, whatever was asked for; returns the options of the load."""


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
    started: datetime | None = None,
    questions: Mapping[str, TableQuestions] | None = None,
) -> Iterator["ConnectorRun"]:
    """Lock the connector and yield a run of it; clean up afterwards. `{now}` is `started`.

    `pipeline` is the name of the dlt pipeline; `questions` are those of the tables' checks. Raises
    `MissingReferencesError` if a reference of the file has no value, and `ConnectorBusyError`.
    """
    configure_dlt()
    settings = settings.for_destination(connector.destination)
    values = read_references(connector.references, environment, dlt_setting)
    resolved = connector.resolved(values, started)
    redactor = Redactor(find_secrets(connector, resolved, values))
    progress = Progress(observer or SilentObserver(), redactor)
    redactor.add_secrets(*find_destination_secrets(settings.destination, environment))
    state = open_state(settings)
    tokens = TokenStore(state)
    redactor.add_secrets(*tokens.secrets)
    with (
        # first, because any error from here on may quote a secret
        redactor.redacted_errors(IngestError),
        connector_workspace(settings, state, connector.name, progress.message) as workspace,
        closing(
            EndpointFactory(resolved, redactor, progress, sleep, workspace.folder, state, tokens)
        ) as endpoints,
    ):
        tokens.remove_replaced(resolved)
        pipelines = PipelineManager(
            pipeline,
            warehouse_from_settings(settings),
            progress,
            workspace.folder,
            dataset=connector.name,
            check_lease=workspace.lease.check,
            questions=questions or {},
        )
        plans = FamilyPlans(resolved, lambda moment: connector.resolved(values, moment))
        yield ConnectorRun(
            resolved,
            endpoints,
            pipelines,
            redactor,
            progress,
            prepare,
            plans,
            LoadParts(resolved, pipelines, redactor, progress, plans),
            settings.checkpoint_seconds,
        )


@dataclass(frozen=True)
class ConnectorRun:
    """One run of a connector: what its families share, and how they are loaded."""

    connector: Connector
    """With its references resolved: it holds secrets."""
    endpoints: EndpointFactory
    pipelines: PipelineManager
    redactor: Redactor
    progress: Progress
    prepare: PrepareLoad
    family_plans: FamilyPlans
    parts: LoadParts
    checkpoint_seconds: float
    """How long an extract may take before what it has read is loaded."""
    _looked_up: dict[str, Sequence[Any]] = field(default_factory=dict, init=False)

    def plans(self, selected: SelectedFamily) -> Mapping[str, ResourcePlan]:
        """Return the plans of a family, by name, parents first."""
        return self.family_plans.of(selected)

    def is_supported(self, selected: SelectedFamily) -> bool:
        """Return True if the destination can write the family's rows as the file says."""
        try:
            self._check_destination(selected)
        except IngestError:
            return False
        return True

    def _check_destination(self, selected: SelectedFamily) -> None:
        for resource in selected.selected:
            check_destination_can_merge(self.pipelines.destination, resource)

    def load(self, selected: SelectedFamily) -> Iterator[Outcome]:
        """Load a family; yield an outcome for each of its selected resources. Never raises.

        A long extract is loaded in parts.
        """
        # outside of a `try`: an error of the caller is not one of the family
        yield from self._load_family(selected)

    def _load_family(self, selected: SelectedFamily) -> list[Outcome]:
        parts: list[Sequence[Outcome]] = []
        attempt = LoadAttempt([selected])
        try:
            while (following := self._load_part(attempt, parts)) is not None:
                attempt = following
            outcomes = join_all_parts(parts)
        except Exception as error:  # noqa: BLE001 - families are isolated: any error is an outcome
            # the pipeline's local state may have cursors whose rows were not loaded
            self.pipelines.discard()
            source = attempt.sources[0] if attempt.sources else None
            cause = root_cause(error)[1]
            # with rows of it in this load, it would not be left as it is
            if isinstance(cause, SkippedResourceError) and not self._has_pages(cause.resource):
                return self._load_without(cause, selected)
            loaded: Sequence[Outcome | None] = join_all_parts(parts)
            at_wall = attempt.checkpoint is not None and error is attempt.checkpoint.error
            outcomes = [
                failed_outcome(
                    error,
                    selected.family,
                    resource,
                    source,
                    attempt.started,
                    self.redactor,
                    before,
                    step="extract" if at_wall else "prepare",
                )
                for resource, before in zip_longest(selected.selected, loaded)
            ]
        return outcomes

    def _has_pages(self, resource: str) -> bool:
        return self.endpoints.counts(resource).pages > 0

    def _load_without(
        self, skipped: SkippedResourceError, selected: SelectedFamily
    ) -> list[Outcome]:
        """Load the rest of a family, as if the skipped resource and its dependents weren't selected.

        Their cursors stay, so that a later run requests the same of them.
        """
        reason = self.redactor(str(skipped))
        left = {skipped.resource, *selected.family.dependents_of(skipped.resource)}
        rest = [one for one in selected.selected if one.name not in left]
        self.progress.message(f"{reason}: left as they are: {', '.join(sorted(left))}")
        loaded = {}
        if rest:
            for one in selected.family.members:
                # what was read is requested again
                self.endpoints.counts(one.name).restart()
            loaded = {
                one.resource: one
                for one in self._load_family(SelectedFamily(selected.family, rest))
            }
        return [
            loaded.get(one.name)
            or left_outcome(one, reason, self.pipelines, self.endpoints.counts(one.name))
            for one in selected.selected
        ]

    def _load_part(
        self, attempt: LoadAttempt, parts: list[Sequence[Outcome]]
    ) -> LoadAttempt | None:
        """Load one part of a family and add its outcomes to `parts`; return the next part, None at the end."""
        attempt.checkpoint = Checkpoint(self.checkpoint_seconds)
        try:
            # joined at once: the outcome of each part holds a whole schema
            parts[:] = [join_all_parts([*parts, self._load_package(attempt)])]
        except Exception as error:
            refusal = root_cause(error)[1]
            if isinstance(refusal, SyncTokenRefusedError) and not attempt.refreshed:
                return self._without_token(attempt, refusal, parts)
            # once in a run: an API that refuses each place would be read for ever
            if not isinstance(refusal, PlaceRefusedError) or attempt.has_started_anew:
                raise
            self._discard(attempt)
            self.progress.message(f"{refusal}. It starts anew")
            parts.clear()
            return attempt.next_part(starts_anew=True)
        return attempt.next_part() if self._continues(attempt, parts) else None

    def _without_token(
        self,
        attempt: LoadAttempt,
        refusal: SyncTokenRefusedError,
        parts: list[Sequence[Outcome]],
    ) -> LoadAttempt:
        """Return the attempt that loads all rows of a resource and replaces those in its table."""
        self._discard(attempt)
        self.progress.message(f"{refusal}, so all rows are loaded and replace those in the table")
        parts.clear()
        return LoadAttempt(
            attempt.families, refreshed=attempt.families[0].names, started=attempt.started
        )

    def _discard(self, attempt: LoadAttempt) -> None:
        """Drop what the attempt has read, and its prefetched calls: all is requested again."""
        self.pipelines.discard()
        for family in attempt.families:
            self.endpoints.cancel_family(family.root)

    def _continues(self, attempt: LoadAttempt, parts: Sequence[Sequence[Outcome]]) -> bool:
        """Return True if another part follows. Raises the error that ended this one."""
        checkpoint = attempt.checkpoint
        if checkpoint is None:
            return False
        if checkpoint.error:
            raise checkpoint.error
        continues = checkpoint.is_reached or attempt.has_next_call
        if continues:
            for outcome in join_all_parts(parts):
                self.progress.checkpoint(outcome.resource, outcome.rows_loaded)
        return continues

    def load_group(self, families: Sequence[SelectedFamily]) -> Iterator[Outcome]:
        """Load the new rows of several families in one package; yield the outcomes in their order.

        The result is the same as with `load` for each, but faster: a package costs some tenths of a
        second. If it fails, the halves are loaded, and so on: normalize and load see a package as a
        whole, and don't say which family made it fail. The responses that were fetched for the group
        are used again, so that only the family with the error fails.
        """
        # for the whole group, halves included: a half that fails is halved again and reads the same
        # answers
        with self.endpoints.replayable() as start_replay:
            yield from self._load_halves(families, start_replay)

    def _load_halves(
        self, families: Sequence[SelectedFamily], start_replay: Callable[[Collection[str]], None]
    ) -> Iterator[Outcome]:
        if len(families) == 1:
            yield from self.load(families[0])
            return
        try:
            outcomes = self._load_package(LoadAttempt(families))
        except Exception as error:  # noqa: BLE001 - one family meets it again and reports it
            self.pipelines.discard()
            reason = failure_reason(error)
        else:
            yield from outcomes
            return
        roots = ", ".join(selected.root for selected in families)
        # the failure itself is reported once, by the family that failed
        _logger.debug(
            "%s could not be loaded together and are loaded in halves: %s",
            roots,
            self.redactor(reason),
        )
        middle = len(families) // 2
        # halves, not one by one: with one bad family of n the number of loads grows with log n
        for half in (families[:middle], families[middle:]):
            start_replay([name for selected in half for name in selected.names])
            yield from self._load_halves(half, start_replay)

    def _load_package(self, attempt: LoadAttempt) -> list[Outcome]:
        """Load the families of an attempt in one package. Raises what went wrong."""
        # before the first request: what the destination refuses would be read for nothing
        for selected in attempt.families:
            self._check_destination(selected)
        pipeline = self.pipelines.open()
        # a later part goes on with the cursors that the first one has set; to set them again would
        # undo its progress
        options = LoadOptions()
        if not attempt.is_continued:
            options = self._prepare_group(pipeline, attempt.families, attempt.refreshed)
        # the extraction changes the pipeline's state in place
        state = deepcopy(dict(pipeline.state))
        part = attempt.part = self.parts.find(attempt, state, options)
        if part.is_outdated and self.parts.take_back(state, part.root, options):
            pipeline = self.pipelines.open()
            state = deepcopy(dict(pipeline.state))
        self.pipelines.prepare_load(options.overrides)
        # once for all families: dlt reads it anew, which takes the longer the more tables there are
        stored = self.pipelines.schema()
        # after the overrides, so that a changed cursor starts at its new value
        before = LoadBaseline(
            attempt.started,
            state,
            read_table_snapshots(stored),
            options.window_ends,
            options.overrides.moved_cursors,
            self.parts.describe_resumption(attempt, part),
        )
        loaded = self._run_pipeline(attempt, pipeline, options, part, stored)
        result = LoadResult.of(pipeline, loaded)
        name = self.connector.name
        return [
            outcome
            for selected, source in zip(attempt.families, attempt.sources, strict=True)
            for outcome in loaded_outcomes_of(
                name,
                selected.selected,
                source,
                result,
                before,
                self.redactor,
                self.family_plans.moment_of(selected.root),
            )
        ]

    def _prepare_group(
        self,
        pipeline: dlt.Pipeline,
        families: Sequence[SelectedFamily],
        refreshed: Collection[str],
    ) -> LoadOptions:
        options = [self.prepare(self, pipeline, selected, refreshed) for selected in families]
        if len(options) > 1 and any(one != LoadOptions() for one in options):
            raise IngestError("several families are loaded together only for their new rows")
        return options[0]

    def _run_pipeline(
        self,
        attempt: LoadAttempt,
        pipeline: dlt.Pipeline,
        options: LoadOptions,
        part: LoadPart,
        stored: Schema | None,
    ) -> LoadSummary:
        # once for all families, as the schema
        state = pipeline.state
        owners = TableOwners(self.connector, stored or Schema(self.connector.name))
        with self.pipelines.parquet_files() as parquet_files:
            # all families are checked before a row of any is extracted
            for selected in attempt.families:
                own_part = part if len(attempt.families) == 1 else None
                # joined sources take the schema of the first, and dlt copies each
                schema = None if attempt.sources else self.pipelines.stored_schema
                source = self._build_source(
                    selected,
                    stored,
                    owners,
                    schema,
                    options.window,
                    parquet_files,
                    own_part,
                    attempt.known_rows,
                )
                attempt.sources.append(source)
                # the rows of earlier parts are known
                if not part.is_later:
                    self._check_source(state, source, options)
            load = PackageLoad(
                self.pipelines,
                [selected.root for selected in attempt.families],
                join_sources([source.source for source in attempt.sources]),
                parquet_files,
                check=attempt.check_extracted,
                swap=swap_of(attempt.families[0], part),
                known=known_rows_of(attempt.sources[0], part),
                removed=attempt.removed_children,
            )
            return load.run()

    def _build_source(
        self,
        selected: SelectedFamily,
        stored: Schema | None,
        owners: TableOwners,
        schema: Schema | None,
        window: "BackfillWindow | None",
        parquet_files: ParquetFiles | None,
        part: LoadPart | None,
        known_rows: Mapping[str, RepeatedRows],
    ) -> FamilySource:
        source = build_family_source(
            self.connector,
            self.endpoints,
            self.plans(selected),
            selected.root,
            notify=self.progress.message,
            schema=schema,
            stored=stored,
            owners=owners,
            window=window,
            files=parquet_files,
            part=part,
            known_rows=known_rows,
            look_up=self._look_up,
        )
        for plan in source.plans.values():
            if not plan.loaded:
                self.progress.message(
                    f"{plan.resource.name} is requested because {', '.join(selected.names)} depends "
                    "on it; it is not loaded and its cursor does not move"
                )
        return source

    def _look_up(self, name: str) -> Iterable[Any]:
        """Return all records of a resource, which are requested once in a run."""
        if name not in self._looked_up:
            family = self.connector.family_of(name)
            [plan] = build_resource_plans(family, self.connector, [name])
            pages = self.endpoints.endpoint(plan).pages(root_call(plan, None))
            self._looked_up[name] = [record for page in pages for record in page]
        return self._looked_up[name]

    def _check_source(
        self, pipeline_state: Mapping[str, Any], source: FamilySource, options: LoadOptions
    ) -> None:
        """Raise `IngestError` if a live run would append rows that the tables have already."""
        if options.window is not None:
            # a window merges or deletes its rows, so none is stored twice
            return
        emptied = {deletion.table for deletion in options.overrides.deletions}
        plans = {
            name: plan for name, plan in source.plans.items() if plan.resource.table not in emptied
        }
        state = pipeline_state.get("sources", {}).get(self.connector.name, {})
        check_safe_to_append(plans, state, self.pipelines.count_rows, family=source.plans)
