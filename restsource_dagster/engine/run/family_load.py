"""Loads the families of one run, each in a load package of its own or several in one.

A family (a resource and its dependents) is always in one load package: its rows and its cursors
arrive together or not at all. A family that fails does not affect the others.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import dlt
from dlt.common.schema import Schema
from dlt.pipeline.exceptions import PipelineStepFailed

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.resources import Family, Resource
from restsource_dagster.engine.columnar.column_loader import ColumnLoader
from restsource_dagster.engine.columnar.parquet_files import ParquetFiles
from restsource_dagster.engine.destination.dlt_config import configure_dlt
from restsource_dagster.engine.destination.pipeline import LoadSummary, PipelineManager
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
from restsource_dagster.engine.incremental.cursor_overrides import AppliedOverrides
from restsource_dagster.engine.incremental.cursor_state import read_cursor_progress
from restsource_dagster.engine.incremental.family_cursors import check_safe_to_append
from restsource_dagster.engine.incremental.window_filter import BackfillWindow
from restsource_dagster.engine.plan.resource_plan import ResourcePlan, build_resource_plans
from restsource_dagster.engine.progress import Observer, Progress, SilentObserver, Usage
from restsource_dagster.engine.run.outcome import DltLoad, Failure, Outcome
from restsource_dagster.engine.run.workspace import connector_workspace
from restsource_dagster.engine.source.dlt_source import (
    FamilySource,
    build_family_source,
    join_sources,
)
from restsource_dagster.engine.source.endpoint_factory import EndpointFactory
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

_WRITE_MODE_CHARS = 300
"""The most characters of the reason why rows were not written as columns: it quotes a value."""


def failure_reason(error: Exception) -> str:
    """Return the error at the root of dlt's wrappers, in one line."""
    return _error_message(_root_cause(error)[1]).partition("\n")[0]


def failed_outcome(
    error: Exception,
    family: Family,
    resource: Resource,
    source: FamilySource | None,
    started: float,
    redactor: Redactor,
) -> Outcome:
    """Return the outcome of a resource whose family failed; `started` is a `time.monotonic()`."""
    step, cause = _root_cause(error)
    if source and step == "normalize":
        # dlt finds out here that a number is too big, and doesn't know the record any more
        oversized = (sanitizer.first_oversized for sanitizer in source.sanitizers.values())
        cause = next((known for known in oversized if known), cause)
    failed_resource = getattr(cause, "resource", None) or family.root.name
    counts = source.counts.get(resource.name) if source else None
    return Outcome(
        resource=resource.name,
        table=resource.table,
        seconds=time.monotonic() - started,
        usage=counts.usage_counter.usage if counts else Usage(),
        failure=Failure(failed_resource, step, redactor(_error_message(cause))),
    )


def _root_cause(error: BaseException) -> tuple[str, BaseException]:
    """Return the step that failed, and the cause: our own error, else the innermost of the chain."""
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
    # our own messages are sentences; those of libraries often need the type to be understood
    return str(error) if isinstance(error, IngestError) else f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class LoadBaseline:
    """The state before a load, to compare with that after it."""

    started: float
    """When the load started, as a `time.monotonic()`."""
    state: Mapping[str, Any]
    tables: TableSnapshots
    window: tuple[Any, Any] | None
    """The ends of the window that is loaded; None for a live run."""
    overridden_cursors: Mapping[str, tuple[Any, Any]]
    """By resource, the stored cursor and the value that replaced it."""


