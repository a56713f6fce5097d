"""When each connector began: the moment from which its schedule counts."""

import os
from datetime import UTC, datetime
from pathlib import Path

from restsource_dagster.config.connector import Connector
from restsource_dagster.config.problems import Problem
from restsource_dagster.orchestration.moments import LONGEST, parse_moment, write_once

__all__ = ["CreationTimes"]

FOLDER = "created_at"
EXAMPLE = "2026-11-23T10:03:00Z"


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
        self._folder = state_dir / FOLDER
        self._warnings: dict[Path, Problem] = {}

    def get(self, connector: Connector) -> datetime:
        """The connector's creation time in UTC, to the second if it was first seen by us."""
        if connector.created_at is not None:
            return connector.created_at.astimezone(UTC)
        path = self._folder / connector.name
        try:
            return self._read(path) or self._first_seen(path)
        except OSError as error:
            self._warn(path, *_state_unusable(connector, error))
            return _modified(connector.path)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What was wrong with state files so far, by path. The times given are usable all the same."""
        return tuple(self._warnings[path] for path in sorted(self._warnings))

    def _read(self, path: Path) -> datetime | None:
        """The time in a state file; None if there is none. Raises OSError if it can't be read."""
        try:
            with path.open("rb") as file:
                content = file.read(LONGEST + 1)
                written = _moment(os.fstat(file.fileno()).st_mtime)
        except FileNotFoundError:
            return None
        moment = parse_moment(content)
        if moment is None:
            moment = written
            self._warn(path, *_state_damaged(content, moment))
        return moment

    def _first_seen(self, path: Path) -> datetime:
        """Write now as the time, unless another process was quicker; either way what is there.

        Raises OSError if the folder takes no files.
        """
        now = _now()
        write_once(path, f"{_format(now)}\n".encode())
        return self._read(path) or now

    def _warn(self, path: Path, message: str, mend: str) -> None:
        self._warnings[path] = Problem(
            path=path, line=1, column=1, pointer="", message=message, mend=mend, severity="warning"
        )


def _format(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _modified(path: Path) -> datetime:
    try:
        return _moment(path.stat().st_mtime)
    except OSError:
        return _now()


def _moment(timestamp: float) -> datetime:
    try:
        return datetime.fromtimestamp(timestamp, UTC).replace(microsecond=0)
    except (ValueError, OverflowError, OSError):  # a file dated outside the years 1 to 9999
        return _now()


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _state_damaged(content: bytes, moment: datetime) -> tuple[str, str]:
    what = "is empty" if not content.strip() else "holds no time"
    message = (
        f"This file should hold the creation time of a connector, but {what}; "
        f"the time it was last written, {_format(moment)}, is used instead."
    )
    return (
        message,
        f"Write a time such as {EXAMPLE} into it, or give the connector's own created_at.",
    )


def _state_unusable(connector: Connector, error: OSError) -> tuple[str, str]:
    reason = error.strerror or type(error).__name__
    message = (
        f"The creation time of {connector.name} can't be kept here ({reason}); "
        f"the modification time of {connector.path} is used instead and moves with every edit."
    )
    return (
        message,
        f'Make the folder writable, or give "created_at": "{EXAMPLE}" in the connector file.',
    )
