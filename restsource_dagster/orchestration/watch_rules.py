"""When the watcher reloads: pure rules over what it sees, without a folder, a clock or Dagster."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

__all__ = ["Decision", "Look", "WatchState", "asked", "decide", "failed"]

QUIET_SECONDS = 1.0
"""A folder untouched for so long is taken as it is; an editor or `cp` is done by then."""
MAX_WAIT_SECONDS = 15.0
"""A folder that never gets quiet is read all the same, so that one noisy file can't hold up others."""
BURST = 20
REFILL_SECONDS = 20.0
"""A folder that changes without end is reloaded `BURST` times, then once in so many seconds."""
PATIENCE_SECONDS: Mapping[str, float] = {"code server": 10.0, "webserver": 120.0}
"""How long after asking the old definitions may still be seen: the daemon renews a code server of
its own about once a minute, one that it shares at once."""
SLACK_SECONDS = 1.0
"""By how much the clocks of the daemon and of the code server may differ."""
FIRST_BACKOFF_SECONDS = 15.0
LONGEST_BACKOFF_SECONDS = 600.0


@dataclass(frozen=True)
class Look:
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
    credit: float = BURST
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
        return state if _well_formed(state) else cls()


@dataclass(frozen=True)
class Decision:
    """What to do at this tick: `rest` with a reason, `reload`, or `fail` with a text to show."""

    action: Literal["rest", "reload", "fail"]
    state: WatchState
    text: str = ""


def decide(state: WatchState, look: Look) -> Decision:
    """What to do at a tick. The returned state is to be kept unless the tick fails."""
    if look.fingerprint == look.loaded:
        return Decision("rest", _settled(state, look), "No file changed.")
    state = replace(state, since=look.now if state.since is None else state.since)
    if state.asked_from is not None and state.asked_from != look.loaded:
        # The reload worked: other definitions are here. The folder has changed since.
        state = replace(_settled(state, look), seen=state.seen, since=look.now)
    if state.failures and (
        look.last_tick is None or look.last_tick <= state.failed_at + SLACK_SECONDS
    ):
        return Decision("fail", state, state.failure)
    return _whether_to_reload(state, look)


def _whether_to_reload(state: WatchState, look: Look) -> Decision:
    if state.asked_from is not None:
        waited = look.now - state.asked_at
        if 0 <= waited < state.patience:
            return _rest(state, look, "A reload was asked for; waiting for the new definitions.")
        text = _no_effect(waited)
        return _rest(failed(state, look, text, look.now), look, text)
    wait = state.retry_at - look.now
    if 0 < wait <= LONGEST_BACKOFF_SECONDS:
        return _rest(state, look, f"Next try in {wait:.0f} s. {state.failure}")
    if not _quiet(state, look):
        return _rest(state, look, "A file is being written; waiting until it is complete.")
    credit = _credit(state, look)
    if credit < 1:
        wait = (1 - credit) * REFILL_SECONDS
        return _rest(
            state, look, f"The files change all the time; the next reload is in {wait:.0f} s."
        )
    return Decision("reload", replace(state, seen=look.fingerprint))


def asked(state: WatchState, look: Look, via: str | None, now: float) -> WatchState:
    """The state after a reload was asked for and nobody refused, at `now`."""
    return replace(
        state,
        credit=_credit(state, look) - 1,
        credit_at=look.now,
        asked_from=look.loaded,
        asked_at=now,
        patience=PATIENCE_SECONDS.get(via or "", max(PATIENCE_SECONDS.values())),
        since=None,
    )


def failed(state: WatchState, look: Look, text: str, now: float) -> WatchState:
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


def _rest(state: WatchState, look: Look, text: str) -> Decision:
    return Decision("rest", replace(state, seen=look.fingerprint), text)


def _quiet(state: WatchState, look: Look) -> bool:
    if look.fingerprint == state.seen or look.now - look.touched >= QUIET_SECONDS:
        return True
    return state.since is not None and look.now - state.since >= MAX_WAIT_SECONDS


def _credit(state: WatchState, look: Look) -> float:
    """Reloads that may be asked for now; all of them if the clock was set back meanwhile."""
    elapsed = look.now - state.credit_at
    return min(state.credit + elapsed / REFILL_SECONDS, BURST) if elapsed >= 0 else BURST


def _settled(state: WatchState, look: Look) -> WatchState:
    """The state when the definitions are those of the files: only the credit outlives that."""
    if state.credit >= BURST:
        return WatchState()
    return WatchState(credit=_credit(state, look), credit_at=look.now)


def _well_formed(state: WatchState) -> bool:
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


def _no_effect(waited: float) -> str:
    return (
        f"The code location was asked to reload {max(waited, 0.0):.0f} s ago, but still serves definitions "
        "built from older connector files. A code server started with `dagster api grpc` can't "
        "reload: use `dagster dev` or `dagster code-server start`, or restart it. If loading is "
        "just slow, the next try finds it done."
    )
