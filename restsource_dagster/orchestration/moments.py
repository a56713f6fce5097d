"""A moment in a state file that is written once, whoever is first."""

import os
from datetime import UTC, datetime
from pathlib import Path

from restsource_dagster.orchestration.whole_files import put_whole

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

    Raises `OSError` if the folder takes no files.
    """
    if put_whole(path, content):
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
