"""The ops of a connector and of a backfill: from the run config to the engine, and from outcomes to materializations.

Only a running op imports this module, because it imports dlt.
"""

import signal
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, TypeVar

import dagster as dg
from dlt.common.pipeline import LoadInfo

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.destination.tables import read_loaded_columns
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.engine.run.window_load import ingest_window
from restsource_dagster.engine.run_progress import Observer
from restsource_dagster.orchestration.asset_checks import check_results, filled_columns_metadata
from restsource_dagster.orchestration.assets import materialization_metadata, table_schema
from restsource_dagster.orchestration.backfills.backfill_assets import backfill_run_tags
from restsource_dagster.orchestration.backfills.backfill_plan import (
    BackfillPlan,
    read_live_start_values,
)
from restsource_dagster.orchestration.dagster_compat import read_dlt_load_metadata
from restsource_dagster.orchestration.names import (
    TAG_CONNECTOR,
    TAG_LIVE_START,
    TAG_PROCESS,
    TAG_TRIGGER,
    TAG_WINDOW,
    asset_key,
)
from restsource_dagster.orchestration.run_config import (
    LoadConfig,
    LoadRequest,
    RunSettings,
    resolve_load_config,
)
from restsource_dagster.orchestration.sensors.killed_runs import process_tag
from restsource_dagster.settings import read_environment

__all__ = [
    "RunLogObserver",
    "execute_load_request",
    "load_summary",
    "materialize_connector",
    "materialize_partition",
    "read_assets_materialized_before",
    "summarize_failures",
    "tag_run",
    "until_interrupted",
]

Item = TypeVar("Item")

_TAG_RESUME_RETRY = "dagster/is_resume_retry"


def read_assets_materialized_before(context: dg.AssetExecutionContext) -> frozenset[dg.AssetKey]:
    """Return the assets that earlier attempts of this run materialized.

    Dagster retries a step as a whole, and a connector is one step. A run that is re-executed "from
    failure" (by a person or by a retry policy) continues its parent run, which may have continued
    another. A step that is retried within a run continues its earlier attempts.
    """
    done: set[dg.AssetKey] = set()
    if context.retry_number:
        done |= _read_materialized_assets(context.instance, context.run.run_id)
    run: dg.DagsterRun | None = context.run
    # Only "from failure" continues a run. Any other re-execution loads everything again.
    while run and run.parent_run_id and run.tags.get(_TAG_RESUME_RETRY) == "true":
        done |= _read_materialized_assets(context.instance, run.parent_run_id)
        run = context.instance.get_run_by_id(run.parent_run_id)
    return frozenset(done)


def _read_materialized_assets(instance: dg.DagsterInstance, run_id: str) -> set[dg.AssetKey]:
    found: set[dg.AssetKey] = set()
    cursor: str | None = None
    # A run of hundreds of resources has more events than one page holds.
    while True:
        page = instance.get_records_for_run(
            run_id, cursor=cursor, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        )
        for record in page.records:
            if record.asset_key:
                found.add(record.asset_key)
        if not page.has_more:
            return found
        cursor = page.cursor


_LOG_INTERVAL_SECONDS = 5.0


@dataclass
class RunLogObserver:
    """An observer that writes to a Dagster run's log and calls `next_observer`, too."""

    log: Any
    next_observer: Observer | None
    _logged_at: dict[str, float] = field(default_factory=dict)

    def page(self, resource: str, pages: int, rows: int, rows_per_second: float) -> None:
        """Log at most one line per resource in five seconds: each line is stored in the event log."""
        if self.next_observer:
            self.next_observer.page(resource, pages, rows, rows_per_second)
        # The first page only starts the clock: a load that ends within seconds logs its summary alone.
        now = time.monotonic()
        if now - self._logged_at.setdefault(resource, now) >= _LOG_INTERVAL_SECONDS:
            self._logged_at[resource] = now
            self.log.info(f"{resource}: {pages} pages, {rows} rows, {rows_per_second:.0f} rows/s")

    def phase(self, family: str, phase: str) -> None:
        """Log the phases of a family at debug level."""
        if self.next_observer:
            self.next_observer.phase(family, phase)
        self.log.debug(f"{family}: {phase}")

    def checkpoint(self, resource: str, rows: int) -> None:
        """Log a checkpoint."""
        if self.next_observer:
            self.next_observer.checkpoint(resource, rows)
        self.log.info(f"{resource}: checkpoint, {rows} rows are loaded and stay if the run fails")

    def message(self, text: str) -> None:
        """Log a wait, a retry or a decision as a warning."""
        if self.next_observer:
            self.next_observer.message(text)
        self.log.warning(text)


