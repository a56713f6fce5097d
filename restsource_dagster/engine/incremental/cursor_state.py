"""Reads incremental cursors from dlt's state and knows the keys that are ours in it."""

import json
import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from hashlib import blake2b
from typing import Any

import dlt

from restsource_dagster.connector.cursor_format import epoch_units_per_second
from restsource_dagster.connector.model import Resource
from restsource_dagster.connector.models.incremental_cursor import SyncToken
from restsource_dagster.engine.errors import ResourceError
from restsource_dagster.engine.incremental.ordering import (
    CursorOrder,
    IncomparableError,
    text_as_moment,
)

__all__ = [
    "FLOOR_KEY",
    "GONE_KEY",
    "LIVE_START_KEY",
    "STATE_KEY",
    "CursorProgress",
    "ParentCursorStates",
    "ResourceState",
    "StateMapping",
    "gone_parents",
    "gone_parents_path",
    "lag_seconds",
    "note_seam",
    "paging_state",
    "parent_key",
    "read_cursor",
    "read_cursor_progress",
    "read_lower_bound",
    "read_token",
    "resource_state_in",
    "restsource_state",
    "seams_in",
    "shown_token",
    "store_token",
]

# The values of these keys are in the state of deployed pipelines: they never change.
STATE_KEY = "restsource"
"""In a resource's state: the dict with all that is ours."""
LIVE_START_KEY = "from"
"""In our dict: where the live stream starts. Rows before it are loaded by backfills."""
FLOOR_KEY = "floor"
"""In our dict: the value that a person set the cursor of an appended table to. Rows before it are
never read again, even within the lag, because they would be appended twice."""

_SHOWN_TOKEN_CHARS = 100

ResourceState = dict[str, Any]
StateMapping = Mapping[str, Any]


def restsource_state(name: str) -> ResourceState:
    """Return our dict in a resource's state, created if missing. Call it inside an extraction."""
    state: ResourceState = dlt.current.resource_state(name).setdefault(STATE_KEY, {})
    return state


_TOKENS_KEY = "tokens"
"""In our dict: by its path, the token of the last run."""


def read_token(state: StateMapping, model: SyncToken) -> Any:
    """Return the stored token of a resource, from its state; None before the first run."""
    return state.get(STATE_KEY, {}).get(_TOKENS_KEY, {}).get(model.token_path)


def store_token(ours: ResourceState, model: SyncToken, token: Any) -> None:
    """Store the token of this run in our dict. One of another path is gone: it is of another kind."""
    ours[_TOKENS_KEY] = {model.token_path: token}


def shown_token(token: Any) -> str | None:
    """Return a token for people: shortened, and a link without the values of its query."""
    if token is None:
        return None
    # a link of an API may have a key in its query
    url, mark, _ = str(token).partition("?")
    text = f"{url}?..." if mark and "://" in url else str(token)
    return text if len(text) <= _SHOWN_TOKEN_CHARS else f"{text[:_SHOWN_TOKEN_CHARS]}..."


def paging_state(name: str) -> ResourceState:
    """Return what is known of a resource's paging, created if missing. Call it inside an extraction.

    It is in the source's state: dlt empties the state of a resource that is replaced.
    """
    state = dlt.current.source_state().setdefault(STATE_KEY, {})
    found: ResourceState = state.setdefault("paging", {}).setdefault(name, {})
    return found


SEAMS_KEY = "seams"
"""In the source's own dict of the backfill's pipeline: where its windows expect live streams to start."""


def seams_in(state: StateMapping, source: str) -> StateMapping:
    """Return, by resource, where the backfill expects the live stream to start; from its pipeline's state."""
    ours = state.get("sources", {}).get(source, {}).get(STATE_KEY, {})
    found: StateMapping = ours.get(SEAMS_KEY, {})
    return found


def note_seam(state: ResourceState, source: str, resource: str, value: Any) -> None:
    """Note where a backfill expects the live stream to start, in its pipeline's state.

    An earlier note stays: to start the live stream early loads rows twice, to start it late loses them.
    """
    ours = state.setdefault("sources", {}).setdefault(source, {}).setdefault(STATE_KEY, {})
    seams = ours.setdefault(SEAMS_KEY, {})
    if resource not in seams or CursorOrder().is_before(value, seams[resource]):
        seams[resource] = value


GONE_KEY = "gone"
"""In the source's own dict: the parents that are gone, by resource."""


def gone_parents(name: str, asked: str) -> ResourceState:
    """Return the keys of the parents that are gone for a resource. Call it inside an extraction.

    They hold for calls with the fingerprint `asked`. They are in the source's state, as dlt empties that
    of a replaced resource.
    """
    state = dlt.current.source_state().setdefault(STATE_KEY, {}).setdefault(GONE_KEY, {})
    # another question may find a parent that this one did not
    if state.get(name, {}).get("asked") != asked:
        state[name] = {"asked": asked, "keys": {}}
    found: ResourceState = state[name]["keys"]
    return found


def gone_parents_path(name: str) -> str:
    """Return the JSON path of a resource's gone parents in a source's state."""
    return f"{STATE_KEY}.{GONE_KEY}.'{name}'"


def resource_state_in(state: StateMapping, source: str, resource: str) -> StateMapping:
    """Return a resource's part of a pipeline's state; empty if there is none."""
    found: StateMapping = (
        state.get("sources", {}).get(source, {}).get("resources", {}).get(resource, {})
    )
    return found


def read_lower_bound(state: StateMapping) -> Any:
    """Return the value before which a root is never read, from our dict; None if there is none."""
    # a floor that a person has set wins: it was set after the live stream began
    return state.get(FLOOR_KEY, state.get(LIVE_START_KEY))


