"""The interface of the state store, the one in a folder of one machine, and which one a project has.

A store keeps short texts by kind and name, and gives out leases. Everything in it must outlive a run. With
runs on several machines it must be one for all of them, so it may be a database (database.py). A folder has
a file for each text, the system's locks, and a SQLite file for each budget.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, Self

from filelock import FileLock, Timeout

from restsource_dagster.settings import Settings

if TYPE_CHECKING:  # few runs share a budget
    from restsource_dagster.state.cipher import TextCipher
    from restsource_dagster.state.request_table import RequestTable, SqliteRequests

__all__ = [
    "FileLease",
    "FolderStore",
    "Lease",
    "LeaseKind",
    "StateKind",
    "StateStore",
    "StoredText",
    "make_private_folder",
    "open_state",
]


StateKind = Literal["created_at", "live_starts", "tokens", "jobs", "template_versions", "sweeps"]
"""What a text is about: it is the name of a folder, and a column of the database."""
LeaseKind = Literal["runs", "tokens"]


@dataclass(frozen=True)
class StoredText:
    """A text as it is stored."""

    content: bytes
    written_at: datetime
    """When it was last written, UTC."""


class Lease(Protocol):
    """A lock that one holder at a time has, on all machines that share the store.

    The lock of a process that dies becomes free, at once on its own machine and after
    `RESTSOURCE_LEASE_SECONDS` on others. So a holder that stood still for longer may have a successor:
    `check` before each change that a successor must not see.
    """

    def acquire(self, seconds: float) -> bool:
        """Wait for the lock for at most so many seconds; return False if another holder has it still.

        Raises `OSError` or `StateError` if the store can't be used.
        """

    def holder(self) -> str:
        """Return who has the lock, for messages."""

    def check(self) -> None:
        """Raise `LeaseLostError` if another holder may have the lock."""

    def release(self) -> None:
        """Free the lock. It may have been lost."""


class StateStore(Protocol):
    """Keeps texts, leases and shared budgets.

    Methods raise `StateError` if a database can't be used, and `OSError` if a folder can't.
    """

    secrets: tuple[str, ...]
    """What is to be redacted: the key of tokens, the password of a database."""

    def location(self, kind: StateKind, name: str) -> str:
        """Return where a text is, for messages."""

    def read(self, kind: StateKind, name: str) -> StoredText | None:
        """Return a text; None if there is none. Texts of the kind `tokens` are decrypted."""

    def write_once(self, kind: StateKind, name: str, text: str) -> None:
        """Store a text unless there is one: of several processes one wins. All read the same then."""

    def write(self, kind: StateKind, name: str, text: str, lease: Lease | None = None) -> None:
        """Store a text so that it survives the death of the process and of the machine.

        With a lease, raises `LeaseLostError` in place of writing if another holder has it.
        """

    def delete(self, kind: StateKind, name: str) -> None:
        """Remove a text if there is one."""

    def names(self, kind: StateKind) -> Sequence[str]:
        """Return the names of all texts of a kind."""

    def lease(self, kind: LeaseKind, name: str) -> Lease:
        """Return the lease of a name, which is not acquired yet."""

    def requests(self, log: str) -> "RequestTable":
        """Return the requests that all runs send which share the budget `log`."""


def open_state(settings: Settings) -> StateStore:
    """Return the state store of a project.

    The first use of a database copies what the folder has into it. Raises `StateError` if it can't be used.
    """
    # imported here: each of the two imports what the other one does not need
    if settings.state_url is None:
        return FolderStore.of(settings)
    from restsource_dagster.state.database import open_database

    return open_database(settings)


_MAX_BYTES = 1_000_000
"""A large file that was put there by mistake is not read whole."""
# names of files that earlier versions have written: they never change
_SUFFIXES: dict[StateKind, str] = {
    "created_at": "",
    "live_starts": "",
    "tokens": ".json",
    "jobs": ".json",
    "template_versions": ".json",
    "sweeps": ".json",
}
_LOCK_FOLDERS: dict[LeaseKind, str] = {"runs": "locks", "tokens": "tokens"}
_POLL_SECONDS = 0.1
_PRIVATE_FOLDER_MODE = 0o700


def make_private_folder(folder: Path) -> None:
    """Make a folder that only this user can open; one that exists is left as it is.

    Raises `OSError`.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=_PRIVATE_FOLDER_MODE)


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
                # text and time of one open file: another process may replace the path in between
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
        # few runs store anything
        from restsource_dagster.whole_file import create_file_atomically

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

    def names(self, kind: StateKind) -> Sequence[str]:
        """Return the names of the files of a kind. Raises `OSError`."""
        return [name for name, _ in self._files(kind)]

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
        for kind in _SUFFIXES:
            for name, path in self._files(kind):
                yield kind, name, path.read_bytes()[:_MAX_BYTES]

    def _files(self, kind: StateKind) -> Iterator[tuple[str, Path]]:
        place, suffix = self.folder / kind, _SUFFIXES[kind]
        for path in sorted(place.rglob(f"*{suffix}")):
            # unfinished files and locks beside them
            if path.is_file() and not path.name.startswith(".") and path.suffix != ".lock":
                yield path.relative_to(place).as_posix().removesuffix(suffix), path


class FileLease:
    """A lock among the processes of a machine. The system frees it when its process ends."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.path = folder / f"{name}.lock"
        self._owner = folder / f"{name}.owner"
        # of the open file, not its content: the system frees it however its process ends
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


def _moment_of(timestamp: float) -> datetime:
    try:
        return datetime.fromtimestamp(timestamp, UTC).replace(microsecond=0)
    except (ValueError, OverflowError, OSError):  # a file dated outside the years 1 to 9999
        return datetime.now(UTC).replace(microsecond=0)