def execute_load_request(
    context: dg.AssetExecutionContext,
    connector: Connector,
    resources: Collection[str],
    request: LoadRequest,
    runs: RunSettings,
) -> Iterator[Outcome]:
    """Load what is requested and yield an outcome for each resource. An interrupt ends it for sure."""
    return until_interrupted(_load_request(context, connector, resources, request, runs))


def _load_request(
    context: dg.AssetExecutionContext,
    connector: Connector,
    resources: Collection[str],
    request: LoadRequest,
    runs: RunSettings,
) -> Iterator[Outcome]:
    observer = RunLogObserver(context.log, runs.observer)
    if request.windows:
        yield from _load_windows(context, connector, request, runs, observer)
        return
    yield from ingest(
        connector,
        settings=runs.settings,
        environment=read_environment(),
        resources=resources,
        observer=observer,
        # Read at each run: another process may have been the first to see the backfill block.
        live_from=read_live_start_values(connector, runs.settings),
        full_refresh=request.full_refresh,
        set_cursor=request.set_cursor,
    )


def _load_windows(
    context: dg.AssetExecutionContext,
    connector: Connector,
    request: LoadRequest,
    runs: RunSettings,
    observer: Observer,
) -> Iterator[Outcome]:
    if request.without_cursor:
        names = ", ".join(request.without_cursor)
        context.log.warning(f"Not loaded, because they have no cursor: {names}")
    for root, window in request.windows.items():
        context.log.info(f"{root}: the window {window.label}; the stored cursor doesn't change")
        yield from ingest_window(
            connector,
            root,
            window,
            settings=runs.settings,
            # Read for each window: a run of many may take hours, and tokens in `.env` change.
            environment=read_environment(),
            observer=observer,
        )


_INTERRUPT_AGAIN_SECONDS = 5.0


def until_interrupted(
    items: Iterator[Item], *, again_seconds: float = _INTERRUPT_AGAIN_SECONDS
) -> Iterator[Item]:
    """Yield the items of an iterator whose code may swallow an interrupt.

    Dagster interrupts an op by an exception, wherever its main thread is. DuckDB turns this into an
    error of the statement that it executes, and dlt ignores some errors; the run would go on as if
    nobody had stopped it. So the interrupt is raised again, after the item or every few seconds.
    """
    while True:
        with _interrupts_repeated(again_seconds):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


@contextmanager
def _interrupts_repeated(again_seconds: float) -> Iterator[None]:
    """Repeat an interrupt until its exception has left the block."""
    raise_interrupt = signal.getsignal(signal.SIGINT)
    # Python allows signal handlers in the main thread only, and Windows has no timer for signals.
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not callable(raise_interrupt) or sys.platform == "win32":
        yield
        return
    is_interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal is_interrupted
        is_interrupted = True
        signal.setitimer(signal.ITIMER_REAL, again_seconds)
        raise_interrupt(number, frame)

    # Ctrl-C; what orchestrators send, which Dagster handles like Ctrl-C; the timer's
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = {number: signal.signal(number, interrupt) for number in signals}
    try:
        yield
    except Exception:
        if not is_interrupted:
            raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
    if is_interrupted:
        raise_interrupt(signal.SIGINT, None)


