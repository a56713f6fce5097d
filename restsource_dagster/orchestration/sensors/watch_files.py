"""The sensor that watches the folder: a new, changed or removed connector file takes effect without a click.

It reloads the code location when the folder differs from what the definitions were built from. The rules for when
it does (`decide_reload`) are pure functions of what is observed, so tests need no folder and no clock.
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

WATCH_SENSOR = "restsource_watch"
INTERVAL_SECONDS = 3
"""Shorter than the five seconds between the daemon's rounds, so that each round has a tick."""
QUIET_SECONDS = 1.0
"""A folder without changes for so long is taken as complete: an editor or `cp` has finished by then."""
MAX_WAIT_SECONDS = 15.0
"""A folder that keeps changing is loaded after so long, so that one busy file doesn't hold up others."""
RELOAD_BURST = 20
RELOAD_REFILL_SECONDS = 20.0
"""A folder that never stops changing is reloaded `RELOAD_BURST` times, then once in so many seconds."""
RELOAD_PATIENCE_SECONDS: Mapping[str, float] = {"code server": 10.0, "webserver": 120.0}
"""How long after a request the old definitions may still be seen. The daemon renews its own code server
about once a minute, and sees a shared one at once."""
CLOCK_SLACK_SECONDS = 1.0
"""How far the clocks of the daemon and of the code server may differ."""
FIRST_BACKOFF_SECONDS = 15.0
LONGEST_BACKOFF_SECONDS = 600.0


class ReloadError(Exception):
    """The connector files changed, but the code location could not be reloaded."""


@dataclass(frozen=True)
class FolderObservation:
    """What one tick observes. Times are seconds since the epoch."""

    fingerprint: str
    """The folder's fingerprint now."""
    loaded_fingerprint: str
    """The fingerprint that the definitions were built from."""
    modified_at: float
    """The latest modification of the folder or of a file in it."""
    now: float
    last_tick: float | None = None
    """When the tick before started."""


@dataclass(frozen=True)
class WatchState:
    """The sensor cursor, which one tick leaves to the next: a few hundred bytes.

    The names of the fields are those of the stored JSON.
    """

    seen: str = ""
    """The fingerprint at the last tick."""
    since: float | None = None
    """When the folder was first seen to differ."""
    credit: float = RELOAD_BURST
    """How many reloads may be requested at once, counted at `credit_at`."""
    credit_at: float = 0.0
    asked_from: str | None = None
    """The definitions' fingerprint at a reload that was requested and has shown no effect yet."""
    asked_at: float = 0.0
    patience: float = 0.0
    """How many seconds that reload may take."""
    failures: int = 0
    """Failed reloads in a row; the last one at `failed_at`, for the reason `failure`."""
    failed_at: float = 0.0
    failure: str = ""
    retry_at: float = 0.0
    version: int = field(default=1)

    def as_text(self) -> str:
        """Return the state as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str | None) -> "WatchState":
        """Return the state of a cursor; an initial one if there is none or it isn't ours."""
        try:
            value: Any = json.loads(text or "{}")
            if not isinstance(value, dict) or value.get("version") != 1:
                return cls()
            # A field that this version doesn't know is a TypeError, and the state starts anew.
            state = cls(**value)
        except (ValueError, TypeError):
            return cls()
        return state if _is_valid_state(state) else cls()


@dataclass(frozen=True)
class WatchDecision:
    """What a tick does: `rest` with a reason, `reload`, or `fail` with a text for the UI."""

    action: Literal["rest", "reload", "fail"]
    state: WatchState
    text: str = ""


def decide_reload(state: WatchState, observed: FolderObservation) -> WatchDecision:
    """Decide what a tick does. The returned state is stored unless the tick fails."""
    if observed.fingerprint == observed.loaded_fingerprint:
        return WatchDecision("rest", _after_reload(state, observed), "No file changed.")
    state = replace(state, since=observed.now if state.since is None else state.since)
    if state.asked_from is not None and state.asked_from != observed.loaded_fingerprint:
        # The reload worked, as the definitions are other ones. The folder has changed since.
        state = replace(_after_reload(state, observed), seen=state.seen, since=observed.now)
    # The tick after a failed reload fails, too: a failed tick is red in the UI, a skipped one is not.
    if state.failures and (
        observed.last_tick is None or observed.last_tick <= state.failed_at + CLOCK_SLACK_SECONDS
    ):
        return WatchDecision("fail", state, state.failure)
    return _decide_changed_folder(state, observed)


def _decide_changed_folder(state: WatchState, observed: FolderObservation) -> WatchDecision:
    if state.asked_from is not None:
        waited = observed.now - state.asked_at
        # A negative time means that the clock was set back: the reload counts as overdue.
        if 0 <= waited < state.patience:
            return _wait(
                state, observed, "A reload was requested; waiting for the new definitions."
            )
        text = _no_effect_text(waited)
        return _wait(after_failed_reload(state, observed, text, observed.now), observed, text)
    wait = state.retry_at - observed.now
    # A longer wait than the longest means that the clock was set back.
    if 0 < wait <= LONGEST_BACKOFF_SECONDS:
        return _wait(state, observed, f"Next try in {wait:.0f} s. {state.failure}")
    if not _is_quiet(state, observed):
        return _wait(state, observed, "A file is being written; waiting until it is complete.")
    credit = _reload_credit(state, observed)
    if credit < 1:
        wait = (1 - credit) * RELOAD_REFILL_SECONDS
        text = f"The files keep changing; the next reload is in {wait:.0f} s."
        return _wait(state, observed, text)
    return WatchDecision("reload", replace(state, seen=observed.fingerprint))


