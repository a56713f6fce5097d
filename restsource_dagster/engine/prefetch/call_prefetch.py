"""Prefetch one call: request its pages before the page loop does, and keep them until it takes them.

All prefetches of a run share a budget of memory. A page reserves memory when its request is sent.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

import requests

from restsource_dagster.engine.http.cancellation import Cancellation
from restsource_dagster.engine.http.session import ApiResponse
from restsource_dagster.engine.paging.endpoint_reader import SendRequest
from restsource_dagster.engine.paging.page_iterator import (
    Page,
    PageIterator,
    PageResponse,
    copy_request,
)
from restsource_dagster.engine.prefetch.page_prediction import PagePrediction, predicted_requests

__all__ = [
    "RESPONSE_OVERHEAD_BYTES",
    "CallPrefetch",
    "MemoryBudget",
    "MemoryReservation",
    "PrefetchStage",
    "PrefetchedPage",
    "request_key",
]

RESPONSE_OVERHEAD_BYTES = 16 * 1024
"""The memory of a response beside its body: headers and objects."""

# parsed JSON takes up to so many times the memory of the body
_PARSED_SIZE_FACTOR = 8
# the size of a page until one has arrived
_ASSUMED_PAGE_BYTES = 256 * 1024
# a call that may stop early prefetches nothing until the page loop has asked for so many pages
_MIN_REQUESTED_PAGES = 4

_ReadResult = tuple[Page | None, requests.Request | None]
"""A page and the request after it; None where there is none."""


def request_key(request: requests.Request) -> str:
    """Return a text of all that a request sends except credentials.

    Two requests of one resource with the same key are the same request.
    """
    # repr, not JSON: it distinguishes 1, True and "1"
    return repr(
        (
            request.method,
            request.url,
            request.params or {},
            request.json,
            request.data or {},
            request.headers or {},
        )
    )


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
    def held_bytes(self) -> int:
        """The bytes that are reserved for this page."""
        return self.reservation.reserved_bytes if self.reservation else 0

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


class CallPrefetch:
    """Requests the pages of one call and keeps the responses until they are taken.

    `pages` is an iterator of its own, apart from that of the page loop. All methods except `read` are
    called under one lock.
    """

    def __init__(
        self,
        resource: str,
        pages: PageIterator,
        send: SendRequest,
        budget: MemoryBudget,
        prediction: PagePrediction,
        *,
        page_bytes: int | None = None,
        after: Page | None = None,
    ) -> None:
        """`after` is the page that the page loop has read last; None before the first."""
        self.resource = resource
        self.send = send
        self.budget = budget
        self.max_bytes = budget.max_bytes
        """How many bytes of the budget this prefetch may reserve."""
        self.last_requested_page = pages.page_number
        """The last page that the page loop has asked for."""
        self.in_flight = 0
        """The requests that prefetch threads have sent and that have no response yet."""
        self.is_cancelled = False
        self.has_ended = False
        """True if no page follows the prefetched ones."""
        self.page_bytes = page_bytes
        """The size of the largest page so far; None before the first."""
        self.may_stop_early = False
        """True if the page loop may stop before the last page.

        Then at most as many pages are prefetched as it has asked for.
        """
        self.first_page_only = False
        """True while no page after the first may be requested; then the page loop reads this one."""
        self.group: object = None
        """Identifies the calls that are prefetched together, and can be cancelled together."""
        self._iterator = pages
        self._prediction = prediction
        self._pages: deque[PrefetchedPage] = deque()
        self._last_started = pages.page_number
        self._last_read = pages.page_number
        self._last_response_at = 0.0
        self._is_reading = False
        self._predicted: Iterator[requests.Request] | None = None
        # the only request that depends on no response, or on none but that of `after`
        request = pages.next_request()
        self.key = self._add(pages.page_number, request).key
        """Identifies the call, among those of its resource."""
        if after is not None:
            prediction.observe(pages, after)
            self._predicted = predicted_requests(pages)

    @property
    def held_bytes(self) -> int:
        """The memory that its pages have reserved."""
        return sum(page.held_bytes for page in self._pages)

    @property
    def is_complete(self) -> bool:
        """True if all pages were received and read, and none is taken yet."""
        if self.is_cancelled or not self.has_ended or not self._pages or self._pages[0].number != 1:
            return False
        return all(one.stage is PrefetchStage.READ and one.error is None for one in self._pages)

    @property
    def is_first_page_pending(self) -> bool:
        """True if the first page is on its way, or its request can be sent now."""
        first = self._at(1)
        if self.is_cancelled or first is None:
            return False
        is_on_its_way = first.stage in (PrefetchStage.REQUESTED, PrefetchStage.RECEIVED)
        return is_on_its_way or self.next_page() is first

    def next_page(self) -> PrefetchedPage | None:
        """Return the page whose request may be sent now; None if there is none."""
        number = self._last_started + 1
        if self.is_cancelled or self.has_ended or number > self._last_allowed():
            return None
        if not self.budget.has_room_for(self._expected_bytes):
            return None
        # one page may exceed the share: its size is known only when it is there
        if self.held_bytes >= self.max_bytes:
            return None
        known = self._at(number)
        if known is not None or self._predicted is None:
            return known
        request = next(self._predicted, None)
        return None if request is None else self._add(number, request)

    def start(self, page: PrefetchedPage, *, is_ahead: bool) -> None:
        """Mark a page as requested, `is_ahead` of the page loop or by the loop itself."""
        self._last_started = page.number
        page.start(self.budget if is_ahead else None, self._expected_bytes)
        self.in_flight += is_ahead

    def finish(self, page: PrefetchedPage, outcome: PageResponse | Exception | None) -> None:
        """Store the response of a page or its error; None if its request was cancelled."""
        # the page loop's own requests have no cancellation and are not counted
        self.in_flight -= page.cancellation is not None
        if page.stage is PrefetchStage.CANCELLED:
            # again: its memory grew until the response ended
            page.release()
        elif outcome is None:
            self.cancel()
        else:
            page.finish(outcome)
            self._last_response_at = time.monotonic()
            if page.received:
                self.page_bytes = max(self.page_bytes or 0, page.body_bytes)

    def next_to_read(self) -> PrefetchedPage | None:
        """Return the page to read next; None while another thread reads one. Then call `mark_read`."""
        page = self._at(self._last_read + 1)
        if (
            self._is_reading
            or self.is_cancelled
            or self.first_page_only
            or page is None
            or page.stage is not PrefetchStage.RECEIVED
        ):
            return None
        is_wanted = page.number <= self.last_requested_page
        is_urgent = is_wanted or self._at(page.number + 1) is None
        if not is_urgent and not page.fits_parsed(self._spare_bytes()):
            return None  # it would be parsed twice, and the request after it is predicted anyway
        self._is_reading = True
        return page

    def read(self, page: PrefetchedPage) -> _ReadResult:
        """Read a page. Called without the lock, since parsing takes long."""
        if page.received is None:
            return None, None
        try:
            read = self._iterator.advance(page.received)
            has_next = read and self._iterator.has_next_page
            return read, self._iterator.next_request() if has_next else None
        except Exception:  # noqa: BLE001 - the page loop meets the same error and raises it
            return None, None

    def mark_read(self, page: PrefetchedPage, result: _ReadResult) -> None:
        """Store what `read` returned, and predict the pages after it."""
        self._is_reading = False
        if self.is_cancelled:
            return
        page.stage = PrefetchStage.READ
        self._last_read = page.number
        read, upcoming = result
        if read and page.received:
            page.received = replace(page.received, digest=read.digest)
            page.keep_parsed(self._spare_bytes())
        if read is None or upcoming is None:
            # pages after the last one were predicted wrongly
            self._cancel_after(page.number)
            self.has_ended = True
            return
        self._prediction.observe(self._iterator, read)
        self._expect_request(page.number + 1, upcoming)

    def claim_page(self, request: requests.Request, number: int) -> PrefetchedPage | None:
        """Return the prefetched page for this request.

        Cancel the prefetch and return None if its next page differs.
        """
        first = self._pages[0] if self._pages else None
        if (
            self.is_cancelled
            or first is None
            or first.number != number
            or first.key != request_key(request)
        ):
            self.cancel()
            return None
        self.last_requested_page = number
        if first.reservation:
            # the page loop waits for it now, so it must not fail for lack of memory
            first.reservation.is_required = True
        return first

    def is_ready(self, page: PrefetchedPage) -> bool:
        """True if the page loop can take the page, or sees that it was cancelled."""
        return page.stage >= (
            PrefetchStage.RECEIVED if self.first_page_only else PrefetchStage.READ
        )

    def take(self, page: PrefetchedPage) -> bool:
        """Remove the first page for the page loop, and its memory; return False if it is not ready."""
        if page.stage is PrefetchStage.CANCELLED or not self.is_ready(page):
            return False
        self._pages.popleft()
        page.release()
        return True

    def move_to(self, budget: MemoryBudget, max_bytes: int) -> None:
        """Move all reservations to another budget, of which it may reserve `max_bytes`."""
        self.budget, self.max_bytes = budget, max_bytes
        for page in self._pages:
            if page.reservation:
                page.reservation.move_to(budget)

    def is_stale(self, since: float) -> bool:
        """True if it stopped in the middle and got no response since then, by the monotonic clock."""
        has_stopped = self._last_started > 0 and not self.in_flight and not self.has_ended
        return has_stopped and self._last_response_at < since

    def cancel(self) -> None:
        """Cancel all pages that are not taken."""
        self.is_cancelled = True
        self._cancel_after(0)

    @property
    def _expected_bytes(self) -> int:
        """The likely size of the next response."""
        if self.page_bytes is None:
            return _ASSUMED_PAGE_BYTES
        return self.page_bytes + RESPONSE_OVERHEAD_BYTES

    def _spare_bytes(self) -> int:
        # parsed bodies only save time, so they get no more than half of the memory
        budget = self.budget
        return min(budget.max_bytes // 2 - budget.used_bytes, self.max_bytes // 2 - self.held_bytes)

    def _last_allowed(self) -> int:
        if self.first_page_only:
            return 1
        last = min(self._prediction.last_page, self._iterator.guard.max_pages)
        if not self.may_stop_early:
            return last
        # most calls that may stop early end after a page or two
        more = self.last_requested_page - _MIN_REQUESTED_PAGES
        ahead = min(2 ** min(more, 16), self.last_requested_page) if more >= 0 else 0
        return min(last, max(1, self.last_requested_page + ahead))

    def _at(self, number: int) -> PrefetchedPage | None:
        at = number - self._pages[0].number if self._pages else -1
        return self._pages[at] if 0 <= at < len(self._pages) else None

    def _add(self, number: int, request: requests.Request) -> PrefetchedPage:
        page = PrefetchedPage(number, request_key(request), copy_request(request))
        self._pages.append(page)
        return page

    def _expect_request(self, number: int, upcoming: requests.Request) -> None:
        """Make `upcoming` the request of a page; cancel the page if another one was predicted."""
        known = self._at(number)
        if known is not None and known.key == request_key(upcoming):
            return
        if known is not None:
            self._prediction.stop()
            self._cancel_after(number - 1)
        self._add(number, upcoming)
        self._predicted = predicted_requests(self._iterator)

    def _cancel_after(self, number: int) -> None:
        while self._pages and self._pages[-1].number > number:
            self._pages.pop().cancel()
        self._last_started = min(self._last_started, number)
