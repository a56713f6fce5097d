"""Run one process to its end and measure its cost, including its children."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.model import Sample

__all__ = ["Ended", "clean_environment", "run_measured"]

_TAIL = 1_500
_SETTINGS = ("RESTSOURCE_", "DAGSTER_", "DLT", "SOURCES__", "DESTINATION__", "EXTRACT__")
_MORE_SETTINGS = ("NORMALIZE__", "LOAD__", "DATA_WRITER__", "RUNTIME__", "PYTHON", "AIRBYTE_")


@dataclass(frozen=True)
class Ended:
    """The end of a process: exit code, cost (`wall`, `cpu`, `rss`), and the last part of its output."""

    code: int
    cost: Sample
    output: str


def clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without settings of the measured programs, plus `more`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_SETTINGS + _MORE_SETTINGS)
    }
    return kept | {"RUNTIME__DLTHUB_TELEMETRY": "false", "PYTHONUNBUFFERED": "1"} | dict(more)


def run_measured(
    command: Sequence[str], *, folder: Path, environment: Mapping[str, str], limit: float
) -> Ended:
    """Run the command in the folder. Its output goes to a file there. Kill it after `limit` seconds.

    CPU is the user and system seconds of the process and of all descendants that were waited for.
    `rss` is the peak of the largest of them, in bytes. A process inherits the peak of the process
    that starts it. So this process must stay small: it imports nothing large.
    """
    log = folder / "output.log"
    with log.open("wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        timer = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            timer.cancel()
        wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    cost = {
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "rss": float(usage.ru_maxrss * 1024),
    }
    return Ended(process.returncode, cost, log.read_text(errors="replace")[-_TAIL:].strip())
