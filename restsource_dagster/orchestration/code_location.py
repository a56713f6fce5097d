"""A folder of connector files as Dagster definitions: `build_definitions`.

Each connector's definitions are built alone, so a file that Dagster rejects affects only itself.
"""

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from restsource_dagster.connector.loader import LoadedFile, load_file, load_folder, load_wanted
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
from restsource_dagster.orchestration.backfills.backfill_status import (
    BACKFILL_SENSOR,
    build_backfill_sensor,
)
from restsource_dagster.orchestration.dagster_compat import require_names, resolve_jobs
from restsource_dagster.orchestration.host_options import HostOptions
from restsource_dagster.orchestration.instance import TickInstance
from restsource_dagster.orchestration.names import is_job_of, possible_connectors
from restsource_dagster.orchestration.run_config import RunSettings
from restsource_dagster.orchestration.schedules.slot_schedule import build_schedule
from restsource_dagster.orchestration.sensors.first_run import (
    FIRST_RUN_SENSOR,
    build_first_run_sensor,
)
from restsource_dagster.orchestration.sensors.killed_runs import (
    KILLED_RUNS_SENSOR,
    build_killed_runs_sensor,
)
from restsource_dagster.orchestration.sensors.watch_files import (
    BROKEN_FILES_SENSOR,
    WATCH_SENSOR,
    build_broken_files_sensor,
    build_watch_sensor,
)
from restsource_dagster.orchestration.state_files import CreationTimes, LiveStarts
from restsource_dagster.settings import Settings
from restsource_dagster.state.state_errors import StateError
from restsource_dagster.state.store import open_state

if TYPE_CHECKING:  # the engine brings dlt, which only a run may import
    from restsource_dagster.engine.run_progress import Observer

__all__ = [
    "BackfillDefinitions",
    "ConnectorDefinitions",
    "build_connector_definitions",
    "build_definitions",
    "build_from_files",
    "without_full_gc",
]

_NO_FULL_COLLECTION = 1_000_000


@contextmanager
def without_full_gc() -> Iterator[None]:
    """Collect garbage among young objects only.

    While a thousand connectors become definitions, Python scans all objects of the process about ten times
    and frees nothing: a quarter of the loading time.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(*thresholds[:2], _NO_FULL_COLLECTION)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


@dataclass(frozen=True)
class BackfillDefinitions:
    """The definitions of one resource's backfill."""

    plan: BackfillPlan
    asset: dg.AssetsDefinition
    job: dg.JobDefinition


@dataclass(frozen=True)
class ConnectorDefinitions:
    """The definitions of one connector. A connector that is started by hand has no schedule."""

    connector: Connector
    created_at: datetime
    assets: dg.AssetsDefinition
    job: dg.JobDefinition
    schedule: dg.ScheduleDefinition | None
    backfills: tuple[BackfillDefinitions, ...]

    @property
    def jobs(self) -> list[dg.JobDefinition]:
        """The connector's own job and those of its backfills."""
        return [self.job, *(backfill.job for backfill in self.backfills)]


def build_connector_definitions(
    connectors: Iterable[Connector], runs: RunSettings, tick_instance: TickInstance
) -> tuple[list[ConnectorDefinitions], list[LoadedFile]]:
    """Return the definitions of these connectors, and the files that Dagster rejects.

    Their schedules share `tick_instance`.
    """
    state = open_state(runs.settings)
    creation_times = CreationTimes(state)
    built: list[ConnectorDefinitions] = []
    rejected: list[LoadedFile] = []
    job_names: set[str] = set()
    for connector in connectors:
        # The checks of connector files cover what Dagster refuses today. A newer one may refuse more.
        try:
            created_at = creation_times.get(connector)
            definitions = _build_one_connector(
                connector, created_at, runs, tick_instance, LiveStarts(state)
            )
            job_names |= _new_job_names(definitions, job_names)
            built.append(definitions)
        except StateError:  # with none of its state no connector would be right
            raise
        except Exception as error:  # noqa: BLE001 - one file must not take down the location
            rejected.append(_rejected_file(connector, error))
    # Not an error: the times are usable, and a person can fix the state folder.
    for warning in creation_times.warnings:
        dg.get_dagster_logger().warning(warning.as_text())
    return built, rejected


def _build_one_connector(
    connector: Connector,
    created_at: datetime,
    runs: RunSettings,
    tick_instance: TickInstance,
    live_starts: LiveStarts,
) -> ConnectorDefinitions:
    assets = build_connector_assets(connector, runs)
    # Loading the definitions records where the live streams begin, before any run does.
    plans = build_backfill_plans(connector, created_at, live_starts)
    backfill_assets = [build_backfill_asset(plan, runs) for plan in plans]
    unresolved = [
        build_connector_job(connector, assets),
        *(build_backfill_job(*pair) for pair in zip(plans, backfill_assets, strict=True)),
    ]
    job, *backfill_jobs = resolve_jobs([assets, *backfill_assets], unresolved)
    has_schedule = isinstance(connector.schedule, IntervalSchedule)
    return ConnectorDefinitions(
        connector=connector,
        created_at=created_at,
        assets=assets,
        job=job,
        schedule=build_schedule(connector, created_at, job, tick_instance)
        if has_schedule
        else None,
        backfills=tuple(map(BackfillDefinitions, plans, backfill_assets, backfill_jobs)),
    )


