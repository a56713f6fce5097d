"""Run a connector: extract, normalize and load its families, one after the other.

A family (a resource and its dependents) is one load package: its rows and its cursors arrive
together or not at all. A failed family does not touch the others.
"""

import time
from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dlt
from dlt.common.pipeline import LoadInfo
from dlt.pipeline.exceptions import PipelineStepFailed

from restsource_dagster.config.connector import Connector, Family, Resource
from restsource_dagster.config.references import resolve_references
from restsource_dagster.engine.configuration import configure_dlt
from restsource_dagster.engine.cursors import read_move
from restsource_dagster.engine.destination import Warehouse, open_warehouse
from restsource_dagster.engine.endpoints import EndpointMaker
from restsource_dagster.engine.errors import IngestError, UnknownResourceError
from restsource_dagster.engine.outcome import Failure, Load, Observer, Outcome, Silent, Usage
from restsource_dagster.engine.progress import Progress
from restsource_dagster.engine.redaction import Redactor
from restsource_dagster.engine.secrets import secrets_of
from restsource_dagster.engine.source import FamilySource, build_family_source
from restsource_dagster.engine.tables import read_columns, read_row_count
from restsource_dagster.engine.workspace import connector_workspace
from restsource_dagster.settings import Settings

__all__ = ["ingest"]


def ingest(
    connector: Connector,
    *,
    settings: Settings,
    environment: Mapping[str, str],
    resources: Collection[str] | None = None,
    observer: Observer | None = None,
) -> Iterator[Outcome]:
    """Load the connector's resources, or the named ones, and yield an outcome for each.

    Outcomes come as their families end; a failure is an outcome, not an exception. Raises
    `UnknownResourceError`, `MissingReferences` for variables of the file that the environment lacks,
    `ConnectorBusyError`; all before anything was requested.
    """
    wanted = _wanted(connector, resources)
    config = resolve_references(connector.rest_api_config(), environment)
    redactor = Redactor(secrets_of(connector.rest_api_config(), environment))
    progress = Progress(observer or Silent())
    configure_dlt()
    with connector_workspace(settings.state_dir, connector.name, progress.message) as folder:
        maker = EndpointMaker(connector, config["client"], redactor, progress)
        warehouse = open_warehouse(settings)
        run = _Run(connector, config, maker, warehouse, redactor, progress, folder)
        for family in connector.families:
            selected = [member for member in family.members if member.name in wanted]
            if selected:
                yield from run.load(family, selected)


def _wanted(connector: Connector, resources: Collection[str] | None) -> set[str]:
    known = [resource.name for resource in connector.resources]
    if resources is None:
        return {resource.name for resource in connector.resources if resource.selected}
    unknown = sorted(set(resources) - set(known))
    if unknown:
        raise UnknownResourceError(
            f"connector {connector.name} has no resource {', '.join(unknown)}; "
            f"it has {', '.join(known)}"
        )
    return set(resources)


@dataclass(frozen=True)
class _Before:
    """How things stood before a family's load."""

    started: float
    state: Mapping[str, Any]


@dataclass
class _Run:
    """One run. The pipeline lives until a family fails; the next one then starts from a clean one.

    A failed family may have moved cursors in the pipeline's local state. Throwing that state away
    and reading the destination's again is what keeps a cursor from moving without its rows.
    """

    connector: Connector
    config: Mapping[str, Any]
    maker: EndpointMaker
    warehouse: Warehouse
    redactor: Redactor
    progress: Progress
    folder: Path
    _pipeline: dlt.Pipeline | None = None
    _opened: int = field(default=0)

    def load(self, family: Family, selected: list[Resource]) -> Iterator[Outcome]:
        """Load the selected members of a family and tell what became of each."""
        started = time.monotonic()
        source: FamilySource | None = None
        try:
            pipeline = self._open()
            before = _Before(started, deepcopy(dict(pipeline.state)))
            names = [resource.name for resource in selected]
            source = build_family_source(self.connector, self.config, self.maker, family, names)
            rows, info = self._steps(pipeline, family, source)
            outcomes = [
                self._outcome(
                    resource,
                    source,
                    rows,
                    Load(pipeline, source.source.resources[resource.name], info),
                    before,
                )
                for resource in selected
            ]
        except Exception as error:  # noqa: BLE001 - families are isolated: any error is an outcome
            self._pipeline = None
            outcomes = [
                self._failed(error, family, resource, source, started) for resource in selected
            ]
        yield from outcomes

    def _open(self) -> dlt.Pipeline:
        if self._pipeline is None:
            self._opened += 1
            pipeline = dlt.pipeline(
                pipeline_name=self.connector.name,
                pipelines_dir=str(self.folder / str(self._opened)),
                destination=self.warehouse.destination(),
                dataset_name=self.connector.name,
            )
            with self.warehouse.held(self.progress.message):
                pipeline.sync_destination()
            self._pipeline = pipeline
        return self._pipeline

    def _steps(
        self, pipeline: dlt.Pipeline, family: Family, source: FamilySource
    ) -> tuple[Mapping[str, int], LoadInfo]:
        """Returns the rows per table and dlt's account of the load."""
        root = family.root.name
        self.progress.phase(root, "extract")
        pipeline.extract(source.source, loader_file_format=self.warehouse.loader_file_format)
        self.progress.phase(root, "normalize")
        rows = pipeline.normalize().row_counts
        self.progress.phase(root, "load")
        with self.warehouse.held(self.progress.message):
            info = pipeline.load()
        return rows, info

    def _outcome(
        self,
        resource: Resource,
        source: FamilySource,
        rows: Mapping[str, int],
        load: Load,
        before: _Before,
    ) -> Outcome:
        tally = source.tallies[resource.name]
        pipeline, schema = load.pipeline, load.pipeline.default_schema
        table = schema.naming.normalize_table_identifier(resource.table)
        nested = f"{table}{schema.naming.PATH_SEPARATOR}"
        with self.warehouse.held(self.progress.message):
            row_count = read_row_count(pipeline, table)
        return Outcome(
            resource=resource.name,
            table=table,
            seconds=time.monotonic() - before.started,
            usage=tally.meter.usage,
            received=tally.received,
            promised=tally.promised,
            skipped=tally.skipped,
            rows_loaded=rows.get(table, 0),
            row_count=row_count,
            dataset=pipeline.dataset_name,
            destination=pipeline.destination.destination_name,
            cursor=read_move(before.state, pipeline.state, self.connector.name, resource),
            columns=read_columns(schema, table),
            nested_tables={name: count for name, count in rows.items() if name.startswith(nested)},
            load=load,
        )

    def _failed(
        self,
        error: Exception,
        family: Family,
        resource: Resource,
        source: FamilySource | None,
        started: float,
    ) -> Outcome:
        step, cause = _cause(error)
        culprit = getattr(cause, "resource", None) or family.root.name
        tally = source.tallies.get(resource.name) if source else None
        return Outcome(
            resource=resource.name,
            table=resource.table,
            seconds=time.monotonic() - started,
            usage=tally.meter.usage if tally else Usage(),
            failure=Failure(culprit, step, self.redactor(_message(cause))),
        )


def _cause(error: BaseException) -> tuple[str, BaseException]:
    """The step that failed and the error at the root of dlt's wrappers."""
    step = "prepare"
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, IngestError):
            return step, current
        if isinstance(current, PipelineStepFailed):
            step = current.step
        error, current = current, current.__cause__ or current.__context__
    return step, error


def _message(error: BaseException) -> str:
    return str(error) if isinstance(error, IngestError) else f"{type(error).__name__}: {error}"
