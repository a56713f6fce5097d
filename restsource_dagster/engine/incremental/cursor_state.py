"""Incremental cursors as people see them: read from dlt's state, with their lag.

Our place in dlt's state of a resource: what of it is ours, and what stands there.
"""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from typing import Any

import dlt

from restsource_dagster.connector.resources import Resource
from restsource_dagster.engine.incremental.ordering import (
    CursorOrder,
    IncomparableError,
    text_as_moment,
)
from restsource_dagster.engine.run.outcome import CursorProgress

__all__ = [
    "FLOOR_KEY",
    "LIVE_START_KEY",
    "STATE_KEY",
    "ResourceState",
    "lag_seconds",
    "read_cursor",
    "read_cursor_progress",
    "read_lower_bound",
    "restsource_state",
]

STATE_KEY = "restsource"
"""Our place in a resource's state."""
LIVE_START_KEY = "from"
"""There: where the live stream begins; what is before belongs to the resource's history."""
FLOOR_KEY = "floor"
"""There: the value that a person set the cursor of an appended table to; nothing before it is read
again, whatever the lag, as it would be there twice."""

ResourceState = dict[str, Any]


def restsource_state(name: str) -> ResourceState:
    """Our part of a resource's state, inside an extraction."""
    state: ResourceState = dlt.current.resource_state(name).setdefault(STATE_KEY, {})
    return state


def read_lower_bound(ours: Mapping[str, Any]) -> Any:
    """The value before which a root is never read, from our part of its state; None if none."""
    return ours.get(FLOOR_KEY, ours.get(LIVE_START_KEY))


_EPOCH_SECONDS = (1e8, 1e10)  # 1973 to 2286
_EPOCH_MILLISECONDS = (1e11, 1e13)


def read_cursor(state: Mapping[str, Any], connector: str, resource: Resource) -> Any:
    """The stored last value of a resource's cursor, or None before its first load.

    Of a dependent resource, whose cursor is kept per parent, the newest.
    """
    if resource.incremental is None:
        return None
    path = resource.incremental.cursor_path
    kept = state.get("sources", {}).get(connector, {}).get("resources", {}).get(resource.name, {})
    parents = kept.get("restsource", {}).get("parents", {}).get(path, {})
    single = kept.get("incremental", {}).get(path, {})
    return _newest_value(entry.get("last_value") for entry in (*parents.values(), single))


def read_cursor_progress(
    before: Mapping[str, Any], after: Mapping[str, Any], connector: str, resource: Resource
) -> CursorProgress | None:
    """What a load did to a resource's cursor; None if it has none."""
    if resource.incremental is None:
        return None
    start = read_cursor(before, connector, resource)
    last = read_cursor(after, connector, resource)
    return CursorProgress(
        cursor_path=resource.incremental.cursor_path,
        start_value=_initial_cursor_value(before, connector, resource) if start is None else start,
        last_value=last,
        lag_seconds=lag_seconds(last, datetime.now(UTC)),
    )


def _initial_cursor_value(state: Mapping[str, Any], connector: str, resource: Resource) -> Any:
    """Where the cursor starts if nothing is stored: after the resource's history, if it has one."""
    kept = state.get("sources", {}).get(connector, {}).get("resources", {}).get(resource.name, {})
    initial = resource.incremental.initial_value if resource.incremental else None
    return kept.get("restsource", {}).get("from", initial)


def lag_seconds(value: Any, now: datetime) -> float | None:
    """How far a cursor value lies behind `now`, or None if it is no point in time.

    Numbers are taken as epochs only where they would be plausible ones: seconds from 1973 on,
    milliseconds likewise.
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
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        if _EPOCH_SECONDS[0] <= value < _EPOCH_SECONDS[1]:
            return datetime.fromtimestamp(value, UTC)
        if _EPOCH_MILLISECONDS[0] <= value < _EPOCH_MILLISECONDS[1]:
            return datetime.fromtimestamp(value / 1000, UTC)
    return None


def _newest_value(values: Iterable[Any]) -> Any:
    order, newest = CursorOrder(), None
    for value in values:
        try:
            if newest is None or (value is not None and order.is_after(value, newest)):
                newest = value
        except IncomparableError:
            continue  # an API that changed the cursor's type; one of them has to be shown
    return newest
