"""The watcher: a dropped, changed or removed connector file takes effect without a click.

When the watcher reloads: pure rules over what it sees, without a folder, a clock or Dagster.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import dagster as dg

from restsource_dagster.connector.loader import find_connector_files, fingerprint_folder
from restsource_dagster.orchestration.sensors.reload import ReloadResult, reload_location

__all__ = [
    "WATCH_SENSOR",
    "FolderObservation",
    "ReloadError",
    "WatchDecision",
    "WatchState",
    "after_failed_reload",
    "after_reload_request",
    "build_watch_sensor",
    "decide_reload",
]

QUIET_SECONDS = 1.0
"""A folder untouched for so long is taken as it is; an editor or `cp` is done by then."""
MAX_WAIT_SECONDS = 15.0
"""A folder that never gets quiet is read all the same, so that one noisy file can't hold up others."""
RELOAD_BURST = 20
RELOAD_REFILL_SECONDS = 20.0
"""A folder that changes without end is reloaded `BURST` times, then once in so many seconds."""
RELOAD_PATIENCE_SECONDS: Mapping[str, float] = {"code server": 10.0, "webserver": 120.0}
"""How long after asking the old definitions may still be seen: the daemon renews a code server of
its own about once a minute, one that it shares at once."""
CLOCK_SLACK_SECONDS = 1.0
"""By how much the clocks of the daemon and of the code server may differ."""
FIRST_BACKOFF_SECONDS = 15.0
LONGEST_BACKOFF_SECONDS = 600.0


@dataclass(frozen=True)
class FolderObservation:
    """What is seen at one tick; times are seconds since the epoch.

    `fingerprint` is the folder's now, `loaded` the one the definitions were built from, `touched`
    the latest modification of the folder or a file in it, `last_tick` the start of the tick before.
    """

    fingerprint: str
    loaded: str
    touched: float
    now: float
    last_tick: float | None = None


@dataclass(frozen=True)
class WatchState:
    """The sensor cursor: what one tick leaves to the next. A few hundred bytes at most.

    `seen` and `since`: the fingerprint at the last look, and when the folder was first seen to
    differ. `credit`, `credit_at`: reloads that may be asked for at once, and when that was counted.
    `asked_from`, `asked_at`, `patience`: a reload that isn't seen to have worked yet. `failures`, `failed_at`, `failure`, `retry_at`: reloads
    that failed in a row.
    """

    seen: str = ""
    since: float | None = None
    credit: float = RELOAD_BURST
    credit_at: float = 0.0
    asked_from: str | None = None
    asked_at: float = 0.0
    patience: float = 0.0
    failures: int = 0
    failed_at: float = 0.0
    failure: str = ""
    retry_at: float = 0.0
    version: int = field(default=1)

    def as_text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str | None) -> "WatchState":
        """The state of a cursor; a fresh one if there is none or it isn't ours."""
        try:
            value: Any = json.loads(text or "{}")
            if not isinstance(value, dict) or value.get("version") != 1:
                return cls()
            state = cls(**value)
        except (ValueError, TypeError):
            return cls()
        return state if _is_valid_state(state) else cls()


@dataclass(frozen=True)
class WatchDecision:
    """What to do at this tick: `rest` with a reason, `reload`, or `fail` with a text to show."""

    action: Literal["rest", "reload", "fail"]
    state: WatchState
    text: str = ""


def decide_reload(state: WatchState, look: FolderObservation) -> WatchDecision:
    """What to do at a tick. The returned state is to be kept unless the tick fails."""
    if look.fingerprint == look.loaded:
        return WatchDecision("rest", _after_reload(state, look), "No file changed.")
    state = replace(state, since=look.now if state.since is None else state.since)
    if state.asked_from is not None and state.asked_from != look.loaded:
        # The reload worked: other definitions are here. The folder has changed since.
        state = replace(_after_reload(state, look), seen=state.seen, since=look.now)
    if state.failures and (
        look.last_tick is None or look.last_tick <= state.failed_at + CLOCK_SLACK_SECONDS
    ):
        return WatchDecision("fail", state, state.failure)
    return _decide_changed_folder(state, look)


