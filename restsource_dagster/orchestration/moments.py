"""A moment in a state file that is written once, whoever is first."""

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["LONGEST", "parse_moment", "write_once"]

LONGEST = 64
"""Bytes that a moment may have: it has 25, and a stray big file must not be read whole."""


def parse_moment(content: bytes) -> datetime | None:
    """The moment, UTC; None for what can't be understood or is longer than `LONGEST`."""
    if len(content) > LONGEST:
        return None
    try:
        moment = datetime.fromisoformat(content.decode("ascii").strip())
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def write_once(path: Path, content: bytes) -> None:
    """Write a file, unless it is there or another process is quicker; its folder is made, too.

    A hard link to a complete file either makes the name or fails: no reader sees half a moment, and
    of several processes exactly one wins. Raises `OSError` if the folder takes no files.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            # A temporary file is private; the daemon may run as another user.
            os.fchmod(file.fileno(), 0o644)
        _publish(Path(name), path, content)
    finally:
        Path(name).unlink(missing_ok=True)


def _publish(temporary: Path, path: Path, content: bytes) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError:
        # No hard links on this file system (some network and shared folders). Exclusive creation
        # also lets one process win; a moment goes out in one write.
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)