def materialize_connector(
    context: dg.AssetExecutionContext,
    connector: Connector,
    runs: RunSettings,
    config: LoadConfig,
) -> Iterator[dg.MaterializeResult[Any]]:
    """Load the selected resources and yield a result for each; fail at the end if any failed.

    Raises `dagster.Failure` with one summary of what failed and why, or with what is wrong in the
    run config.
    """
    # First, so that the run queue and the schedule see the run as one of this connector.
    tag_run(context, {TAG_CONNECTOR: connector.name, TAG_TRIGGER: "manual"})
    done = read_assets_materialized_before(context) & context.selected_asset_keys
    if done:
        names = ", ".join(sorted(key.path[-1] for key in done))
        context.log.info(f"Loaded before this retry and not loaded again: {names}")
    selected = {key.path[-1] for key in context.selected_asset_keys - done}
    request = resolve_load_config(config, connector, selected)
    is_usual = request == LoadRequest()
    failed: list[Outcome] = []
    materialization = _MaterializationMetadata(context)
    # Each result is yielded as soon as it is loaded: if the process is killed, Dagster knows of it.
    for outcome in execute_load_request(context, connector, selected, request, runs):
        if outcome.failed:
            failed.append(outcome)
        # The engine may load a parent for its dependents although it isn't selected.
        elif outcome.resource in selected:
            context.log.info(load_summary(outcome))
            yield dg.MaterializeResult(
                asset_key=asset_key(connector.name, outcome.resource),
                metadata={
                    **materialization.metadata_of(outcome),
                    **filled_columns_metadata(outcome),
                },
                check_results=list(
                    check_results(context, connector, outcome, runs.settings, is_usual=is_usual)
                ),
            )
    if failed:
        raise summarize_failures(connector, failed, len(selected))


@dataclass
class _MaterializationMetadata:
    """Our metadata of a load and, under other keys, dagster-dlt's, which people know."""

    context: dg.AssetExecutionContext
    _info: LoadInfo | None = None
    _of_load: Mapping[str, Any] = field(default_factory=dict)
    """dagster-dlt's metadata of the load `_info`."""

    def metadata_of(self, outcome: Outcome) -> Mapping[str, Any]:
        """Return the metadata of a resource that was loaded."""
        own = materialization_metadata(outcome)
        load = outcome.load
        if load is None:
            return own
        # hundreds of resources share a load
        if load.info is not self._info:
            self._info, self._of_load = load.info, read_dlt_load_metadata(self.context, load)
        nested = {
            table: table_schema(read_loaded_columns(load.schema, table))
            for table in outcome.nested_tables
        }
        # Ours win: a nested table may have the name of one of our keys.
        return {**nested, **self._of_load, **own}


def tag_run(context: dg.AssetExecutionContext, tags: Mapping[str, str]) -> None:
    """Add these tags unless the run has them, and the tag of its process.

    A run that the UI starts without the job lacks the job's tags.
    """
    # Tags that the run has win, except for the process: a retried run has another one.
    tags = {**tags, **context.run.tags, TAG_PROCESS: process_tag()}
    new = {key: value for key, value in tags.items() if context.run.tags.get(key) != value}
    if new:
        context.instance.add_run_tags(context.run.run_id, new)


def load_summary(outcome: Outcome) -> str:
    """Return a line for the log about a successful load, or why a resource is left as it is."""
    if outcome.left_as_it_is:
        return f"{outcome.resource}: left as it is, {outcome.rows_loaded} rows. {outcome.left_as_it_is}"
    nested = sum(outcome.nested_tables.values())
    more = f" and {nested} in nested tables" if nested else ""
    cursor = (
        f", {outcome.cursor.cursor_path} at {outcome.cursor.last_value}" if outcome.cursor else ""
    )
    return (
        f"{outcome.resource}: {outcome.rows_loaded} rows{more} in {outcome.seconds:.1f} s "
        f"({outcome.usage.requests} requests, {outcome.usage.retries} retries){cursor}"
    )


