"""Run a connector: extract, normalize and load its families, one after the other.

A family (a resource and its dependents) is one load package: its rows and its cursors arrive
together or not at all. A failed family does not touch the others.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import dlt
from dlt.pipeline.exceptions import PipelineStepFailed

from restsource_dagster.config.connector import Connector, Family, Resource
from restsource_dagster.config.references import resolve_rest_api_config
from restsource_dagster.engine.changes import Tables, changes_of, read_tables
from restsource_dagster.engine.configuration import configure_dlt
from restsource_dagster.engine.continuity import check_continuity
from restsource_dagster.engine.cursors import read_move
from restsource_dagster.engine.destination import open_warehouse
from restsource_dagster.engine.endpoints import EndpointMaker
from restsource_dagster.engine.errors import IngestError, UnknownResourceError
from restsource_dagster.engine.outcome import Failure, Load, Observer, Outcome, Silent, Usage
from restsource_dagster.engine.pipelines import Pipelines
from restsource_dagster.engine.progress import Progress
from restsource_dagster.engine.redaction import Redactor
from restsource_dagster.engine.secrets import secrets_of
from restsource_dagster.engine.source import FamilySource, build_family_source
from restsource_dagster.engine.tables import read_columns
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
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Outcome]:
    """Load the connector's resources, or the named ones, and yield an outcome for each.

    Outcomes come as their families end; a failure is an outcome, not an exception. Raises
    `UnknownResourceError`, `MissingReferences` for variables of the file that the environment lacks,
    `ConnectorBusyError`; all before anything was requested. `sleep` waits before a request is tried
    again, in seconds.
    """
    wanted = _wanted(connector, resources)
    config = resolve_rest_api_config(connector.rest_api_config(), environment)
    redactor = Redactor(secrets_of(connector.rest_api_config(), environment))
    progress = Progress(observer or Silent(), redactor)
    configure_dlt()
    with (
        redactor.guarding(IngestError),
        connector_workspace(
            settings.state_dir, connector.name, progress.message, settings.lock_wait_seconds
        ) as folder,
        closing(EndpointMaker(connector, config["client"], redactor, progress, sleep)) as maker,
    ):
        warehouse = open_warehouse(settings)
        pipelines = Pipelines(connector.name, warehouse, progress, folder)
        run = _Run(connector, config, maker, pipelines, redactor, progress)
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
    tables: Tables


@dataclass(frozen=True)
class _Run:
    """One run: its families fail alone, and what they have in common is here."""

    connector: Connector
    config: Mapping[str, Any]
    maker: EndpointMaker
    pipelines: Pipelines
    redactor: Redactor
    progress: Progress

    def load(self, family: Family, selected: list[Resource]) -> Iterator[Outcome]:
        """Load the selected members of a family and tell what became of each."""
        started = time.monotonic()
        source: FamilySource | None = None
        try:
            pipeline = self.pipelines.open()
            before = _Before(started, deepcopy(dict(pipeline.state)), read_tables(pipeline))
            source = self._source(family, selected)
            self._check(pipeline, source)
            rows, info = self.pipelines.run(pipeline, family.root.name, source.source)
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
            self.pipelines.abandon()
            outcomes = [
                self._failed(error, family, resource, source, started) for resource in selected
            ]
        yield from outcomes

    def _source(self, family: Family, selected: list[Resource]) -> FamilySource:
        names = [resource.name for resource in selected]
        source = build_family_source(
            self.connector,
            self.config,
            self.maker,
            family,
            names,
            say=self.progress.message,
            schema=self.pipelines.stored_schema,
        )
        for plan in source.plans.values():
            if not plan.loaded:
                self.progress.message(
                    f"{plan.resource.name} is asked for because {', '.join(names)} needs it; it is "
                    "not loaded and its cursor stays where it is"
                )
        return source

    def _check(self, pipeline: dlt.Pipeline, source: FamilySource) -> None:
        state = pipeline.state.get("sources", {}).get(self.connector.name, {})
        check_continuity(source.plans, state, self.pipelines.count_rows)

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
        return Outcome(
            resource=resource.name,
            table=table,
            seconds=time.monotonic() - before.started,
            usage=tally.meter.usage,
            received=tally.received,
            promised=tally.promised,
            skipped=tuple(map(self.redactor, tally.skipped)),
            rows_loaded=rows.get(table, 0),
            row_count=self.pipelines.count_rows(table),
            dataset=pipeline.dataset_name,
            destination=pipeline.destination.destination_name,
            cursor=read_move(before.state, pipeline.state, self.connector.name, resource),
            columns=read_columns(schema, table),
            schema_changes=changes_of(table, before.tables, read_tables(pipeline)),
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
        if source and step == "normalize":
            # a number that was too big shows here, long after its row has been read
            beyond = (values.first_big for values in source.values.values())
            cause = next((known for known in beyond if known), cause)
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