def loaded_outcomes_of(
    connector: str,
    resources: Collection[Resource],
    source: FamilySource,
    pipeline: dlt.Pipeline,
    loaded: LoadSummary,
    before: LoadBaseline,
    redactor: Redactor,
) -> Iterator[Outcome]:
    """Yield the outcomes of a family's resources that were loaded."""
    # read once: dlt parses both from files each time
    schema, state = pipeline.default_schema, pipeline.state
    after = read_table_snapshots(schema)
    for resource in resources:
        counts = source.counts[resource.name]
        table = schema.naming.normalize_table_identifier(resource.table)
        yield Outcome(
            resource=resource.name,
            table=table,
            seconds=time.monotonic() - before.started,
            usage=counts.usage_counter.usage,
            records_received=counts.received,
            stated_total=counts.stated_total,
            skipped=tuple(map(redactor, counts.skipped)),
            rows_loaded=loaded.rows.get(table, 0),
            row_count=loaded.counts.get(table),
            dataset=pipeline.dataset_name,
            destination=pipeline.destination.destination_name,
            # a window moves no stored cursor, so there is nothing to show
            cursor=None
            if before.window
            else read_cursor_progress(before.state, state, connector, resource),
            cursor_set=before.overridden_cursors.get(resource.name),
            window=before.window,
            columns=read_loaded_columns(schema, table),
            write_mode=redactor.snippet(
                _describe_write_mode(source.column_loaders.get(resource.name)), _WRITE_MODE_CHARS
            ),
            schema_changes=(
                *loaded.withdrawn.get(table, ()),
                *describe_schema_changes(table, before.tables, after),
            ),
            nested_tables=_nested_row_counts(schema, table, loaded.rows),
            load=DltLoad(pipeline, source.source.resources[resource.name], loaded.info),
        )


def _nested_row_counts(schema: Schema, table: str, rows: Mapping[str, int]) -> Mapping[str, int]:
    prefix = f"{table}{schema.naming.PATH_SEPARATOR}"
    return {name: count for name, count in rows.items() if name.startswith(prefix)}


def _describe_write_mode(loader: ColumnLoader | None) -> str:
    if loader is None:
        return "rows"
    if loader.refusal is None:
        return "columns"
    mode = f"columns for the first {loader.rows:,} rows, then rows" if loader.rows else "rows"
    return f"{mode}: {loader.refusal}"


@dataclass(frozen=True)
class LoadOptions:
    """What a load of a family does beside loading new rows."""

    overrides: AppliedOverrides = field(default_factory=AppliedOverrides)
    window: BackfillWindow | None = None
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


PrepareLoad = Callable[["ConnectorRun", dlt.Pipeline, SelectedFamily], LoadOptions]
"""Called before the load of a family, with the open pipeline; returns the options of the load."""


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
    """Lock the connector and yield a run of it; clean up afterwards.

    `pipeline` is the name of the dlt pipeline. Raises `MissingReferences` if the environment lacks
    variables of the file, and `ConnectorBusyError`.
    """
    resolved = connector.resolved(environment)
    redactor = Redactor(find_secrets(connector, resolved, environment))
    progress = Progress(observer or SilentObserver(), redactor)
    configure_dlt()
    with (
        # first, because any error from here on may quote a secret
        redactor.redacted_errors(IngestError),
        connector_workspace(
            settings.state_dir, connector.name, progress.message, settings.lock_wait_seconds
        ) as folder,
        closing(EndpointFactory(resolved, redactor, progress, sleep)) as endpoints,
    ):
        pipelines = PipelineManager(
            pipeline, warehouse_from_settings(settings), progress, folder, dataset=connector.name
        )
        yield ConnectorRun(resolved, endpoints, pipelines, redactor, progress, prepare)


