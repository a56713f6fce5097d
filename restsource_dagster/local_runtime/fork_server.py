"""The process that runs are forked from. Linux only.

It has imported everything a run needs, has one thread, no database connection and no definitions, and waits
for orders. The launcher that started it holds the other end of the pipe whose number is its argument. When
that end is closed, for whatever reason, or when code changes on the disk, it takes no more orders and ends
as soon as its children have ended.

A child waits until the launcher releases it. So the run is tagged with its process before it begins, and a run
whose fork the launcher never learned of does not happen.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

__all__ = [
    "ForkRequest",
    "ImportedFiles",
    "count_threads",
    "import_run_modules",
    "serve_forks",
]

JOB_VARIABLE = "DAGSTER_RUN_JOB_NAME"
_GO_BYTE = b"g"

_RUN_MODULES = (
    "dagster._cli.api",
    "restsource_dagster.definitions",
    "restsource_dagster.orchestration.op",
    # for the links of assets
    "restsource_dagster.builder_note",
    # what `dagster.yaml` names
    "restsource_dagster.local_runtime.run_launcher",
    "restsource_dagster.local_runtime.sqlite_storage",
)
_RUN_PACKAGES = ("restsource_dagster.connector", "restsource_dagster.engine")
"""All modules in them are imported: a run imports some of them only for options that its file uses."""
_LATE_MODULES = (
    "dagster._core.assets",
    "dagster._core.definitions.external_asset",
    "dagster._core.definitions.repository_definition.repository_data_builder",
    "dagster._core.execution.plan.active",
    "dagster._core.executor.in_process",
    "dagster._core.instance.factory",
    "dagster._core.op_concurrency_limits_counter",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.root",
    "dagster._core.system_config.composite_descent",
    "dagster._core.types.primitive_mapping",
    "dagster._core.utility_ops",
    "dagster._core.workspace.autodiscovery",
    "dagster._daemon.auto_run_reexecution.auto_run_reexecution",
    "dagster._utils.storage",
    "dagster._utils.temp_file",
    "dlt._workspace._plugins",
    "dlt._workspace.cli._plugins",
    "dlt.common.configuration.plugins",
    "dlt.common.libs.sql_alchemy_compat",
    "dlt.destinations.impl.duckdb.duck",
    "dlt.destinations.impl.duckdb.sql_client",
    "dlt.sources.helpers.requests",
    "encodings.utf_8_sig",
    "fsspec.implementations.local",
    "pendulum.locales.en.locale",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.engine.strategies",
    "sqlalchemy.ext.compiler",
    "upath.implementations.local",
)
"""What Dagster and dlt import in the middle of a run. One that a version lacks is skipped: the run, if it
needs something else, imports that itself."""
_WITHOUT_THREADS = {
    # numpy's OpenBLAS starts a thread per core when it is imported
    "OPENBLAS_NUM_THREADS": "1",
    # pyarrow's allocator starts one to give memory back
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


def import_run_modules() -> None:
    """Import what runs import, in a way that starts no thread."""
    with _environment_set(_WITHOUT_THREADS):
        for module in _RUN_MODULES:
            importlib.import_module(module)
        for module in (*_modules_in(_RUN_PACKAGES), *_LATE_MODULES):
            with suppress(ImportError):
                importlib.import_module(module)


def _modules_in(packages: Iterable[str]) -> Iterator[str]:
    """Yield the names of all modules in packages."""
    for package in map(importlib.import_module, packages):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield module.name


def count_threads() -> int:
    """Return the number of threads of this process, those of libraries included. Linux only."""
    return len(list(Path("/proc/self/task").iterdir()))


@contextmanager
def _environment_set(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class ImportedFiles:
    """The files of the modules imported since a moment (`since`, in nanoseconds)."""

    def __init__(self, since: int) -> None:
        files = {getattr(module, "__file__", None) for module in tuple(sys.modules.values())}
        self._states = {file: _file_state(file) for file in files if file}
        # A file that was written while it was imported: it isn't known which version is in memory.
        self._already_changed = any(
            state is None or state[0] > since for state in self._states.values()
        )

    @property
    def changed(self) -> bool:
        """True if one was changed or removed since: the code in memory is stale."""
        return self._already_changed or any(
            _file_state(file) != state for file, state in self._states.items()
        )


def _file_state(file: str) -> tuple[int, int, int] | None:
    try:
        state = os.stat(file)  # noqa: PTH116 - thousands of files before each run
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


@dataclass(frozen=True)
class ForkRequest:
    """A run to execute: its job's name and the arguments of `dagster api execute_run`."""

    job: str
    arguments: str


