"""The loader: a folder of connector files to Dagster definitions. It never raises.

Making many objects that stay, without looking through all of them for garbage again and again.

The definitions of each connector, made one by one: a file that Dagster can't take harms only itself.
"""

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from restsource_dagster.connector.loader import LoadedFile, load_folder, load_wanted
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.schedule import IntervalSchedule
from restsource_dagster.connector.validation.diagnostics import Problem
from restsource_dagster.orchestration.assets import (
    build_broken_asset_spec,
    build_connector_assets,
    build_connector_job,
)
from restsource_dagster.orchestration.backfills.backfill_assets import (
    build_backfill_asset,
    build_backfill_job,
)
from restsource_dagster.orchestration.backfills.backfill_plan import (
    BackfillPlan,
    build_backfill_plans,
)
from restsource_dagster.orchestration.backfills.backfill_sensor import build_backfill_sensor
from restsource_dagster.orchestration.dagster_compat import require_names, resolve_jobs
from restsource_dagster.orchestration.instance import TickInstance
from restsource_dagster.orchestration.names import is_job_of, owners_of
from restsource_dagster.orchestration.run_config import RunSettings
from restsource_dagster.orchestration.schedules.slot_schedule import build_schedule
from restsource_dagster.orchestration.sensors.broken_files import build_broken_files_sensor
from restsource_dagster.orchestration.sensors.first_run import build_first_run_sensor
from restsource_dagster.orchestration.sensors.killed_runs import build_killed_runs_sensor
from restsource_dagster.orchestration.sensors.watch_files import build_watch_sensor
from restsource_dagster.orchestration.state_files import CreationTimes, LiveStarts
from restsource_dagster.settings import Settings

if TYPE_CHECKING:  # the engine brings dlt, which only a run may import
    from restsource_dagster.engine.run.outcome import Observer

__all__ = [
    "BackfillDefinitions",
    "ConnectorDefinitions",
    "build_connector_definitions",
    "build_definitions",
    "without_full_gc",
]

_NO_FULL_COLLECTION = 1_000_000


@contextmanager
def without_full_gc() -> Iterator[None]:
    """Garbage is collected among young objects only.

    While a thousand connectors become definitions, Python looks through all objects of the process
    some ten times and finds nothing: a quarter of the time that loading takes.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(*thresholds[:2], _NO_FULL_COLLECTION)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


@dataclass(frozen=True)
class BackfillDefinitions:
    """The definitions of one resource's history."""

    plan: BackfillPlan
    asset: dg.AssetsDefinition
    job: dg.JobDefinition


@dataclass(frozen=True)
class ConnectorDefinitions:
    """The definitions of one connector."""

    connector: Connector
    created_at: datetime
    assets: dg.AssetsDefinition
    job: dg.JobDefinition
    schedule: dg.ScheduleDefinition | None
    histories: tuple[BackfillDefinitions, ...]

    @property
    def jobs(self) -> list[dg.JobDefinition]:
        """All its jobs."""
        return [self.job, *(history.job for history in self.histories)]


def build_connector_definitions(
    connectors: Iterable[Connector], runs: RunSettings, opened: TickInstance
) -> tuple[list[ConnectorDefinitions], list[LoadedFile]]:
    """The definitions of these connectors, and the files of which Dagster can't make any.

    `opened` is what their schedules share.
    """
    created = CreationTimes(runs.settings.state_dir)
    parts: list[ConnectorDefinitions] = []
    unfit: list[LoadedFile] = []
    taken: set[str] = set()
    for connector in connectors:
        try:
            part = _build_one_connector(connector, created.get(connector), runs, opened)
            taken |= _new_job_names(part, taken)
            parts.append(part)
        except Exception as error:  # noqa: BLE001 - one file must not take down the location
            unfit.append(_file_refused_by_dagster(connector, error))
    for warning in created.warnings:
        dg.get_dagster_logger().warning(warning.as_text())
    return parts, unfit


