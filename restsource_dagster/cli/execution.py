"""Run a connector, or windows of a resource, as runs of the Dagster instance: in this process or in the queue.

Imports Dagster, and the run imports dlt. So commands import it only once their arguments are valid.
"""

import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any

import dagster as dg

from restsource_dagster.cli.backfill_windows import RequestedWindow, WindowReport
from restsource_dagster.cli.interrupts import Interrupts
from restsource_dagster.cli.run_records import metadata_value
from restsource_dagster.cli.run_report import ResourceReport, RunReport
from restsource_dagster.connector.model import Connector
from restsource_dagster.orchestration.assets import build_connector_assets, build_connector_job
from restsource_dagster.orchestration.backfills.backfill_assets import (
    BACKFILL_PRIORITY,
    build_backfill_asset,
    build_backfill_job,
)
from restsource_dagster.orchestration.backfills.backfill_plan import BackfillPlan
from restsource_dagster.orchestration.backfills.backfill_status import TAG_PARTITION
from restsource_dagster.orchestration.dagster_compat import (
    RemoteJobOrigin,
    assets_of_job,
    cancel_run,
    create_run,
    enqueue_run,
    execute_run,
    job_origin_beside,
    job_origin_in_module,
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
    "ConnectorExecution",
    "WindowRuns",
    "failure_text",
    "find_job_origin",
    "is_daemon_running",
]

_LATEST_RUNS = 5

_CODE_LOCATION_NAME, _CODE_LOCATION_MODULE = "restsource", "restsource_dagster.definitions"
"""The code location that workspace.yaml names."""


@dataclass(frozen=True)
class ConnectorExecution:
    """A run of some resources of a connector. Starts once."""

    connector: Connector
    resources: tuple[str, ...]
    run_settings: RunSettings
    instance: dg.DagsterInstance
    log_level: str
    config: Mapping[str, Any] = field(default_factory=dict)
    """The run config of the connector's op, see `LoadConfig`."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Added to the usual tags, or replacing them."""

    def execute(self, interrupts: Interrupts) -> RunReport:
        """Run the resources and report the result, also for a failed or canceled run.

        Raises `KeyboardInterrupt` only before the run starts.
        """
        job = self._job()
        keys = frozenset(asset_key(self.connector.name, name) for name in self.resources)
        run = create_run(
            self.instance,
            job,
            tags={
                TAG_CONNECTOR: self.connector.name,
                TAG_TRIGGER: "manual",
                TAG_PROCESS: process_tag(),
                **self.tags,
            },
            run_config=self._run_config(),
            assets=None if keys == assets_of_job(job) else keys,
            origin=find_job_origin(self.instance, self.connector.name, job.name),
        )
        started = time.monotonic()
        with interrupts.cancelling(lambda: cancel_run(self.instance, run)):
            events = execute_run(self.instance, job, run)
        return self._report(run, events, time.monotonic() - started)

    def _job(self) -> dg.JobDefinition:
        assets = build_connector_assets(self.connector, self.run_settings)
        job = build_connector_job(self.connector, assets)
        deselected = {r.name for r in self.connector.resources if not r.selected}
        if deselected & set(self.resources):  # the connector's job leaves these out
            keys = [asset_key(self.connector.name, name) for name in self.resources]
            job = dg.define_asset_job(
                job_name(self.connector.name), selection=dg.AssetSelection.assets(*keys)
            )
        # Dagster's default executor starts a process per step. Progress bars and Ctrl-C work in
        # this one only.
        definitions = dg.Definitions(assets=[assets], jobs=[job], executor=dg.in_process_executor)
        return definitions.resolve_job_def(job.name)

    def _run_config(self) -> dict[str, Any]:
        config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": self.log_level}}}}
        if self.config:
            config["ops"] = {self.connector.name: {"config": dict(self.config)}}
        return config

    def _report(
        self, run: dg.DagsterRun, events: Iterable[dg.DagsterEvent], seconds: float
    ) -> RunReport:
        events = tuple(events)
        # `run` is immutable and still has the status with which it was created.
        ended = self.instance.get_run_by_id(run.run_id)
        loaded = {
            event.asset_key.path[-1]: event.step_materialization_data.materialization.metadata
            for event in events
            if event.is_step_materialization and event.asset_key
        }
        failures = [event.step_failure_data for event in events if event.is_step_failure]
        failed = {name for failure in failures for name in _failed_resources(failure)}
        return RunReport(
            connector=self.connector.name,
            run_id=run.run_id,
            recorded=not self.instance.is_ephemeral,
            status=ended.status.value if ended else "FAILURE",
            seconds=seconds,
            failure="\n".join(failure_text(failure) for failure in failures) or None,
            resources=tuple(
                _resource_report(name, loaded.get(name), failed=name in failed)
                for name in self.resources
            ),
        )


