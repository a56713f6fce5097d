"""Windows as runs of the Dagster instance: put into the daemon's queue, or carried out here.

Imported only by `restsource backfill` once it has something to do, because it brings Dagster.

The windows of a range that a person asks for, and how each is to be loaded.

How far a backfill is, for the person at the terminal.
"""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import dagster as dg

# For why not `execute_in_process`, see `execution`.
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.run_coordinator import QueuedRunCoordinator
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from restsource_dagster.cli.execution import Interrupts, failure_text, find_job_origin
from restsource_dagster.cli.output import print_notice
from restsource_dagster.connector.cursor_format import (
    CursorFormat,
    CursorValueError,
    detect_cursor_format,
)
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.partitions import (
    PARTITION_KEY_FORMATS,
    Window,
    next_partition_start,
    partition_floor,
    split_into_windows,
)
from restsource_dagster.connector.resources import Backfill, Resource
from restsource_dagster.connector.validation.diagnostics import printable
from restsource_dagster.orchestration.assets import build_connector_assets
from restsource_dagster.orchestration.backfills.backfill_assets import (
    BACKFILL_PRIORITY,
    build_backfill_asset,
    build_backfill_job,
)
from restsource_dagster.orchestration.backfills.backfill_plan import BackfillPlan
from restsource_dagster.orchestration.backfills.backfill_status import (
    IN_PROGRESS_STATUSES,
    TAG_PARTITION,
)
from restsource_dagster.orchestration.names import (
    TAG_CONNECTOR,
    TAG_DEFINITION,
    TAG_HISTORY,
    TAG_PROCESS,
    TAG_TRIGGER,
    TAG_WINDOW,
    TRIGGER_BACKFILL,
    asset_key,
    history_tag_value,
    job_name,
)
from restsource_dagster.orchestration.run_config import RunSettings
from restsource_dagster.orchestration.sensors.killed_runs import process_tag

__all__ = [
    "RequestedWindow",
    "WindowCounter",
    "WindowReport",
    "WindowRuns",
    "is_daemon_running",
    "show_window_progress",
    "split_requested_range",
]

_LENGTH_BY_GRANULARITY = {"hourly": "1h", "daily": "1d", "weekly": "1w", "monthly": "1mo"}


@dataclass(frozen=True)
class RequestedWindow:
    """A window that was asked for."""

    span: Window
    partition: str | None
    """The partition of the history that it is exactly; None if it is none."""

    @property
    def name(self) -> str:
        """What it is called in the tag `restsource/window`."""
        return self.partition or self.span.name

    @property
    def run_config(self) -> Mapping[str, Any]:
        """The op's config that loads it on the live asset."""
        return {"window": {"from": self.span.start, "to": self.span.end}}


def split_requested_range(
    resource: Resource, from_: str, to: str, window: str | None, history: frozenset[str]
) -> tuple[RequestedWindow, ...]:
    """The windows from `from_` up to `to`, newest first.

    `window` is their length; left out, that of the resource's `backfill` block, else one window for
    all. `history` has the keys of the windows of its history. Raises `ValueError` with a sentence for
    the person if the range can't be cut so.
    """
    backfill = resource.backfill
    length = window or (_LENGTH_BY_GRANULARITY[backfill.partition] if backfill else None)
    spans = split_into_windows(from_, to, length, form=_cursor_format_of_resource(resource))
    return tuple(
        RequestedWindow(span, _matching_partition_key(span, backfill, history))
        for span in reversed(spans)
    )


def _matching_partition_key(
    span: Window, backfill: Backfill | None, history: frozenset[str]
) -> str | None:
    """The key of the window of the history that the span is, if it is one."""
    if backfill is None or not span.form.is_time:
        return None
    start, end = span.form.parse(span.start), span.form.parse(span.end)
    partition = backfill.partition
    if partition_floor(partition, start) != start or next_partition_start(partition, start) != end:
        return None
    key = str(start.strftime(PARTITION_KEY_FORMATS[partition]))
    return key if key in history else None


def _cursor_format_of_resource(resource: Resource) -> CursorFormat | None:
    value = resource.incremental.initial_value if resource.incremental else None
    try:
        return None if value is None else detect_cursor_format(value)
    except CursorValueError:
        return None


_SPEED_ESTIMATE_SECONDS = 3600.0
"""The time left is worked out from the windows of so long."""