def read_cursor(state: StateMapping, connector: str, resource: Resource) -> Any:
    """Return the stored last value of a resource's cursor, or None before its first load.

    A dependent resource has a cursor per parent; the newest of them is returned.
    """
    if resource.incremental is None:
        return None
    path = resource.incremental.path
    stored = resource_state_in(state, connector, resource.name)
    parents = stored.get(STATE_KEY, {}).get("parents", {}).get(path, {})
    single = stored.get("incremental", {}).get(path, {})
    # both: a table may have been loaded by dlt's own source before
    return _newest_value(entry.get("last_value") for entry in (*parents.values(), single))


@dataclass(frozen=True)
class CursorProgress:
    """An incremental cursor before and after a run.

    `lag_seconds` is how far `last_value` is behind the present; None if the cursor is not a time (an
    id, for example).
    """

    cursor_path: str
    start_value: Any
    last_value: Any
    lag_seconds: float | None


def read_cursor_progress(
    before: StateMapping, after: StateMapping, connector: str, resource: Resource
) -> CursorProgress | None:
    """Return how a load moved a resource's cursor; None if it has none."""
    if token := resource.endpoint.token:
        return _token_progress(before, after, connector, resource.name, token)
    if resource.incremental is None:
        return None
    start = read_cursor(before, connector, resource)
    last = read_cursor(after, connector, resource)
    if start is None:
        # a first run starts after the backfill, if there is one
        ours = resource_state_in(before, connector, resource.name).get(STATE_KEY, {})
        start = ours.get(LIVE_START_KEY, resource.incremental.initial_value)
    return CursorProgress(
        cursor_path=resource.incremental.path,
        start_value=start,
        last_value=last,
        lag_seconds=lag_seconds(last, datetime.now(UTC)),
    )


def _token_progress(
    before: StateMapping, after: StateMapping, connector: str, name: str, model: SyncToken
) -> CursorProgress:
    start, last = (
        shown_token(read_token(resource_state_in(state, connector, name), model))
        for state in (before, after)
    )
    return CursorProgress(model.token_path, start, last, None)


def lag_seconds(value: Any, now: datetime) -> float | None:
    """Return how many seconds a cursor value is behind `now`, or None if it is not a time.

    A number is a time if it is a plausible epoch, in seconds or milliseconds, from 1973 on.
    """
    moment = _value_as_moment(value)
    return None if moment is None else (now - moment).total_seconds()


def _value_as_moment(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    if isinstance(value, str):
        return text_as_moment(value)
    # in Python a bool is an int, too
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        per_second = epoch_units_per_second(value)
        return None if per_second is None else datetime.fromtimestamp(value / per_second, UTC)
    return None


def _newest_value(values: Iterable[Any]) -> Any:
    order, newest = CursorOrder(), None
    for value in values:
        try:
            if newest is None or (value is not None and order.is_after(value, newest)):
                newest = value
        except IncomparableError:
            # the API changed the cursor's type between two parents; show either of them
            continue
    return newest


MAX_MERGED_PARENTS = 10_000
"""The most parents with a stored cursor if rows are merged: an evicted parent is just read again."""
MAX_APPENDED_PARENTS = 100_000
"""The most parents with a stored cursor if rows are appended: none may be evicted."""
_MAX_PARENT_KEY_CHARS = 64


def parent_key(values: Sequence[Any]) -> str:
    """Return the values that a call takes from its parent as a key of the state."""
    text = json.dumps(list(values), separators=(",", ":"), default=str)
    if len(text) <= _MAX_PARENT_KEY_CHARS:
        return text
    # "#" can't start a JSON list, so no hash equals a short key
    return "#" + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class ParentCursorStates:
    """The states of a cursor below each parent, stored in dlt's state. Thread-safe.

    With `evicts`, the parents read least recently are dropped when there are too many; without it,
    one parent too many is a `ResourceError`. `default` is the state of parents without one: the single
    cursor that dlt stored for all parents, if dlt's own source loaded the table before.
    """

    def __init__(
        self,
        resource: str,
        states: dict[str, Any],
        *,
        evicts: bool,
        default: Mapping[str, Any] | None = None,
        max_parents: int | None = None,
    ) -> None:
        self._resource = resource
        self._states = states
        self._evicts = evicts
        self._default = default or {}
        self._max_parents = max_parents or (MAX_MERGED_PARENTS if evicts else MAX_APPENDED_PARENTS)
        self._lock = threading.Lock()

    def get(self, parent: str) -> Mapping[str, Any]:
        """Return the state below a parent, and mark it as read most recently."""
        with self._lock:
            # taken out and put in again, which makes it the newest
            state = self._states.pop(parent, None)
            if state is None:
                return self._default
            # a dict keeps the order of insertion, in the stored JSON too
            self._states[parent] = state
            return dict(state)

    def peek(self, parent: str) -> Mapping[str, Any]:
        """Return the state below a parent without marking it as read."""
        with self._lock:
            state: Mapping[str, Any] = self._states.get(parent, self._default)
            return state

    def put(self, parent: str, state: Mapping[str, Any]) -> None:
        """Store the state below a parent. Raises `ResourceError` if there are too many to store."""
        with self._lock:
            self._states.pop(parent, None)
            self._states[parent] = dict(state)
            if len(self._states) <= self._max_parents:
                return
            if not self._evicts:
                raise ResourceError(
                    self._resource,
                    f"more than {self._max_parents:,} parents. These are too many to store a cursor "
                    'for each, so some rows would be appended twice. Add a "primary_key", so that '
                    "rows are merged",
                )
            # the one that was read longest ago
            del self._states[next(iter(self._states))]
