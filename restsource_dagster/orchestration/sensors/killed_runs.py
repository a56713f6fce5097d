"""The processes of runs: which runs are in progress, and the sensor that marks killed ones as failed.

Dagster's default launcher can't tell whether a run's process is alive. After a power failure or a
`kill -9`, the run would stay in progress for ever, keep its place in the queue and block its connector's
schedule. So each run is tagged with its process, and a sensor checks the processes.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg
import psutil

from restsource_dagster.orchestration.dagster_compat import fail_run
from restsource_dagster.orchestration.instance import TickInstance
from restsource_dagster.orchestration.names import TAG_PROCESS

__all__ = [
    "IN_PROGRESS_STATUSES",
    "KILLED_RUNS_SENSOR",
    "RunProcess",
    "build_killed_runs_sensor",
    "fail_if_process_gone",
    "process_gone_text",
    "process_tag",
    "read_unfinished_runs",
]

KILLED_RUNS_SENSOR = "restsource_runs"
_INTERVAL_SECONDS = 30
_MAX_RUNS = 200
IN_PROGRESS_STATUSES = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.MANAGED,
    dg.DagsterRunStatus.CANCELING,
]
"""The statuses of a run that is queued or executing.

NOT_STARTED is left out: such a run was created, and if its creator was killed, nothing will submit it.
"""
_EXECUTING_STATUSES = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_CLOCK_TOLERANCE_SECONDS = 2
"""The start time of a process is computed from the uptime, so it varies by a second."""


@dataclass(frozen=True)
class RunProcess:
    """The process that executes a run."""

    host: str
    pid: int
    started: int
    """Start time in seconds since the epoch, because another process may get the same id later."""

    @classmethod
    def of(cls, pid: int) -> "RunProcess":
        """Return a process of this host. Raises `psutil.NoSuchProcess` if it has ended."""
        return cls(socket.gethostname(), pid, round(psutil.Process(pid).create_time()))

    @classmethod
    def of_run(cls, run: dg.DagsterRun) -> "RunProcess | None":
        """Return the process in a run's tag; None if the tag is missing or has another form."""
        # From the right, because a host name may contain colons; and people can edit tags.
        host, pid, started = ("", "", "", *run.tags.get(TAG_PROCESS, "").rsplit(":", 2))[-3:]
        if not (pid.isdecimal() and started.isdecimal()):
            return None
        return cls(host, int(pid), int(started))

    @property
    def tag(self) -> str:
        """The value of the tag `restsource/process`."""
        return f"{self.host}:{self.pid}:{self.started}"

    @property
    def is_on_this_host(self) -> bool:
        """True for a process of this host. Those of other hosts can't be looked up."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """True if this host runs the process, and not another one with the same id."""
        return self.os_process is not None

    @property
    def os_process(self) -> psutil.Process | None:
        """The process as psutil sees it; None if it has ended."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) <= _CLOCK_TOLERANCE_SECONDS
            # A process that has ended stays a zombie until its parent looks at it.
            alive = same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if alive else None


def process_tag() -> str:
    """Return this process as the value of the tag `restsource/process`."""
    return RunProcess.of(os.getpid()).tag


def fail_if_process_gone(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Mark a run as failed if its process is gone. Return True if the run was marked.

    A run of another host is not marked, because its process can't be looked up.
    """
    process = RunProcess.of_run(run)
    if process is None or not process.is_on_this_host or process.is_alive:
        return False
    # it has not begun: its tag is a copy
    if _has_tag_of_parent(instance, run):
        return False
    # The run may have ended in order after it was read. Its process is gone, so this status is final.
    latest = instance.get_run_by_id(run.run_id)
    if latest is None or latest.is_finished:
        return False
    return fail_run(instance, latest, process_gone_text(process))


def _has_tag_of_parent(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Return True if the run's tag names the process of the run that it executes again.

    Dagster copies the tags of a run that is executed again. The new run's own process is tagged when
    its op begins.
    """
    parent = instance.get_run_by_id(run.parent_run_id) if run.parent_run_id else None
    return parent is not None and parent.tags.get(TAG_PROCESS) == run.tags.get(TAG_PROCESS)


def read_unfinished_runs(
    instance: dg.DagsterInstance, tags: Mapping[str, str] | None = None
) -> list[dg.DagsterRun]:
    """Return the runs that are queued or executing, newest first; with `tags` only those.

    Runs whose process is gone are marked as failed and left out, so that no reader of the instance has
    to wait for the sensor, which needs a daemon.
    """
    runs = instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS_STATUSES, tags=dict(tags or {})))
    return [run for run in runs if not fail_if_process_gone(instance, run)]


def process_gone_text(process: RunProcess) -> str:
    """Return the failure text of a run whose process is gone."""
    return (
        f"The process of this run (PID {process.pid}) is gone: it was killed, or the machine went down. "
        "Nothing is lost: the next run continues from the stored cursors."
    )


def build_killed_runs_sensor(
    tick_instance: TickInstance | None = None, name: str = KILLED_RUNS_SENSOR
) -> dg.SensorDefinition:
    """Return a sensor that marks runs as failed if their process is gone."""
    instances = tick_instance or TickInstance()

    @dg.sensor(
        name=name,
        minimum_interval_seconds=_INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Marks runs whose process was killed as failed, so that schedules continue.",
    )
    def mark_killed_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        instance = instances.for_tick(context)
        # a queued run has no process yet
        executing = instance.get_runs(dg.RunsFilter(statuses=_EXECUTING_STATUSES), limit=_MAX_RUNS)
        marked = [run.run_id for run in executing if fail_if_process_gone(instance, run)]
        if marked:
            return dg.SkipReason(
                f"Marked as failed, as their processes are gone: {', '.join(marked)}."
            )
        return dg.SkipReason("The process of every run in progress is alive.")

    return mark_killed_runs
