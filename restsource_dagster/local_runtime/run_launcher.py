"""How runs start on one machine: a queue that is read often, and a launcher that forks each run.

The launcher's first run starts a fork server: a process that has everything imported and stays. The launcher
holds one end of a pipe to it and sends it orders (`ForkServerClient`).
"""

import json
import logging
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any

import dagster as dg
import psutil

from restsource_dagster.local_runtime.dagster_internals import (
    GRPC_INFO_TAG,
    CheckRunHealthResult,
    ConfigurableClassData,
    ExecuteRunArgs,
    GrpcServerCodeLocationOrigin,
    LaunchRunContext,
    ManagedGrpcPythonEnvCodeLocationOrigin,
    WorkerStatus,
)
from restsource_dagster.orchestration.names import TAG_PROCESS
from restsource_dagster.orchestration.sensors.killed_runs import RunProcess, process_gone_text

__all__ = [
    "ForkFailedError",
    "ForkServerClient",
    "QuickRunCoordinator",
    "WarmRunLauncher",
    "is_local_run",
]

FORK_SERVER_MODULE = "restsource_dagster.local_runtime.fork_server"
START_SECONDS = 180.0
"""How long a fork server may take to start. It imports for three seconds on a quiet machine, for a minute on one
with twenty times as many processes as cores. One that fails to start ends, which is noticed at once."""
ANSWER_SECONDS = 30.0
RETRY_SECONDS = 60.0
"""How long no fork server is started after one failed."""
_DEQUEUE_INTERVAL_SECONDS = 0.25
"""The daemon pauses half a second when the queue is empty, so a shorter interval changes nothing."""

_logger = logging.getLogger("dagster.restsource.launcher")

Message = dict[str, Any]
RunEndCallback = Callable[[str, int | None], None]
"""Takes a run's id and how its process ended: the exit code, minus the signal, or None if unknown."""


class QuickRunCoordinator(dg.QueuedRunCoordinator):
    """Dagster's queue, from which a run starts up to half a second after it was requested.

    Dagster reads its queue every `dequeue_interval_seconds`, a whole number, and starts at most
    `max_concurrent_runs` runs each time: with four, never 300 in a minute.
    """

    @property
    def dequeue_interval_seconds(self) -> float:  # type: ignore[override]
        """The seconds from one look at the queue to the next."""
        return _DEQUEUE_INTERVAL_SECONDS


class ForkFailedError(Exception):
    """A fork server can't execute a run, and has not begun to."""