def summarize_failures(connector: Connector, failed: list[Outcome], wanted: int) -> dg.Failure:
    """Return one failure for a run. It lists each cause once, with the resources that failed by it."""
    # A family fails as a whole, so its members share a cause.
    causes: dict[tuple[str, str, str], list[str]] = {}
    for outcome in failed:
        if outcome.failure:
            cause = (outcome.failure.resource, outcome.failure.step, outcome.failure.message)
            causes.setdefault(cause, []).append(outcome.resource)
    lines = [f"{len(failed)} of {wanted} resources of {connector.name} were not loaded."]
    for (culprit, step, message), names in causes.items():
        others = [name for name in names if name != culprit]
        with_it = f" (and with it {', '.join(others)})" if others else ""
        lines.append(f"- {culprit}{with_it}, in {step}: {message}")
    lines += [
        f"- {outcome.resource}: {outcome.rows_loaded} rows that came before the failure are loaded; the "
        "next run continues after them."
        for outcome in failed
        if outcome.rows_loaded
    ]
    rest = "" if len(failed) == wanted else "Everything else is loaded. "
    more = "more " if any(outcome.rows_loaded for outcome in failed) else ""
    lines.append(f"{rest}Nothing {more}of a failed resource is loaded; running again is safe.")
    # The command line reads the failed resources from the metadata.
    return dg.Failure(
        description="\n".join(lines),
        metadata={"failed": dg.MetadataValue.json(sorted(o.resource for o in failed))},
    )


def materialize_partition(
    context: dg.AssetExecutionContext, plan: BackfillPlan, runs: RunSettings
) -> dg.MaterializeResult[Any]:
    """Load the partition of this run, with the rows of all dependents of the resource.

    The result's data version is the resource's definition key. By it Dagster knows which partitions were
    loaded under an older definition and are due again. Raises `dagster.Failure` with one summary.
    """
    key, resource = context.partition_key, plan.resource
    # The backfill sensor finds runs by these tags. Runs that people launch in the UI lack them.
    tag_run(context, {**backfill_run_tags(plan), TAG_WINDOW: key})
    window = plan.window(key)
    context.log.info(f"{resource.name}: the window {window.label}")
    # All outcomes first: the asset is materialized only if every resource of the family is loaded.
    loading = ingest_window(
        plan.connector,
        resource.name,
        window,
        settings=runs.settings,
        environment=read_environment(),
        observer=RunLogObserver(context.log, runs.observer),
        live_from=plan.live_start_value(context.run.tags.get(TAG_LIVE_START)),
    )
    outcomes = list(until_interrupted(loading))
    failed = [outcome for outcome in outcomes if outcome.failed]
    if failed:
        raise summarize_failures(plan.connector, failed, len(outcomes))
    for outcome in outcomes:
        context.log.info(load_summary(outcome))
    return dg.MaterializeResult(
        asset_key=plan.asset_key,
        data_version=dg.DataVersion(resource.definition_key),
        metadata=_partition_metadata(plan, key, outcomes),
    )


def _partition_metadata(plan: BackfillPlan, key: str, outcomes: list[Outcome]) -> dict[str, Any]:
    """Return the metadata of the root's load, and the rows of each dependent, which has no such asset."""
    [root] = [outcome for outcome in outcomes if outcome.resource == plan.resource.name]
    partition = plan.partition(key)
    metadata = {
        **materialization_metadata(root),
        # Moments, unlike those of a live run: the UI shows both ends of the partition in time.
        "window/start": dg.MetadataValue.timestamp(partition.start),
        "window/end": dg.MetadataValue.timestamp(partition.end),
    }
    for outcome in outcomes:
        if outcome is not root:
            metadata[f"rows_loaded/{outcome.resource}"] = outcome.rows_loaded
    return metadata
