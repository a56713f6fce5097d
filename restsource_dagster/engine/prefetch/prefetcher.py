"""Prefetch the calls of one run, and record responses so that calls can be made again without requests."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar

import requests

from restsource_dagster.connector.models.http_settings import USUAL_CONCURRENCY
from restsource_dagster.engine.errors import PagingError
from restsource_dagster.engine.http.cancellation import Cancellation, RequestCancelled
from restsource_dagster.engine.http.json_body import ApiResponse
from restsource_dagster.engine.http.waits import RateLimiter
from restsource_dagster.engine.paging.calls import CallToFetch, PageFetcher, PagePrefetch
from restsource_dagster.engine.paging.page_iterator import Page, PageResponse
from restsource_dagster.engine.prefetch.call_prefetch import (
    CallPrefetch,
    PrefetchScheduler,
    request_key,
)
from restsource_dagster.engine.prefetch.page_prediction import PagePrediction
from restsource_dagster.engine.prefetch.prefetched_page import (
    MemoryBudget,
    PrefetchedPage,
    PrefetchStage,
)

__all__ = ["MEMORY_BUDGET_BYTES", "Prefetcher", "ResponseReplay", "WorkerPool"]

MEMORY_BUDGET_BYTES = 64 * 2**20
"""The memory of one run for responses that the page loops have not asked for yet."""
# how long the end of a run waits for its threads, whose connections are shut down by then
_SHUTDOWN_SECONDS = 5.0

Work = TypeVar("Work")


_PAGES_AHEAD_PER_REQUEST = 2
"""Enough for each thread to have its next request while the page loop writes a page."""


class Prefetcher(PagePrefetch):
    """Prefetches the calls of one run with up to `max_threads` threads. Thread-safe.

    The threads start when there is a request to send and end with `close`. All requests of the run
    share `rate_limiter`, which says how many of them may be in progress at once.
    """

    def __init__(
        self,
        max_threads: int,
        rate_limiter: RateLimiter,
        memory_bytes: int = MEMORY_BUDGET_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # memory is shared out, and pages are guessed, for the usual number of requests at once
        self._usual = min(USUAL_CONCURRENCY, max_threads)
        self._rate_limiter = rate_limiter
        self._window = rate_limiter.window
        # one lock for all: it is held for microseconds, and a request takes milliseconds
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._scheduler = PrefetchScheduler(self._usual, self._window, memory_bytes, clock)
        self._in_flight: set[Cancellation] = set()
        self._page_bytes: dict[str, int] = {}
        self._workers = WorkerPool(
            max_threads,
            self._lock,
            has_work=lambda: self._next_request() is not None,
            next_work=self._start_next,
            run=lambda work: self._send(*work),
        )
        self._replay: ResponseReplay | None = None

    @property
    def max_prefetched_calls(self) -> int:
        """How many calls may be prefetched: those in progress, and one for each that can start as soon as it ends."""
        return 2 * self._window.size

    @property
    def held_bytes(self) -> int:
        """The memory that is reserved."""
        return self._scheduler.held_bytes

    @property
    def is_idle(self) -> bool:
        """True if no request is in flight, and none can be sent before a page is taken."""
        with self._lock:
            return self._workers.is_idle and self._scheduler.next_request() is None

    @contextmanager
    def page_fetcher(self, call: CallToFetch) -> Iterator[PageFetcher]:
        """Fetch the pages of a call for its page loop, which advances `call.pages` in one thread.

        A call that was not prefetched is sent by the page loop itself. Only if it has a second page,
        the prefetch begins there. The pages that are left are kept if `call.is_kept` says so.
        """
        replay = self._replay
        if replay is not None and replay.is_replaying(call.resource):
            # a recorded response is used once; a request that was not recorded is sent
            yield PageFetcher(
                lambda request, page: (
                    replay.take(call.resource, request_key(request))
                    or PageResponse(call.send(request, page))
                )
            )
            return
        with self._lock:
            current = _CurrentCall(call, self._scheduler.claim(call))
        try:
            yield PageFetcher(partial(self._fetch, current), partial(self._prefetch_after, current))
        finally:
            if current.prefetch is not None:
                # the page loop may have stopped early, with requests still in flight
                with self._lock:
                    if call.is_kept():
                        self._scheduler.put_back(current.prefetch)
                    else:
                        self._scheduler.remove(current.prefetch)
                    self._wake_workers()
                    self._end_waits()

    @contextmanager
    def recorded_responses(self) -> "Iterator[ResponseReplay]":
        """Record the responses that one thread takes in the block, so that it can replay its calls."""
        self._replay = ResponseReplay()
        try:
            yield self._replay
        finally:
            self._replay = None

    def is_complete(self, resource: str) -> bool:
        """True if the resource's next call was prefetched and all its pages are in memory."""
        with self._lock:
            return self._scheduler.is_complete(resource)

    def has_rows(self, resource: str) -> bool:
        """True if a page of the resource's next call is in memory and has rows."""
        with self._lock:
            return self._scheduler.has_rows(resource)

    def wait_for_first_page(self, resource: str, max_seconds: float) -> None:
        """Wait until the first page of the resource's next call is read; return if none is pending."""
        with self._lock:
            ready = self._scheduler.let_read(resource)
        # without the lock: parsing a page takes longer than anything that is done under it
        for prefetch, page in ready:
            self._read_all(prefetch, page)
        with self._lock:
            timeout = None if max_seconds == math.inf else max(0.0, max_seconds)
            self._changed.wait_for(
                lambda: not self._scheduler.is_first_page_pending(resource), timeout
            )

    def prefetch(self, call: CallToFetch, group: object) -> None:
        """Fetch the pages of a call that is about to be made. Calls of a group follow one another.

        The call may be one that was kept at the end of the part before.
        """
        with self._lock:
            if self._scheduler.adopt(call, group):
                return
        prefetch = self._new_prefetch(call, self._scheduler.current_budget)
        prefetch.group = group
        with self._lock:
            self._scheduler.add_current(prefetch, is_claimed=False)
            self._wake_workers()

    def prefetch_for_later(self, call: CallToFetch) -> None:
        """Fetch the pages of a call that will be made later in the run."""
        prefetch = self._new_prefetch(call, self._scheduler.later_budget)
        with self._lock:
            self._scheduler.add_later(prefetch)
            self._wake_workers()

    def cancel_group(self, group: object) -> None:
        """Cancel this group's pending prefetches."""
        with self._lock:
            self._scheduler.cancel_where(lambda prefetch: prefetch.group is group)
            self._wake_workers()
            self._end_waits()

    def keep_group(self, group: object, part: object) -> None:
        """Keep this group's pending prefetches for the part of a load that follows `part`.

        Those that were kept at the end of an earlier part, and that no call has taken, are cancelled.
        """
        with self._lock:
            self._scheduler.cancel_where(
                lambda prefetch: prefetch.kept_after is not None and prefetch.kept_after is not part
            )
            self._scheduler.keep_group(group, part)
            self._wake_workers()
            self._end_waits()

    def cancel_family(self, root: str) -> None:
        """Cancel the pending prefetches of a family's root, and of all calls below parents."""
        with self._lock:
            # families are loaded one after the other, so current prefetches belong to this one
            self._scheduler.cancel_current()
            self._scheduler.cancel_where(lambda prefetch: prefetch.resource == root)
            self._wake_workers()
            self._end_waits()

    def close(self) -> None:
        """Abort all requests of the threads and end the threads."""
        with self._lock:
            self._scheduler.cancel_all()
            in_flight = list(self._in_flight)
            self._workers.shut_down()
            self._changed.notify_all()
            self._end_waits()
        # without the lock, which a thread needs to end
        for cancellation in in_flight:
            cancellation.abort()
        self._workers.join(_SHUTDOWN_SECONDS)

    def _end_waits(self) -> None:
        """Let cancelled requests that wait for the rate limit end."""
        if self._in_flight:
            self._rate_limiter.wake_waiters()

    def _new_prefetch(
        self, call: CallToFetch, budget: MemoryBudget, after: Page | None = None
    ) -> CallPrefetch:
        prediction = PagePrediction(self._usual, only_by_total=self._rate_limiter.is_limited)
        # of earlier calls of the resource, whose pages are likely to be as large
        page_bytes = self._page_bytes.get(call.resource)
        if after is not None:
            page_bytes = max(page_bytes or 0, len(after.response.content))
        return CallPrefetch(
            call,
            budget,
            prediction,
            max_pages_ahead=lambda: _PAGES_AHEAD_PER_REQUEST * self._window.size,
            page_bytes=page_bytes,
            after=after,
        )

    def _fetch(
        self, current: "_CurrentCall", request: requests.Request, number: int
    ) -> PageResponse:
        """Return the response of a page to the page loop; send its request if no thread has."""
        if current.prefetch is None:
            received = PageResponse(current.call.send(request, number))
        else:
            received = self._take(current, current.prefetch, request, number)
        if self._replay is not None:
            self._replay.record(current.call.resource, request_key(request), received)
        return received

    def _prefetch_after(self, current: "_CurrentCall", page: Page) -> None:
        """Begin to prefetch a call after the page that its page loop has read."""
        if current.prefetch is not None:
            return
        # a copy: the page loop and the threads advance their own, and compare requests only
        rest = replace(current.call, pages=current.call.pages.copy())
        try:
            prefetch = self._new_prefetch(rest, self._scheduler.current_budget, after=page)
        except PagingError:  # the page loop meets the same error after it has used the page
            return
        current.prefetch = prefetch
        with self._lock:
            self._scheduler.add_current(prefetch, is_claimed=True)
            self._wake_workers(prefetch)

    def _take(
        self,
        current: "_CurrentCall",
        prefetch: CallPrefetch,
        request: requests.Request,
        number: int,
    ) -> PageResponse:
        """Return the prefetched response of a page; without one send the request."""
        with self._lock:
            # under the lock: between the look and the claim a thread could send the same request
            page = prefetch.claim_page(request, number)
            is_pending = page is not None and page.stage is PrefetchStage.PENDING
            if page is not None and is_pending:
                prefetch.start(page, is_ahead=False)
            is_taken = page is not None and prefetch.take(page)
            # first: the threads send the next requests while this one sends its own
            self._wake_workers(prefetch)
        if page is None:
            return PageResponse(prefetch.send(request, number))
        # no thread has begun with it: to wait for one would take longer than to send it here
        if is_pending:
            self._send(prefetch, page)
        if not is_taken:
            self._wait_until_ready(prefetch, page)
            with self._lock:
                if prefetch.take(page):
                    self._wake_workers(prefetch)
        if page.stage is PrefetchStage.RECEIVED:
            # not read ahead: the page loop reads it, and a new prefetch goes on from there
            with self._lock:
                self._scheduler.remove(prefetch)
            current.prefetch = None
        if page.error is not None:
            raise page.error
        # cancelled while this thread waited: it sends the request itself
        return page.received or PageResponse(prefetch.send(request, number))

    def _start_next(self) -> tuple[CallPrefetch, PrefetchedPage] | None:
        """Return the request that a thread sends next, marked as requested."""
        found = self._next_request()
        if found is not None:
            prefetch, page = found
            prefetch.start(page, is_ahead=True)
            if page.cancellation is not None:
                self._in_flight.add(page.cancellation)
        return found

    def _next_request(self) -> tuple[CallPrefetch, PrefetchedPage] | None:
        """Return the request to send next; None if there is none, or if enough are in progress."""
        if len(self._in_flight) >= self._window.size:
            return None
        return self._scheduler.next_request()

    def _wake_workers(self, prefetch: CallPrefetch | None = None) -> None:
        """Wake a thread if a request can be sent. With `prefetch`, only if it has such a request."""
        # released memory may let any prefetch continue, not only this one
        if (
            prefetch is None
            or self._scheduler.was_out_of_memory
            or prefetch.next_page() is not None
        ):
            self._workers.wake()

    def _send(self, prefetch: CallPrefetch, page: PrefetchedPage) -> None:
        """Send the request of a page, then read this page and the pages that wait for it."""
        outcome: PageResponse | Exception | None = None
        try:
            outcome = PageResponse(page.send(prefetch.send))
        except RequestCancelled:
            outcome = None
        except Exception as error:  # noqa: BLE001 - the page loop raises it when it asks for the page
            outcome = error
        finally:
            with self._lock:
                if page.cancellation is not None:
                    self._in_flight.discard(page.cancellation)
                prefetch.finish(page, outcome)
                ready = prefetch.next_to_read()
                if prefetch.page_bytes is not None:
                    self._page_bytes[prefetch.resource] = prefetch.page_bytes
                self._changed.notify_all()
                if ready is not None:
                    # another thread sends the next request while this one reads
                    self._workers.wake()
        if ready is not None:
            self._read_all(prefetch, ready)

    def _wait_until_ready(self, prefetch: CallPrefetch, page: PrefetchedPage) -> None:
        """Wait until a page can be taken; read it here if no other thread does."""
        while True:
            ready = None
            with self._lock:
                while not prefetch.is_ready(page) and (ready := prefetch.next_to_read()) is None:
                    self._changed.wait()
            if ready is None:
                return
            self._read_all(prefetch, ready)

    def _read_all(self, prefetch: CallPrefetch, first: PrefetchedPage) -> None:
        """Read a page and those after it that have arrived."""
        ready: PrefetchedPage | None = first
        while ready is not None:
            ready = self._read(prefetch, ready)

    def _read(self, prefetch: CallPrefetch, page: PrefetchedPage) -> PrefetchedPage | None:
        """Read a page; return the one to read next, if it has arrived."""
        result = prefetch.read(page)
        with self._lock:
            prefetch.mark_read(page, result)
            ready = prefetch.next_to_read()
            self._changed.notify_all()
            self._wake_workers(prefetch)
        return ready


