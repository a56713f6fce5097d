"""Run a connector in this process, as a run of the Dagster instance like any other.

Imported only by `restsource run`, because it brings Dagster (and the run brings dlt).

What became of a run, as data and as lines for people.

Ctrl-C during a run: tell Dagster, then stop the run, in this order.
"""

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

# Dagster's public way to run in this process (`execute_in_process`) can't say which code location
# a run belongs to, and the UI then neither lists it with its job nor offers to run it again.
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from rich.text import Text

from restsource_dagster.cli.output import EXIT_INTERRUPTED, print_notice
from restsource_dagster.cli.run_records import metadata_value
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.validation.diagnostics import printable
from restsource_dagster.orchestration.assets import build_connector_assets, build_connector_job
from restsource_dagster.orchestration.names import (
    TAG_CONNECTOR,
    TAG_PROCESS,
    TAG_TRIGGER,
    asset_key,
    job_name,
)
from restsource_dagster.orchestration.run_config import RunSettings
from restsource_dagster.orchestration.sensors.killed_runs import process_tag

if TYPE_CHECKING:
    from dagster import DagsterEvent, DagsterRun, JobDefinition

__all__ = [
    "ConnectorExecution",
    "Interrupts",
    "ResourceReport",
    "RunReport",
    "failure_text",
    "find_job_origin",
    "watch_interrupts",
]

_RESOURCE_STYLES = {"loaded": "green", "failed": "red", "not loaded": "yellow"}


@dataclass(frozen=True)
class ResourceReport:
    """What became of one resource. Rows, seconds, table and cursor are known if it was loaded."""

    name: str
    status: Literal["loaded", "failed", "not loaded"]
    rows_loaded: int | None = None
    seconds: float | None = None
    table: str | None = None
    cursor_path: str | None = None
    start_value: Any = None
    last_value: Any = None


@dataclass(frozen=True)
class RunReport:
    """What became of a run. `recorded` says whether a Dagster instance remembers it."""

    connector: str
    run_id: str
    recorded: bool
    status: str
    """Dagster's word for it: SUCCESS, FAILURE or CANCELED."""
    seconds: float
    failure: str | None
    resources: tuple[ResourceReport, ...]

    @property
    def succeeded(self) -> bool:
        """Whether every resource was loaded."""
        return self.status == "SUCCESS"

    def as_dict(self) -> Mapping[str, Any]:
        """All of it, as JSON has it."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}

    def lines(self) -> Iterator[Text]:
        """A line per resource, then the failure in full, then the run."""
        width = max((len(resource.name) for resource in self.resources), default=0)
        for resource in self.resources:
            yield _resource_line(resource, width)
        if self.failure:
            yield from (Text(printable(line), "red") for line in self.failure.splitlines())
        where = "" if self.recorded else ", not recorded"
        style = "bold green" if self.succeeded else "bold red"
        yield Text(f"{self.status} in {self.seconds:.1f} s, run {self.run_id}{where}", style)


def _resource_line(resource: ResourceReport, width: int) -> Text:
    line = Text.assemble(
        (f"{printable(resource.name):{width}}", "bold"),
        "  ",
        (resource.status, _RESOURCE_STYLES[resource.status]),
    )
    if resource.rows_loaded is not None:
        line.append(f"  {resource.rows_loaded:,} row{'' if resource.rows_loaded == 1 else 's'}")
    if resource.seconds is not None:
        line.append(f"  {resource.seconds:.1f} s")
    if resource.cursor_path and resource.last_value is not None:
        line.append(printable(f"  {resource.cursor_path} {resource.last_value}"))
    return line


_WAKE_SIGNAL = signal.SIGUSR1


@dataclass
class Interrupts:
    """Whether Ctrl-C was pressed, and what to do first when it is."""

    press_count: int = 0
    _cancel: Callable[[], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def cancelling(self, cancel: Callable[[], None]) -> Iterator[None]:
        """Within this, Ctrl-C calls `cancel` (in another thread) before it interrupts."""
        self._cancel = cancel
        try:
            yield
        finally:
            with self._lock:  # a cancellation that has begun ends before the run counts as ended
                self._cancel = None

    def press(self, main_thread: int) -> None:
        """What happens at Ctrl-C."""
        self.press_count += 1
        if self.press_count > 1:
            print_notice(
                "Stopped at once. Nothing is half loaded; the next run goes on from the last load."
            )
            os._exit(EXIT_INTERRUPTED)
        print_notice("Stopping... (Ctrl-C again to stop at once)")
        with self._lock:
            if self._cancel is not None:
                self._cancel()
        # Dagster keeps both signals on one handler, and this one isn't blocked.
        signal.pthread_kill(main_thread, signal.SIGTERM)


@contextmanager
def watch_interrupts() -> Iterator[Interrupts]:
    """Take Ctrl-C in a thread of its own, because telling Dagster of it writes to a database.

    A signal handler must not do that: it runs in the middle of whatever the main thread was doing,
    perhaps with that database locked. So the signal is blocked everywhere but in a thread that
    waits for it. SIGTERM interrupts, too. Outside the main thread this does nothing.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    main_thread = threading.get_ident()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, _WAKE_SIGNAL})

    def wait() -> None:
        while signal.sigwait({signal.SIGINT, _WAKE_SIGNAL}) == signal.SIGINT:
            interrupts.press(main_thread)

    waiter = threading.Thread(target=wait, name="interrupts", daemon=True)
    waiter.start()
    try:
        yield interrupts
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pthread_kill(waiter.ident or 0, _WAKE_SIGNAL)
        waiter.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGTERM, before)