class ForkServerClient:
    """A running fork server. One thread at a time may call its methods."""

    def __init__(self, on_run_end: RunEndCallback) -> None:
        """Start the fork server; `on_run_end` is called in another thread when a run's process ends.

        Raises `ForkFailedError` if it does not start.
        """
        self._on_run_end = on_run_end
        self._run_ids: dict[int, str] = {}
        self._answers: SimpleQueue[Message | None] = SimpleQueue()
        self._run_ends: SimpleQueue[tuple[str, int | None] | None] = SimpleQueue()
        self._connection, server_end = Pipe()
        self._process = _start_fork_server(server_end)
        # Two threads: an answer must not wait for the end of another run to be recorded.
        for target in (self._receive_messages, self._report_run_ends):
            Thread(target=target, name="restsource-fork-server", daemon=True).start()
        message = self._wait_for_answer(START_SECONDS)
        if "unfit" in message:
            raise ForkFailedError(message["unfit"])

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def fork(self, job: str, arguments: str) -> int:
        """Fork a child for a run and return its process id. The child waits for `release`.

        Raises `ForkFailedError` if the fork server is gone, or if code changed since it imported it: it
        then takes no more orders.
        """
        self._send({"do": "fork", "job": job, "arguments": arguments})
        message = self._wait_for_answer(ANSWER_SECONDS)
        if "stale" in message:
            raise ForkFailedError("code was changed since it was imported")
        return int(message["pid"])

    def release(self, child: int, run_id: str) -> None:
        """Let a child execute its run. Raises `ForkFailedError` if the fork server is gone."""
        self._run_ids[child] = run_id
        try:
            self._send({"do": "go", "pid": child})
        except ForkFailedError:
            del self._run_ids[child]
            raise

    def discard(self, child: int) -> None:
        """End a child that waits for `release`, so that its run never begins."""
        with suppress(ForkFailedError):
            self._send({"do": "discard", "pid": child})

    def retire(self) -> None:
        """Take no more orders; the process ends when its runs have ended."""
        with suppress(ForkFailedError):
            self._send({"do": "retire"})

    def _send(self, message: Message) -> None:
        try:
            self._connection.send_bytes(json.dumps(message).encode())
        except OSError as error:
            raise ForkFailedError(f"the fork server can't be reached: {error}") from error

    def _wait_for_answer(self, seconds: float) -> Message:
        try:
            message = self._answers.get(timeout=seconds)
        except Empty:
            self._process.kill()  # children that still wait end with it
            raise ForkFailedError(f"the fork server did not answer in {seconds:.0f} s") from None
        if message is None:
            raise ForkFailedError("the fork server has ended")
        return message

    def _receive_messages(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                message: Message = json.loads(self._connection.recv_bytes())
                if "ended" not in message:
                    self._answers.put(message)
                # a discarded child has no run
                elif run_id := self._run_ids.pop(message["ended"], None):
                    self._run_ends.put((run_id, message["code"]))
        self._answers.put(None)
        self._process.wait()
        # Runs outlive a fork server that was killed; only those whose process is gone too have ended.
        for child, run_id in self._run_ids.items():
            if not psutil.pid_exists(child):
                self._run_ends.put((run_id, None))
        self._run_ends.put(None)

    def _report_run_ends(self) -> None:
        while end := self._run_ends.get():
            try:
                self._on_run_end(*end)
            except Exception:
                # An error with one run must not keep the ends of others from being recorded.
                _logger.exception("The end of the process of run %s could not be recorded", end[0])


def _start_fork_server(server_end: Connection) -> "subprocess.Popen[bytes]":
    # It imports from where this process does, like the processes of Dagster's own launcher.
    command = f"import sys; sys.path[:] = {sys.path!r}; from {FORK_SERVER_MODULE} import serve_forks; serve_forks()"
    with server_end:
        return subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-c", command, str(server_end.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[server_end.fileno()],
        )


