"""Log requests, so that no window of time holds more of them than the API allows.

An API counts a request in the moment in which it arrives, which is before its response. So a request counts
as arrived at its response, or after a transit time if that comes first.

A log is in memory, for one run, or in the state, where runs share it. A run that is killed leaves the
requests that it sent there, where they count until their time is up.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from restsource_dagster.engine.errors import IngestError, LimitUsedUpError
from restsource_dagster.engine.http.waits import RequestLimit, SentRequest
from restsource_dagster.state.request_table import RequestRows, RequestTable
from restsource_dagster.state.state_errors import StateError

__all__ = ["RequestLog"]

_TRANSIT_SECONDS = 0.5
"""The longest time that a request is assumed to take to reach the server."""
_SHARED_TRANSIT_SECONDS = 5.0
"""The same in a shared log: processes of a busy machine may stand still for longer."""
_KEPT_SECONDS = 86_400.0
"""How long requests are kept: the longest window that a file may have."""


class RequestLog:
    """The requests of one run, or of all runs that share the `table`.

    Call it under a lock. Raises `IngestError` if the table can't be used.
    """

    def __init__(self, table: RequestTable) -> None:
        self._table = table
        self._transit = _SHARED_TRANSIT_SECONDS if table.is_shared else _TRANSIT_SECONDS

    @property
    def is_shared(self) -> bool:
        """True if other processes write to the log, too."""
        return self._table.is_shared

    def take(self, request: SentRequest, limits: Sequence[RequestLimit]) -> tuple[int, float]:
        """Log a request that is sent now; return its number and 0.

        If it must not be sent yet, return the seconds to wait in place of the 0; nothing is logged then.
        Raises `LimitUsedUpError` if a limit says to fail in place of waiting.
        """
        with self._transaction() as rows:
            now = rows.now()
            # what lies far in the future was written before the clock was set back
            rows.forget(now - _KEPT_SECONDS, now + 2 * self._transit, now + _KEPT_SECONDS)
            until = rows.paused_until() or now
            free = (self._free_at(rows, one, request, now) for one in limits if one.counts(request))
            wait = max(until, *free, now) - now
            if wait > 0:
                return 0, wait
            return rows.add(now + self._transit, request.path, request.sender), 0.0

    def note_response(self, number: int) -> None:
        """Note that a request has arrived: there is a response, or none will come."""
        with self._transaction() as rows:
            rows.note_arrival(number, rows.now())

    def pause(self, seconds: float) -> None:
        """Let nobody send a request for so many seconds."""
        with self._transaction() as rows:
            rows.pause(rows.now() + seconds)

    def close(self) -> None:
        """Close the file."""
        self._table.close()

    def _free_at(
        self, rows: RequestRows, limit: RequestLimit, request: SentRequest, now: float
    ) -> float:
        """Return when the limit allows the request: when those that leave it no room fall out of the window."""
        room = limit.requests - limit.cost_of(request)
        found = rows.newest_beyond(
            room, now - limit.seconds, limit.match, limit.sender, limit.costs
        )
        if found is None:
            return now
        if not limit.may_wait:
            raise LimitUsedUpError(limit.requests, limit.seconds, found + limit.seconds - now)
        return found + limit.seconds

    @contextmanager
    def _transaction(self) -> Iterator[RequestRows]:
        try:
            with self._table.transaction() as rows:
                yield rows
        except StateError as error:
            raise IngestError(str(error)) from None