def find_job_origin(instance: dg.DagsterInstance, connector: str, job: str) -> RemoteJobOrigin:
    """Return the code location of a connector's job, from its latest runs.

    Without a run it is the location of workspace.yaml. People rename locations, so the runs go first.
    """
    records = instance.get_run_records(
        filters=dg.RunsFilter(tags={TAG_CONNECTOR: connector}), limit=_LATEST_RUNS
    )
    for record in records:
        origin = job_origin_beside(record.dagster_run, job)
        if origin is not None:
            return origin
    return job_origin_in_module(_CODE_LOCATION_NAME, _CODE_LOCATION_MODULE, job)


def _failed_resources(failure: Any) -> Sequence[str]:
    """Return the resources that the op's failure lists."""
    data = failure.user_failure_data
    names = data.metadata.get("failed") if data else None
    return names.value if names is not None else ()


def failure_text(failure: Any) -> str:
    """Return the description of the op's failure, else the message of the root cause."""
    data = failure.user_failure_data
    if data and data.description:
        return str(data.description)
    error = failure.error
    # Dagster wraps the error of an op in errors of its own; the op's is the innermost cause.
    while error is not None and error.cause is not None:
        error = error.cause
    if error is None:
        return "The run failed."
    if error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
        return "The run was interrupted."
    # Dagster prefixes the message with the class name, which says nothing to the reader
    return re.sub(rf"^([\w.]*\.)?{error.cls_name}: ", "", str(error.message)).strip()


def _resource_report(
    name: str, metadata: Mapping[str, dg.MetadataValue[Any]] | None, *, failed: bool
) -> ResourceReport:
    if metadata is None:
        return ResourceReport(name, status="failed" if failed else "not loaded")

    value = partial(metadata_value, metadata)
    return ResourceReport(
        name=name,
        status="left as it is" if value("left_as_it_is") else "loaded",
        left_as_it_is=value("left_as_it_is"),
        rows_loaded=value("rows_loaded"),
        seconds=value("seconds"),
        table=value("dagster/table_name"),
        cursor_path=value("incremental/cursor_path"),
        start_value=value("incremental/start_value"),
        last_value=value("incremental/last_value"),
        checkpoints=value("checkpoints"),
        resumed_from=value("resumed_from"),
    )


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
            # One query for all windows: a backfill can have thousands.
            known = {run.run_id: run for run in instance.get_runs(dg.RunsFilter(run_ids=ids))}
            for run_id in ids:
                run = known.get(run_id)
                # None: the run was deleted
                if (
                    run is None
                    or run.status in _STATUS_WORDS
                    # A killed process stores no end, so without this look the command would wait
                    # forever.
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
        # A run that a person deleted has no status any more.
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
            # Dagster's log would mix with the lines and bars of the windows.
            config["loggers"] = {"console": {"config": {"log_level": self.log_level}}}
        # The run of a partition takes its window from the partition key, which the UI shows.
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
        # The user named the root, so it is loaded even if the file deselects it.
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
            # Dependents have no asset of their own beside a partition: the root's metadata counts their rows.
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