def _new_job_names(definitions: ConnectorDefinitions, taken: set[str]) -> set[str]:
    """Return the names of a connector's jobs. Raise `ValueError` if another connector has one of them.

    The job `shop__orders_history_job` of a backfill may also be that of a connector
    `shop__orders_history`.
    """
    names = {job.name for job in definitions.jobs}
    # Dagster would reject the whole code location for it.
    if names & taken:
        raise ValueError(f"another connector has a job {', '.join(sorted(names & taken))}, too")
    return names


def _rejected_file(connector: Connector, error: Exception) -> LoadedFile:
    """Return the valid file of a connector that Dagster rejects, as a file with a problem."""
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
    prefix: str = "",
    host: HostOptions | None = None,
) -> dg.Definitions:
    """Return all connectors of a folder as Dagster definitions, to load or to merge into a project.

    `folder` defaults to the setting `RESTSOURCE_CONFIGS`; it may be one file, too. A broken file becomes an
    asset `broken_configs/<stem>` that shows its problems; it raises nothing. Each file is parsed once.

    No executor is set for the project. Our jobs run in one process: each is one step. With several folders
    in one code location give each a `prefix` for the names of its sensors; `host` has more of what a project
    may change.

    With `job`, only what a run of that job needs: the assets and jobs of its connector. If it is none of
    our jobs, everything. Raises `UnsupportedDagsterError` if Dagster lacks a name that all runs need.
    """
    require_names()
    settings = settings or Settings()
    path = Path(folder) if folder is not None else settings.configs
    runs = RunSettings(settings, observer, host or HostOptions(prefix))
    with without_full_gc():
        if path.is_file():
            return build_from_files([load_file(path)], runs)
        return _build_from_folder(path, runs, job)


def build_from_files(files: Sequence[LoadedFile], runs: RunSettings) -> dg.Definitions:
    """Return the definitions of loaded files. No sensor watches them: they change with the project."""
    tick_instance = TickInstance()
    connectors = [file.connector for file in files if file.connector is not None]
    built, rejected = build_connector_definitions(connectors, runs, tick_instance)
    broken = [*(file for file in files if file.connector is None), *rejected]
    sensors = _build_common_sensors(built, broken, runs.host, tick_instance)
    return _to_dagster_definitions(built, broken, [*sensors], runs.host)


def _build_from_folder(path: Path, runs: RunSettings, job: str | None) -> dg.Definitions:
    tick_instance = TickInstance()
    has_job = partial(is_job_of, job=job or "")
    loaded = load_wanted(path, possible_connectors(job), has_job) if job else load_folder(path)
    owners = [*filter(has_job, loaded.connectors)]
    # Two connectors may claim a job. Then all definitions are built, as the code server built them.
    if len(owners) == 1:
        built, _ = build_connector_definitions(owners, runs, tick_instance)
        return _to_dagster_definitions(built, [], [], runs.host)
    built, rejected = build_connector_definitions(loaded.connectors, runs, tick_instance)
    broken = [*loaded.broken, *rejected]
    # The watcher is there even for an empty folder: it notices the first file.
    webserver, name = runs.settings.webserver, runs.host.prefixed(WATCH_SENSOR)
    sensors = [
        build_watch_sensor(path, loaded.fingerprint, webserver=webserver, name=name),
        *_build_common_sensors(built, broken, runs.host, tick_instance),
    ]
    return _to_dagster_definitions(built, broken, sensors, runs.host)


def _to_dagster_definitions(
    connectors: list[ConnectorDefinitions],
    broken: list[LoadedFile],
    sensors: list[dg.SensorDefinition],
    host: HostOptions,
) -> dg.Definitions:
    backfills = [backfill for each in connectors for backfill in each.backfills]
    return dg.Definitions(
        assets=[
            *(each.assets for each in connectors),
            *(backfill.asset for backfill in backfills),
            *(build_broken_asset_spec(each, host) for each in broken),
        ],
        jobs=[job for each in connectors for job in each.jobs],
        schedules=[each.schedule for each in connectors if each.schedule],
        # No executor: it would be that of all jobs of the project that these are merged into.
        sensors=sensors,
    )


def _build_common_sensors(
    connectors: list[ConnectorDefinitions],
    broken: list[LoadedFile],
    host: HostOptions,
    tick_instance: TickInstance,
) -> Iterable[dg.SensorDefinition]:
    """Yield the sensors that have something to do for these connectors."""
    now = datetime.now(UTC)
    yield build_killed_runs_sensor(tick_instance, host.prefixed(KILLED_RUNS_SENSOR))
    if connectors:
        yield build_first_run_sensor(
            [(each.connector, each.created_at) for each in connectors],
            {each.connector.name: each.job for each in connectors},
            now,
            tick_instance=tick_instance,
            name=host.prefixed(FIRST_RUN_SENSOR),
        )
    backfills = [backfill for each in connectors for backfill in each.backfills]
    if any(backfill.plan.backfill.auto for backfill in backfills):
        yield build_backfill_sensor(
            [backfill.plan for backfill in backfills],
            {backfill.plan.job_name: backfill.job for backfill in backfills},
            now,
            tick_instance=tick_instance,
            name=host.prefixed(BACKFILL_SENSOR),
        )
    if broken:
        yield build_broken_files_sensor(broken, host.prefixed(BROKEN_FILES_SENSOR))
