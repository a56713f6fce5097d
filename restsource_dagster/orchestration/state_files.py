"""Where the live stream of a resource with a history began, written once.

Files that are put in place whole, by whoever is first.

A moment in a state file that is written once, whoever is first.

When each connector began: the moment from which its schedule counts.
"""

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from restsource_dagster.connector.cursor_format import CursorValueError, detect_cursor_format
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.partitions import live_start
from restsource_dagster.connector.resources import Resource
from restsource_dagster.connector.validation.diagnostics import Problem

__all__ = [
    "MAX_MOMENT_BYTES",
    "CreationTimes",
    "LiveStarts",
    "create_file_atomically",
    "parse_state_moment",
    "write_state_once",
]


def create_file_atomically(path: Path, content: bytes) -> bool:
    """Put a file in place, unless it is there or another process is quicker; its folder is made, too.

    A hard link to a complete file either makes the name or fails: no reader sees half of it, and of
    several processes exactly one wins. False where the file system has no hard links (some network and
    shared folders). Raises `OSError` if the folder takes no files.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            # A temporary file is private; the daemon may run as another user.
            os.fchmod(file.fileno(), 0o644)
        return _link_unless_exists(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _link_unless_exists(name: str, path: Path) -> bool:
    try:
        os.link(name, path)
    except FileExistsError:
        return True
    except OSError:
        return False
    return True


MAX_MOMENT_BYTES = 64
"""Bytes that a moment may have: it has 25, and a stray big file must not be read whole."""


def parse_state_moment(content: bytes) -> datetime | None:
    """The moment, UTC; None for what can't be understood or is longer than `LONGEST`."""
    if len(content) > MAX_MOMENT_BYTES:
        return None
    try:
        moment = datetime.fromisoformat(content.decode("ascii").strip())
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def write_state_once(path: Path, content: bytes) -> None:
    """Write a file, unless it is there or another process is quicker; its folder is made, too.

    Raises `OSError` if the folder takes no files.
    """
    if create_file_atomically(path, content):
        return
    # Without hard links exclusive creation lets one process win, too; a moment goes out in one write.
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


CREATION_TIMES_FOLDER = "created_at"
EXAMPLE_CREATED_AT = "2026-11-23T10:03:00Z"


class CreationTimes:
    """The creation time of each connector, the same in every process that loads the files.

    A connector file may say its own `created_at`. For one that doesn't, the moment it was first
    seen is written once to `<state_dir>/created_at/<connector>` and read from there ever after. It
    is never written into the connector file. The folder is made when the first time is written.

    The time of a connector outlives its file: one that is removed and comes back later keeps it,
    as it keeps its tables and its incremental cursors, and its schedule goes on at the old minutes.
    Whoever wants a fresh start deletes the state file or gives `created_at`.

    Nothing here raises, because loading must not. What went wrong is told by `warnings`:

    - a state file that can't be understood (cut off, edited) stands for its own modification time:
      close to the time it held, the same for all processes, and untouched by edits of the connector.
    - where no state can be kept (a read-only disk), the connector file's modification time is used,
      which moves with every edit. Only a `created_at` in the file is steady there.
    """

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / CREATION_TIMES_FOLDER
        self._warnings: dict[Path, Problem] = {}

    def get(self, connector: Connector) -> datetime:
        """The connector's creation time in UTC, to the second if it was first seen by us."""
        if connector.created_at is not None:
            return connector.created_at.astimezone(UTC)
        path = self._folder / connector.name
        try:
            return self._read(path) or self._first_seen(path)
        except OSError as error:
            self._warn(path, *_unusable_state_warning(connector, error))
            return _modification_time(connector.path)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What was wrong with state files so far, by path. The times given are usable all the same."""
        return tuple(self._warnings[path] for path in sorted(self._warnings))

    def _read(self, path: Path) -> datetime | None:
        """The time in a state file; None if there is none. Raises OSError if it can't be read."""
        try:
            with path.open("rb") as file:
                content = file.read(MAX_MOMENT_BYTES + 1)
                written = _time_of_timestamp(os.fstat(file.fileno()).st_mtime)
        except FileNotFoundError:
            return None
        moment = parse_state_moment(content)
        if moment is None:
            moment = written
            self._warn(path, *_damaged_state_warning(content, moment))
        return moment

    def _first_seen(self, path: Path) -> datetime:
        """Write now as the time, unless another process was quicker; either way what is there.

        Raises OSError if the folder takes no files.
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


LIVE_STARTS_FOLDER = "live_starts"


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
        self._folder = state_dir / LIVE_STARTS_FOLDER

    def get(self, connector: str, resource: Resource, created_at: datetime) -> datetime:
        """The moment, UTC. Raises `ValueError` for a resource without a `backfill` block."""
        worked_out = _compute_live_start(resource, created_at)
        path = self._folder / f"{connector}.{resource.name}"
        try:
            found = _read_state_moment(path)
            if found is None:
                write_state_once(path, f"{worked_out.isoformat()}\n".encode())
                found = _read_state_moment(path)
        except OSError:
            return worked_out
        return found or worked_out


def _compute_live_start(resource: Resource, created_at: datetime) -> datetime:
    if resource.backfill is None:
        raise ValueError(f"{resource.name} has no history")
    start = live_start(resource.backfill.partition, created_at)
    initial = _initial_moment(resource)
    # A connector that ran before it got the block began at its `initial_value`. One in the future
    # says nothing about where a stream began.
    return max(start, initial) if initial and initial <= datetime.now(UTC) else start


def _initial_moment(resource: Resource) -> datetime | None:
    value = resource.incremental.initial_value if resource.incremental else None
    try:
        form = detect_cursor_format(value)
        return form.parse(value) if form.is_time else None
    except CursorValueError:
        return None


def _read_state_moment(path: Path) -> datetime | None:
    """The moment in a state file; None if there is none that can be understood."""
    try:
        with path.open("rb") as file:
            return parse_state_moment(file.read(MAX_MOMENT_BYTES + 1))
    except FileNotFoundError:
        return None