class WindowCounter:
    """Counts windows as they end: a line each, or a bar."""

    def __init__(self, progress: Progress | None, task: TaskID) -> None:
        self._progress, self._task = progress, task
        self._failed = self._rows = 0

    def ended(self, report: "WindowReport") -> None:
        """A window has ended."""
        self._failed += report.status != "loaded"
        self._rows += report.rows_loaded or 0
        if self._progress is None:
            rows = f", {report.rows_loaded:,} rows" if report.rows_loaded is not None else ""
            print_notice(printable(f"{report.window.name}: {report.status}{rows}"))
            return
        if report.failure:
            text = f"{report.window.name}: {report.failure.splitlines()[0]}"
            self._progress.console.print(Text(printable(text), "red"))
        self._progress.update(
            self._task, advance=1, failed=f"{self._failed:,}", rows=f"{self._rows:,}"
        )


@contextmanager
def show_window_progress(name: str, windows: int) -> Iterator[WindowCounter]:
    """Shows on standard error how many windows have ended: a bar on a terminal, else lines."""
    if not Console(stderr=True).is_terminal:
        yield WindowCounter(None, TaskID(0))
        return
    # Dagster takes standard error away while an op runs, to keep it as the run's log.
    with os.fdopen(os.dup(2), "w") as terminal:
        console = Console(file=terminal, force_terminal=True, highlight=False, markup=False)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]} failed  {task.fields[rows]} rows  time left"),
            TimeRemainingColumn(),
        )
        with Progress(
            *columns,
            console=console,
            redirect_stdout=False,
            redirect_stderr=False,
            speed_estimate_period=_SPEED_ESTIMATE_SECONDS,
        ) as progress:
            task = progress.add_task(printable(name), total=windows, failed="0", rows="0")
            yield WindowCounter(progress, task)


_QUEUE_DAEMON_TYPE = "QUEUED_RUN_COORDINATOR"
_HEARTBEAT_SECONDS = 120
"""The daemon tells every 30 seconds that it is alive."""
_POLL_SECONDS = 1.0
_STATUS_WORDS = {
    dg.DagsterRunStatus.SUCCESS: "loaded",
    dg.DagsterRunStatus.FAILURE: "failed",
    dg.DagsterRunStatus.CANCELED: "canceled",
}


@dataclass(frozen=True)
class WindowReport:
    """What became of a window."""

    window: RequestedWindow
    status: str
    """`loaded`, `failed` or `canceled`; `queued` and `going on` for those that are not over."""
    run_id: str | None = None
    rows_loaded: int | None = None
    failure: str | None = None


def is_daemon_running(instance: dg.DagsterInstance) -> bool:
    """Whether a Dagster daemon looks after the queue of this instance."""
    if instance.is_ephemeral or not isinstance(instance.run_coordinator, QueuedRunCoordinator):
        return False
    heartbeat = instance.get_daemon_heartbeats().get(_QUEUE_DAEMON_TYPE)
    now = datetime.now(UTC).timestamp()
    return heartbeat is not None and now - heartbeat.timestamp < _HEARTBEAT_SECONDS