def _decide_changed_folder(state: WatchState, look: FolderObservation) -> WatchDecision:
    if state.asked_from is not None:
        waited = look.now - state.asked_at
        if 0 <= waited < state.patience:
            return _wait(state, look, "A reload was asked for; waiting for the new definitions.")
        text = _no_effect_text(waited)
        return _wait(after_failed_reload(state, look, text, look.now), look, text)
    wait = state.retry_at - look.now
    if 0 < wait <= LONGEST_BACKOFF_SECONDS:
        return _wait(state, look, f"Next try in {wait:.0f} s. {state.failure}")
    if not _is_quiet(state, look):
        return _wait(state, look, "A file is being written; waiting until it is complete.")
    credit = _reload_credit(state, look)
    if credit < 1:
        wait = (1 - credit) * RELOAD_REFILL_SECONDS
        return _wait(
            state, look, f"The files change all the time; the next reload is in {wait:.0f} s."
        )
    return WatchDecision("reload", replace(state, seen=look.fingerprint))


def after_reload_request(
    state: WatchState, look: FolderObservation, via: str | None, now: float
) -> WatchState:
    """The state after a reload was asked for and nobody refused, at `now`."""
    return replace(
        state,
        credit=_reload_credit(state, look) - 1,
        credit_at=look.now,
        asked_from=look.loaded,
        asked_at=now,
        patience=RELOAD_PATIENCE_SECONDS.get(via or "", max(RELOAD_PATIENCE_SECONDS.values())),
        since=None,
    )


def after_failed_reload(
    state: WatchState, look: FolderObservation, text: str, now: float
) -> WatchState:
    """The state after a reload failed at `now`.

    The next tick shows it: `failed_at` is the start of this one, by which the next one knows that
    it is the next. The next try comes later each time.
    """
    backoff = min(FIRST_BACKOFF_SECONDS * 2.0 ** min(state.failures, 10), LONGEST_BACKOFF_SECONDS)
    return replace(
        state,
        asked_from=None,
        failures=state.failures + 1,
        failed_at=look.now,
        failure=text[:1000],
        retry_at=now + backoff,
    )


def _wait(state: WatchState, look: FolderObservation, text: str) -> WatchDecision:
    return WatchDecision("rest", replace(state, seen=look.fingerprint), text)


def _is_quiet(state: WatchState, look: FolderObservation) -> bool:
    if look.fingerprint == state.seen or look.now - look.touched >= QUIET_SECONDS:
        return True
    return state.since is not None and look.now - state.since >= MAX_WAIT_SECONDS


def _reload_credit(state: WatchState, look: FolderObservation) -> float:
    """Reloads that may be asked for now; all of them if the clock was set back meanwhile."""
    elapsed = look.now - state.credit_at
    return (
        min(state.credit + elapsed / RELOAD_REFILL_SECONDS, RELOAD_BURST)
        if elapsed >= 0
        else RELOAD_BURST
    )


def _after_reload(state: WatchState, look: FolderObservation) -> WatchState:
    """The state when the definitions are those of the files: only the credit outlives that."""
    if state.credit >= RELOAD_BURST:
        return WatchState()
    return WatchState(credit=_reload_credit(state, look), credit_at=look.now)


def _is_valid_state(state: WatchState) -> bool:
    numbers = (
        state.credit,
        state.credit_at,
        state.asked_at,
        state.patience,
        state.failures,
        state.failed_at,
        state.retry_at,
        state.since or 0.0,
    )
    texts = (state.seen, state.failure, state.asked_from or "")
    return all(isinstance(n, int | float) for n in numbers) and all(
        isinstance(t, str) for t in texts
    )


def _no_effect_text(waited: float) -> str:
    return (
        f"The code location was asked to reload {max(waited, 0.0):.0f} s ago, but still serves definitions "
        "built from older connector files. A code server started with `dagster api grpc` can't "
        "reload: use `dagster dev` or `dagster code-server start`, or restart it. If loading is "
        "just slow, the next try finds it done."
    )


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
        look = FolderObservation(
            fingerprint=fingerprint_folder(folder),
            loaded=loaded_fingerprint,
            touched=_last_modified(folder),
            now=clock(),
            last_tick=context.last_tick_completion_time,
        )
        decision = decide_reload(WatchState.read(context.cursor), look)
        state, text = decision.state, decision.text
        if decision.action == "fail":
            raise ReloadError(text)
        if decision.action == "reload":
            result = ask(context)
            text = result.detail
            if result.outcome == "asked":
                state = after_reload_request(state, look, result.via, clock())
            elif result.outcome == "failed":
                state = after_failed_reload(state, look, text, clock())
        context.update_cursor(state.as_text())
        return dg.SkipReason(text)

    return watch


def _last_modified(folder: Path) -> float:
    """When the folder or a connector file in it was last modified; what can't be read is left out."""
    times = [0.0]
    for path in (folder, *find_connector_files(folder)):
        try:
            times.append(path.stat().st_mtime)
        except OSError:  # removed since it was listed; the fingerprint tells
            continue
    return max(times)
