"""Loads windows as runs of the Dagster instance: in the daemon's queue, or in this process.

Imports Dagster, so `restsource backfill` imports it only when there is something to load.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import dagster as dg

from restsource_dagster.cli.backfill_windows import RequestedWindow, WindowReport
from restsource_dagster.cli.execution import failure_text, find_job_origin
from restsource_dagster.cli.interrupts import Interrupts
from restsource_dagster.connector.model import Connector
from restsource_dagster.orchestration.assets import build_connector_assets
from restsource_dagster.orchestration.backfills.backfill_assets import (
    BACKFILL_PRIORITY,
    build_backfill_asset,
    build_backfill_job,
)
from restsource_dagster.orchestration.backfills.backfill_plan import BackfillPlan
from restsource_dagster.orchestration.backfills.backfill_status import TAG_PARTITION
from restsource_dagster.orchestration.dagster_compat import (
    assets_of_job,
    cancel_run,
    create_run,
    enqueue_run,
    execute_run,
    read_queue_heartbeat,
    resolve_jobs,
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
    backfill_tag_value,
    job_name,
)
from restsource_dagster.orchestration.run_config import RunSettings
from restsource_dagster.orchestration.sensors.killed_runs import (
    fail_if_process_gone,
    process_tag,
    read_unfinished_runs,
)

__all__ = [
    "WindowRuns",
    "is_daemon_running",
]


_HEARTBEAT_SECONDS = 120
"""How old the daemon's last heartbeat may be; it sends one every 30 seconds."""
_POLL_SECONDS = 1.0
_STATUS_WORDS = {
    dg.DagsterRunStatus.SUCCESS: "loaded",
    dg.DagsterRunStatus.FAILURE: "failed",
    dg.DagsterRunStatus.CANCELED: "canceled",
}


def is_daemon_running(instance: dg.DagsterInstance) -> bool:
    """True if a Dagster daemon starts the queued runs of this instance."""
    heartbeat = read_queue_heartbeat(instance)
    now = datetime.now(UTC).timestamp()
    return heartbeat is not None and now - heartbeat < _HEARTBEAT_SECONDS


@dataclass(frozen=True)
class WindowRuns:
    """Starts and follows the runs of one resource's windows."""

    connector: Connector
    resource: str
    plan: BackfillPlan | None
    run_settings: RunSettings
    instance: dg.DagsterInstance
    log_level: str = field(default="CRITICAL")

    def runs_in_progress(self) -> Mapping[str, str]:
        """Return the runs of this resource's windows that are queued or running: ids by window."""
        tags = {TAG_HISTORY: backfill_tag_value(self.connector.name, self.resource)}
        runs = read_unfinished_runs(self.instance, tags)
        return {run.tags.get(TAG_WINDOW, ""): run.run_id for run in runs}

    def enqueue(self, window: RequestedWindow) -> WindowReport:
        """Put a window into the instance's queue."""
        run = self._create(window, {})
        enqueue_run(self.instance, run)
        return WindowReport(window, "queued", run.run_id)

    def wait(self, queued: Sequence[WindowReport]) -> Iterator[WindowReport]:
        """Yield a report of each queued window as it ends.

        Stops early, with windows left, if runs are still queued and the daemon is gone.
        """
        open_runs = {report.run_id: report for report in queued if report.run_id}
        pause = threading.Event()
        instance = self.instance
        while open_runs:
            ids, is_waiting = list(open_runs), False
            known = {run.run_id: run for run in instance.get_runs(dg.RunsFilter(run_ids=ids))}
            for run_id in ids:
                run = known.get(run_id)
                # None: the run was deleted
                if (
                    run is None
                    or run.status in _STATUS_WORDS
                    or fail_if_process_gone(instance, run)
                ):
                    yield self.report(open_runs.pop(run_id).window, run_id)
                elif run.status == dg.DagsterRunStatus.QUEUED:
                    is_waiting = True
            if is_waiting and not is_daemon_running(instance):
                return
            if open_runs:
                pause.wait(_POLL_SECONDS)

    def execute(self, window: RequestedWindow, interrupts: Interrupts) -> WindowReport:
        """Load a window in this process and report the result."""
        run = self._create(window, {TAG_PROCESS: process_tag()})
        with interrupts.cancelling(lambda: cancel_run(self.instance, run)):
            execute_run(self.instance, self._job(window), run)
        return self.report(window, run.run_id)

    def report(self, window: RequestedWindow, run_id: str) -> WindowReport:
        """Report a window's run as the instance has stored it."""
        run = self.instance.get_run_by_id(run_id)
        status = _STATUS_WORDS.get(run.status, "in progress") if run else "canceled"
        return WindowReport(
            window=window,
            status=status,
            run_id=run_id,
            rows_loaded=self._rows(run_id) if status == "loaded" else None,
            failure=self._failure(run_id) if status == "failed" else None,
        )

    def _create(self, window: RequestedWindow, more: dict[str, str]) -> dg.DagsterRun:
        job = self._job(window)
        return create_run(
            self.instance,
            job,
            tags={**self._tags(window), **more},
            run_config=self._run_config(window),
            assets=None if window.partition else assets_of_job(job),
            origin=find_job_origin(self.instance, self.connector.name, job.name),
        )

    def _tags(self, window: RequestedWindow) -> dict[str, str]:
        partition = {TAG_PARTITION: window.partition} if window.partition else {}
        return {
            TAG_CONNECTOR: self.connector.name,
            TAG_TRIGGER: TRIGGER_BACKFILL,
            TAG_HISTORY: backfill_tag_value(self.connector.name, self.resource),
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
        return self._partition_job if window.partition else self._live_job

    @cached_property
    def _partition_job(self) -> dg.JobDefinition:
        if self.plan is None:
            raise ValueError(f"{self.resource} has no `backfill` block")
        asset = build_backfill_asset(self.plan, self.run_settings)
        return resolve_jobs([asset], [build_backfill_job(self.plan, asset)])[0]

    @cached_property
    def _live_job(self) -> dg.JobDefinition:
        """The connector's job, limited to this resource and its selected dependents."""
        family = self.connector.family_of(self.resource)
        names = [m.name for m in family.members if m.selected or m is family.root]
        keys = [asset_key(self.connector.name, name) for name in names]
        job = dg.define_asset_job(
            job_name(self.connector.name), selection=dg.AssetSelection.assets(*keys)
        )
        return resolve_jobs([build_connector_assets(self.connector, self.run_settings)], [job])[0]

    def _rows(self, run_id: str) -> int:
        """Return the rows that a run loaded, with those of dependents."""
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
        if not texts:  # no op failed: the process was killed, or never began
            ends = self._events(run_id, dg.DagsterEventType.RUN_FAILURE)
            texts = [event.message for event in ends if event.message]
        return "\n".join(texts) or "The run failed before it started; its page in the UI says why."

    def _events(self, run_id: str, kind: dg.DagsterEventType) -> Iterable[dg.DagsterEvent]:
        records = self.instance.get_records_for_run(run_id, of_type=kind).records
        events = (record.event_log_entry.dagster_event for record in records)
        return (event for event in events if event is not None)