@dataclass
class _ForkServer:
    connection: Connection
    imported_files: ImportedFiles
    gates: dict[int, int] = field(default_factory=dict)
    """By child that waits: the pipe through which it is released."""
    children: set[int] = field(default_factory=set)
    is_listening: bool = True

    def serve(self) -> ForkRequest | None:
        """Serve until the end and return None. In a child, return what it has to execute."""
        # `wait` must wake up at a signal, so signals arrive as bytes in a pipe.
        alarm, alarmed = os.pipe()
        for end in (alarm, alarmed):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(alarmed, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _ignore_signal)
        self._send({"ready": os.getpid()})  # only now would a signal be noticed
        while self.is_listening or self.children:
            ready = wait([alarm, self.connection] if self.is_listening else [alarm])
            if alarm in ready and _has_stop_signal(os.read(alarm, 4096)):
                self._stop_listening()
            elif self.connection in ready and (request := self._receive()):
                os.close(alarm)
                os.close(alarmed)
                return request
            self._reap()
        return None

    def _receive(self) -> ForkRequest | None:
        """Carry out one order. In a new child, return its request."""
        try:
            message: dict[str, Any] = json.loads(self.connection.recv_bytes())
        except (EOFError, OSError):  # the launcher is gone
            self._stop_listening()
            return None
        if message["do"] == "fork":
            return self._fork(ForkRequest(message["job"], message["arguments"]))
        if message["do"] == "retire":
            self._stop_listening()
        else:
            self._open_gate(message["pid"], go=message["do"] == "go")
        return None

    def _open_gate(self, child: int, *, go: bool) -> None:
        """Let a child run, or end it by closing its gate."""
        gate = self.gates.pop(child, None)
        if gate is None:
            return
        if go:
            with suppress(BrokenPipeError):  # it was killed while it waited
                os.write(gate, _GO_BYTE)
        os.close(gate)

    def _fork(self, request: ForkRequest) -> ForkRequest | None:
        """Fork a child. Return the request in the child, None in the parent."""
        if self.imported_files.changed:
            self._send({"stale": True})
            self._stop_listening()
            return None
        gate, opener = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(opener)
            self._become_child(gate)
            return request
        os.close(gate)
        self.gates[pid] = opener
        self.children.add(pid)
        self._send({"pid": pid})
        return None

    def _become_child(self, gate: int) -> None:
        """Give back what belongs to the server, then wait until the gate opens."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.connection.close()
        # A copy of another child's gate would keep that child waiting after the server's end.
        for other in self.gates.values():
            os.close(other)
        received = os.read(gate, 1)
        os.close(gate)
        if received != _GO_BYTE:
            os._exit(0)

    def _reap(self) -> None:
        """Report the children that have ended."""
        while self.children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self.children.discard(pid)
            gate = self.gates.pop(pid, None)
            if gate is not None:
                os.close(gate)
            self._send({"ended": pid, "code": os.waitstatus_to_exitcode(status)})

    def _send(self, message: dict[str, Any]) -> None:
        with suppress(OSError, ValueError):  # the launcher is gone
            self.connection.send_bytes(json.dumps(message).encode())

    def _stop_listening(self) -> None:
        self.is_listening = False
        for gate in self.gates.values():
            os.close(gate)
        self.gates.clear()


def _ignore_signal(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the signal is in the wake-up pipe."""


def _has_stop_signal(signals: bytes) -> bool:
    return signal.SIGINT in signals or signal.SIGTERM in signals


def serve_forks() -> NoReturn:
    """Import, serve, and in a child execute a run. Ends the process."""
    connection = Connection(int(sys.argv[1]))
    started = time.time_ns()
    import_run_modules()
    threads = count_threads()
    if threads != 1:
        message = f"an import has started a thread, and forking is safe only without ({threads})"
        connection.send_bytes(json.dumps({"unfit": message}).encode())
        os._exit(1)  # at once: a regular exit may wait for that thread
    server = _ForkServer(connection, ImportedFiles(started))
    gc.collect()
    # What is imported stays. Frozen, children neither scan it nor copy its memory pages.
    gc.freeze()
    request = server.serve()
    _exit_process(_execute_run(request) if request is not None else 0)


def _execute_run(request: ForkRequest) -> int:
    """Execute a run and return the exit code."""
    from restsource_dagster.local_runtime.dagster_internals import execute_run_command

    # With this variable the run builds the definitions of its own connector only.
    os.environ[JOB_VARIABLE] = request.job
    try:
        execute_run_command(request.arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - what the interpreter does with an uncaught error
        traceback.print_exc()
        return 1
    return 0


def _exit_process(code: int) -> NoReturn:
    """End this process as `multiprocessing` ends its children: without freeing what was imported.

    Freeing takes longer than a small run, and libraries warn about objects that a frozen heap keeps.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the other end is closed
            stream.flush()
    os._exit(code)
