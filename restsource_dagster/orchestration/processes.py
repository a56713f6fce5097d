"""Runs whose process was killed: nobody but us notices.

Dagster's default launcher can't tell whether a run's process lives. After a power cut, or a `kill -9`,
the run would stay "in progress" for ever, hold its place in the queue and keep its connector's schedule
back. Each run is therefore tagged with its process, and looked after by a sensor.
"""

import os
import socket

import dagster as dg
import psutil

from restsource_dagster.orchestration.names import TAG_PROCESS

__all__ = ["RUN_SENSOR", "build_run_sensor", "end_if_dead", "process_tag"]

RUN_SENSOR = "restsource_runs"
_INTERVAL_SECONDS = 30
_MOST = 200
_IN_PROGRESS = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_CLOCKS_DIFFER_SECONDS = 2


def process_tag() -> str:
    """Where a run executes, as the value of the tag `restsource/process`: host, id and start."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def end_if_dead(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Mark a run as failed if the process that executes it is gone; tell whether it was.

    Only this host's processes can be looked up; a run of another host is left as it is.
    """
    host, pid, started = ("", "", "", *run.tags.get(TAG_PROCESS, "").rsplit(":", 2))[-3:]
    if host != socket.gethostname() or not (pid.isdecimal() and started.isdecimal()):
        return False
    if _is_alive(int(pid), int(started)):
        return False
    instance.report_run_failed(
        run,
        f"The process of this run (PID {pid}) is gone: it was killed, or the machine went down. "
        "Nothing is lost: the next run goes on from the stored cursors.",
    )
    return True


def _is_alive(pid: int, started: int) -> bool:
    """Whether there is this process; another one may have got its id since."""
    try:
        return abs(psutil.Process(pid).create_time() - started) <= _CLOCKS_DIFFER_SECONDS
    except psutil.NoSuchProcess:
        return False


def build_run_sensor() -> dg.SensorDefinition:
    """A sensor that marks runs as failed whose process is gone."""

    @dg.sensor(
        name=RUN_SENSOR,
        minimum_interval_seconds=_INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Marks runs as failed whose process was killed, so that schedules go on.",
    )
    def look_after_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        going_on = context.instance.get_runs(dg.RunsFilter(statuses=_IN_PROGRESS), limit=_MOST)
        ended = [run.run_id for run in going_on if end_if_dead(context.instance, run)]
        if ended:
            return dg.SkipReason(f"Marked as failed, their processes are gone: {', '.join(ended)}.")
        return dg.SkipReason("Every run in progress has its process.")

    return look_after_runs