@dataclass
class _LoadAttempt:
    """A load of some families in one package. `sources` has those that were built so far."""

    families: Sequence[SelectedFamily]
    started: float = field(default_factory=time.monotonic)
    sources: list[FamilySource] = field(default_factory=list)


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
    _plans: dict[tuple[str, ...], Mapping[str, ResourcePlan]] = field(
        default_factory=dict, init=False, repr=False
    )

    def plans(self, selected: SelectedFamily) -> Mapping[str, ResourcePlan]:
        """Return the plans of the resources that are loaded or have dependents that are.

        By name, parents first.
        """
        # prefetching and loading ask for the same plans
        key = (selected.root, *sorted(selected.names))
        if key not in self._plans:
            found = build_resource_plans(selected.family, self.connector, selected.names)
            self._plans[key] = {plan.resource.name: plan for plan in found}
        return self._plans[key]

    def load(self, selected: SelectedFamily) -> Iterator[Outcome]:
        """Load a family; yield an outcome for each of its selected resources. Never raises."""
        attempt = _LoadAttempt([selected])
        try:
            outcomes = self._load_package(attempt)
        except Exception as error:  # noqa: BLE001 - families are isolated: any error is an outcome
            # its local state may have cursors whose rows were not loaded
            self.pipelines.discard()
            source = attempt.sources[0] if attempt.sources else None
            outcomes = [
                failed_outcome(
                    error, selected.family, resource, source, attempt.started, self.redactor
                )
                for resource in selected.selected
            ]
        # outside of the `try`: an error of the caller is not one of the family
        yield from outcomes

    def load_group(self, families: Sequence[SelectedFamily]) -> Iterator[Outcome]:
        """Load the new rows of several families in one package; if that fails, one by one.

        The result is the same as with `load` for each, but faster: a package costs some tenths of a
        second. One by one, the families use the responses that were fetched for the group, so that
        only the family with the error fails.
        """
        with self.endpoints.replayable() as start_replay:
            try:
                outcomes = self._load_package(_LoadAttempt(families))
            except Exception as error:  # noqa: BLE001 - one family meets it again and reports it
                self.pipelines.discard()
                reason = failure_reason(error)
            else:
                yield from outcomes
                return
            # which family failed is unknown: normalize and load see the package as a whole
            start_replay([name for selected in families for name in selected.names])
            roots = ", ".join(selected.root for selected in families)
            self.progress.message(
                f"{roots} could not be loaded together, so each is loaded by itself: {reason}"
            )
            for selected in families:
                yield from self.load(selected)

    def _load_package(self, attempt: _LoadAttempt) -> list[Outcome]:
        """Load the families of an attempt in one package. Raises what went wrong."""
        pipeline = self.pipelines.open()
        options = self._prepare_group(pipeline, attempt.families)
        self.pipelines.prepare_load(options.overrides)
        # after the overrides, so that a changed cursor starts at its new value
        before = LoadBaseline(
            attempt.started,
            # the extraction changes the pipeline's state in place
            deepcopy(dict(pipeline.state)),
            read_table_snapshots(self.pipelines.schema()),
            options.window_ends,
            options.overrides.moved_cursors,
        )
        loaded = self._run_pipeline(attempt, pipeline, options)
        name = self.connector.name
        return [
            outcome
            for selected, source in zip(attempt.families, attempt.sources, strict=True)
            for outcome in loaded_outcomes_of(
                name, selected.selected, source, pipeline, loaded, before, self.redactor
            )
        ]

    def _prepare_group(
        self, pipeline: dlt.Pipeline, families: Sequence[SelectedFamily]
    ) -> LoadOptions:
        options = [self.prepare(self, pipeline, selected) for selected in families]
        if len(options) > 1 and any(one != LoadOptions() for one in options):
            raise IngestError("several families are loaded together only for their new rows")
        return options[0]

    def _run_pipeline(
        self, attempt: _LoadAttempt, pipeline: dlt.Pipeline, options: LoadOptions
    ) -> LoadSummary:
        with self.pipelines.parquet_files() as parquet_files:
            # all families are checked before a row of any is extracted
            for selected in attempt.families:
                source = self._build_source(selected, options.window, parquet_files)
                attempt.sources.append(source)
                self._check_source(pipeline, source, options)
            return self.pipelines.run(
                pipeline,
                [selected.root for selected in attempt.families],
                join_sources([source.source for source in attempt.sources]),
                parquet_files,
            )

    def _build_source(
        self,
        selected: SelectedFamily,
        window: BackfillWindow | None,
        parquet_files: ParquetFiles | None,
    ) -> FamilySource:
        source = build_family_source(
            self.connector,
            self.endpoints,
            self.plans(selected),
            selected.root,
            notify=self.progress.message,
            schema=self.pipelines.stored_schema,
            window=window,
            files=parquet_files,
        )
        for plan in source.plans.values():
            if not plan.loaded:
                self.progress.message(
                    f"{plan.resource.name} is requested because {', '.join(selected.names)} depends "
                    "on it; it is not loaded and its cursor does not move"
                )
        return source

    def _check_source(
        self, pipeline: dlt.Pipeline, source: FamilySource, options: LoadOptions
    ) -> None:
        """Raise `IngestError` if a live run would append rows that the tables have already."""
        if options.window is not None:
            # a window merges or deletes its rows, so none is stored twice
            return
        emptied = {deletion.table for deletion in options.overrides.deletions}
        plans = {
            name: plan for name, plan in source.plans.items() if plan.resource.table not in emptied
        }
        state = pipeline.state.get("sources", {}).get(self.connector.name, {})
        check_safe_to_append(plans, state, self.pipelines.count_rows, family=source.plans)
