"""The definitions of each connector, made one by one: a file that Dagster can't take harms only itself."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.definitions.job_definition import (
    default_job_io_manager_with_fs_io_manager_schema,
)

from restsource_dagster.config.connector import Connector, IntervalSchedule
from restsource_dagster.config.files import LoadedFile
from restsource_dagster.config.problems import Problem
from restsource_dagster.orchestration.assets import build_connector_assets, build_connector_job
from restsource_dagster.orchestration.created import CreationTimes
from restsource_dagster.orchestration.history.assets import build_history_asset, build_history_job
from restsource_dagster.orchestration.history.live_starts import LiveStarts
from restsource_dagster.orchestration.history.plans import HistoryPlan, histories_of
from restsource_dagster.orchestration.instances import TickInstance
from restsource_dagster.orchestration.run_settings import RunSettings
from restsource_dagster.orchestration.schedules import build_schedule

__all__ = ["History", "Part", "build_parts"]

_RESOURCES = {"io_manager": default_job_io_manager_with_fs_io_manager_schema}
"""What `Definitions` gives to every job."""


@dataclass(frozen=True)
class History:
    """The definitions of one resource's history."""

    plan: HistoryPlan
    asset: dg.AssetsDefinition
    job: dg.JobDefinition


@dataclass(frozen=True)
class Part:
    """The definitions of one connector."""

    connector: Connector
    created_at: datetime
    assets: dg.AssetsDefinition
    job: dg.JobDefinition
    schedule: dg.ScheduleDefinition | None
    histories: tuple[History, ...]

    @property
    def jobs(self) -> list[dg.JobDefinition]:
        """All its jobs."""
        return [self.job, *(history.job for history in self.histories)]


def build_parts(
    connectors: Iterable[Connector], runs: RunSettings, opened: TickInstance
) -> tuple[list[Part], list[LoadedFile]]:
    """The definitions of these connectors, and the files of which Dagster can't make any.

    `opened` is what their schedules share.
    """
    created = CreationTimes(runs.settings.state_dir)
    parts: list[Part] = []
    unfit: list[LoadedFile] = []
    taken: set[str] = set()
    for connector in connectors:
        try:
            part = _build_part(connector, created.get(connector), runs, opened)
            taken |= _new_names(part, taken)
            parts.append(part)
        except Exception as error:  # noqa: BLE001 - one file must not take down the location
            unfit.append(_unfit(connector, error))
    for warning in created.warnings:
        dg.get_dagster_logger().warning(warning.as_text())
    return parts, unfit


def _build_part(
    connector: Connector, created_at: datetime, runs: RunSettings, opened: TickInstance
) -> Part:
    assets = build_connector_assets(connector, runs)
    plans = histories_of(connector, created_at, LiveStarts(runs.settings.state_dir))
    twins = [build_history_asset(plan, runs) for plan in plans]
    unresolved = [
        build_connector_job(connector, assets),
        *(build_history_job(plan, twin) for plan, twin in zip(plans, twins, strict=True)),
    ]
    job, *history_jobs = _resolve([assets, *twins], unresolved)
    scheduled = isinstance(connector.schedule, IntervalSchedule)
    schedule = build_schedule(connector, created_at, job, opened) if scheduled else None
    return Part(
        connector=connector,
        created_at=created_at,
        assets=assets,
        job=job,
        schedule=schedule,
        histories=tuple(map(History, plans, twins, history_jobs)),
    )


def _resolve(assets: list[dg.AssetsDefinition], jobs: list[Any]) -> list[dg.JobDefinition]:
    """The jobs of one connector, made among its assets alone.

    Left to the code location, each job would be looked for among the assets of all connectors: with a
    thousand of them, Dagster needs a million looks. `Definitions` of one connector would do it too, and
    would copy the assets and keep a repository for each.
    """
    graph = AssetGraph.from_assets(assets)
    return [job.resolve(graph, dg.in_process_executor, _RESOURCES) for job in jobs]


def _new_names(part: Part, taken: set[str]) -> set[str]:
    """The names of its jobs. Raises `ValueError` for one that another connector's job has.

    The job of a history, `shop__orders_history_job`, may be that of a connector with a strange name.
    """
    names = {job.name for job in part.jobs}
    if names & taken:
        raise ValueError(f"another connector has a job {', '.join(sorted(names & taken))}, too")
    return names


def _unfit(connector: Connector, error: Exception) -> LoadedFile:
    """A file that our checks let pass and Dagster does not: still only that file's problem."""
    problem = Problem(
        path=connector.path,
        line=1,
        column=1,
        pointer="",
        message=f"Dagster can't make assets of this file: {error}",
        found=None,
        expected=None,
        mend=None,
    )
    return LoadedFile(path=connector.path, connector=None, problems=(problem,))
