"""Runs whose process was killed: nobody but us notices.

Dagster's default launcher can't tell whether a run's process lives. After a power cut, or a `kill -9`,
the run would stay "in progress" for ever, hold its place in the queue and keep its connector's schedule
back. Each run is therefore tagged with its process, and looked after by a sensor.
"""

import os
import socket
from dataclasses import dataclass

import dagster as dg
import psutil

from restsource_dagster.orchestration.dagster_compat import fail_run
from restsource_dagster.orchestration.instance import TickInstance
from restsource_dagster.orchestration.names import TAG_PROCESS

__all__ = [
    "KILLED_RUNS_SENSOR",
    "RunProcess",
    "build_killed_runs_sensor",
    "fail_if_process_gone",
    "process_tag",
]

KILLED_RUNS_SENSOR = "restsource_runs"
_INTERVAL_SECONDS = 30
_MAX_RUNS = 200
_EXECUTING_STATUSES = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_CLOCK_TOLERANCE_SECONDS = 2


@dataclass(frozen=True)
class RunProcess:
    """The process that executes a run."""

    host: str
    pid: int
    started: int
    """Seconds since the epoch: another process may get the same id later."""

    @classmethod
    def of(cls, pid: int) -> "RunProcess":
        """A process of this host. Raises `psutil.NoSuchProcess` if it has ended."""
        return cls(socket.gethostname(), pid, round(psutil.Process(pid).create_time()))

    @classmethod
    def of_run(cls, run: dg.DagsterRun) -> "RunProcess | None":
        """The process that a run's tag names; None if it names none."""
        host, pid, started = ("", "", "", *run.tags.get(TAG_PROCESS, "").rsplit(":", 2))[-3:]
        if not (pid.isdecimal() and started.isdecimal()):
            return None
        return cls(host, int(pid), int(started))

    @property
    def tag(self) -> str:
        """The same as the value of the tag `restsource/process`."""
        return f"{self.host}:{self.pid}:{self.started}"

    @property
    def is_on_this_host(self) -> bool:
        """Whether it is a process of this host; others can't be looked up."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether this host has the process, and not another one that has got its id since."""
        return self.os_process is not None

    @property
    def os_process(self) -> psutil.Process | None:
        """The process, if it is alive."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) <= _CLOCK_TOLERANCE_SECONDS
            alive = same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if alive else None


def process_tag() -> str:
    """Where this process executes a run, as the value of the tag `restsource/process`."""
    return RunProcess.of(os.getpid()).tag


def fail_if_process_gone(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Mark a run as failed if its process is gone. Return True if it was marked.

    Only this host's processes can be looked up; a run of another host is left as it is.
    """
    process = RunProcess.of_run(run)
    if process is None or not process.is_on_this_host or process.is_alive:
        return False
    # The run may have ended in order after it was read. Its process is gone, so this status is final.
    latest = instance.get_run_by_id(run.run_id)
    if latest is None or latest.is_finished:
        return False
    return fail_run(instance, latest, process_gone_text(process))


def process_gone_text(process: RunProcess) -> str:
    """What to say of a run whose process is gone."""
    return (
        f"The process of this run (PID {process.pid}) is gone: it was killed, or the machine went down. "
        "Nothing is lost: the next run goes on from the stored cursors."
    )


def build_killed_runs_sensor(opened: TickInstance | None = None) -> dg.SensorDefinition:
    """A sensor that marks runs as failed whose process is gone."""
    instances = opened or TickInstance()

    @dg.sensor(
        name=KILLED_RUNS_SENSOR,
        minimum_interval_seconds=_INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Marks runs as failed whose process was killed, so that schedules go on.",
    )
    def look_after_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        instance = instances.of(context)
        going_on = instance.get_runs(dg.RunsFilter(statuses=_EXECUTING_STATUSES), limit=_MAX_RUNS)
        ended = [run.run_id for run in going_on if fail_if_process_gone(instance, run)]
        if ended:
            return dg.SkipReason(f"Marked as failed, their processes are gone: {', '.join(ended)}.")
        return dg.SkipReason("Every run in progress has its process.")

    return look_after_runs
