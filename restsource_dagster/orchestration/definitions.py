"""The loader: a folder of connector files to Dagster definitions. It never raises."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from restsource_dagster.config.connector import Connector, IntervalSchedule
from restsource_dagster.config.files import Folder, LoadedFile, load_folder
from restsource_dagster.config.parse_cache import ParseCache
from restsource_dagster.config.problems import Problem
from restsource_dagster.orchestration.assets import (
    build_broken_asset_spec,
    build_connector_assets,
    build_connector_job,
)
from restsource_dagster.orchestration.calm import no_full_collections
from restsource_dagster.orchestration.created import CreationTimes
from restsource_dagster.orchestration.history.assets import (
    build_history_asset,
    build_history_job,
)
from restsource_dagster.orchestration.history.live_starts import LiveStarts
from restsource_dagster.orchestration.history.plans import HistoryPlan, histories_of
from restsource_dagster.orchestration.history.sensor import build_history_sensor
from restsource_dagster.orchestration.names import is_job_of
from restsource_dagster.orchestration.processes import build_run_sensor
from restsource_dagster.orchestration.run_settings import RunSettings
from restsource_dagster.orchestration.schedules import build_schedule
from restsource_dagster.orchestration.sensors import (
    build_broken_sensor,
    build_first_run_sensor,
    build_watch_sensor,
)
from restsource_dagster.settings import Settings

if TYPE_CHECKING:  # the engine brings dlt, which only a run may import
    from restsource_dagster.engine.outcome import Observer

__all__ = ["build_definitions"]


@dataclass(frozen=True)
class _Part:
    """The definitions of one connector."""

    connector: Connector
    created_at: datetime
    assets: dg.AssetsDefinition
    job: dg.JobDefinition
    schedule: dg.ScheduleDefinition | None
    histories: tuple["_History", ...]

    @property
    def jobs(self) -> list[dg.JobDefinition]:
        """All its jobs."""
        return [self.job, *(history.job for history in self.histories)]


@dataclass(frozen=True)
class _History:
    """The definitions of one resource's history."""

    plan: HistoryPlan
    asset: dg.AssetsDefinition
    job: dg.JobDefinition


def build_definitions(
    folder: str | Path | None = None,
    *,
    settings: Settings | None = None,
    observer: "Observer | None" = None,
    job: str | None = None,
) -> dg.Definitions:
    """All connectors of a folder as Dagster definitions, to load or to merge into a project's own.

    `folder` defaults to the setting `RESTSOURCE_CONFIGS`. A file that can't be used becomes an
    asset `broken_configs/<stem>` that says why; nothing raises because of it. Files that were not
    changed since an earlier load aren't parsed again.

    With `job`, no more than a run of that job needs: the assets and jobs of its connector. All, if it is
    none of our jobs.
    """
    settings = settings or Settings()
    path = Path(folder) if folder is not None else settings.configs
    with no_full_collections():
        return _load(path, RunSettings(settings, observer), job)


def _load(path: Path, runs: RunSettings, job: str | None) -> dg.Definitions:
    cache = ParseCache(runs.settings.state_dir, path)
    loaded = load_folder(path, cache)
    owners = [each for each in loaded.connectors if is_job_of(each, job)] if job else []
    if len(owners) == 1:
        return _definitions(_build_parts(owners, runs)[0], [], [])
    parts, unfit = _build_parts(loaded.connectors, runs)
    broken = [*loaded.broken, *unfit]
    sensors = [*_sensors(path, loaded, parts, broken, runs.settings)]
    cache.release()
    return _definitions(parts, broken, sensors)


def _definitions(
    parts: list[_Part], broken: list[LoadedFile], sensors: list[dg.SensorDefinition]
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


def _build_parts(
    connectors: Iterable[Connector], runs: RunSettings
) -> tuple[list[_Part], list[LoadedFile]]:
    created = CreationTimes(runs.settings.state_dir)
    parts: list[_Part] = []
    unfit: list[LoadedFile] = []
    taken: set[str] = set()
    for connector in connectors:
        try:
            part = _build_part(connector, created.get(connector), runs)
            taken |= _new_names(part, taken)
            parts.append(part)
        except Exception as error:  # noqa: BLE001 - one file must not take down the location
            unfit.append(_unfit(connector, error))
    for warning in created.warnings:
        dg.get_dagster_logger().warning(warning.as_text())
    return parts, unfit


def _build_part(connector: Connector, created_at: datetime, runs: RunSettings) -> _Part:
    assets = build_connector_assets(connector, runs)
    plans = histories_of(connector, created_at, LiveStarts(runs.settings.state_dir))
    twins = [build_history_asset(plan, runs) for plan in plans]
    unresolved = [
        build_connector_job(connector, assets),
        *(build_history_job(plan, twin) for plan, twin in zip(plans, twins, strict=True)),
    ]
    job, *history_jobs = _resolve([assets, *twins], unresolved)
    scheduled = isinstance(connector.schedule, IntervalSchedule)
    return _Part(
        connector=connector,
        created_at=created_at,
        assets=assets,
        job=job,
        schedule=build_schedule(connector, created_at, job) if scheduled else None,
        histories=tuple(map(_History, plans, twins, history_jobs)),
    )


def _resolve(assets: list[dg.AssetsDefinition], jobs: list[Any]) -> list[dg.JobDefinition]:
    """The jobs of one connector, made among its assets alone.

    Left to the code location, each job would be looked for among the assets of all connectors: with a
    thousand of them, Dagster needs a million looks.
    """
    alone = dg.Definitions(assets=assets, jobs=jobs, executor=dg.in_process_executor)
    return [alone.resolve_job_def(job.name) for job in jobs]


def _new_names(part: _Part, taken: set[str]) -> set[str]:
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


def _sensors(
    path: Path,
    loaded: Folder,
    parts: list[_Part],
    broken: list[LoadedFile],
    settings: Settings,
) -> Iterable[dg.SensorDefinition]:
    yield build_run_sensor()
    yield build_watch_sensor(path, loaded.fingerprint, webserver=settings.webserver)
    if parts:
        yield build_first_run_sensor(
            [(part.connector, part.created_at) for part in parts],
            {part.connector.name: part.job for part in parts},
            datetime.now(UTC),
        )
    histories = [history for part in parts for history in part.histories]
    if any(history.plan.backfill.auto for history in histories):
        yield build_history_sensor(
            [history.plan for history in histories],
            {history.plan.job_name: history.job for history in histories},
            datetime.now(UTC),
        )
    if broken:
        yield build_broken_sensor(broken)
