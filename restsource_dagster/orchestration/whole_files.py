"""Files that are put in place whole, by whoever is first."""

import os
import tempfile
from pathlib import Path

__all__ = ["put_whole"]


def put_whole(path: Path, content: bytes) -> bool:
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
        return _is_linked(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _is_linked(name: str, path: Path) -> bool:
    try:
        os.link(name, path)
    except FileExistsError:
        return True
    except OSError:
        return False
    return True
