"""Moments that are written once to the state folder: when each connector began, and its live streams.

Every process that loads the files computes or reads the same moments. The first process to see a connector
writes them, whole or not at all.
"""

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from restsource_dagster.connector.cursor_format import CursorValueError, detect_cursor_format
from restsource_dagster.connector.model import Connector, Resource
from restsource_dagster.connector.partitions import live_start
from restsource_dagster.connector.validation.diagnostics import Problem
from restsource_dagster.settings import make_private_folder

__all__ = [
    "MAX_MOMENT_BYTES",
    "CreationTimes",
    "LiveStarts",
    "create_file_atomically",
    "parse_state_moment",
    "write_state_once",
]

MAX_MOMENT_BYTES = 64
"""The most bytes of a state file. A moment has 25; a large file put there by mistake is not read whole."""
CREATION_TIMES_FOLDER = "created_at"
LIVE_STARTS_FOLDER = "live_starts"
EXAMPLE_CREATED_AT = "2026-11-23T10:03:00Z"


def create_file_atomically(path: Path, content: bytes) -> bool:
    """Create a file with its content, unless it exists. Its folder is created, too.

    A hard link to a complete file either creates the name or fails: no reader sees half of it, and of
    several processes exactly one wins. Return False if the file system has no hard links, as some network
    and shared folders. Raises `OSError` if the folder can't be written.
    """
    # In the same folder, because a hard link can't cross file systems.
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            # A temporary file is private; the daemon may run as another user.
            os.fchmod(file.fileno(), 0o644)
        return _link_unless_exists(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _link_unless_exists(source: str, path: Path) -> bool:
    try:
        os.link(source, path)
    except FileExistsError:
        return True
    except OSError:
        return False
    return True


def parse_state_moment(content: bytes) -> datetime | None:
    """Return the moment in UTC; None if the content is no moment or longer than `MAX_MOMENT_BYTES`."""
    if len(content) > MAX_MOMENT_BYTES:
        return None
    try:
        moment = datetime.fromisoformat(content.decode("ascii").strip())
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def write_state_once(path: Path, content: bytes) -> None:
    """Write a file of a folder in the state folder unless it exists. Both folders are created, too.

    Raises `OSError` if the folder can't be written.
    """
    make_private_folder(path.parent.parent)
    if create_file_atomically(path, content):
        return
    # Without hard links, exclusive creation lets one process win, too. A moment is one write, so readers
    # see nothing or all of it.
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


class CreationTimes:
    """The creation time of each connector, the same in every process that loads the files.

    A connector file may give its own `created_at`. Otherwise, the moment when it was first seen is written
    once to `<state_dir>/created_at/<connector>` and read from there. It is never written into the connector
    file.

    The time outlives the connector file. A file that is removed and added again keeps it, as it keeps its
    tables and its incremental cursors, so its schedule continues at the same minutes. Delete the state file,
    or set `created_at`, to start afresh.

    Nothing here raises, because loading must not. `warnings` reports what went wrong:

    - A state file that can't be read as a time (truncated, edited) counts as its modification time. That is
      close to the time it held, the same for all processes, and edits of the connector don't change it.
    - If no state can be kept (a read-only disk), the connector file's modification time is used, which
      changes with every edit. Only `created_at` in the file is stable there.
    """

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / CREATION_TIMES_FOLDER
        self._warnings: dict[Path, Problem] = {}

    def get(self, connector: Connector) -> datetime:
        """Return the connector's creation time in UTC, to the second unless the file gives it."""
        if connector.created_at is not None:
            return connector.created_at.astimezone(UTC)
        path = self._folder / connector.name
        try:
            return self._read(path) or self._first_seen(path)
        except OSError as error:
            # Better a schedule that shifts with edits than a connector that doesn't run.
            self._warn(path, *_unusable_state_warning(connector, error))
            return _modification_time(connector.path)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The problems of state files so far, by path. The times returned are usable in spite of them."""
        return tuple(self._warnings[path] for path in sorted(self._warnings))

    def _read(self, path: Path) -> datetime | None:
        """Return the time of a state file; None if it doesn't exist. Raises `OSError`."""
        try:
            with path.open("rb") as file:
                content = file.read(MAX_MOMENT_BYTES + 1)
                modified_at = _time_of_timestamp(os.fstat(file.fileno()).st_mtime)
        except FileNotFoundError:
            return None
        moment = parse_state_moment(content)
        if moment is None:
            moment = modified_at
            self._warn(path, *_damaged_state_warning(content, moment))
        return moment

    def _first_seen(self, path: Path) -> datetime:
        """Write the current time, and return what is stored: another process may have been quicker.

        Raises `OSError` if the folder can't be written.
        """
        now = _now_to_the_second()
        write_state_once(path, f"{_format_creation_time(now)}\n".encode())
        return self._read(path) or now

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
    that is later. It is written when the resource's `backfill` block is first seen, to
    `<state_dir>/live_starts/<connector>.<resource>`. So other partitions, or another creation time, don't
    change where the live stream has begun.

    Nothing raises, because loading must not. If no state can be kept or read, the moment is computed each
    time; it then changes with `partition` and the creation time.
    """

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / LIVE_STARTS_FOLDER

    def get(self, connector: str, resource: Resource, created_at: datetime) -> datetime:
        """Return the moment, UTC. Raises `ValueError` for a resource without a `backfill` block."""
        computed = _compute_live_start(resource, created_at)
        path = self._folder / f"{connector}.{resource.name}"
        try:
            stored = _read_state_moment(path)
            if stored is None:
                write_state_once(path, f"{computed.isoformat()}\n".encode())
                stored = _read_state_moment(path)
        except OSError:
            return computed
        return stored or computed


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


def _read_state_moment(path: Path) -> datetime | None:
    """Return the moment of a state file; None if it doesn't exist or can't be read as one."""
    try:
        with path.open("rb") as file:
            return parse_state_moment(file.read(MAX_MOMENT_BYTES + 1))
    except FileNotFoundError:
        return None
