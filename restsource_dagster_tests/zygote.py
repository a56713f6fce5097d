"""Processes that start at once: forks of a process, the zygote, that has imported what they need.

A new Python imports dlt and Dagster for one to three seconds, which is longer than most of what tests
start takes. Each process of pytest has one zygote. It runs nothing itself, so it has no thread, no
connection and no open file that a fork could inherit half-way. A fork has arguments, environment,
folder, standard streams and signals of its own, ends as an interpreter does (`atexit` included) and
can be killed like any other process.

What it can't show is the start itself: the entry point, variables that Python or a module reads when
it starts (`PYTHONUNBUFFERED`), and what is imported. Tests of these start a new Python.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any, Self

from restsource_dagster_tests.waiting import PATIENCE_SECONDS, Background

__all__ = ["ENGINE", "StartedProcess", "start_module"]

ENGINE = (
    "restsource_dagster.connector.query_files",
    "restsource_dagster.connector.validation.connector_builder",
    "restsource_dagster.engine.run.ingest",
    "restsource_dagster.engine.run.window_load",
    "dlt._workspace.cli._plugins",
    "dlt.common.libs.pyarrow",
    "dlt.destinations.impl.duckdb.duck",
    "dlt.sources.helpers.requests",
    "pendulum.locales.en.locale",
    "pyarrow.parquet",
    "restsource_dagster_tests.making",
)
"""What a run imports, some of it only when it needs it."""
_ROOT = Path(__file__).parents[1]
_ENVIRONMENT = dict(os.environ)
"""The environment before any test changes it: modules that read it when they are imported see this one."""
_LONGEST_ORDER = 1 << 17
_asking = threading.Lock()


class StartedProcess:
    """A fork of the zygote, used as `subprocess.Popen` is: only what tests need of it."""

    def __init__(self, pid: int, status: int, streams: Mapping[str, IO[str]]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin, self.stdout, self.stderr = (
            streams.get(name) for name in ("stdin", "stdout", "stderr")
        )
        self._status = os.fdopen(status)

    def wait(self, timeout: float | None = PATIENCE_SECONDS) -> int:
        """Return the exit code, negative for a signal. Raises `subprocess.TimeoutExpired`."""
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._status, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            with self._status:
                self.returncode = int(self._status.read())
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit code; None while the process runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def communicate(self, *, timeout: float | None = PATIENCE_SECONDS) -> tuple[str, str]:
        """Wait for the end and return what is left of standard output and standard error."""
        said = [Background(stream.read) for stream in (self.stdout, self.stderr) if stream]
        self.wait(timeout)
        out, err = [*(one.result() for one in said), "", ""][:2]
        return out, err

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, unless the process has ended."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream:
                stream.close()
        self.wait()


def start_module(
    module: str,
    *arguments: str,
    imports: Iterable[str],
    folder: Path = _ROOT,
    environment: Mapping[str, str] | None = None,
    **streams: int,
) -> StartedProcess:
    """Start `python -m module arguments` in a folder, by default the repository.

    The zygote imports `imports` first, if it has not done so before. `streams` are `stdin`, `stdout`
    and `stderr`: `subprocess.PIPE` or a file descriptor; a stream that is left out is `/dev/null`.
    """
    order = {
        "imports": list(imports),
        "module": module,
        "arguments": arguments,
        "folder": str(folder),
        "environment": dict(os.environ if environment is None else environment),
    }
    ours: dict[str, int] = {}
    theirs: list[int] = []
    opened: list[int] = []
    for name in ("stdin", "stdout", "stderr"):
        given = streams.get(name, subprocess.DEVNULL)
        if given == subprocess.PIPE:
            ends = os.pipe()
            ours[name], given = ends if name != "stdin" else ends[::-1]
            opened.append(given)
        elif given == subprocess.DEVNULL:
            given = os.open(os.devnull, os.O_RDWR)
            opened.append(given)
        theirs.append(given)
    status, ended = os.pipe()
    try:
        pid = _ask(order, [*theirs, ended])
    finally:
        for descriptor in (*opened, ended):
            os.close(descriptor)
    return StartedProcess(
        pid, status, {name: os.fdopen(ours[name], "w" if name == "stdin" else "r") for name in ours}
    )


def _ask(order: Mapping[str, Any], descriptors: list[int]) -> int:
    with _asking:
        zygote = _zygote()
        socket.send_fds(zygote, [json.dumps(order).encode()], descriptors)
        answer = zygote.recv(64)
    if not answer:
        raise RuntimeError("the zygote has ended: what it said is on standard error")
    return int(answer)


@cache
def _zygote() -> socket.socket:
    """The zygote of this process. It ends when this process does, and closes its end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            cwd=_ROOT,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    return ours


def _serve(orders: socket.socket) -> Mapping[str, Any] | None:
    """Fork for each order. Returns the order in the fork, and None when there are no more."""
    statuses: dict[int, int] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Ctrl-C is for the forks, which are in the terminal's group as well
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with selectors.DefaultSelector() as selector:
        selector.register(orders, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if woken in ready:
                os.read(woken, 512)
                _report_ended(statuses)
            if orders.fileno() not in ready:
                continue
            data, descriptors, _, _ = socket.recv_fds(orders, _LONGEST_ORDER, 4)
            if not data:
                return None
            order = json.loads(data)
            for name in order["imports"]:
                importlib.import_module(name)
            gc.freeze()  # a fork doesn't look at, and so doesn't copy, what was imported
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for descriptor in (woken, wake, *statuses.values(), descriptors.pop()):
                    os.close(descriptor)
                _take_streams(descriptors)
                return dict(order)
            statuses[pid] = descriptors.pop()
            for descriptor in descriptors:
                os.close(descriptor)
            orders.send(str(pid).encode())


def _report_ended(statuses: dict[int, int]) -> None:
    while statuses:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with os.fdopen(statuses.pop(pid), "w") as told:
            told.write(str(os.waitstatus_to_exitcode(status)))


def _take_streams(descriptors: list[int]) -> None:
    """Make these the standard streams of this process, and signals do what they do in a new one."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    # new objects, as Python makes them: the zygote's know of the file that they were opened on
    sys.stdin = _opened(0, "r", -1)
    sys.stdout = _opened(1, "w", 1 if os.isatty(1) else -1)
    sys.stderr = _opened(2, "w", 1)


def _opened(descriptor: int, mode: str, buffering: int) -> Any:
    return open(descriptor, mode, buffering, closefd=False)


def _become(order: Mapping[str, Any]) -> None:
    """Run the module as the main one of this process."""
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    sys.argv = [order["module"], *order["arguments"]]
    # Python collects what is left at its end, and modules in C complain of what it doesn't find
    atexit.register(gc.unfreeze)
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as given:
        mine = _serve(given)
    if mine is not None:
        _become(mine)
