"""State in a folder of one machine: a file for each text, the system's locks, a SQLite file for each budget."""

import json
import os
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from filelock import FileLock, Timeout

from restsource_dagster.settings import Settings, make_private_folder
from restsource_dagster.state.store import Lease, LeaseKind, StateKind, StoredText

if TYPE_CHECKING:
    from restsource_dagster.state.cipher import TextCipher
    from restsource_dagster.state.request_table import SqliteRequests

__all__ = ["FileLease", "FolderStore", "create_file_atomically"]

_MAX_BYTES = 1_000_000
"""A large file that was put there by mistake is not read whole."""
_SUFFIXES: dict[StateKind, str] = {
    "created_at": "",
    "live_starts": "",
    "tokens": ".json",
    "jobs": ".json",
    "template_versions": ".json",
}
_LOCK_FOLDERS: dict[LeaseKind, str] = {"runs": "locks", "tokens": "tokens"}
_POLL_SECONDS = 0.1


class FolderStore:
    """The state in `folder`. With a `key`, tokens are encrypted."""

    def __init__(self, folder: Path, key: str | None = None) -> None:
        self.folder, self._key = folder, key
        self.secrets = tuple((key or "").split(","))

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the store of a project's state folder."""
        key = settings.token_key
        return cls(settings.state_folder, key.get_secret_value() if key else None)

    def path(self, kind: StateKind, name: str) -> Path:
        """Return the file of a text."""
        return self.folder / kind / f"{name}{_SUFFIXES[kind]}"

    def location(self, kind: StateKind, name: str) -> str:
        """Return the file's path."""
        return str(self.path(kind, name))

    def read(self, kind: StateKind, name: str) -> StoredText | None:
        """Return the content of a file; None if there is none. Raises `OSError` and `StateError`."""
        path = self.path(kind, name)
        try:
            with path.open("rb") as file:
                content = file.read(_MAX_BYTES)
                modified = os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None
        if kind == "tokens":
            content = self._cipher().decrypted(content, str(path))
        return StoredText(content, _moment_of(modified))

    def write_once(self, kind: StateKind, name: str, text: str) -> None:
        """Create a file, whole or not at all, unless it exists. Raises `OSError`."""
        path, content = self.path(kind, name), text.encode()
        make_private_folder(self.folder)
        if create_file_atomically(path, content):
            return
        # Without hard links, exclusive creation lets one process win, too. A moment is one write, so
        # readers see nothing or all of it.
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)

    def write(
        self,
        kind: StateKind,
        name: str,
        text: str,
        lease: Lease | None = None,  # noqa: ARG002 - a lock of the system is never lost
    ) -> None:
        """Replace a file whole, readable by this user only. Raises `OSError` and `StateError`."""
        path = self.path(kind, name)
        content = self._cipher().encrypted(text.encode()) if kind == "tokens" else text.encode()
        make_private_folder(path.parent)
        # few runs store anything
        from restsource_dagster.whole_file import write_file_whole

        write_file_whole(path, content, 0o600)

    def delete(self, kind: StateKind, name: str) -> None:
        """Remove a file if there is one."""
        self.path(kind, name).unlink(missing_ok=True)

    def lease(self, kind: LeaseKind, name: str) -> "FileLease":
        """Return the lock of a name, which the system frees when its process ends."""
        return FileLease(self.folder / _LOCK_FOLDERS[kind], name)

    def _cipher(self) -> "TextCipher":
        # few runs have tokens or share a budget
        from restsource_dagster.state.cipher import TextCipher

        return TextCipher(self._key)

    def requests(self, log: str) -> "SqliteRequests":
        """Return the requests in the file of a budget."""
        from restsource_dagster.state.request_table import SqliteRequests

        # since 1970, which all processes agree on
        return SqliteRequests(time.time, self.folder / "requests" / f"{log}.sqlite")

    def texts(self) -> Iterator[tuple[StateKind, str, bytes]]:
        """Yield all texts with their kinds and names, as they are in their files."""
        for kind, suffix in _SUFFIXES.items():
            place = self.folder / kind
            for path in sorted(place.rglob(f"*{suffix}")):
                # unfinished files and locks beside them
                if path.is_file() and not path.name.startswith(".") and path.suffix != ".lock":
                    name = path.relative_to(place).as_posix().removesuffix(suffix)
                    yield kind, name, path.read_bytes()[:_MAX_BYTES]


class FileLease:
    """A lock among the processes of a machine. The system frees it when its process ends."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.path = folder / f"{name}.lock"
        self._owner = folder / f"{name}.owner"
        self._lock = FileLock(self.path, mode=0o600)

    def acquire(self, seconds: float) -> bool:
        """Wait for the lock for at most so many seconds. Raises `OSError`."""
        make_private_folder(self._folder)
        try:
            self._lock.acquire(timeout=seconds, poll_interval=_POLL_SECONDS)
        except Timeout:
            return False
        self._write_owner()
        return True

    def holder(self) -> str:
        """Return the process that has the lock."""
        try:
            known = json.loads(self._owner.read_text(encoding="utf-8"))
            return f"PID {known['pid']}, since {known['since']}"
        except (OSError, ValueError, KeyError):
            # it starts or ends at this moment: the lock and the file don't change together
            return "its process is unknown"

    def check(self) -> None:
        """Do nothing: a process that stands still keeps its lock."""

    def release(self) -> None:
        """Free the lock."""
        # before the lock is released: afterwards the file is the next one's
        self._owner.unlink(missing_ok=True)
        self._lock.release()

    def _write_owner(self) -> None:
        """Write who holds the lock. The file is replaced as a whole, so no reader sees half of it."""
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        new = self._owner.with_suffix(f".{os.getpid()}.new")
        new.write_text(json.dumps({"pid": os.getpid(), "since": since}), encoding="utf-8")
        new.replace(self._owner)


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


def _moment_of(timestamp: float) -> datetime:
    try:
        return datetime.fromtimestamp(timestamp, UTC).replace(microsecond=0)
    except (ValueError, OverflowError, OSError):  # a file dated outside the years 1 to 9999
        return datetime.now(UTC).replace(microsecond=0)
