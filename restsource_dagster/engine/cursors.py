"""Incremental cursors: read from dlt's state, and kept from moving where no rows are loaded."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any, Self

from dlt.extract import Incremental

from restsource_dagster.config.connector import Resource
from restsource_dagster.engine.outcome import CursorMove

__all__ = ["DetachedIncremental", "lag_seconds", "read_cursor", "read_move"]

_EPOCH_SECONDS = (1e8, 1e10)  # 1973 to 2286
_EPOCH_MILLISECONDS = (1e11, 1e13)
_LOOKS_LIKE_A_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ].*)?")


class DetachedIncremental(Incremental[Any]):
    """An incremental that starts from its initial value and leaves no trace in the state.

    For a parent that is asked for on behalf of its dependents but is not loaded itself: its
    cursor must not move, because its rows do not arrive anywhere.
    """

    @classmethod
    def of(cls, incremental: Incremental[Any]) -> Self:
        """The same settings, detached."""
        return cls(
            cursor_path=incremental.cursor_path,
            initial_value=incremental.initial_value,
            last_value_func=incremental.last_value_func,
            primary_key=(),
            end_value=incremental.end_value,
            row_order=incremental.row_order,
            on_cursor_value_missing=incremental.on_cursor_value_missing,
            range_start=incremental.range_start,
            range_end=incremental.range_end,
        )

    def get_state(self) -> Any:
        """A state of its own, thrown away after the run."""
        return {
            "initial_value": self.initial_value,
            "last_value": self.initial_value,
            "unique_hashes": [],
            "start_value": self.initial_value,
        }


def read_cursor(state: Mapping[str, Any], connector: str, resource: Resource) -> Any:
    """The stored last value of a resource's cursor, or None before its first load."""
    if resource.incremental is None:
        return None
    stored = (
        state.get("sources", {})
        .get(connector, {})
        .get("resources", {})
        .get(resource.name, {})
        .get("incremental", {})
        .get(resource.incremental.cursor_path, {})
    )
    return stored.get("last_value")


def read_move(
    before: Mapping[str, Any], after: Mapping[str, Any], connector: str, resource: Resource
) -> CursorMove | None:
    """What a load did to a resource's cursor; None if it has none."""
    if resource.incremental is None:
        return None
    start = read_cursor(before, connector, resource)
    last = read_cursor(after, connector, resource)
    return CursorMove(
        cursor_path=resource.incremental.cursor_path,
        start_value=resource.incremental.initial_value if start is None else start,
        last_value=last,
        lag_seconds=lag_seconds(last, datetime.now(UTC)),
    )


def lag_seconds(value: Any, now: datetime) -> float | None:
    """How far a cursor value lies behind `now`, or None if it is no point in time.

    Numbers are taken as epochs only where they would be plausible ones: seconds from 1973 on,
    milliseconds likewise.
    """
    moment = _as_moment(value)
    return None if moment is None else (now - moment).total_seconds()


def _as_moment(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    if isinstance(value, str):
        return _parse(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        if _EPOCH_SECONDS[0] <= value < _EPOCH_SECONDS[1]:
            return datetime.fromtimestamp(value, UTC)
        if _EPOCH_MILLISECONDS[0] <= value < _EPOCH_MILLISECONDS[1]:
            return datetime.fromtimestamp(value / 1000, UTC)
    return None


def _parse(text: str) -> datetime | None:
    if not _LOOKS_LIKE_A_DATE.fullmatch(text):
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
