"""Write a file whole: readers see the old content or the new one, after a crash, too."""

import os
import tempfile
from pathlib import Path

__all__ = ["write_file_whole"]


def write_file_whole(path: Path, content: bytes, mode: int | None = None) -> None:
    """Replace a file, or create it. Its content survives the death of the process and of the machine.

    `mode` are its permissions; None: those of the file that it replaces. Raises `OSError`: the old file
    stays then, and nothing is left beside it.
    """
    # in the same folder, as a rename can't cross file systems; hidden, so that no folder is read with it
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".new")
    new = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            # `mkstemp` makes a private file, whatever the umask is
            os.fchmod(file.fileno(), path.stat().st_mode & 0o7777 if mode is None else mode)
            file.write(content)
            file.flush()
            # before the rename: without it a power cut can leave the new name with no content
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