@dataclass(frozen=True)
class WindowRuns:
    """The runs of windows of one resource."""

    connector: Connector
    resource: str
    plan: BackfillPlan | None
    runs: RunSettings
    instance: dg.DagsterInstance
    log_level: str = field(default="CRITICAL")

    def going_on(self) -> frozenset[str]:
        """The names of this resource's windows that are queued or running."""
        tags = {TAG_HISTORY: history_tag_value(self.connector.name, self.resource)}
        runs = self.instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS_STATUSES, tags=tags))
        return frozenset(run.tags.get(TAG_WINDOW, "") for run in runs)

    def enqueue(self, window: RequestedWindow) -> WindowReport:
        """Put a window into the queue of the instance, where the daemon finds it."""
        run = self._create(window, {})
        event = dg.DagsterEvent.job_enqueue(run)
        self.instance.report_dagster_event(event, run_id=run.run_id)
        return WindowReport(window, "queued", run.run_id)

    def wait(self, queued: Sequence[WindowReport]) -> Iterator[WindowReport]:
        """Report each of the queued windows as it ends."""
        open_runs = {report.run_id: report for report in queued if report.run_id}
        pause = threading.Event()
        while open_runs:
            ids = list(open_runs)
            known = {run.run_id: run for run in self.instance.get_runs(dg.RunsFilter(run_ids=ids))}
            for run_id in ids:
                run = known.get(run_id)
                if run is None or run.status in _STATUS_WORDS:  # None: somebody has deleted it
                    yield self.report(open_runs.pop(run_id).window, run_id)
            if open_runs:
                pause.wait(_POLL_SECONDS)

    def execute(self, window: RequestedWindow, interrupts: Interrupts) -> WindowReport:
        """Carry out a window in this process, to its end."""
        run = self._create(window, {TAG_PROCESS: process_tag()})
        with interrupts.cancelling(lambda: self._cancel(run)):
            execute_run(InMemoryJob(self._job(window)), run, self.instance, raise_on_error=False)
        return self.report(window, run.run_id)

    def report(self, window: RequestedWindow, run_id: str) -> WindowReport:
        """What the instance knows of a window's run."""
        run = self.instance.get_run_by_id(run_id)
        status = _STATUS_WORDS.get(run.status, "going on") if run else "canceled"
        return WindowReport(
            window=window,
            status=status,
            run_id=run_id,
            rows_loaded=self._rows(run_id) if status == "loaded" else None,
            failure=self._failure(run_id) if status == "failed" else None,
        )

    def _create(self, window: RequestedWindow, more: dict[str, str]) -> dg.DagsterRun:
        job = self._job(window)
        tags = {**job.run_tags, **self._tags(window), **more}
        return self.instance.create_run_for_job(
            job_def=job,
            tags=tags,
            run_config=self._run_config(window),
            asset_selection=job.asset_layer.selected_asset_keys if not window.partition else None,
            remote_job_origin=find_job_origin(self.instance, self.connector.name, job.name),
        )

    def _tags(self, window: RequestedWindow) -> dict[str, str]:
        partition = {TAG_PARTITION: window.partition} if window.partition else {}
        return {
            TAG_CONNECTOR: self.connector.name,
            TAG_TRIGGER: TRIGGER_BACKFILL,
            TAG_HISTORY: history_tag_value(self.connector.name, self.resource),
            TAG_WINDOW: window.name,
            TAG_DEFINITION: self.connector.resource(self.resource).definition_key,
            **BACKFILL_PRIORITY,
            **partition,
        }

    def _run_config(self, window: RequestedWindow) -> dict[str, Any]:
        config: dict[str, Any] = {}
        if self.log_level != "INFO":
            config["loggers"] = {"console": {"config": {"log_level": self.log_level}}}
        if not window.partition:
            config["ops"] = {self.connector.name: {"config": dict(window.run_config)}}
        return config

    def _job(self, window: RequestedWindow) -> dg.JobDefinition:
        return self._history_job if window.partition else self._live_job

    @cached_property
    def _history_job(self) -> dg.JobDefinition:
        if self.plan is None:
            raise ValueError(f"{self.resource} has no history")
        asset = build_backfill_asset(self.plan, self.runs)
        return _resolve_job([asset], build_backfill_job(self.plan, asset))

    @cached_property
    def _live_job(self) -> dg.JobDefinition:
        """The connector's job, for this resource and what is loaded with it."""
        family = self.connector.family_of(self.resource)
        names = [m.name for m in family.members if m.selected or m is family.root]
        keys = [asset_key(self.connector.name, name) for name in names]
        job = dg.define_asset_job(
            job_name(self.connector.name), selection=dg.AssetSelection.assets(*keys)
        )
        return _resolve_job([build_connector_assets(self.connector, self.runs)], job)

    def _cancel(self, run: dg.DagsterRun) -> None:
        if not self.instance.is_ephemeral:
            self.instance.report_run_canceling(run)

    def _rows(self, run_id: str) -> int:
        """The rows that a run loaded, those of dependents too."""
        return sum(
            value.value
            for event in self._events(run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)
            for name, value in event.step_materialization_data.materialization.metadata.items()
            if (name == "rows_loaded" or name.startswith("rows_loaded/"))
            and isinstance(value.value, int)
        )

    def _failure(self, run_id: str) -> str:
        events = self._events(run_id, dg.DagsterEventType.STEP_FAILURE)
        texts = [failure_text(event.step_failure_data) for event in events]
        return "\n".join(texts) or "The run failed before it began; its page in the UI says why."

    def _events(self, run_id: str, kind: dg.DagsterEventType) -> Iterable[dg.DagsterEvent]:
        records = self.instance.get_records_for_run(run_id, of_type=kind).records
        events = (record.event_log_entry.dagster_event for record in records)
        return (event for event in events if event is not None)


def _resolve_job(assets: Sequence[dg.AssetsDefinition], job: Any) -> dg.JobDefinition:
    definitions = dg.Definitions(assets=assets, jobs=[job], executor=dg.in_process_executor)
    return definitions.resolve_job_def(job.name)
