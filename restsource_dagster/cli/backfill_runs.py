"""Windows as runs of the Dagster instance: put into the daemon's queue, or carried out here.

Imported only by `restsource backfill` once it has something to do, because it brings Dagster.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import dagster as dg

# For why not `execute_in_process`, see `execution`.
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.run_coordinator import QueuedRunCoordinator

from restsource_dagster.cli.backfill_windows import AskedWindow
from restsource_dagster.cli.execution import failure_text, origin_of
from restsource_dagster.cli.interrupts import Interrupts
from restsource_dagster.config.connector import Connector
from restsource_dagster.orchestration.assets import build_connector_assets
from restsource_dagster.orchestration.history.assets import (
    PRIORITY,
    build_history_asset,
    build_history_job,
)
from restsource_dagster.orchestration.history.going_on import IN_PROGRESS, PARTITION
from restsource_dagster.orchestration.history.plans import HistoryPlan
from restsource_dagster.orchestration.names import (
    BACKFILL,
    TAG_CONNECTOR,
    TAG_DEFINITION,
    TAG_HISTORY,
    TAG_PROCESS,
    TAG_TRIGGER,
    TAG_WINDOW,
    asset_key,
    history_tag,
    job_name,
)
from restsource_dagster.orchestration.processes import process_tag
from restsource_dagster.orchestration.run_settings import RunSettings

__all__ = ["WindowReport", "WindowRuns", "has_daemon"]

_QUEUE_DAEMON = "QUEUED_RUN_COORDINATOR"
_ALIVE_SECONDS = 120
"""The daemon tells every 30 seconds that it is alive."""
_POLL_SECONDS = 1.0
_ENDED = {
    dg.DagsterRunStatus.SUCCESS: "loaded",
    dg.DagsterRunStatus.FAILURE: "failed",
    dg.DagsterRunStatus.CANCELED: "canceled",
}


@dataclass(frozen=True)
class WindowReport:
    """What became of a window."""

    window: AskedWindow
    status: str
    """`loaded`, `failed` or `canceled`; `queued` and `going on` for those that are not over."""
    run_id: str | None = None
    rows_loaded: int | None = None
    failure: str | None = None


def has_daemon(instance: dg.DagsterInstance) -> bool:
    """Whether a Dagster daemon looks after the queue of this instance."""
    if instance.is_ephemeral or not isinstance(instance.run_coordinator, QueuedRunCoordinator):
        return False
    heartbeat = instance.get_daemon_heartbeats().get(_QUEUE_DAEMON)
    now = datetime.now(UTC).timestamp()
    return heartbeat is not None and now - heartbeat.timestamp < _ALIVE_SECONDS


@dataclass(frozen=True)
class WindowRuns:
    """The runs of windows of one resource."""

    connector: Connector
    resource: str
    plan: HistoryPlan | None
    runs: RunSettings
    instance: dg.DagsterInstance
    log_level: str = field(default="CRITICAL")

    def going_on(self) -> frozenset[str]:
        """The names of this resource's windows that are queued or running."""
        tags = {TAG_HISTORY: history_tag(self.connector.name, self.resource)}
        runs = self.instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS, tags=tags))
        return frozenset(run.tags.get(TAG_WINDOW, "") for run in runs)

    def enqueue(self, window: AskedWindow) -> WindowReport:
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
                if run is None or run.status in _ENDED:  # None: somebody has deleted it
                    yield self.report(open_runs.pop(run_id).window, run_id)
            if open_runs:
                pause.wait(_POLL_SECONDS)

    def execute(self, window: AskedWindow, interrupts: Interrupts) -> WindowReport:
        """Carry out a window in this process, to its end."""
        run = self._create(window, {TAG_PROCESS: process_tag()})
        with interrupts.cancelling(lambda: self._cancel(run)):
            execute_run(InMemoryJob(self._job(window)), run, self.instance, raise_on_error=False)
        return self.report(window, run.run_id)

    def report(self, window: AskedWindow, run_id: str) -> WindowReport:
        """What the instance knows of a window's run."""
        run = self.instance.get_run_by_id(run_id)
        status = _ENDED.get(run.status, "going on") if run else "canceled"
        return WindowReport(
            window=window,
            status=status,
            run_id=run_id,
            rows_loaded=self._rows(run_id) if status == "loaded" else None,
            failure=self._failure(run_id) if status == "failed" else None,
        )

    def _create(self, window: AskedWindow, more: dict[str, str]) -> dg.DagsterRun:
        job = self._job(window)
        tags = {**job.run_tags, **self._tags(window), **more}
        return self.instance.create_run_for_job(
            job_def=job,
            tags=tags,
            run_config=self._run_config(window),
            asset_selection=job.asset_layer.selected_asset_keys if not window.partition else None,
            remote_job_origin=origin_of(self.instance, self.connector.name, job.name),
        )

    def _tags(self, window: AskedWindow) -> dict[str, str]:
        partition = {PARTITION: window.partition} if window.partition else {}
        return {
            TAG_CONNECTOR: self.connector.name,
            TAG_TRIGGER: BACKFILL,
            TAG_HISTORY: history_tag(self.connector.name, self.resource),
            TAG_WINDOW: window.name,
            TAG_DEFINITION: self.connector.resource(self.resource).definition_key,
            **PRIORITY,
            **partition,
        }

    def _run_config(self, window: AskedWindow) -> dict[str, Any]:
        config: dict[str, Any] = {}
        if self.log_level != "INFO":
            config["loggers"] = {"console": {"config": {"log_level": self.log_level}}}
        if not window.partition:
            config["ops"] = {self.connector.name: {"config": dict(window.run_config)}}
        return config

    def _job(self, window: AskedWindow) -> dg.JobDefinition:
        return self._history_job if window.partition else self._live_job

    @cached_property
    def _history_job(self) -> dg.JobDefinition:
        if self.plan is None:
            raise ValueError(f"{self.resource} has no history")
        asset = build_history_asset(self.plan, self.runs)
        return _resolved([asset], build_history_job(self.plan, asset))

    @cached_property
    def _live_job(self) -> dg.JobDefinition:
        """The connector's job, for this resource and what is loaded with it."""
        family = self.connector.family_of(self.resource)
        names = [m.name for m in family.members if m.selected or m is family.root]
        keys = [asset_key(self.connector.name, name) for name in names]
        job = dg.define_asset_job(
            job_name(self.connector.name), selection=dg.AssetSelection.assets(*keys)
        )
        return _resolved([build_connector_assets(self.connector, self.runs)], job)

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


def _resolved(assets: Sequence[dg.AssetsDefinition], job: Any) -> dg.JobDefinition:
    definitions = dg.Definitions(assets=assets, jobs=[job], executor=dg.in_process_executor)
    return definitions.resolve_job_def(job.name)