_LATEST_RUNS = 5

_CODE_LOCATION_NAME, _CODE_LOCATION_MODULE = "restsource", "restsource_dagster.definitions"
"""The code location of the project's workspace.yaml."""


@dataclass(frozen=True)
class ConnectorExecution:
    """A run of these resources of a connector, to be started once."""

    connector: Connector
    resources: tuple[str, ...]
    runs: RunSettings
    instance: dg.DagsterInstance
    log_level: str
    config: Mapping[str, Any] = field(default_factory=dict)
    """Of the connector's op: see `LoadConfig`."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Besides, or instead of, the usual ones."""

    def execute(self, interrupts: Interrupts) -> RunReport:
        """Run it to its end, whatever that is. Raises `KeyboardInterrupt` only before the start."""
        job = self._job()
        keys = frozenset(asset_key(self.connector.name, name) for name in self.resources)
        run = self.instance.create_run_for_job(
            job_def=job,
            tags={
                **job.run_tags,
                TAG_CONNECTOR: self.connector.name,
                TAG_TRIGGER: "manual",
                TAG_PROCESS: process_tag(),
                **self.tags,
            },
            run_config=self._run_config(),
            asset_selection=None if keys == job.asset_layer.selected_asset_keys else keys,
            remote_job_origin=find_job_origin(self.instance, self.connector.name, job.name),
        )
        started = time.monotonic()
        with interrupts.cancelling(lambda: self._cancel(run)):
            result = execute_run(InMemoryJob(job), run, self.instance, raise_on_error=False)
        return self._report(run, result.all_events, time.monotonic() - started)

    def _job(self) -> "JobDefinition":
        assets = build_connector_assets(self.connector, self.runs)
        job = build_connector_job(self.connector, assets)
        deselected = {r.name for r in self.connector.resources if not r.selected}
        if deselected & set(self.resources):  # in no job, but asked for by name
            keys = [asset_key(self.connector.name, name) for name in self.resources]
            job = dg.define_asset_job(
                job_name(self.connector.name), selection=dg.AssetSelection.assets(*keys)
            )
        definitions = dg.Definitions(assets=[assets], jobs=[job], executor=dg.in_process_executor)
        return definitions.resolve_job_def(job.name)

    def _run_config(self) -> dict[str, Any]:
        config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": self.log_level}}}}
        if self.config:
            config["ops"] = {self.connector.name: {"config": dict(self.config)}}
        return config

    def _cancel(self, run: "DagsterRun") -> None:
        """Tell Dagster first: it takes an interruption that nobody asked for as a failure."""
        if not self.instance.is_ephemeral:
            self.instance.report_run_canceling(run)

    def _report(
        self, run: "DagsterRun", events: Iterable["DagsterEvent"], seconds: float
    ) -> RunReport:
        events = tuple(events)
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
    """Where a connector's job lives, as its latest run says: people rename locations."""
    records = instance.get_run_records(
        filters=dg.RunsFilter(tags={TAG_CONNECTOR: connector}), limit=_LATEST_RUNS
    )
    known = [record.dagster_run.remote_job_origin for record in records]
    for origin in known:
        if origin is not None:
            return RemoteJobOrigin(origin.repository_origin, job)
    module = LoadableTargetOrigin(module_name=_CODE_LOCATION_MODULE, working_directory=".")
    location = ManagedGrpcPythonEnvCodeLocationOrigin(module, location_name=_CODE_LOCATION_NAME)
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), job)


def _failed_resources(failure: Any) -> Sequence[str]:
    """The resources that failed, as the op's own failure lists them."""
    data = failure.user_failure_data
    names = data.metadata.get("failed") if data else None
    return names.value if names is not None else ()


def failure_text(failure: Any) -> str:
    """What a person should read: the op's own words, else those of the error at the root."""
    data = failure.user_failure_data
    if data and data.description:
        return str(data.description)
    error = failure.error
    while error is not None and error.cause is not None:
        error = error.cause
    if error is None:
        return "The run failed."
    if error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
        return "The run was interrupted."
    # Dagster puts the class before the text; a sentence for people stands by itself.
    return re.sub(rf"^([\w.]*\.)?{error.cls_name}: ", "", str(error.message)).strip()


def _resource_report(
    name: str, metadata: Mapping[str, dg.MetadataValue[Any]] | None, *, failed: bool
) -> ResourceReport:
    if metadata is None:
        return ResourceReport(name, status="failed" if failed else "not loaded")

    value = partial(metadata_value, metadata)
    return ResourceReport(
        name=name,
        status="loaded",
        rows_loaded=value("rows_loaded"),
        seconds=value("seconds"),
        table=value("dagster/table_name"),
        cursor_path=value("incremental/cursor_path"),
        start_value=value("incremental/start_value"),
        last_value=value("incremental/last_value"),
    )
