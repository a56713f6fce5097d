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

from restsource_dagster.cli.interrupts import Interrupts
from restsource_dagster.cli.run_records import metadata_value
from restsource_dagster.cli.run_report import ResourceReport, RunReport
from restsource_dagster.connector.model import Connector
from restsource_dagster.orchestration.assets import build_connector_assets, build_connector_job
from restsource_dagster.orchestration.dagster_compat import (
    RemoteJobOrigin,
    assets_of_job,
    cancel_run,
    create_run,
    execute_run,
    job_origin_beside,
    job_origin_in_module,
)
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
        run = create_run(
            self.instance,
            job,
            tags={
                TAG_CONNECTOR: self.connector.name,
                TAG_TRIGGER: "manual",
                TAG_PROCESS: process_tag(),
                **self.tags,
            },
            run_config=self._run_config(),
            assets=None if keys == assets_of_job(job) else keys,
            origin=find_job_origin(self.instance, self.connector.name, job.name),
        )
        started = time.monotonic()
        with interrupts.cancelling(lambda: cancel_run(self.instance, run)):
            events = execute_run(self.instance, job, run)
        return self._report(run, events, time.monotonic() - started)

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
    for record in records:
        origin = job_origin_beside(record.dagster_run, job)
        if origin is not None:
            return origin
    return job_origin_in_module(_CODE_LOCATION_NAME, _CODE_LOCATION_MODULE, job)


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
