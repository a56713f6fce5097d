"""Moments that are written once to the state: when each connector began, and its live streams.

Every process that loads the files computes or reads the same moments. The first process to see a connector
writes them, whole or not at all.
"""

from datetime import UTC, datetime
from pathlib import Path

from restsource_dagster.connector.cursor_format import CursorValueError, detect_cursor_format
from restsource_dagster.connector.model import Connector, Resource
from restsource_dagster.connector.partitions import live_start
from restsource_dagster.connector.validation.diagnostics import Problem
from restsource_dagster.state.store import StateStore

__all__ = [
    "MAX_MOMENT_BYTES",
    "CreationTimes",
    "LiveStarts",
    "parse_state_moment",
]

MAX_MOMENT_BYTES = 64
"""The most bytes of a state file. A moment has 25; a large file put there by mistake is not read whole."""
EXAMPLE_CREATED_AT = "2026-11-23T10:03:00Z"


def parse_state_moment(content: bytes) -> datetime | None:
    """Return the moment in UTC; None if the content is no moment or longer than `MAX_MOMENT_BYTES`."""
    if len(content) > MAX_MOMENT_BYTES:
        return None
    try:
        moment = datetime.fromisoformat(content.decode("ascii").strip())
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


class CreationTimes:
    """The creation time of each connector, the same in every process that loads the files.

    A connector file may give its own `created_at`. Otherwise, the moment when it was first seen is written
    once to the state, in a folder as `created_at/<connector>`, and read from there. It is never written into the connector
    file.

    The time outlives the connector file. A file that is removed and added again keeps it, as it keeps its
    tables and its incremental cursors, so its schedule continues at the same minutes. Delete the state file,
    or set `created_at`, to start afresh.

    A folder raises nothing, because loading must not. `warnings` reports what went wrong:

    - A state file that can't be read as a time (truncated, edited) counts as its modification time. That is
      close to the time it held, the same for all processes, and edits of the connector don't change it.
    - If no state can be kept (a read-only disk), the connector file's modification time is used, which
      changes with every edit. Only `created_at` in the file is stable there.

    A database that can't be used raises `StateError`: with another time, what is due would change.
    """

    def __init__(self, state: StateStore) -> None:
        self._state = state
        self._warnings: dict[Path, Problem] = {}

    def get(self, connector: Connector) -> datetime:
        """Return the connector's creation time in UTC, to the second unless the file gives it."""
        if connector.created_at is not None:
            return connector.created_at.astimezone(UTC)
        path = Path(self._state.location("created_at", connector.name))
        try:
            return self._read(connector.name) or self._first_seen(connector.name)
        except OSError as error:
            # Better a schedule that shifts with edits than a connector that doesn't run.
            self._warn(path, *_unusable_state_warning(connector, error))
            return _modification_time(connector.path)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The problems of state files so far, by path. The times returned are usable in spite of them."""
        return tuple(self._warnings[path] for path in sorted(self._warnings))

    def _read(self, name: str) -> datetime | None:
        """Return the stored time of a connector; None if there is none. Raises `OSError`."""
        stored = self._state.read("created_at", name)
        if stored is None:
            return None
        moment = parse_state_moment(stored.content)
        if moment is None:
            moment = stored.written_at.replace(microsecond=0)
            path = Path(self._state.location("created_at", name))
            self._warn(path, *_damaged_state_warning(stored.content, moment))
        return moment

    def _first_seen(self, name: str) -> datetime:
        """Write the current time, and return what is stored: another process may have been quicker.

        Raises `OSError` if the folder can't be written.
        """
        now = _now_to_the_second()
        # once: of several processes that start together one wins, and all read its time
        self._state.write_once("created_at", name, f"{_format_creation_time(now)}\n")
        return self._read(name) or now

    def _warn(self, path: Path, message: str, fix: str) -> None:
        self._warnings[path] = Problem(
            path=path, line=1, column=1, pointer="", message=message, fix=fix, severity="warning"
        )


def _format_creation_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _modification_time(path: Path) -> datetime:
    try:
        return _time_of_timestamp(path.stat().st_mtime)
    except OSError:
        return _now_to_the_second()


def _time_of_timestamp(timestamp: float) -> datetime:
    try:
        return datetime.fromtimestamp(timestamp, UTC).replace(microsecond=0)
    except (ValueError, OverflowError, OSError):  # a file dated outside the years 1 to 9999
        return _now_to_the_second()


def _now_to_the_second() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _damaged_state_warning(content: bytes, moment: datetime) -> tuple[str, str]:
    what = "is empty" if not content.strip() else "holds no time"
    message = (
        f"This file should hold the creation time of a connector, but {what}; "
        f"the time it was last written, {_format_creation_time(moment)}, is used instead."
    )
    return (
        message,
        f"Write a time such as {EXAMPLE_CREATED_AT} into it, or give the connector's own created_at.",
    )


def _unusable_state_warning(connector: Connector, error: OSError) -> tuple[str, str]:
    reason = error.strerror or type(error).__name__
    message = (
        f"The creation time of {connector.name} can't be kept here ({reason}); "
        f"the modification time of {connector.path} is used instead and moves with every edit."
    )
    return (
        message,
        f'Make the folder writable, or give "created_at": "{EXAMPLE_CREATED_AT}" in the connector file.',
    )


class LiveStarts:
    """Where live streams begin: the first live run loads from there on, and the backfill ends there.

    It is the start of the partition in which the connector was created, or the cursor's `initial_value` if
    that is later. It is written when the resource's `backfill` block is first seen, in a folder as
    `live_starts/<connector>.<resource>`. So other partitions, or another creation time, don't change where
    the live stream has begun.

    A folder raises nothing, because loading must not. If it can't be written or read, the moment is computed
    each time; it then changes with `partition` and the creation time. A database that can't be used raises
    `StateError`.
    """

    def __init__(self, state: StateStore) -> None:
        self._state = state

    def get(self, connector: str, resource: Resource, created_at: datetime) -> datetime:
        """Return the moment, UTC. Raises `ValueError` for a resource without a `backfill` block."""
        computed = _compute_live_start(resource, created_at)
        name = f"{connector}.{resource.name}"
        try:
            stored = self._read(name)
            if stored is None:
                self._state.write_once("live_starts", name, f"{computed.isoformat()}\n")
                stored = self._read(name)
        except OSError:
            return computed
        return stored or computed

    def _read(self, name: str) -> datetime | None:
        """Return a stored moment; None if there is none, or the text is none."""
        stored = self._state.read("live_starts", name)
        return parse_state_moment(stored.content) if stored else None


def _compute_live_start(resource: Resource, created_at: datetime) -> datetime:
    if resource.backfill is None:
        raise ValueError(f"{resource.name} has no backfill")
    start = live_start(resource.backfill.partition, created_at)
    initial = _initial_moment(resource)
    # A connector that ran before it got the block began at its `initial_value`. A value in the future says
    # nothing about where a stream began.
    return max(start, initial) if initial and initial <= datetime.now(UTC) else start


def _initial_moment(resource: Resource) -> datetime | None:
    value = resource.incremental.initial_value if resource.incremental else None
    try:
        form = detect_cursor_format(value)
        return form.parse(value) if form.is_time else None
    except CursorValueError:
        return None
