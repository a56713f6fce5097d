"""A run launcher for one machine: each run is forked from a process that has imported everything."""

import signal
import sys
import time
import weakref
from contextlib import suppress
from threading import Lock

import dagster as dg
import psutil
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    ManagedGrpcPythonEnvCodeLocationOrigin,
)
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClassData, serialize_value

from restsource_dagster.local_runtime.fork_client import (
    FORK_SERVER_MODULE,
    ForkFailedError,
    ForkServerClient,
)
from restsource_dagster.orchestration.names import TAG_PROCESS
from restsource_dagster.orchestration.sensors.killed_runs import RunProcess, process_gone_text

__all__ = ["WarmRunLauncher"]

RETRY_SECONDS = 60.0
"""A fork server that fails is not tried again for so long."""


class WarmRunLauncher(dg.DefaultRunLauncher):
    """Starts a run in a tenth of a second, where Dagster's own launcher needs some three.

    The first run starts a fork server (see there), which stays; each run is a process forked from it,
    and executes what `dagster api execute_run` does, as with the launchers for containers. Code that was
    changed since is noticed before each run: the fork server is then replaced. Connector files and
    `.env` are read by each run.

    Runs that it can't take go to Dagster's own launcher, of which it is a kind: those of code locations
    in another Python or on another machine; all, where there is no `fork` (it is for Linux), and for
    a minute after the fork server failed.

    Runs can be terminated, and their processes looked after, from any process on this machine: the
    run's tag names its process.
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(inst_data)
        self._lock = Lock()
        self._server: ForkServerClient | None = None
        self._failed_at = -RETRY_SECONDS

    @property
    def server(self) -> ForkServerClient | None:
        """The fork server, if there is one now."""
        return self._server

    def launch_run(self, context: LaunchRunContext) -> None:
        """Fork a process for a run, or leave it to Dagster's own launcher."""
        run = context.dagster_run
        if is_local_run(run):
            try:
                self._launch(run)
            except ForkFailedError as error:
                text = f"Starting this run in a new process, which takes longer: {error}."
                self._instance.report_engine_event(text, run, cls=type(self))
            else:
                return
        super().launch_run(context)

    def _launch(self, run: dg.DagsterRun) -> None:
        arguments = ExecuteRunArgs(
            job_origin=run.job_code_origin,  # type: ignore[arg-type]  # it was looked at
            run_id=run.run_id,
            instance_ref=self._instance.get_ref(),
        )
        with self._lock:
            server, child = self._fork(run.job_name, serialize_value(arguments))
            try:
                tag = RunProcess.of(child).tag
                self._instance.add_run_tags(run.run_id, {TAG_PROCESS: tag})
                server.release(child, run.run_id)
            except psutil.NoSuchProcess as error:
                raise ForkFailedError("its process was killed") from error
            except BaseException:
                server.drop(child)
                raise

    def _fork(self, job: str, arguments: str) -> tuple[ForkServerClient, int]:
        if time.monotonic() - self._failed_at < RETRY_SECONDS:
            raise ForkFailedError("the fork server failed a short while ago")
        try:
            if self._server is not None:
                try:
                    return self._server, self._server.fork(job, arguments)
                except ForkFailedError:  # its code is old, or it was killed
                    self._server = None
            self._server = self._new_server()
            return self._server, self._server.fork(job, arguments)
        except ForkFailedError:
            self._server = None
            self._failed_at = time.monotonic()
            raise

    def _new_server(self) -> ForkServerClient:
        """A fork server that ends with this launcher.

        Threads that ask an instance for its launcher at the same moment get one each, and Dagster keeps
        the last of them: the others must leave nothing behind.
        """
        ours = weakref.ref(self)

        def note_end(run_id: str, code: int | None) -> None:
            launcher = ours()
            if launcher is not None:
                launcher._note_end(run_id, code)

        server = ForkServerClient(note_end)
        weakref.finalize(self, server.retire)
        return server

    def _note_end(self, run_id: str, code: int | None) -> None:
        """Mark a run whose process has ended without saying so."""
        run = self._instance.get_run_by_id(run_id) if self.has_instance else None
        if run is None or run.is_finished:
            return
        if run.status == dg.DagsterRunStatus.CANCELING:
            self._instance.report_run_canceled(run)
        else:
            self._instance.report_run_failed(run, _process_end_text(code))

    def terminate(self, run_id: str) -> bool:
        """Interrupt a run's process; tell whether there was one."""
        run = self._instance.get_run_by_id(run_id) if self.has_instance else None
        if run is None or run.is_finished:
            return False
        process = RunProcess.of_run(run)
        if process is None or GRPC_INFO_TAG in run.tags:
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
            if (found := process.found) is not None:
                # whatever a run's tag says: no other process is ever interrupted
                is_forked = any(FORK_SERVER_MODULE in word for word in found.cmdline())
                if is_forked:
                    found.send_signal(signal.SIGINT)
                return is_forked
        self._instance.report_run_canceled(run, process_gone_text(process))
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes: run monitoring notices runs whose process is gone."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether a run's process is alive. One that can't be looked up from here is taken to be."""
        process = RunProcess.of_run(run)
        if process is None or not process.is_on_this_host or process.is_alive:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, process_gone_text(process))

    def dispose(self) -> None:
        """Let the fork server end when its runs are over."""
        with self._lock:
            if self._server is not None:
                self._server.retire()
                self._server = None
        super().dispose()


def is_local_run(run: dg.DagsterRun) -> bool:
    """Whether a run's code location is one of this Python, on this machine."""
    origin = run.job_code_origin
    if sys.platform != "linux" or origin is None or run.remote_job_origin is None:
        return False
    code = origin.repository_origin
    location = run.remote_job_origin.repository_origin.code_location_origin
    here = isinstance(location, ManagedGrpcPythonEnvCodeLocationOrigin) or (
        isinstance(location, GrpcServerCodeLocationOrigin) and location.socket is not None
    )
    return here and code.executable_path == sys.executable and code.container_image is None


def _process_end_text(code: int | None) -> str:
    safe = "Nothing is lost: the next run goes on from the stored cursors."
    if code is None:
        return f"The process of this run is gone. {safe}"
    if code < 0:
        killer = signal.Signals(-code).name
        memory = " Often the machine was out of memory." if killer == "SIGKILL" else ""
        return f"The process of this run was killed by {killer}.{memory} {safe}"
    return f"The process of this run ended with exit code {code} before the run was over. {safe}"