def _build_one_connector(
    connector: Connector, created_at: datetime, runs: RunSettings, opened: TickInstance
) -> ConnectorDefinitions:
    assets = build_connector_assets(connector, runs)
    plans = build_backfill_plans(connector, created_at, LiveStarts(runs.settings.state_dir))
    twins = [build_backfill_asset(plan, runs) for plan in plans]
    unresolved = [
        build_connector_job(connector, assets),
        *(build_backfill_job(plan, twin) for plan, twin in zip(plans, twins, strict=True)),
    ]
    job, *history_jobs = resolve_jobs([assets, *twins], unresolved)
    scheduled = isinstance(connector.schedule, IntervalSchedule)
    schedule = build_schedule(connector, created_at, job, opened) if scheduled else None
    return ConnectorDefinitions(
        connector=connector,
        created_at=created_at,
        assets=assets,
        job=job,
        schedule=schedule,
        histories=tuple(map(BackfillDefinitions, plans, twins, history_jobs)),
    )


def _new_job_names(part: ConnectorDefinitions, taken: set[str]) -> set[str]:
    """The names of its jobs. Raises `ValueError` for one that another connector's job has.

    The job of a history, `shop__orders_history_job`, may be that of a connector with a strange name.
    """
    names = {job.name for job in part.jobs}
    if names & taken:
        raise ValueError(f"another connector has a job {', '.join(sorted(names & taken))}, too")
    return names


def _file_refused_by_dagster(connector: Connector, error: Exception) -> LoadedFile:
    """A file that our checks let pass and Dagster does not: still only that file's problem."""
    problem = Problem(
        path=connector.path,
        line=1,
        column=1,
        pointer="",
        message=f"Dagster can't make assets of this file: {error}",
        found=None,
        expected=None,
        fix=None,
    )
    return LoadedFile(path=connector.path, connector=None, problems=(problem,))


def build_definitions(
    folder: str | Path | None = None,
    *,
    settings: Settings | None = None,
    observer: "Observer | None" = None,
    job: str | None = None,
) -> dg.Definitions:
    """All connectors of a folder as Dagster definitions, to load or to merge into a project's own.

    `folder` defaults to the setting `RESTSOURCE_CONFIGS`. A file that can't be used becomes an
    asset `broken_configs/<stem>` that says why; nothing raises because of it. Each
    file is parsed once.

    With `job`, no more than a run of that job needs: the assets and jobs of its connector. All, if it is
    none of our jobs.
    """
    require_names()
    settings = settings or Settings()
    path = Path(folder) if folder is not None else settings.configs
    with without_full_gc():
        return _build_from_folder(path, RunSettings(settings, observer), job)


def _build_from_folder(path: Path, runs: RunSettings, job: str | None) -> dg.Definitions:
    opened = TickInstance()
    owns = partial(is_job_of, job=job or "")
    loaded = load_wanted(path, owners_of(job), owns) if job else load_folder(path)
    owners = [*filter(owns, loaded.connectors)]
    if len(owners) == 1:
        return _to_dagster_definitions(build_connector_definitions(owners, runs, opened)[0], [], [])
    parts, unfit = build_connector_definitions(loaded.connectors, runs, opened)
    broken = [*loaded.broken, *unfit]
    webserver = runs.settings.webserver
    sensors = [
        build_killed_runs_sensor(opened),
        build_watch_sensor(path, loaded.fingerprint, webserver=webserver),
        *_build_optional_sensors(parts, broken, opened),
    ]
    return _to_dagster_definitions(parts, broken, sensors)


def _to_dagster_definitions(
    parts: list[ConnectorDefinitions], broken: list[LoadedFile], sensors: list[dg.SensorDefinition]
) -> dg.Definitions:
    return dg.Definitions(
        assets=[
            *(part.assets for part in parts),
            *(history.asset for part in parts for history in part.histories),
            *map(build_broken_asset_spec, broken),
        ],
        jobs=[job for part in parts for job in part.jobs],
        schedules=[part.schedule for part in parts if part.schedule],
        sensors=sensors,
        executor=dg.in_process_executor,
    )


def _build_optional_sensors(
    parts: list[ConnectorDefinitions], broken: list[LoadedFile], opened: TickInstance
) -> Iterable[dg.SensorDefinition]:
    """Those that there are only if they have something to look after."""
    now = datetime.now(UTC)
    if parts:
        yield build_first_run_sensor(
            [(part.connector, part.created_at) for part in parts],
            {part.connector.name: part.job for part in parts},
            now,
            opened=opened,
        )
    histories = [history for part in parts for history in part.histories]
    if any(history.plan.backfill.auto for history in histories):
        yield build_backfill_sensor(
            [history.plan for history in histories],
            {history.plan.job_name: history.job for history in histories},
            now,
            opened=opened,
        )
    if broken:
        yield build_broken_files_sensor(broken)
