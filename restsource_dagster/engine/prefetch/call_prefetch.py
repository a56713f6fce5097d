"""Prefetch calls: request their pages before the page loops do, and decide which request is next.

The page loop takes each page when it asks for it.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice

import requests

from restsource_dagster.engine.http.concurrency import ConcurrencyWindow
from restsource_dagster.engine.paging.calls import CallToFetch
from restsource_dagster.engine.paging.page_iterator import (
    Page,
    PageResponse,
    copy_request,
)
from restsource_dagster.engine.prefetch.page_prediction import PagePrediction, predicted_requests
from restsource_dagster.engine.prefetch.prefetched_page import (
    RESPONSE_OVERHEAD_BYTES,
    MemoryBudget,
    PrefetchedPage,
    PrefetchStage,
)

__all__ = ["STALE_SECONDS", "CallPrefetch", "PrefetchScheduler", "request_key"]

STALE_SECONDS = 30.0
"""A call whose prefetch made no progress for so long before it is made is fetched anew: an API's links
and pages don't stay valid for ever."""
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


class CallPrefetch:
    """Requests the pages of one call and keeps the responses until they are taken.

    The iterator of `call` is its own, apart from that of the page loop. All methods except `read` are
    called under one lock.
    """

    def __init__(
        self,
        call: CallToFetch,
        budget: MemoryBudget,
        prediction: PagePrediction,
        *,
        max_pages_ahead: Callable[[], int],
        page_bytes: int | None = None,
        after: Page | None = None,
    ) -> None:
        """`after` is the page that the page loop has read last; None before the first.

        `max_pages_ahead` returns how far the prefetch may be ahead of the page loop: what was prefetched is
        lost when the run is killed, and requested again by the next one.
        """
        pages = call.pages
        self.resource = call.resource
        self.send = call.send
        self._max_pages_ahead = max_pages_ahead
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
        self.has_failed = False
        """True if a request of the call has failed, or its answer is an error."""
        self.page_bytes = page_bytes
        """The size of the largest page so far; None before the first."""
        self.may_stop_early = call.may_stop_early
        self.first_page_only = call.first_page_only
        """While it is True, no page is read ahead: the page loop reads the first one."""
        self.group: object = None
        """Identifies the calls that are prefetched together, and can be cancelled together."""
        self.kept_after: object = None
        """The part of a load that has left its call to the next one; None if none has."""
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
        # the first page counts from 1, unless the call goes on at a place
        self._first = pages.page_number
        self.key = self._add(self._first, request).key
        """Identifies the call, among those of its resource."""
        self._min_allowed = self._predict_first(after)

    def _predict_first(self, after: Page | None) -> int:
        """Predict the first pages; return the last one that is requested before the page loop asks for it."""
        if after is None:
            # nothing is known of the call yet, and its first page is wanted in any case
            self._prediction.last_page = self._first
            return self._first
        self._prediction.observe(self._iterator, after)
        self._predicted = predicted_requests(self._iterator)
        # a reader that may stop early has to ask for each further page
        return self._first - 1

    @property
    def held_bytes(self) -> int:
        """The memory that its pages have reserved."""
        # the page loop's own requests reserve nothing
        reservations = (page.reservation for page in self._pages)
        return sum(one.reserved_bytes for one in reservations if one is not None)

    @property
    def is_complete(self) -> bool:
        """True if all pages were received and read, and none is taken yet."""
        is_whole = bool(self._pages) and self._pages[0].number == self._first
        if self.is_cancelled or not self.has_ended or not is_whole:
            return False
        return all(one.stage is PrefetchStage.READ and one.error is None for one in self._pages)

    @property
    def has_rows(self) -> bool:
        """True if one of its pages was read and has rows."""
        # rows have a digest, and a page without any has none
        return any(one.received and one.received.digest for one in self._pages)

    @property
    def is_first_page_pending(self) -> bool:
        """True if the first page is on its way, or its request can be sent now."""
        first = self._at(self._first)
        if self.is_cancelled or first is None:
            return False
        is_on_its_way = first.stage in (PrefetchStage.REQUESTED, PrefetchStage.RECEIVED)
        return is_on_its_way or self.next_page() is first

    def next_page(self) -> PrefetchedPage | None:
        """Return the page whose request may be sent now; None if there is none."""
        number = self._last_started + 1
        if self.is_cancelled or self.has_ended or number > self._last_allowed():
            return None
        # one page may exceed the share: its size is known only when it is there
        if self.held_bytes >= self.max_bytes or not self.budget.has_room_for(self._expected_bytes):
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
        # one thread at a time: the iterator of the call has one position
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
        # the page loop compares pages by this hash; computed here, it costs that thread nothing
        if read and page.received:
            page.received = replace(page.received, digest=read.digest)
            page.keep_parsed(self._spare_bytes())
        self.has_failed = read is None
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
        # the page loop decides what is asked for: a response to another request is never used
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

    def begin_at_next_page(self) -> bool:
        """Be a prefetch of the call that goes on at the next page; False if that is not known."""
        if self.is_cancelled or not self._pages:
            return False
        self.key = self._pages[0].key
        return True

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
            return self._first
        last = min(self._prediction.last_page, self._iterator.guard.max_pages)
        if self.last_requested_page >= self._first:
            # a call that was not made yet is fetched as a whole: families that are complete share a load
            last = min(last, self.last_requested_page + self._max_pages_ahead())
        if not self.may_stop_early:
            return last
        # most calls that may stop early end after a page or two
        more = self.last_requested_page - _MIN_REQUESTED_PAGES
        ahead = min(2 ** min(more, 16), self.last_requested_page) if more >= 0 else 0
        return min(last, max(self._min_allowed, self.last_requested_page + ahead))

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
        # a wrong guess was a request that the API counts, so this call guesses no more
        if known is not None:
            self._prediction.stop()
            self._cancel_after(number - 1)
        self._add(number, upcoming)
        self._predicted = predicted_requests(self._iterator)

    def _cancel_after(self, number: int) -> None:
        while self._pages and self._pages[-1].number > number:
            self._pages.pop().cancel()
        self._last_started = min(self._last_started, number)


