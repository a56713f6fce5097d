"""Run a connector in this process, as a run of the Dagster instance like any other.

Imported only by `restsource run`, because it brings Dagster (and the run brings dlt).
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

from restsource_dagster.cli.history import metadata_value
from restsource_dagster.cli.interrupts import Interrupts
from restsource_dagster.cli.report import ResourceReport, RunReport
from restsource_dagster.config.connector import Connector
from restsource_dagster.orchestration.assets import build_connector_assets, build_connector_job
from restsource_dagster.orchestration.names import (
    TAG_CONNECTOR,
    TAG_PROCESS,
    TAG_TRIGGER,
    asset_key,
    job_name,
)
from restsource_dagster.orchestration.processes import process_tag
from restsource_dagster.orchestration.run_settings import RunSettings

if TYPE_CHECKING:
    from dagster import DagsterEvent, DagsterRun, JobDefinition

__all__ = ["Execution", "failure_text", "origin_of"]

_FEW = 5

_LOCATION, _MODULE = "restsource", "restsource_dagster.definitions"
"""The code location of the project's workspace.yaml."""


@dataclass(frozen=True)
class Execution:
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
            remote_job_origin=origin_of(self.instance, self.connector.name, job.name),
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
        failed = {name for failure in failures for name in _names_of(failure)}
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


def origin_of(instance: dg.DagsterInstance, connector: str, job: str) -> RemoteJobOrigin:
    """Where a connector's job lives, as its latest run says: people rename locations."""
    records = instance.get_run_records(
        filters=dg.RunsFilter(tags={TAG_CONNECTOR: connector}), limit=_FEW
    )
    known = [record.dagster_run.remote_job_origin for record in records]
    for origin in known:
        if origin is not None:
            return RemoteJobOrigin(origin.repository_origin, job)
    module = LoadableTargetOrigin(module_name=_MODULE, working_directory=".")
    location = ManagedGrpcPythonEnvCodeLocationOrigin(module, location_name=_LOCATION)
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), job)


def _names_of(failure: Any) -> Sequence[str]:
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
