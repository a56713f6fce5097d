"""One run of a connector: families loaded one after the other, each in a package of its own.

A family (a resource and its dependents) is one load package: its rows and its cursors arrive
together or not at all. A failed family does not touch the others.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import dlt

from restsource_dagster.config.connector import Connector, Family, Resource
from restsource_dagster.config.references import resolve_rest_api_config
from restsource_dagster.engine.changes import Tables, changes_of, read_tables
from restsource_dagster.engine.columnar.feed import ColumnFeed
from restsource_dagster.engine.columnar.parts import Parts
from restsource_dagster.engine.configuration import configure_dlt
from restsource_dagster.engine.continuity import check_continuity
from restsource_dagster.engine.cursors import read_move
from restsource_dagster.engine.destination import open_warehouse
from restsource_dagster.engine.endpoints import EndpointMaker
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.failures import failed_outcome
from restsource_dagster.engine.http.leash import Sleep
from restsource_dagster.engine.moves import Moves
from restsource_dagster.engine.outcome import Load, Observer, Outcome, Silent
from restsource_dagster.engine.pipelines import Loaded, Pipelines
from restsource_dagster.engine.progress import Progress
from restsource_dagster.engine.redaction import Redactor
from restsource_dagster.engine.secrets import secrets_of
from restsource_dagster.engine.source import FamilySource, build_family_source
from restsource_dagster.engine.tables import read_columns
from restsource_dagster.engine.window_rows import Window
from restsource_dagster.engine.workspace import connector_workspace
from restsource_dagster.settings import Settings

__all__ = ["FamilyRun", "Preparation", "Prepare", "opened_run"]


@dataclass(frozen=True)
class Preparation:
    """What a family's load does beside loading new rows."""

    moves: Moves = field(default_factory=Moves)
    window: Window | None = None
    """The window of history that is loaded; None for a live run."""


Prepare = Callable[["FamilyRun", dlt.Pipeline, Family, Collection[str]], Preparation]
"""Is told the run, its pipeline, the family and the resources of it that are loaded."""


@contextmanager
def opened_run(
    connector: Connector,
    settings: Settings,
    environment: Mapping[str, str],
    observer: Observer | None,
    sleep: Sleep | None,
    *,
    pipeline: str,
    prepare: Prepare,
) -> Iterator["FamilyRun"]:
    """Hold the connector, and clean up afterwards. `pipeline` is the name of dlt's pipeline.

    Raises `MissingReferences` for variables of the file that the environment lacks and
    `ConnectorBusyError`.
    """
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
        pipelines = Pipelines(
            pipeline, open_warehouse(settings), progress, folder, dataset=connector.name
        )
        yield FamilyRun(connector, config, maker, pipelines, redactor, progress, prepare)


@dataclass(frozen=True)
class _Before:
    """How things stood before a family's load."""

    started: float
    state: Mapping[str, Any]
    tables: Tables
    preparation: Preparation


@dataclass(frozen=True)
class FamilyRun:
    """One run: its families fail alone, and what they have in common is here."""

    connector: Connector
    config: Mapping[str, Any]
    maker: EndpointMaker
    pipelines: Pipelines
    redactor: Redactor
    progress: Progress
    prepare: Prepare

    def load(self, family: Family, selected: list[Resource]) -> Iterator[Outcome]:
        """Load the selected members of a family and tell what became of each."""
        started = time.monotonic()
        source: FamilySource | None = None
        names = [resource.name for resource in selected]
        try:
            pipeline = self.pipelines.open()
            preparation = self.prepare(self, pipeline, family, names)
            self.pipelines.expect(preparation.moves)
            before = _Before(
                started,
                deepcopy(dict(pipeline.state)),
                read_tables(pipeline, self.pipelines.stored_schema),
                preparation,
            )
            parts = self.pipelines.parts()
            source = self._source(family, names, preparation.window, parts)
            self._check(pipeline, source, preparation)
            loaded = self.pipelines.run(pipeline, family.root.name, source.source, parts)
            outcomes = []
            for resource in selected:
                load = Load(pipeline, source.source.resources[resource.name], loaded.info)
                outcomes.append(self._outcome(resource, source, loaded, load, before))
        except Exception as error:  # noqa: BLE001 - families are isolated: any error is an outcome
            self.pipelines.abandon()
            outcomes = [
                failed_outcome(error, family, resource, source, started, self.redactor)
                for resource in selected
            ]
        yield from outcomes

    def _source(
        self, family: Family, names: list[str], window: Window | None, parts: Parts | None
    ) -> FamilySource:
        source = build_family_source(
            self.connector,
            self.config,
            self.maker,
            family,
            names,
            say=self.progress.message,
            schema=self.pipelines.stored_schema,
            window=window,
            parts=parts,
        )
        for plan in source.plans.values():
            if not plan.loaded:
                self.progress.message(
                    f"{plan.resource.name} is asked for because {', '.join(names)} needs it; it is "
                    "not loaded and its cursor stays where it is"
                )
        return source

    def _check(
        self, pipeline: dlt.Pipeline, source: FamilySource, preparation: Preparation
    ) -> None:
        if preparation.window is not None:
            return
        replaced = {one.table for one in preparation.moves.replacements}
        plans = {
            name: plan for name, plan in source.plans.items() if plan.resource.table not in replaced
        }
        state = pipeline.state.get("sources", {}).get(self.connector.name, {})
        check_continuity(plans, state, self.pipelines.count_rows, family=source.plans)

    def _outcome(
        self,
        resource: Resource,
        source: FamilySource,
        loaded: Loaded,
        load: Load,
        before: _Before,
    ) -> Outcome:
        tally = source.tallies[resource.name]
        pipeline, schema = load.pipeline, load.pipeline.default_schema
        table = schema.naming.normalize_table_identifier(resource.table)
        nested = f"{table}{schema.naming.PATH_SEPARATOR}"
        window, moves = before.preparation.window, before.preparation.moves
        move = read_move(before.state, pipeline.state, self.connector.name, resource)
        return Outcome(
            resource=resource.name,
            table=table,
            seconds=time.monotonic() - before.started,
            usage=tally.meter.usage,
            received=tally.received,
            promised=tally.promised,
            skipped=tuple(map(self.redactor, tally.skipped)),
            rows_loaded=loaded.rows.get(table, 0),
            row_count=loaded.counts.get(table),
            dataset=pipeline.dataset_name,
            destination=pipeline.destination.destination_name,
            cursor=None if window else move,
            cursor_set=moves.cursors.get(resource.name),
            window=(window.asked.start, window.asked.end) if window else None,
            columns=read_columns(schema, table),
            written=_written(source.feeds.get(resource.name)),
            schema_changes=changes_of(table, before.tables, read_tables(pipeline)),
            nested_tables={
                name: count for name, count in loaded.rows.items() if name.startswith(nested)
            },
            load=load,
        )


def _written(feed: ColumnFeed | None) -> str:
    if feed is None:
        return "rows"
    if feed.refusal is None:
        return "columns"
    some = f"columns for the first {feed.rows:,} rows, then rows" if feed.rows else "rows"
    return f"{some}: {feed.refusal}"