class PrefetchScheduler:
    """Decides which request of all prefetches of a run is sent next. Used under one lock.

    *Current* prefetches are of calls that are made now or next; *later* ones are of calls that are
    made later in the run. At most half of the requests that `window` allows are in flight for
    current prefetches while later ones could use them. Each kind has half of the memory, and each
    prefetch a share of that, so that parents leave memory for their dependents. Later ones have
    `shares` shares.
    """

    def __init__(
        self,
        shares: int,
        window: ConcurrencyWindow,
        memory_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shares = shares
        self._window = window
        self._clock = clock
        self.current_budget = MemoryBudget(memory_bytes // 2)
        self.later_budget = MemoryBudget(memory_bytes // 2)
        self._current: list[CallPrefetch] = []
        self._later: list[CallPrefetch] = []
        # by resource and request key; several if a resource makes the same call more than once
        self._unclaimed: dict[tuple[str, str], deque[CallPrefetch]] = {}
        self._current_group: object = None

    @property
    def held_bytes(self) -> int:
        """The memory that is reserved."""
        return self.current_budget.used_bytes + self.later_budget.used_bytes

    @property
    def was_out_of_memory(self) -> bool:
        """True if a request was held back for lack of memory since this was last read."""
        was_exhausted = self.current_budget.was_exhausted or self.later_budget.was_exhausted
        self.current_budget.was_exhausted = self.later_budget.was_exhausted = False
        return was_exhausted

    def add_current(self, prefetch: CallPrefetch, *, is_claimed: bool) -> None:
        """Add a prefetch of a call that is made now, `is_claimed`, or is about to be made."""
        prefetch.max_bytes = self.current_budget.max_bytes // 2
        self._current.append(prefetch)
        if not is_claimed:
            self._register(prefetch)

    def add_later(self, prefetch: CallPrefetch) -> None:
        """Add a prefetch of a call that is made later."""
        prefetch.max_bytes = self.later_budget.max_bytes // self._shares
        self._later.append(prefetch)
        self._register(prefetch)

    def claim(self, call: CallToFetch) -> CallPrefetch | None:
        """Return the prefetch of a call that is made now; None without one, or if it is stale."""
        prefetches = self._unclaimed.get((call.resource, request_key(call.pages.request)))
        if not prefetches:
            return None
        prefetch = prefetches[0]  # calls are made in the order in which they were prefetched
        self._unregister(prefetch)
        # what failed before the part was stored may be well by now
        is_over = prefetch.kept_after is not None and prefetch.has_failed
        if is_over or prefetch.is_stale(self._clock() - STALE_SECONDS):
            self.remove(prefetch)
            return None
        if prefetch in self._later:
            self._later.remove(prefetch)
            self._current.append(prefetch)
            prefetch.move_to(self.current_budget, self.current_budget.max_bytes // 2)
        self._current_group = prefetch.group
        prefetch.may_stop_early = call.may_stop_early
        return prefetch

    def is_complete(self, resource: str) -> bool:
        """True if exactly one call of the resource is prefetched and all its pages are in memory."""
        # of several calls it is not known which one is next
        found = self._unclaimed_of(resource)
        return len(found) == 1 and found[0].is_complete

    def has_rows(self, resource: str) -> bool:
        """True if a page of a call of the resource was read and has rows."""
        return any(prefetch.has_rows for prefetch in self._unclaimed_of(resource))

    def is_first_page_pending(self, resource: str) -> bool:
        """True if the first page of a call of the resource is on its way."""
        return any(prefetch.is_first_page_pending for prefetch in self._unclaimed_of(resource))

    def let_read(self, resource: str) -> list[tuple[CallPrefetch, PrefetchedPage]]:
        """Let the calls of a resource go on after their first page; return the pages to read now."""
        found = self._unclaimed_of(resource)
        for prefetch in found:
            prefetch.first_page_only = False
        return [(one, page) for one in found if (page := one.next_to_read()) is not None]

    def _unclaimed_of(self, resource: str) -> list[CallPrefetch]:
        found = (entries for (name, _), entries in self._unclaimed.items() if name == resource)
        return list(chain.from_iterable(found))

    def keep_group(self, group: object, part: object) -> None:
        """Keep the prefetches of a group whose calls are not made yet for the part after `part`."""
        for prefetch in chain.from_iterable(self._unclaimed.values()):
            if prefetch.group is group:
                prefetch.kept_after = part

    def adopt(self, call: CallToFetch, group: object) -> bool:
        """Add the kept prefetch of a call to a group; False if none was kept.

        One that has failed is removed: what failed before the part was stored may be well by now.
        """
        key = (call.resource, request_key(call.pages.request))
        kept = [one for one in self._unclaimed.get(key, ()) if one.kept_after is not None]
        for prefetch in kept:
            if prefetch.has_failed:
                self._unregister(prefetch)
                self.remove(prefetch)
            elif not prefetch.is_cancelled:
                prefetch.group, prefetch.kept_after = group, None
                return True
        return False

    def put_back(self, prefetch: CallPrefetch) -> None:
        """Keep the pages that are left for the call that goes on there."""
        if prefetch.begin_at_next_page():
            self._register(prefetch)
        else:
            self.remove(prefetch)

    def remove(self, prefetch: CallPrefetch) -> None:
        """Cancel and remove a prefetch."""
        prefetch.cancel()
        for prefetches in (self._current, self._later):
            if prefetch in prefetches:
                prefetches.remove(prefetch)

    def cancel_where(self, matches: Callable[[CallPrefetch], bool]) -> None:
        """Cancel the prefetches that match and whose calls are not made yet."""
        # a list, as removing changes both of them
        for prefetch in [one for one in chain(self._current, self._later) if matches(one)]:
            if self._unregister(prefetch):
                self.remove(prefetch)

    def cancel_current(self) -> None:
        """Cancel the current prefetches whose calls are not made yet."""
        current = set(self._current)
        self.cancel_where(current.__contains__)

    def cancel_all(self) -> None:
        """Cancel all prefetches."""
        for prefetch in chain(self._current, self._later):
            prefetch.cancel()

    def next_request(self) -> tuple[CallPrefetch, PrefetchedPage] | None:
        """Return the request to send next; None if there is none."""
        in_flight = sum(prefetch.in_flight for prefetch in self._current) if self._later else 0
        # else a long call now would keep the calls after it from starting, and the run would wait
        # for each
        if self._later and in_flight * 2 >= self._window.size:
            return self._next_later() or self._next_current()
        return self._next_current() or self._next_later()

    def _next_current(self) -> tuple[CallPrefetch, PrefetchedPage] | None:
        return _first_pending(sorted(self._current, key=self._rank))

    def _rank(self, prefetch: CallPrefetch) -> int:
        """Order current prefetches: calls below the parents that are read now, below others, then parents' pages.

        Rows come out in that order.
        """
        if prefetch.group is None:
            return 2
        return 0 if prefetch.group is self._current_group else 1

    def _next_later(self) -> tuple[CallPrefetch, PrefetchedPage] | None:
        # as many as have a share of the memory, the one with the fewest requests first
        open_ones = (one for one in self._later if not (one.has_ended or one.is_cancelled))
        first = islice(open_ones, self._shares)
        return _first_pending(sorted(first, key=lambda prefetch: prefetch.in_flight))

    def _register(self, prefetch: CallPrefetch) -> None:
        self._unclaimed.setdefault((prefetch.resource, prefetch.key), deque()).append(prefetch)

    def _unregister(self, prefetch: CallPrefetch) -> bool:
        """Remove a prefetch from the unclaimed ones; return False if its call was made already."""
        prefetches = self._unclaimed.get((prefetch.resource, prefetch.key), deque())
        if prefetch not in prefetches:
            return False
        prefetches.remove(prefetch)
        if not prefetches:
            del self._unclaimed[prefetch.resource, prefetch.key]
        return True


def _first_pending(
    prefetches: Iterable[CallPrefetch],
) -> tuple[CallPrefetch, PrefetchedPage] | None:
    for prefetch in prefetches:
        if (page := prefetch.next_page()) is not None:
            return prefetch, page
    return None