class WarmRunLauncher(dg.DefaultRunLauncher):
    """Starts a run in a tenth of a second, where Dagster's own launcher needs about three.

    Each run is a process forked from the fork server, and executes what `dagster api execute_run` does, as
    with Dagster's launchers for containers. Before each run, changed code is noticed and the fork server
    replaced. Connector files and `.env` are read by each run.

    These runs go to Dagster's own launcher, the parent class: runs of code locations in another Python or
    on another machine, all runs outside of Linux, and all runs for a minute after a fork server failed.

    Any process on this machine can terminate a run and check its health, because a tag of the run names
    its process.
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(inst_data)
        self._lock = Lock()
        self._server: ForkServerClient | None = None
        # Long enough ago for the first run to start a fork server.
        self._failed_at = -RETRY_SECONDS

    @property
    def server(self) -> ForkServerClient | None:
        """The fork server, if there is one now."""
        return self._server

    def launch_run(self, context: LaunchRunContext) -> None:
        """Fork a process for a run, or leave the run to Dagster's own launcher."""
        run = context.dagster_run
        if is_local_run(run):
            try:
                self._launch_forked(run)
            except ForkFailedError as error:
                text = f"Starting this run in a new process, which takes longer: {error}."
                self._instance.report_engine_event(text, run, cls=type(self))
            else:
                return
        super().launch_run(context)

    def _launch_forked(self, run: dg.DagsterRun) -> None:
        arguments = ExecuteRunArgs(
            job_origin=run.job_code_origin,  # type: ignore[arg-type]  # `is_local_run` checked it
            run_id=run.run_id,
            instance_ref=self._instance.get_ref(),
        )
        # One run at a time: the answer to an order is the next message that isn't a run's end.
        with self._lock:
            server, child = self._fork(run.job_name, dg.serialize_value(arguments))
            try:
                # The run is tagged before it begins: from then on anybody can find its process.
                tag = RunProcess.of(child).tag
                self._instance.add_run_tags(run.run_id, {TAG_PROCESS: tag})
                server.release(child, run.run_id)
            except psutil.NoSuchProcess as error:
                raise ForkFailedError("its process was killed") from error
            except BaseException:
                server.discard(child)
                raise

    def _fork(self, job: str, arguments: str) -> tuple[ForkServerClient, int]:
        """Fork a child. Starts a new fork server if there is none or the current one is stale or gone."""
        if time.monotonic() - self._failed_at < RETRY_SECONDS:
            raise ForkFailedError("the fork server failed a short while ago")
        try:
            if self._server is not None:
                try:
                    return self._server, self._server.fork(job, arguments)
                except ForkFailedError:
                    self._server = None
            self._server = self._start_server()
            return self._server, self._server.fork(job, arguments)
        except ForkFailedError:
            self._server = None
            self._failed_at = time.monotonic()
            raise

    def _start_server(self) -> ForkServerClient:
        """Start a fork server that ends with this launcher.

        Threads that ask an instance for its launcher at the same time get one each, and Dagster keeps the
        last. So the fork server must not keep its launcher alive.
        """
        this_launcher = weakref.ref(self)

        def on_run_end(run_id: str, code: int | None) -> None:
            launcher = this_launcher()
            if launcher is not None:
                launcher._record_run_end(run_id, code)

        server = ForkServerClient(on_run_end)
        weakref.finalize(self, server.retire)
        return server

    def _record_run_end(self, run_id: str, code: int | None) -> None:
        """Mark a run whose process ended without recording the run's end."""
        run = self._instance.get_run_by_id(run_id) if self.has_instance else None
        if run is None or run.is_finished:
            return
        if run.status == dg.DagsterRunStatus.CANCELING:
            self._instance.report_run_canceled(run)
        else:
            self._instance.report_run_failed(run, _process_end_text(code))

    def terminate(self, run_id: str) -> bool:
        """Interrupt a run's process. Return False if there is none to interrupt."""
        run = self._instance.get_run_by_id(run_id) if self.has_instance else None
        if run is None or run.is_finished:
            return False
        process = RunProcess.of_run(run)
        if process is None or GRPC_INFO_TAG in run.tags:  # Dagster's own launcher started it
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call]
        self._instance.report_run_canceling(run)
        if not process.is_on_this_host:
            text = f"This run is executed on {process.host} and has to be terminated there."
            self._instance.report_engine_event(text, run, cls=type(self))
            return False
        return self.interrupt(run, process)

    def interrupt(self, run: dg.DagsterRun, process: RunProcess) -> bool:
        """Interrupt the process of a run that is being canceled. Return False if it is another's.

        A run whose process has ended is canceled at once.
        """
        # A process may end between the two looks at it.
        with suppress(psutil.NoSuchProcess):
            if (os_process := process.os_process) is not None:
                # Anybody can edit a tag. Only children of a fork server are ever interrupted.
                is_forked = any(FORK_SERVER_MODULE in word for word in os_process.cmdline())
                if is_forked:
                    os_process.send_signal(signal.SIGINT)
                return is_forked
        self._instance.report_run_canceled(run, process_gone_text(process))
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        """True: run monitoring notices runs whose process is gone."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return whether a run's process is alive; a process on another host counts as alive."""
        process = RunProcess.of_run(run)
        if process is None or not process.is_on_this_host or process.is_alive:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, process_gone_text(process))

    def dispose(self) -> None:
        """Let the fork server end when its runs have ended."""
        with self._lock:
            if self._server is not None:
                self._server.retire()
                self._server = None
        super().dispose()


def is_local_run(run: dg.DagsterRun) -> bool:
    """True if a run's code location is in this Python, on this machine, and this is Linux."""
    origin = run.job_code_origin
    if sys.platform != "linux" or origin is None or run.remote_job_origin is None:
        return False
    code = origin.repository_origin
    location = run.remote_job_origin.repository_origin.code_location_origin
    is_here = isinstance(location, ManagedGrpcPythonEnvCodeLocationOrigin) or (
        isinstance(location, GrpcServerCodeLocationOrigin) and location.socket is not None
    )
    return is_here and code.executable_path == sys.executable and code.container_image is None


def _process_end_text(code: int | None) -> str:
    safe = "Nothing is lost: the next run continues from the stored cursors."
    if code is None:
        return f"The process of this run is gone. {safe}"
    if code < 0:
        killer = signal.Signals(-code).name
        memory = " Often the machine was out of memory." if killer == "SIGKILL" else ""
        return f"The process of this run was killed by {killer}.{memory} {safe}"
    return f"The process of this run ended with exit code {code} before the run was over. {safe}"
