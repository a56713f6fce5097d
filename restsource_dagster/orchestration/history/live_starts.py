"""Where the live stream of a resource with a history began, written once."""

from datetime import UTC, datetime
from pathlib import Path

from restsource_dagster.config.connector import Resource
from restsource_dagster.config.cursor_values import CursorValueError, format_of
from restsource_dagster.config.windows import live_start
from restsource_dagster.orchestration.moments import LONGEST, parse_moment, write_once

__all__ = ["LiveStarts"]

FOLDER = "live_starts"


class LiveStarts:
    """Where live streams begin: the first live run loads from there on, and history reaches up to it.

    It is the start of the window in which the connector was created, or the cursor's `initial_value`
    if that is later, and it is fixed when the resource's `backfill` block is first seen, in
    `<state_dir>/live_starts/<connector>.<resource>`: other windows, or another creation time, don't
    move where the live stream has begun.

    Nothing raises, because loading must not. Where no state can be kept, or what was kept can't be
    read, the moment is worked out anew; it then moves with `partition` and the creation time.
    """

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / FOLDER

    def get(self, connector: str, resource: Resource, created_at: datetime) -> datetime:
        """The moment, UTC. Raises `ValueError` for a resource without a `backfill` block."""
        worked_out = _live_start(resource, created_at)
        path = self._folder / f"{connector}.{resource.name}"
        try:
            found = _read(path)
            if found is None:
                write_once(path, f"{worked_out.isoformat()}\n".encode())
                found = _read(path)
        except OSError:
            return worked_out
        return found or worked_out


def _live_start(resource: Resource, created_at: datetime) -> datetime:
    if resource.backfill is None:
        raise ValueError(f"{resource.name} has no history")
    start = live_start(resource.backfill.partition, created_at)
    initial = _initial(resource)
    # A connector that ran before it got the block began at its `initial_value`. One in the future
    # says nothing about where a stream began.
    return max(start, initial) if initial and initial <= datetime.now(UTC) else start


def _initial(resource: Resource) -> datetime | None:
    value = resource.incremental.initial_value if resource.incremental else None
    try:
        form = format_of(value)
        return form.parse(value) if form.is_time else None
    except CursorValueError:
        return None


def _read(path: Path) -> datetime | None:
    """The moment in a state file; None if there is none that can be understood."""
    try:
        with path.open("rb") as file:
            return parse_moment(file.read(LONGEST + 1))
    except FileNotFoundError:
        return None
