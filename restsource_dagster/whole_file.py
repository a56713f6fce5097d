"""Write a file whole: readers see the old content or the new one, after a crash, too."""

import os
import tempfile
from pathlib import Path

__all__ = ["create_file_atomically", "write_file_whole"]


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
