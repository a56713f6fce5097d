"""One prefetched page: its request, its response, and the memory that both take.

All prefetches of a run share a budget of memory. A page reserves memory when its request is sent.
"""

import threading
from dataclasses import dataclass
from enum import IntEnum

import requests

from restsource_dagster.engine.http.cancellation import Cancellation
from restsource_dagster.engine.http.json_body import ApiResponse
from restsource_dagster.engine.paging.calls import SendRequest
from restsource_dagster.engine.paging.page_iterator import PageResponse

__all__ = [
    "RESPONSE_OVERHEAD_BYTES",
    "MemoryBudget",
    "MemoryReservation",
    "PrefetchStage",
    "PrefetchedPage",
]

RESPONSE_OVERHEAD_BYTES = 16 * 1024
"""The memory of a response beside its body: headers and objects."""

# parsed JSON takes up to so many times the memory of the body
_PARSED_SIZE_FACTOR = 8


class MemoryBudget:
    """A number of bytes that many prefetches share. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        """The bytes that are reserved. Only `reserve` and `release` change them."""
        self._lock = threading.Lock()
        self.was_exhausted = False
        """True if `has_room_for` has returned False since this was last reset."""

    def has_room_for(self, size: int) -> bool:
        """True if so many more bytes can be reserved."""
        # without the lock: a hint before a request is sent, `reserve` decides
        if self.used_bytes + size <= self.max_bytes:
            return True
        self.was_exhausted = True
        return False

    def reserve(self, size: int, *, force: bool = False) -> bool:
        """Reserve so many bytes; with `force` even beyond the budget. Return False if it is full."""
        with self._lock:
            if not force and self.used_bytes + size > self.max_bytes:
                return False
            self.used_bytes += size
            return True

    def release(self, size: int) -> None:
        """Return so many bytes to the budget."""
        with self._lock:
            self.used_bytes -= size


class MemoryReservation:
    """The memory of one response, from the moment its request is sent. Thread-safe.

    It starts with the `expected` bytes and grows when the body turns out to be larger.
    """

    def __init__(self, budget: MemoryBudget, expected: int) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._received = 0
        self.reserved_bytes = expected
        """The bytes that are reserved."""
        # forced: the caller has asked whether there is room, under its own lock
        budget.reserve(expected, force=True)
        self.is_required = False
        """True if a thread waits for the response: then it is read, however large it is."""

    def grow(self, size: int) -> bool:
        """Count so many received bytes; return False if they don't fit in the budget."""
        with self._lock:
            self._received += size
            more = self._received - self.reserved_bytes
            # not for each chunk: the budget has one lock, which all prefetches share
            if more > 0:
                if not self._budget.reserve(more, force=self.is_required):
                    return False
                self.reserved_bytes += more
            return True

    def resize(self, size: int) -> None:
        """Reserve exactly so many bytes from now on."""
        with self._lock:
            # forced: the memory is in use already, or is being released
            self._budget.reserve(size - self.reserved_bytes, force=True)
            self.reserved_bytes = size

    def move_to(self, budget: MemoryBudget) -> None:
        """Reserve the same bytes in another budget."""
        with self._lock:
            self._budget.release(self.reserved_bytes)
            self._budget = budget
            budget.reserve(self.reserved_bytes, force=True)

    def release(self) -> None:
        """Return all bytes to the budget."""
        self.resize(0)


class PrefetchStage(IntEnum):
    """How far the request of a page has come."""

    PENDING = 0
    REQUESTED = 1
    RECEIVED = 2
    READ = 3
    """The page was read, and the request after it is known."""
    CANCELLED = 4


# eq=False: two pages are one only if they are one object
@dataclass(eq=False)
class PrefetchedPage:
    """A page of a call that the page loop has not taken yet."""

    number: int
    key: str
    request: requests.Request
    stage: PrefetchStage = PrefetchStage.PENDING
    reservation: MemoryReservation | None = None
    """Its memory; None if the page loop itself sends the request."""
    cancellation: Cancellation | None = None
    received: PageResponse | None = None
    error: Exception | None = None

    @property
    def body_bytes(self) -> int:
        """The size of the response's body; 0 without one."""
        return len(self.received.response.content) if self.received else 0

    def start(self, budget: MemoryBudget | None, expected: int) -> None:
        """Mark it as requested: ahead of time within `budget`, or by the page loop without one."""
        self.stage = PrefetchStage.REQUESTED
        if budget is not None:
            self.reservation = MemoryReservation(budget, expected)
            self.cancellation = Cancellation(self.reservation.grow)

    def send(self, send: SendRequest) -> requests.Response:
        """Send the request. Raises what `send` raises, and `RequestCancelled`."""
        if self.cancellation is None:
            return send(self.request, self.number)
        with self.cancellation.activated():
            return send(self.request, self.number)

    def finish(self, outcome: PageResponse | Exception) -> None:
        """Store the response, or the error in place of it."""
        self.stage = PrefetchStage.RECEIVED
        if isinstance(outcome, Exception):
            self.error = outcome
        else:
            self.received = outcome
        if self.reservation:
            self.reservation.resize(self.body_bytes + RESPONSE_OVERHEAD_BYTES)

    def fits_parsed(self, spare_bytes: int) -> bool:
        """True if the parsed body can be kept in `spare_bytes`."""
        return self.reservation is None or self.body_bytes * _PARSED_SIZE_FACTOR <= spare_bytes

    def keep_parsed(self, spare_bytes: int) -> None:
        """Keep the parsed body if it fits in `spare_bytes`; else it is parsed again when taken."""
        if self.reservation is None or self.reservation.is_required or self.received is None:
            return
        more = self.body_bytes * _PARSED_SIZE_FACTOR
        if more <= spare_bytes:
            self.reservation.resize(self.body_bytes + more + RESPONSE_OVERHEAD_BYTES)
        elif isinstance(self.received.response, ApiResponse):
            self.received.response.discard_parsed()

    def cancel(self) -> None:
        """Cancel its request and release its memory."""
        self.stage = PrefetchStage.CANCELLED
        if self.cancellation:
            self.cancellation.cancel()
        self.release()

    def release(self) -> None:
        """Release its memory."""
        if self.reservation:
            self.reservation.release()
