"""A complete `dagster dev` for a benchmark, in a folder of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.processes import clean_environment

__all__ = ["ROOT", "Live", "dagster_dev", "free_port"]

ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 180
_STOP_SECONDS = 20
_LOOK_AGAIN_SECONDS = 0.1


@dataclass(frozen=True)
class Live:
    """A running `dagster dev`; all its processes are in one session."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes]"

    def ask(self, query: str, **variables: Any) -> Any:
        """Return the data of a GraphQL query. Raise `RuntimeError` with the error."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            told = json.load(answer)
        if told.get("errors"):
            raise RuntimeError(str(told["errors"])[:1000])
        return told["data"]

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of all its processes so far, including ended ones."""
        total = 0.0
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def processes(self) -> list[psutil.Process]:
        """Return all its processes."""
        found = []
        for process in psutil.process_iter():
            with suppress(OSError):
                if os.getsid(process.pid) == self.process.pid:
                    found.append(process)
        return found


@contextmanager
def dagster_dev(
    folder: Path, arguments: Sequence[str], environment: Mapping[str, str]
) -> Iterator[Live]:
    """Start `dagster dev` in a folder whose `home` is the instance, and stop it at the end.

    Raise `RuntimeError` with the last part of its output if it isn't ready, or has no jobs, in time.
    """
    port = free_port()
    command = [sys.executable, "-m", "dagster", "dev", "--host", "127.0.0.1", "--port", str(port)]
    log = folder / "dagster.log"
    variables = {
        "DAGSTER_HOME": str(folder / "home"),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "PYTHONPATH": str(ROOT),
        **environment,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            env=clean_environment(variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        live = Live(folder, port, process)
        try:
            _wait_until_loaded(live, log)
            yield live
        finally:
            _stop(process)


def free_port() -> int:
    """Return a port that no program listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_until_loaded(live: Live, log: Path) -> None:
    query = "{repositoriesOrError{... on RepositoryConnection{nodes{name}}}}"
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and live.process.poll() is None:
        with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            if live.ask(query)["repositoriesOrError"].get("nodes"):
                return
        time.sleep(_LOOK_AGAIN_SECONDS)  # no event reports that a server is ready
    raise RuntimeError(f"dagster dev did not load:\n{log.read_text(errors='replace')[-3000:]}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    os.killpg(process.pid, signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