@dataclass
class _CurrentCall:
    """A call that a page loop makes now, and its prefetch, if there is one."""

    call: CallToFetch
    prefetch: CallPrefetch | None


class ResponseReplay:
    """Records the responses of calls and returns them when the calls are made again.

    Single-threaded.
    """

    def __init__(self) -> None:
        self._responses: dict[tuple[str, str], PageResponse] = {}
        self._replayed: set[str] = set()
        self._taken: set[tuple[str, str]] = set()
        self._newest: PageResponse | None = None

    def record(self, resource: str, key: str, received: PageResponse) -> None:
        """Keep the response to the request with this key."""
        self._discard_newest_parsed()
        self._responses[resource, key] = self._newest = received

    def begin_replay(self) -> None:
        """Return recorded responses from now on: the same calls are made again.

        May be called again, if these calls are to be made once more.
        """
        self._discard_newest_parsed()
        self._taken.clear()
        self._replayed = {resource for resource, _ in self._responses}

    def is_replaying(self, resource: str) -> bool:
        """True if the calls of a resource are made again."""
        return resource in self._replayed

    def take(self, resource: str, key: str) -> PageResponse | None:
        """Return the response to the request with this key, once in each replay; else None."""
        received = self._responses.get((resource, key))
        if received is None or (resource, key) in self._taken:
            return None
        self._taken.add((resource, key))
        self._discard_newest_parsed()
        self._newest = received
        return received

    def _discard_newest_parsed(self) -> None:
        # The load may have changed the parsed records, and they take several times the memory of the
        # body. Not at once: the page of the newest response is still in use.
        if self._newest is not None and isinstance(self._newest.response, ApiResponse):
            self._newest.response.discard_parsed()
        self._newest = None


