"""Where the builder of a project runs, noted in its state folder, so that assets can link to it."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__all__ = ["note_builder", "running_builder"]

_NOTE = "builder.json"


def note_builder(folder: Path, address: str) -> None:
    """Note the address of this process' builder in a folder that is there, without its token."""
    parts = urlsplit(address)
    noted = {"address": f"{parts.scheme}://{parts.netloc}", "pid": os.getpid()}
    (folder / _NOTE).write_text(json.dumps(noted), encoding="utf-8")


def running_builder(folder: Path) -> str | None:
    """Return the address of the builder that runs on this machine for a state folder; None without one."""
    noted = _read(folder / _NOTE)
    pid, address = noted.get("pid"), noted.get("address")
    # a note outlives a builder that was killed
    is_noted = isinstance(pid, int) and isinstance(address, str)
    return str(address) if is_noted and _is_alive(int(str(pid))) else None


def _read(place: Path) -> dict[str, Any]:
    try:
        noted = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # there is none, or it is being written
    return noted if isinstance(noted, dict) else {}


def _is_alive(pid: int) -> bool:
    try:
        # signal 0 asks whether there is such a process
        os.kill(pid, 0)
    except PermissionError:
        return True  # another user's
    except OSError:
        return False
    return True
