"""The interface of the state store, and which one a project has.

A store keeps short texts by kind and name, and gives out leases. Everything in it must outlive a run. With
runs on several machines it must be one for all of them, so it may be a database.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

from restsource_dagster.settings import Settings

if TYPE_CHECKING:  # few runs share a budget
    from restsource_dagster.state.request_table import RequestTable

__all__ = [
    "Lease",
    "LeaseKind",
    "StateKind",
    "StateStore",
    "StoredText",
    "open_state",
]

StateKind = Literal["created_at", "live_starts", "tokens", "jobs", "template_versions"]
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
        from restsource_dagster.state.folder import FolderStore

        return FolderStore.of(settings)
    from restsource_dagster.state.database import open_database

    return open_database(settings)
