"""The requests that were sent, as limits ask for them: in memory, in a file or in a database.

A file is shared by all runs of a machine, a database by all that name it.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from restsource_dagster.state.state_errors import StateError

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["Costs", "DatabaseRequests", "RequestRows", "RequestTable", "SqliteRequests"]

_LOCK_SECONDS = 30.0
# any number: other programs lock names in the database, too. It is the same in all versions
_LOCK_SALT = 7_305_061_977
_SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY, arrived_by REAL NOT NULL, path TEXT NOT NULL, sender TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS requests_by_time ON requests (arrived_by);
CREATE TABLE IF NOT EXISTS pauses (until REAL NOT NULL);
"""


Costs = Sequence[tuple[str, int]]
"""Paths, with `*` for any text, and what a request to them costs: the first that matches, 1 without one."""


def _newest_beyond_query(
    counted: str, operator: str, costs: Costs
) -> tuple[str, dict[str, str | int]]:
    """Return the query of `RequestRows.newest_beyond`, with `:room`, and the values that it has of its own.

    `counted` is its FROM and WHERE, and `operator` compares a path with a pattern.
    """
    if not costs:  # the index knows how many they are
        return f"SELECT arrived_by {counted} ORDER BY arrived_by DESC LIMIT 1 OFFSET :room", {}
    whens = (
        f"WHEN path {operator} :path_{number} THEN {int(cost)}"
        for number, (_, cost) in enumerate(costs)
    )
    cost = f"CASE {' '.join(whens)} ELSE 1 END"
    running = f"SELECT arrived_by, id, sum({cost}) OVER (ORDER BY arrived_by DESC, id DESC) AS spent {counted}"
    query = (
        f"SELECT arrived_by FROM ({running}) AS latest WHERE spent > :room ORDER BY spent LIMIT 1"  # noqa: S608 - values are bound
    )
    return query, {f"path_{number}": path for number, (path, _) in enumerate(costs)}


class RequestRows(Protocol):
    """The requests and pauses of one log, within a transaction. Times are in seconds."""

    def now(self) -> float:
        """Return the time, by the clock that all who share the log agree on."""

    def forget(self, before: float, after: float, pauses_after: float) -> None:
        """Remove requests outside of `before` to `after`, and pauses that are over or too long."""

    def paused_until(self) -> float | None:
        """Return the end of the longest pause; None without one."""

    def newest_beyond(
        self, room: int, since: float, path: str, sender: str, costs: Costs
    ) -> float | None:
        """Return when the newest request arrived that, with all after it, costs more than `room`.

        None if all together cost no more. Only requests after `since` with this path and sender count, where
        `*` is any text.
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
            # the write lock at once: two that read first and write later would count the same room
            # twice
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield _SqliteRows(connection, self._clock)
            finally:
                # also after an error: the block raises before it adds an entry, and what it has
                # forgotten is old
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
                # Python's module would begin transactions of its own before some statements
                isolation_level=None,
                # threads take turns: the limiter's lock is held around each transaction
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

    def newest_beyond(
        self, room: int, since: float, path: str, sender: str, costs: Costs
    ) -> float | None:
        counted = (
            "FROM requests WHERE arrived_by > :since AND path GLOB :path AND sender GLOB :sender"
        )
        values = {"since": since, "path": path, "sender": sender, "room": room}
        query, paths = _newest_beyond_query(counted, "GLOB", costs)
        found = self._connection.execute(query, values | paths).fetchone()
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


class DatabaseRequests:
    """The requests of one budget in the database."""

    is_shared = True

    def __init__(
        self, connect: Callable[[], AbstractContextManager["Connection"]], log: str
    ) -> None:
        """`connect` opens a transaction, and commits it at the end of its block."""
        self._connect, self._log = connect, log

    @contextmanager
    def transaction(self) -> Iterator[RequestRows]:
        """Yield the rows, which nobody else reads or writes meanwhile. Raises `StateError`."""
        from sqlalchemy import text

        with self._connect() as connection:
            # no row to lock: the first request of a budget finds an empty table
            connection.execute(
                text("SELECT pg_advisory_xact_lock(hashtextextended(:log, :salt))"),
                {"log": self._log, "salt": _LOCK_SALT},
            )
            yield _DatabaseRows(connection, self._log)

    def close(self) -> None:
        """Do nothing: the connections belong to the process."""


class _DatabaseRows:
    def __init__(self, connection: "Connection", log: str) -> None:
        self._connection, self._log = connection, log
        self._now: float | None = None

    def _run(self, query: str, **values: Any) -> Any:
        # most logs are in memory or in a file, which need no SQLAlchemy
        from sqlalchemy import text

        return self._connection.execute(text(query), {"log": self._log, **values})

    def now(self) -> float:
        if self._now is None:
            self._now = float(self._run("SELECT extract(epoch FROM clock_timestamp())").scalar())
        return self._now

    def forget(self, before: float, after: float, pauses_after: float) -> None:
        self._run(
            "DELETE FROM restsource_requests WHERE log = :log AND (arrived_by < :before OR arrived_by > :after)",
            before=before,
            after=after,
        )
        self._run(
            "DELETE FROM restsource_pauses WHERE log = :log AND (until <= :now OR until > :after)",
            now=self.now(),
            after=pauses_after,
        )

    def paused_until(self) -> float | None:
        until: float | None = self._run(
            "SELECT max(until) FROM restsource_pauses WHERE log = :log"
        ).scalar()
        return until

    def newest_beyond(
        self, room: int, since: float, path: str, sender: str, costs: Costs
    ) -> float | None:
        counted = (
            "FROM restsource_requests WHERE log = :log AND arrived_by > :since "
            "AND path LIKE :path AND sender LIKE :sender"
        )
        patterns = [(_as_like(one), cost) for one, cost in costs]
        query, paths = _newest_beyond_query(counted, "LIKE", patterns)
        found: float | None = self._run(
            query, room=room, since=since, path=_as_like(path), sender=_as_like(sender), **paths
        ).scalar()
        return found

    def add(self, arrived_by: float, path: str, sender: str) -> int:
        made = self._run(
            "INSERT INTO restsource_requests (log, arrived_by, path, sender) "
            "VALUES (:log, :arrived_by, :path, :sender) RETURNING id",
            arrived_by=arrived_by,
            path=path,
            sender=sender,
        )
        return int(made.scalar())

    def note_arrival(self, number: int, at: float) -> None:
        self._run(
            "UPDATE restsource_requests SET arrived_by = least(arrived_by, :at) "
            "WHERE log = :log AND id = :number",
            at=at,
            number=number,
        )

    def pause(self, until: float) -> None:
        self._run("INSERT INTO restsource_pauses VALUES (:log, :until)", until=until)


def _as_like(pattern: str) -> str:
    """Return a pattern in which `*` is any text as one of LIKE."""
    return re.sub(r"([\\%_])", r"\\\1", pattern).replace("*", "%").replace("?", "_")
