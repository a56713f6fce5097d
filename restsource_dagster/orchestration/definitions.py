"""The loader: a folder of connector files to Dagster definitions. It never raises."""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from restsource_dagster.config.files import LoadedFile, load_folder, load_wanted
from restsource_dagster.orchestration.assets import build_broken_asset_spec
from restsource_dagster.orchestration.calm import no_full_collections
from restsource_dagster.orchestration.history.sensor import build_history_sensor
from restsource_dagster.orchestration.instances import TickInstance
from restsource_dagster.orchestration.names import is_job_of, owners_of
from restsource_dagster.orchestration.parts import Part, build_parts
from restsource_dagster.orchestration.processes import build_run_sensor
from restsource_dagster.orchestration.run_settings import RunSettings
from restsource_dagster.orchestration.sensors import (
    build_broken_sensor,
    build_first_run_sensor,
    build_watch_sensor,
)
from restsource_dagster.settings import Settings

if TYPE_CHECKING:  # the engine brings dlt, which only a run may import
    from restsource_dagster.engine.outcome import Observer

__all__ = ["build_definitions"]


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
    settings = settings or Settings()
    path = Path(folder) if folder is not None else settings.configs
    with no_full_collections():
        return _load(path, RunSettings(settings, observer), job)


def _load(path: Path, runs: RunSettings, job: str | None) -> dg.Definitions:
    opened = TickInstance()
    owns = partial(is_job_of, job=job or "")
    loaded = load_wanted(path, owners_of(job), owns) if job else load_folder(path)
    owners = [*filter(owns, loaded.connectors)]
    if len(owners) == 1:
        return _definitions(build_parts(owners, runs, opened)[0], [], [])
    parts, unfit = build_parts(loaded.connectors, runs, opened)
    broken = [*loaded.broken, *unfit]
    webserver = runs.settings.webserver
    sensors = [
        build_run_sensor(opened),
        build_watch_sensor(path, loaded.fingerprint, webserver=webserver),
        *_sensors(parts, broken, opened),
    ]
    return _definitions(parts, broken, sensors)


def _definitions(
    parts: list[Part], broken: list[LoadedFile], sensors: list[dg.SensorDefinition]
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


def _sensors(
    parts: list[Part], broken: list[LoadedFile], opened: TickInstance
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
        yield build_history_sensor(
            [history.plan for history in histories],
            {history.plan.job_name: history.job for history in histories},
            now,
            opened=opened,
        )
    if broken:
        yield build_broken_sensor(broken)
