"""Runs a connector in this process, recorded in the Dagster instance like any other run.

Imports Dagster, and the run imports dlt. So commands import it only once their arguments are valid.
"""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

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

from restsource_dagster.cli.interrupts import Interrupts
from restsource_dagster.cli.run_records import metadata_value
from restsource_dagster.cli.run_report import ResourceReport, RunReport
from restsource_dagster.connector.model import Connector
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
    "failure_text",
    "find_job_origin",
]


_LATEST_RUNS = 5

_CODE_LOCATION_NAME, _CODE_LOCATION_MODULE = "restsource", "restsource_dagster.definitions"
"""The code location that workspace.yaml names."""


@dataclass(frozen=True)
class ConnectorExecution:
    """A run of some resources of a connector. Starts once."""

    connector: Connector
    resources: tuple[str, ...]
    run_settings: RunSettings
    instance: dg.DagsterInstance
    log_level: str
    config: Mapping[str, Any] = field(default_factory=dict)
    """The run config of the connector's op, see `LoadConfig`."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Added to the usual tags, or replacing them."""

    def execute(self, interrupts: Interrupts) -> RunReport:
        """Run the resources and report the result, also for a failed or canceled run.

        Raises `KeyboardInterrupt` only before the run starts.
        """
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
        assets = build_connector_assets(self.connector, self.run_settings)
        job = build_connector_job(self.connector, assets)
        deselected = {r.name for r in self.connector.resources if not r.selected}
        if deselected & set(self.resources):  # the connector's job leaves these out
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
        """Report the cancellation: Dagster counts an unreported interruption as a failure."""
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
    """Return the code location of a connector's job, from its latest runs.

    Without a run it is the location of workspace.yaml. People rename locations, so the runs go first.
    """
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
    """Return the resources that the op's failure lists."""
    data = failure.user_failure_data
    names = data.metadata.get("failed") if data else None
    return names.value if names is not None else ()


def failure_text(failure: Any) -> str:
    """Return the description of the op's failure, else the message of the root cause."""
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
    # Dagster prefixes the message with the class name, which says nothing to the reader
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
