"""The requests that were sent, as limits ask for them: in memory, in a file or in a database.

A file is shared by all runs of a machine, a database by all that name it.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Protocol

from restsource_dagster.state.state_errors import StateError

__all__ = ["RequestRows", "RequestTable", "SqliteRequests"]

_LOCK_SECONDS = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY, arrived_by REAL NOT NULL, path TEXT NOT NULL, sender TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS requests_by_time ON requests (arrived_by);
CREATE TABLE IF NOT EXISTS pauses (until REAL NOT NULL);
"""


class RequestRows(Protocol):
    """The requests and pauses of one log, within a transaction. Times are in seconds."""

    def now(self) -> float:
        """Return the time, by the clock that all who share the log agree on."""

    def forget(self, before: float, after: float, pauses_after: float) -> None:
        """Remove requests outside of `before` to `after`, and pauses that are over or too long."""

    def paused_until(self) -> float | None:
        """Return the end of the longest pause; None without one."""

    def newest(self, since: float, path: str, sender: str, offset: int) -> float | None:
        """Return when the request `offset` places after the newest one arrived; None if there is none.

        Only requests after `since` with this path and sender count, where `*` is any text.
        """

    def add(self, arrived_by: float, path: str, sender: str) -> int:
        """Add a request and return its number."""

    def note_arrival(self, number: int, at: float) -> None:
        """Note that a request has arrived by `at`, unless that is known to be earlier."""

    def pause(self, until: float) -> None:
        """Add a pause."""


class RequestTable(Protocol):
    """The requests of one log."""

    is_shared: bool
    """True if other processes write to the log, too."""

    def transaction(self) -> AbstractContextManager[RequestRows]:
        """Return a block in which nobody else reads or writes the log. Raises `StateError`."""

    def close(self) -> None:
        """Close the file, or the connection."""


class SqliteRequests:
    """Requests in memory, or with a `path` in a file. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float], path: Path | None = None) -> None:
        self._clock, self._path = clock, path
        self.is_shared = path is not None
        self._connection: sqlite3.Connection | None = None

    @contextmanager
    def transaction(self) -> Iterator[RequestRows]:
        """Yield the rows, which nobody else reads or writes meanwhile."""
        try:
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield _SqliteRows(connection, self._clock)
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise StateError(
                f"the log of shared requests {self._path} can't be used ({error}). Runs make it anew "
                "when it is deleted"
            ) from None

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            if self._path:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self._path or ":memory:",
                timeout=_LOCK_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            if self._path:
                # a crash of the machine may lose the last requests, and never breaks the file
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = NORMAL")
            with closing(self._connection.cursor()) as cursor:
                cursor.executescript(_SCHEMA)
        return self._connection


class _SqliteRows:
    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self._connection, self.now = connection, clock

    def forget(self, before: float, after: float, pauses_after: float) -> None:
        self._connection.execute(
            "DELETE FROM requests WHERE arrived_by < ? OR arrived_by > ?", (before, after)
        )
        self._connection.execute(
            "DELETE FROM pauses WHERE until <= ? OR until > ?", (self.now(), pauses_after)
        )

    def paused_until(self) -> float | None:
        until: float | None = self._connection.execute("SELECT max(until) FROM pauses").fetchone()[
            0
        ]
        return until

    def newest(self, since: float, path: str, sender: str, offset: int) -> float | None:
        found = self._connection.execute(
            "SELECT arrived_by FROM requests WHERE arrived_by > ? AND path GLOB ? "
            "AND sender GLOB ? ORDER BY arrived_by DESC LIMIT 1 OFFSET ?",
            (since, path, sender, offset),
        ).fetchone()
        return float(found[0]) if found else None

    def add(self, arrived_by: float, path: str, sender: str) -> int:
        made = self._connection.execute(
            "INSERT INTO requests (arrived_by, path, sender) VALUES (?, ?, ?)",
            (arrived_by, path, sender),
        )
        return made.lastrowid or 0

    def note_arrival(self, number: int, at: float) -> None:
        self._connection.execute(
            "UPDATE requests SET arrived_by = min(arrived_by, ?) WHERE id = ?", (at, number)
        )

    def pause(self, until: float) -> None:
        self._connection.execute("INSERT INTO pauses VALUES (?)", (until,))