class WorkerPool(Generic[Work]):
    """Up to `max_threads` worker threads. One starts when there is work and no thread is idle.

    `has_work` and `next_work` are called under `lock`, in any thread. `next_work` returns a piece of
    work, or None if there is none now; `run` does it, without the lock.
    """

    def __init__(
        self,
        max_threads: int,
        lock: threading.Lock,
        *,
        has_work: Callable[[], bool],
        next_work: Callable[[], Work | None],
        run: Callable[[Work], None],
    ) -> None:
        self._max_threads = max_threads
        self._lock = lock
        self._has_work = has_work
        self._next_work = next_work
        self._run = run
        self._woken = threading.Condition(lock)
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._is_shut_down = False

    @property
    def is_idle(self) -> bool:
        """True if all threads wait for work. Read under the lock."""
        return self._idle == len(self._threads)

    def wake(self) -> None:
        """If there is work, wake an idle thread or start one. Called under the lock."""
        # A thread that wakes for nothing costs more than this look. While as many requests are in progress
        # as may be, the look costs nothing either.
        if self._is_shut_down or not self._has_work():
            return
        if self._idle:
            self._woken.notify()
        elif len(self._threads) < self._max_threads:
            name = f"restsource-prefetch-{len(self._threads)}"
            thread = threading.Thread(target=self._run_all, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def shut_down(self) -> None:
        """Let each thread end after its present work. Called under the lock."""
        self._is_shut_down = True
        self._woken.notify_all()

    def join(self, seconds: float) -> None:
        """Wait at most so many seconds for all threads to end. Called without the lock."""
        ends_at = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, ends_at - time.monotonic()))

    def _run_all(self) -> None:
        while (work := self._wait()) is not None:
            self._run(work)

    def _wait(self) -> Work | None:
        with self._lock:
            while not self._is_shut_down:
                if (work := self._next_work()) is not None:
                    # there may be more work than this: each thread wakes the next one
                    self.wake()
                    return work
                self._idle += 1
                self._woken.wait()
                self._idle -= 1
            return None
