"""The sensors for connector files: one reloads the code location when a file changes, one shows broken files.

The code location is reloaded when the folder differs from what the definitions were built from. The rules for
when (`decide_reload`) are pure functions of what is observed, so tests need no folder and no clock.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import dagster as dg

from restsource_dagster.connector.loader import LoadedFile, find_watched_files, fingerprint_folder
from restsource_dagster.orchestration.dagster_compat import code_location_of

__all__ = [
    "BROKEN_FILES_SENSOR",
    "RELOAD_TIMEOUT_SECONDS",
    "WATCH_SENSOR",
    "BrokenFilesError",
    "FolderObservation",
    "ReloadError",
    "ReloadResult",
    "WatchDecision",
    "WatchState",
    "after_failed_reload",
    "after_reload_request",
    "build_broken_files_sensor",
    "build_watch_sensor",
    "decide_reload",
    "reload_location",
]

RELOAD_TIMEOUT_SECONDS = 50
"""Less than the 60 seconds that the daemon gives a sensor tick, so that the tick reports the failure."""
RELOAD_BY_HAND = "Click Reload beside the code location in Dagster's UI (Deployment)."


@dataclass(frozen=True)
class ReloadResult:
    """The result of requesting a reload; `detail` is a sentence or two for people.

    - `asked`: `via` accepted the request. The code server serves the new definitions to webserver and daemon
      within a second or two. The webserver has them, and the daemon renews its own about every minute.
    - `failed`: worth another try later.
    - `unsupported`: only a person can reload here.
    """

    outcome: Literal["asked", "failed", "unsupported"]
    detail: str
    via: Literal["code server", "webserver"] | None = None


def reload_location(
    context: dg.SensorEvaluationContext,
    *,
    webserver: str | None = None,
    timeout_seconds: int = RELOAD_TIMEOUT_SECONDS,
) -> ReloadResult:
    """Make the code location of this sensor load its files again. Never raises.

    Under `dagster dev` and `dagster code-server start`, webserver and daemon share a code server, which
    reloads. If each starts its own (a `workspace.yaml` with a module), the webserver reloads, provided its
    address is given (`http://host:3000`).

    The code server's part is not documented by Dagster. If a version lacks it, the result says so and what
    to do.
    """
    location = code_location_of(context)
    if location is None:
        return ReloadResult(
            "unsupported", f"This sensor runs outside of a code location. {RELOAD_BY_HAND}"
        )
    # The shared code server first: webserver and daemon see its new definitions at once.
    if location.reload is not None:
        return _ask_code_server(location.reload, timeout_seconds)
    if webserver is not None:
        return _ask_webserver(webserver, location.name, timeout_seconds)
    return ReloadResult(
        "unsupported",
        "The connector files changed, but this code location can't be reloaded from inside: it "
        f"has no code server of its own (start Dagster with `dagster dev`). {RELOAD_BY_HAND}",
    )


def _ask_code_server(reload: Callable[[int], None], timeout_seconds: int) -> ReloadResult:
    try:
        reload(timeout_seconds)
    except Exception as error:  # noqa: BLE001 - no documented API, so it may raise anything
        return ReloadResult(
            "failed", f"The code server did not reload: {_error_text(error)} {RELOAD_BY_HAND}"
        )
    return ReloadResult("asked", "The code server loaded the connector files again.", "code server")


def _ask_webserver(address: str, location_name: str, timeout_seconds: int) -> ReloadResult:
    # Few installations need it, and it takes long to import.
    from dagster_graphql import DagsterGraphQLClient, ReloadRepositoryLocationStatus

    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        # Dagster 1.12.0 has no such parameter, and most addresses need none.
        prefix: dict[str, Any] = {"path_prefix": path} if (path := parts.path.rstrip("/")) else {}
        client = DagsterGraphQLClient(
            parts.hostname or "",
            port_number=parts.port,
            use_https=parts.scheme == "https",
            timeout=timeout_seconds,
            **prefix,
        )
        answer = client.reload_repository_location(location_name)
    except Exception as error:  # noqa: BLE001 - a network client: any failure is the answer's text
        return ReloadResult(
            "failed",
            f"The webserver at {address} did not reload: {_error_text(error)} {RELOAD_BY_HAND}",
        )
    if answer.status is not ReloadRepositoryLocationStatus.SUCCESS:
        reason = answer.message or answer.failure_type or "it gave no reason."
        return ReloadResult("failed", f"The webserver at {address} did not reload: {reason}")
    return ReloadResult("asked", "The webserver loaded the connector files again.", "webserver")


def _error_text(error: Exception) -> str:
    # gRPC errors are pages long, and the text is stored with each tick.
    text = " ".join(str(error).split())[:500].rstrip(".")
    return f"{type(error).__name__}: {text}." if text else f"{type(error).__name__}."


WATCH_SENSOR = "restsource_watch"
WATCH_INTERVAL_SECONDS = 3
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
        """Return the state in a cursor; an initial state without a cursor that this sensor wrote."""
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
    """Return the state when the definitions match the files: an initial state that keeps the credit."""
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
    name: str = WATCH_SENSOR,
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
        name=name,
        minimum_interval_seconds=WATCH_INTERVAL_SECONDS,
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
    """Return when the folder or a watched file in it was last modified."""
    times = [0.0]
    for path in (folder, *find_watched_files(folder)):
        try:
            times.append(path.stat().st_mtime)
        except OSError:  # removed since it was listed; the fingerprint will differ
            continue
    return max(times)


BROKEN_FILES_SENSOR = "restsource_broken_configs"

BROKEN_FILES_INTERVAL_SECONDS = 60
MAX_PROBLEMS_SHOWN = 100
"""Problems in the text of a tick, which Dagster stores for every failed tick."""


class BrokenFilesError(Exception):
    """Connector files have errors. The message has a line per problem."""


def build_broken_files_sensor(
    broken: Sequence[LoadedFile], name: str = BROKEN_FILES_SENSOR
) -> dg.SensorDefinition:
    """Return a sensor that fails once a minute with the problems of all broken files.

    One sensor for all files, because a broken file's name may be no valid sensor name. Without broken files
    it skips.
    """
    text = _broken_files_text(broken)

    # A tick can show red without a run, an asset can't. So the sensor fails on purpose.
    @dg.sensor(
        name=name,
        minimum_interval_seconds=BROKEN_FILES_INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Fails while connector files have errors, and shows them.",
    )
    def broken_configs() -> dg.SkipReason:
        if broken:
            raise BrokenFilesError(text)
        return dg.SkipReason("No connector file has errors.")

    return broken_configs


def _broken_files_text(broken: Sequence[LoadedFile]) -> str:
    one = len(broken) == 1
    files = "1 connector file has errors" if one else f"{len(broken)} connector files have errors"
    loaded = "is not loaded" if one else "are not loaded"
    lines = [problem.as_text() for file in broken for problem in file.problems]
    # A thousand problems would be stored every minute.
    more = len(lines) - MAX_PROBLEMS_SHOWN
    shown = lines[:MAX_PROBLEMS_SHOWN] + (
        [f"... and {more} more: see `restsource check`"] if more > 0 else []
    )
    return "\n".join([f"{files} and {loaded}. Other connectors are unaffected.", *shown])
