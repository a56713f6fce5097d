"""Log requests, so that no window of time holds more of them than the API allows.

An API counts a request in the moment in which it arrives, which is before its response. So a request counts
as arrived at its response, or after a transit time if that comes first.

A log is in memory, for one run, or in a file that all runs of the machine share. A run that is killed
leaves the requests that it sent in the file, where they count until their time is up.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.http.waits import RequestLimit, SentRequest

__all__ = ["RequestLog"]

_TRANSIT_SECONDS = 0.5
"""The longest time that a request is assumed to take to reach the server."""
_SHARED_TRANSIT_SECONDS = 5.0
"""The same in a shared log: processes of a busy machine may stand still for longer."""
_KEPT_SECONDS = 86_400.0
"""How long requests are kept: the longest window that a file may have."""
_LOCK_SECONDS = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY, arrived_by REAL NOT NULL, path TEXT NOT NULL, sender TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS requests_by_time ON requests (arrived_by);
CREATE TABLE IF NOT EXISTS pauses (until REAL NOT NULL);
"""


class RequestLog:
    """The requests of one run, or with a `path` of all runs that name that file.

    Call it under a lock. `clock` gives seconds; those of a shared log are since 1970, which all processes
    agree on. Raises `IngestError` if the file can't be used.
    """

    def __init__(self, clock: Callable[[], float], path: Path | None = None) -> None:
        self._clock = clock
        self._path = path
        self._transit = _SHARED_TRANSIT_SECONDS if path else _TRANSIT_SECONDS
        self._connection: sqlite3.Connection | None = None

    @property
    def is_shared(self) -> bool:
        """True if other processes write to the log, too."""
        return self._path is not None

    def take(self, request: SentRequest, limits: Sequence[RequestLimit]) -> tuple[int, float]:
        """Log a request that is sent now; return its number and 0.

        If it must not be sent yet, return the seconds to wait in place of the 0; nothing is logged then.
        """
        with self._transaction() as connection:
            now = self._clock()
            self._forget_old(connection, now)
            until = connection.execute("SELECT max(until) FROM pauses").fetchone()[0] or now
            free = (self._free_at(connection, one, now) for one in limits if one.counts(request))
            wait = max(until, *free, now) - now
            if wait > 0:
                return 0, wait
            row = (now + self._transit, request.path, request.sender)
            made = connection.execute(
                "INSERT INTO requests (arrived_by, path, sender) VALUES (?, ?, ?)", row
            )
            return made.lastrowid or 0, 0.0

    def note_response(self, number: int) -> None:
        """Note that a request has arrived: there is a response, or none will come."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE requests SET arrived_by = min(arrived_by, ?) WHERE id = ?",
                (self._clock(), number),
            )

    def pause(self, seconds: float) -> None:
        """Let nobody send a request for so many seconds."""
        with self._transaction() as connection:
            connection.execute("INSERT INTO pauses VALUES (?)", (self._clock() + seconds,))

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _free_at(self, connection: sqlite3.Connection, limit: RequestLimit, now: float) -> float:
        """Return when the limit allows another request: when the one too many falls out of the window."""
        found = connection.execute(
            "SELECT arrived_by FROM requests WHERE arrived_by > ? AND path GLOB ? "
            "AND sender GLOB ? ORDER BY arrived_by DESC LIMIT 1 OFFSET ?",
            (now - limit.seconds, limit.match, limit.sender, limit.requests - 1),
        ).fetchone()
        return float(found[0]) + limit.seconds if found else now

    def _forget_old(self, connection: sqlite3.Connection, now: float) -> None:
        # what lies far in the future was written before the clock was set back
        connection.execute(
            "DELETE FROM requests WHERE arrived_by < ? OR arrived_by > ?",
            (now - _KEPT_SECONDS, now + 2 * self._transit),
        )
        connection.execute(
            "DELETE FROM pauses WHERE until <= ? OR until > ?", (now, now + _KEPT_SECONDS)
        )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise IngestError(
                f"the log of shared requests {self._path} can't be used ({error}). Runs make it anew "
                "when it is deleted"
            ) from None

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