def after_reload_request(
    state: WatchState, observed: FolderObservation, via: str | None, now: float
) -> WatchState:
    """Return the state after a reload was requested, and not refused, at `now`."""
    return replace(
        state,
        credit=_reload_credit(state, observed) - 1,
        credit_at=observed.now,
        asked_from=observed.loaded_fingerprint,
        asked_at=now,
        patience=RELOAD_PATIENCE_SECONDS.get(via or "", max(RELOAD_PATIENCE_SECONDS.values())),
        since=None,
    )


def after_failed_reload(
    state: WatchState, observed: FolderObservation, text: str, now: float
) -> WatchState:
    """Return the state after a reload failed at `now`. Each failure doubles the time to the next try."""
    backoff = min(FIRST_BACKOFF_SECONDS * 2.0 ** min(state.failures, 10), LONGEST_BACKOFF_SECONDS)
    return replace(
        state,
        asked_from=None,
        failures=state.failures + 1,
        # The start of this tick: by it the next tick knows that it is the next, and fails.
        failed_at=observed.now,
        # The cursor is stored with every tick.
        failure=text[:1000],
        retry_at=now + backoff,
    )


def _wait(state: WatchState, observed: FolderObservation, text: str) -> WatchDecision:
    return WatchDecision("rest", replace(state, seen=observed.fingerprint), text)


def _is_quiet(state: WatchState, observed: FolderObservation) -> bool:
    """True if no file is being written, or one has been for too long to wait."""
    if observed.fingerprint == state.seen or observed.now - observed.modified_at >= QUIET_SECONDS:
        return True
    return state.since is not None and observed.now - state.since >= MAX_WAIT_SECONDS


def _reload_credit(state: WatchState, observed: FolderObservation) -> float:
    """Return how many reloads may be requested now; all of them if the clock was set back."""
    elapsed = observed.now - state.credit_at
    if elapsed < 0:
        return RELOAD_BURST
    return min(state.credit + elapsed / RELOAD_REFILL_SECONDS, RELOAD_BURST)


def _after_reload(state: WatchState, observed: FolderObservation) -> WatchState:
    """Return the state when the definitions match the files: an initial one, with the credit kept."""
    # A quiet folder always has the same state.
    if state.credit >= RELOAD_BURST:
        return WatchState()
    return WatchState(credit=_reload_credit(state, observed), credit_at=observed.now)


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
        f"A reload was requested {max(waited, 0.0):.0f} s ago, but the code location still serves definitions "
        "built from older connector files. A code server started with `dagster api grpc` can't "
        "reload: use `dagster dev` or `dagster code-server start`, or restart it. If loading is "
        "just slow, the next try finds it done."
    )


def build_watch_sensor(
    folder: Path,
    loaded_fingerprint: str,
    *,
    webserver: str | None = None,
    reload: Callable[[dg.SensorEvaluationContext], ReloadResult] | None = None,
    clock: Callable[[], float] = time.time,
) -> dg.SensorDefinition:
    """Return a sensor that reloads the code location when `folder` changes.

    `loaded_fingerprint` is `fingerprint_folder(folder)` from *before* the loader read the files, so a file
    that changes while they are read is noticed. `webserver` is Dagster's address, needed only if there is no
    other way to reload (see `reload_location`).

    The sensor waits until nothing in the folder was modified for a second, or two ticks saw the same, so it
    doesn't load a file that is half written. A reload that fails or has no effect is a skip with the reason,
    then a failed tick with the reason, then a pause that grows from 15 s to 10 min. A folder that never
    stops changing is reloaded every 20 s.
    """
    watcher = _FolderWatcher(
        folder, loaded_fingerprint, reload or partial(reload_location, webserver=webserver), clock
    )

    @dg.sensor(
        name=WATCH_SENSOR,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reloads this code location when a connector file is added, changed or removed.",
    )
    def watch(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        return watcher.tick(context)

    return watch


@dataclass(frozen=True)
class _FolderWatcher:
    folder: Path
    loaded_fingerprint: str
    request_reload: Callable[[dg.SensorEvaluationContext], ReloadResult]
    clock: Callable[[], float]

    def tick(self, context: dg.SensorEvaluationContext) -> dg.SkipReason:
        """Reload if the rules say so. Raises `ReloadError` after a failed reload."""
        observed = self._observe(context)
        decision = decide_reload(WatchState.read(context.cursor), observed)
        # A failed tick stores no cursor, which is right: the state must not change.
        if decision.action == "fail":
            raise ReloadError(decision.text)
        state, text = decision.state, decision.text
        if decision.action == "reload":
            result = self.request_reload(context)
            state, text = _after_result(state, observed, result, self.clock()), result.detail
        # A reload replaces this code server's definitions, but this tick goes to its end.
        context.update_cursor(state.as_text())
        return dg.SkipReason(text)

    def _observe(self, context: dg.SensorEvaluationContext) -> FolderObservation:
        return FolderObservation(
            fingerprint=fingerprint_folder(self.folder),
            loaded_fingerprint=self.loaded_fingerprint,
            modified_at=_last_modified(self.folder),
            now=self.clock(),
            last_tick=context.last_tick_completion_time,
        )


def _after_result(
    state: WatchState, observed: FolderObservation, result: ReloadResult, now: float
) -> WatchState:
    if result.outcome == "asked":
        return after_reload_request(state, observed, result.via, now)
    if result.outcome == "failed":
        return after_failed_reload(state, observed, result.detail, now)
    return state


def _last_modified(folder: Path) -> float:
    """Return when the folder or a connector file in it was last modified."""
    times = [0.0]
    for path in (folder, *find_connector_files(folder)):
        try:
            times.append(path.stat().st_mtime)
        except OSError:  # removed since it was listed; the fingerprint will differ
            continue
    return max(times)
