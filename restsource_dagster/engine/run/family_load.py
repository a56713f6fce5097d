"""Loads the families of one run, each in a load package of its own or several in one.

A family (a resource and its dependents) is always in one load package: its rows and its cursors
arrive together or not at all. A family that fails does not affect the others.
"""

import json
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import dlt
from dlt.common.schema import Schema

from restsource_dagster.connector.env_references import read_references
from restsource_dagster.connector.model import Connector, Family, Resource
from restsource_dagster.connector.models.fields import as_json
from restsource_dagster.engine.columnar.column_loader import ParquetFiles
from restsource_dagster.engine.destination.dlt_config import (
    configure_dlt,
    dlt_setting,
    find_destination_secrets,
)
from restsource_dagster.engine.destination.merge_sql import check_destination_can_merge
from restsource_dagster.engine.destination.pipeline import (
    KnownRows,
    LoadSummary,
    PipelineManager,
    Swap,
)
from restsource_dagster.engine.destination.removed_rows import ChildrenOf
from restsource_dagster.engine.destination.table_facts import TableQuestions
from restsource_dagster.engine.destination.tables import (
    read_table_snapshots,
)
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
from restsource_dagster.engine.incremental.cursor_overrides import AppliedOverrides
from restsource_dagster.engine.incremental.family_cursors import check_safe_to_append
from restsource_dagster.engine.incremental.unfinished import (
    Unfinished,
    fingerprint_of,
    read_unfinished,
)
from restsource_dagster.engine.plan.resource_plan import (
    ResourcePlan,
    build_resource_plans,
    root_call,
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
from restsource_dagster.engine.source.checkpoint import Checkpoint, LoadPart, can_load_in_parts
from restsource_dagster.engine.source.dlt_source import (
    FamilySource,
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
    "LoadOptions",
    "PrepareLoad",
    "SelectedFamily",
    "open_connector_run",
]

_logger = logging.getLogger(__name__)

_NOT_ASKED = {
    *("endpoint", "foreign_endpoint", "incremental", "disposition", "backfill"),
    *("selected", "pointer", "line", "definition_key", "mode", "http", "checks", "asset"),
}
"""Fields of a resource that say nothing about its rows, or that are in its endpoint."""


@dataclass(frozen=True)
class LoadOptions:
    """What a load of a family does beside loading new rows."""

    overrides: AppliedOverrides = field(default_factory=AppliedOverrides)
    window: "BackfillWindow | None" = None
    """The window that is loaded; None for a live run."""

    @property
    def window_ends(self) -> tuple[Any, Any] | None:
        """The ends of the window, in the cursor's own format."""
        window = self.window.requested if self.window else None
        return (window.start, window.end) if window else None


@dataclass(frozen=True)
class SelectedFamily:
    """A family, and the resources of it that are loaded."""

    family: Family
    selected: Sequence[Resource]

    @cached_property
    def root(self) -> str:
        """The name of the family's root resource."""
        return self.family.root.name

    @cached_property
    def names(self) -> list[str]:
        """The names of the resources that are loaded."""
        return [resource.name for resource in self.selected]


def _replaces(selected: SelectedFamily) -> bool:
    return any(one.disposition.value == "replace" for one in selected.selected)


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

    `pipeline` is the name of the dlt pipeline; `questions` are those of the tables' checks. Raises `MissingReferencesError` if a reference of the
    file has no value, and `ConnectorBusyError`.
    """
    configure_dlt()
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
        connector_workspace(settings, connector.name, progress.message) as workspace,
        closing(
            EndpointFactory(resolved, redactor, progress, sleep, workspace.folder, state, tokens)
        ) as endpoints,
    ):
        pipelines = PipelineManager(
            pipeline,
            warehouse_from_settings(settings),
            progress,
            workspace.folder,
            dataset=connector.name,
            check_lease=workspace.lease.check,
            questions=questions or {},
        )
        yield ConnectorRun(
            resolved,
            endpoints,
            pipelines,
            redactor,
            progress,
            prepare,
            settings.checkpoint_seconds,
            lambda moment: connector.resolved(values, moment),
        )


@dataclass
class _LoadAttempt:
    """A load of some families in one package. `sources` has those that were built so far."""

    families: Sequence[SelectedFamily]
    checkpoint: Checkpoint | None = None
    """Where the extract may end early; None if it may not."""
    is_continued: bool = False
    """True if the families are loaded in parts, and this is not the first one of the run."""
    starts_anew: bool = False
    """True if the unfinished load is not continued."""
    has_started_anew: bool = False
    """True if a load of the run has started anew before."""
    started: float = field(default_factory=time.monotonic)
    sources: list[FamilySource] = field(default_factory=list)
    refreshed: Collection[str] = ()
    """The resources that are loaded in full because the API refuses their token."""
    known_rows: Mapping[str, RepeatedRows] = field(default_factory=dict)
    """The rows that earlier parts of the load have read, by resource."""
    part: LoadPart | None = None
    """Which part of its family's load it is, once that is known."""

    @property
    def has_next_call(self) -> bool:
        """True if it has loaded what a call asked for, and another call follows."""
        return self.part is not None and self.part.has_next_call

    def next_part(self, *, starts_anew: bool = False) -> "_LoadAttempt":
        """Return the attempt that follows this one."""
        # without them a row that comes again in a later part is stored twice, or an older version last
        known_rows = {
            name: known
            for source in self.sources
            for name, one in source.tools.items()
            if not (starts_anew or self.has_next_call) and (known := one.repeats.for_next_part())
        }
        return _LoadAttempt(
            self.families,
            is_continued=True,
            starts_anew=starts_anew,
            has_started_anew=starts_anew or self.has_started_anew,
            started=self.started,
            known_rows=known_rows,
        )

    def removed_children(self) -> Iterator[ChildrenOf]:
        """Yield the rows to remove, as their parents are gone."""
        for source in self.sources:
            yield from source.removed_children()

    def check_extracted(self) -> None:
        """Raise `IngestError` if what was extracted is not all there is."""
        for source in self.sources:
            source.check_extracted()


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
    checkpoint_seconds: float
    """How long an extract may take before what it has read is loaded."""
    resolve_at: Callable[[datetime], Connector]
    """Returns the connector with `{now}` at another moment."""
    _moments: dict[str, datetime] = field(default_factory=dict, init=False, repr=False)
    """By root, the moment of `{now}` of a load that an earlier run has begun."""
    _looked_up: dict[str, Sequence[Any]] = field(default_factory=dict, init=False)
    _plans: dict[tuple[str, ...], Mapping[str, ResourcePlan]] = field(
        default_factory=dict, init=False, repr=False
    )

    def plans(self, selected: SelectedFamily) -> Mapping[str, ResourcePlan]:
        """Return the plans of the resources that are loaded or have dependents that are.

        By name, parents first.
        """
        # prefetching and loading ask for the same plans
        moment = self._moments.get(selected.root)
        key = (str(moment or ""), selected.root, *sorted(selected.names))
        if key not in self._plans:
            connector = self.resolve_at(moment) if moment else self.connector
            found = build_resource_plans(selected.family, connector, selected.names)
            self._plans[key] = {plan.resource.name: plan for plan in found}
        return self._plans[key]

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
        attempt = _LoadAttempt([selected])
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
        self, attempt: _LoadAttempt, parts: list[Sequence[Outcome]]
    ) -> _LoadAttempt | None:
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
            self.pipelines.discard()
            self.progress.message(f"{refusal}. It starts anew")
            parts.clear()
            return attempt.next_part(starts_anew=True)
        return attempt.next_part() if self._continues(attempt, parts) else None

    def _without_token(
        self,
        attempt: _LoadAttempt,
        refusal: SyncTokenRefusedError,
        parts: list[Sequence[Outcome]],
    ) -> _LoadAttempt:
        """Return the attempt that loads all rows of a resource and replaces those in its table."""
        self.pipelines.discard()
        self.progress.message(f"{refusal}, so all rows are loaded and replace those in the table")
        parts.clear()
        return _LoadAttempt(
            attempt.families, refreshed=attempt.families[0].names, started=attempt.started
        )

    def _continues(self, attempt: _LoadAttempt, parts: Sequence[Sequence[Outcome]]) -> bool:
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
        with self.endpoints.replayable() as start_replay:
            yield from self._load_halves(families, start_replay)

    def _load_halves(
        self, families: Sequence[SelectedFamily], start_replay: Callable[[Collection[str]], None]
    ) -> Iterator[Outcome]:
        if len(families) == 1:
            yield from self.load(families[0])
            return
        try:
            outcomes = self._load_package(_LoadAttempt(families))
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
        for half in (families[:middle], families[middle:]):
            start_replay([name for selected in half for name in selected.names])
            yield from self._load_halves(half, start_replay)

    def _load_package(self, attempt: _LoadAttempt) -> list[Outcome]:
        """Load the families of an attempt in one package. Raises what went wrong."""
        for selected in attempt.families:
            self._check_destination(selected)
        pipeline = self.pipelines.open()
        options = LoadOptions()
        if not attempt.is_continued:
            options = self._prepare_group(pipeline, attempt.families, attempt.refreshed)
        # the extraction changes the pipeline's state in place
        state = deepcopy(dict(pipeline.state))
        part = attempt.part = self._find_part(attempt, state, options)
        if part.is_outdated and self._take_back_parts(state, part.root, options):
            pipeline = self.pipelines.open()
            state = deepcopy(dict(pipeline.state))
        self.pipelines.prepare_load(options.overrides)
        # after the overrides, so that a changed cursor starts at its new value
        before = LoadBaseline(
            attempt.started,
            state,
            read_table_snapshots(self.pipelines.schema()),
            options.window_ends,
            options.overrides.moved_cursors,
            self._describe_resumption(attempt, part),
        )
        result = LoadResult.of(pipeline, self._run_pipeline(attempt, pipeline, options, part))
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
                self._moments.get(selected.root, self.connector.started),
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

    def _find_part(
        self, attempt: _LoadAttempt, state: Mapping[str, Any], options: LoadOptions
    ) -> LoadPart:
        """Return which part of a family's load the attempt is. Several families are loaded as a whole."""
        selected = attempt.families[0]
        if len(attempt.families) > 1:
            return LoadPart(selected.root)
        may_end = options == LoadOptions() and self._can_load_in_parts(selected)
        found = read_unfinished(state, self.connector.name, selected.root)
        resumed = None
        self._set_moment(selected, found.started if found else None)
        if found and may_end and not attempt.starts_anew:
            # what this run has stored itself is there
            is_valid = attempt.is_continued or self._is_valid(found, selected)
            resumed = found if is_valid else None
        if resumed and not attempt.is_continued:
            recalled = self._recall_rows(selected, resumed)
            attempt.known_rows = recalled or {}
            resumed = None if recalled is None else resumed
        if resumed is None:
            self._set_moment(selected, None)
        plans = self.plans(selected)
        root = plans[selected.root].cursor
        # the last window ends at the present
        has_times = bool(root and root.window) or any(
            one.endpoint.has_relative_times for one in selected.family.members
        )
        return LoadPart(
            selected.root,
            lambda: self._fingerprint(selected),
            # cursors that are changed and rows that are replaced need one load
            attempt.checkpoint if may_end else None,
            resumed,
            is_outdated=found is not None and resumed is None,
            by_cursor=plans[selected.root].sends_start
            and all(one.disposition.value == "merge" for one in selected.selected),
            adds_rows=any(one.disposition.value != "merge" for one in selected.selected),
            notes_rows=bool(self._memories(selected)),
            started=plans[selected.root].started if has_times else None,
        )

    def _set_moment(self, selected: SelectedFamily, moment: datetime | None) -> None:
        """Have the calls of a family take `{now}` for this moment; for the run's own with None."""
        if moment is not None:
            self._moments[selected.root] = moment
        else:
            self._moments.pop(selected.root, None)

    def _can_load_in_parts(self, selected: SelectedFamily) -> bool:
        # the next load requests a skipped parent again; as the next part, that would be at once
        may_skip = len(selected.family.members) > 1 and self.connector.http.on_child_error != "fail"
        return not may_skip and can_load_in_parts(
            selected.selected,
            can_take_back=self.pipelines.can_take_back,
            can_swap=self.pipelines.can_swap,
        )

    def _is_valid(self, unfinished: Unfinished, selected: SelectedFamily) -> bool:
        """Return True if the file still asks for the same, and the rows of all parts are there."""
        return (
            unfinished.fingerprint == self._fingerprint(selected)
            and self.pipelines.are_complete(unfinished.load_ids)
            and self._has_staged_parts(selected, unfinished)
        )

    def _has_staged_parts(self, selected: SelectedFamily, unfinished: Unfinished) -> bool:
        """Return True if the rows are there that earlier parts have staged; also if none is replaced."""
        return not _replaces(selected) or self.pipelines.has_staged_parts(
            selected.root, unfinished.load_ids
        )

    def _memories(self, selected: SelectedFamily) -> Mapping[str, RepeatedRows]:
        """Return an empty memory for each resource whose known rows are noted for later parts."""
        if not self.pipelines.can_note_rows:
            return {}
        memories = {name: RepeatedRows(plan) for name, plan in self.plans(selected).items()}
        return {name: memory for name, memory in memories.items() if memory.is_needed_later}

    def _recall_rows(
        self, selected: SelectedFamily, unfinished: Unfinished
    ) -> Mapping[str, RepeatedRows] | None:
        """Return the rows that the parts of an earlier run know; None if their note is gone."""
        memories, load_id = self._memories(selected), unfinished.known_rows
        if not memories:
            return {}
        noted = self.pipelines.read_known_rows(selected.root, load_id) if load_id else {}
        if not noted.keys() >= memories.keys():
            return None
        return {name: memory.recall(noted[name]) for name, memory in memories.items()}

    @staticmethod
    def _known_rows_of(source: FamilySource, part: LoadPart) -> KnownRows | None:
        """Return what a part of a load notes of the rows it knows; None if nothing is needed."""
        if part.checkpoint is None or not part.notes_rows:
            return None
        earlier = part.resumed.known_rows if part.resumed else None

        def read() -> Mapping[str, str]:
            if not part.has_ended:
                return {}
            repeats = {name: one.repeats for name, one in source.tools.items()}
            return {name: one.as_json() for name, one in repeats.items() if one.is_needed_later}

        return KnownRows(part.root, earlier, read)

    @staticmethod
    def _swap_of(selected: SelectedFamily, part: LoadPart) -> Swap | None:
        """Return the exchange that a part of a load prepares or makes; None if no table is replaced."""
        if part.checkpoint is None or not _replaces(selected):
            return None
        return Swap(part.root, part.load_ids, is_last=lambda: not part.has_ended)

    def _fingerprint(self, selected: SelectedFamily) -> str:
        """Return a hash of what the file says of a family; new credentials don't change it."""
        client = self.connector.client
        asked: list[Any] = [client.base_url, as_json(client.paginator), as_json(client.headers)]
        for plan in self.plans(selected).values():
            one = plan.resource
            endpoint = {k: value for k, value in plan.endpoint.as_json().items() if k != "auth"}
            others = {
                part.name: as_json(getattr(one, part.name))
                for part in fields(one)
                if part.name not in _NOT_ASKED
            }
            asked += [
                plan.loaded,
                endpoint,
                others,
                one.disposition.value,
                one.disposition.strategy,
            ]
        return fingerprint_of(self.redactor(json.dumps(asked, sort_keys=True, default=str)))

    def _take_back_parts(self, state: Mapping[str, Any], root: str, options: LoadOptions) -> bool:
        """Remove what an unfinished load has appended, as it is not continued; return True if it has.

        Merged rows stay: they are merged again.
        """
        found = read_unfinished(state, self.connector.name, root)
        # an override replaces rows itself, and leaves those that a person wants to keep
        if found is None or options != LoadOptions() or not found.load_ids:
            return False
        self.progress.message(
            f"{root}: an earlier load was stored in part and can't be continued, so the rows that it "
            "appended or staged are removed and requested again"
        )
        self.pipelines.take_back(found.load_ids)
        return True

    def _describe_resumption(self, attempt: _LoadAttempt, part: LoadPart) -> str | None:
        """Return where an earlier run's load goes on, and report it; None if it doesn't."""
        if part.resumed is None or attempt.is_continued:
            return None
        text = self.redactor(part.resumed.describe())
        self.progress.message(f"{part.root}: goes on with the load of an earlier run: {text}")
        return text

    def _run_pipeline(
        self, attempt: _LoadAttempt, pipeline: dlt.Pipeline, options: LoadOptions, part: LoadPart
    ) -> LoadSummary:
        # once for all families: dlt reads both anew, which takes the longer the more tables there are
        stored, state = self.pipelines.schema(), pipeline.state
        with self.pipelines.parquet_files() as parquet_files:
            # all families are checked before a row of any is extracted
            for selected in attempt.families:
                own_part = part if len(attempt.families) == 1 else None
                # joined sources take the schema of the first, and dlt copies each
                schema = None if attempt.sources else self.pipelines.stored_schema
                source = self._build_source(
                    selected,
                    stored,
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
            return self.pipelines.run(
                pipeline,
                [selected.root for selected in attempt.families],
                join_sources([source.source for source in attempt.sources]),
                parquet_files,
                check=attempt.check_extracted,
                swap=self._swap_of(attempt.families[0], part),
                known=self._known_rows_of(attempt.sources[0], part),
                removed=attempt.removed_children,
            )

    def _build_source(
        self,
        selected: SelectedFamily,
        stored: Schema | None,
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
