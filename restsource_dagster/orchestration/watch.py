"""The watcher: a dropped, changed or removed connector file takes effect without a click."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import dagster as dg

from restsource_dagster.config.files import find_files, fingerprint
from restsource_dagster.orchestration.reload import ReloadResult, reload_location
from restsource_dagster.orchestration.watch_rules import Look, WatchState, asked, decide, failed

__all__ = ["WATCH_SENSOR", "ReloadError", "build_watch_sensor"]

WATCH_SENSOR = "restsource_watch"

INTERVAL_SECONDS = 3
"""Below the daemon's own five seconds between looks, so that it never leaves out every second one."""


class ReloadError(Exception):
    """The connector files changed, but the code location could not be reloaded."""


def build_watch_sensor(
    folder: Path,
    loaded_fingerprint: str,
    *,
    webserver: str | None = None,
    reload: Callable[[dg.SensorEvaluationContext], ReloadResult] | None = None,
    clock: Callable[[], float] = time.time,
) -> dg.SensorDefinition:
    """A sensor that reloads the code location when `folder` isn't what the definitions are built from.

    `loaded_fingerprint` is `fingerprint(folder)` taken *before* the loader read the files: a file
    that changes while they are read is then noticed. `webserver` is Dagster's address, needed only
    where it can't be reloaded otherwise (see `reload_location`).

    A folder is taken when nothing in it was touched for a second or two looks saw the same, so that
    a file half written is left alone. A reload that fails, or shows no effect, is a skip with the
    reason, then a failed tick with the reason, then a longer pause each time (15 s up to 10 min);
    a folder that never stops changing is reloaded every 20 s. See `watch_rules`.
    """
    ask = reload or partial(reload_location, webserver=webserver)

    @dg.sensor(
        name=WATCH_SENSOR,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reloads this code location when a connector file is added, changed or removed.",
    )
    def watch(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        look = Look(
            fingerprint=fingerprint(folder),
            loaded=loaded_fingerprint,
            touched=_touched(folder),
            now=clock(),
            last_tick=context.last_tick_completion_time,
        )
        decision = decide(WatchState.read(context.cursor), look)
        state, text = decision.state, decision.text
        if decision.action == "fail":
            raise ReloadError(text)
        if decision.action == "reload":
            result = ask(context)
            text = result.detail
            if result.outcome == "asked":
                state = asked(state, look, result.via, clock())
            elif result.outcome == "failed":
                state = failed(state, look, text, clock())
        context.update_cursor(state.as_text())
        return dg.SkipReason(text)

    return watch


def _touched(folder: Path) -> float:
    """When the folder or a connector file in it was last modified; what can't be read is left out."""
    times = [0.0]
    for path in (folder, *find_files(folder)):
        try:
            times.append(path.stat().st_mtime)
        except OSError:  # removed since it was listed; the fingerprint tells
            continue
    return max(times)
