"""The threads that fetch ahead, and the way to what they fetch."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import requests

from restsource_dagster.engine.http.cancellation import Cancellation, RequestCancelled
from restsource_dagster.engine.http.rate_limit import RateLimiter
from restsource_dagster.engine.paging.page_iterator import PageIterator, PageResponse
from restsource_dagster.engine.prefetch.call_prefetch import (
    CallPrefetch,
    PrefetchedPage,
    PrefetchStage,
    SendRequest,
)
from restsource_dagster.engine.prefetch.memory_budget import MemoryBudget
from restsource_dagster.engine.prefetch.page_prediction import PagePrediction
from restsource_dagster.engine.prefetch.response_replay import ResponseReplay, request_key
from restsource_dagster.engine.prefetch.scheduler import PrefetchScheduler, WorkerPool

__all__ = ["FetchPage", "Prefetcher"]

FetchPage = Callable[[requests.Request, int], PageResponse]
"""Gives the answer to a request; knows the number of its page."""

MEMORY_BUDGET_BYTES = 64 * 2**20
"""How much is held, in one run, of what nobody has asked for yet."""
_SHUTDOWN_SECONDS = 5.0
"""How long the end of a run waits for its threads, which are cut off from the network by then."""


class Prefetcher:
    """What one run fetches ahead, with up to `most` threads.

    The threads start when there is something to do and end with `close`. `budget` is the one that
    all requests of the run pass.
    """

    def __init__(
        self,
        most: int,
        budget: RateLimiter,
        room_bytes: int = MEMORY_BUDGET_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._budget = budget
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._scheduler = PrefetchScheduler(most, room_bytes, clock)
        self._under_way: set[Cancellation] = set()
        self._page_bytes: dict[str, int] = {}
        self._workers = WorkerPool(
            most, self._lock, is_work=self._is_work, take=self._take, do=lambda it: self._ask(*it)
        )
        self._replay: ResponseReplay | None = None

    @property
    def held(self) -> int:
        """The bytes held."""
        return self._scheduler.held

    @property
    def is_idle(self) -> bool:
        """True if no prefetch is under way, and none can start before somebody reads on."""
        with self._lock:
            return self._workers.is_idle and not self._is_work()

    @property
    def max_prefetched_calls(self) -> int:
        """How many calls are worth being foreseen at a time."""
        return 2 * self._most

    @contextmanager
    def page_fetcher(
        self,
        resource: str,
        key: str,
        course: Callable[[], PageIterator],
        ask: SendRequest,
        *,
        may_stop: bool,
    ) -> Iterator[FetchPage]:
        """Fetch the pages of a call, for one thread that goes through them in order.

        `key` is that of its first request, `course` makes one to go ahead with; what is yielded is
        asked for each request of the caller's.
        """
        kept = self._replay
        if kept is not None and kept.is_replaying(resource):
            yield (
                lambda request, page: (
                    kept.take(resource, request_key(request)) or PageResponse(ask(request, page))
                )
            )
            return
        with self._lock:
            walk = self._scheduler.claim(resource, key)
            if walk is None:
                walk = self._new_prefetch(resource, course(), ask, self._scheduler.current_budget)
                self._scheduler.add(walk)
            walk.may_stop = may_stop
        try:
            yield lambda request, page: self._fetch(walk, request, page)
        finally:
            with self._lock:
                self._scheduler.end(walk)
                self._wake_workers()
            self._budget.wake_waiters()

    @contextmanager
    def recorded_responses(self) -> Iterator[ResponseReplay]:
        """Keep the answers that one thread takes meanwhile: it may have to make its calls again."""
        self._replay = ResponseReplay()
        try:
            yield self._replay
        finally:
            self._replay = None

    def is_read(self, resource: str) -> bool:
        """Whether the resource's next call was foreseen, and all of its pages are at hand."""
        with self._lock:
            return self._scheduler.is_read(resource)

    def wait_for_first(self, resource: str, most: float) -> None:
        """Wait until the first page of the resource's next call is read, if it was foreseen; `most` in
        seconds."""
        with self._lock:
            timeout = None if most == math.inf else max(0.0, most)
            self._changed.wait_for(lambda: not self._scheduler.is_awaited(resource), timeout)

    def foresee(
        self,
        resource: str,
        course: PageIterator,
        ask: SendRequest,
        *,
        may_stop: bool,
        group: object,
    ) -> None:
        """Fetch the pages of a call that somebody is about to make; `course` is that of the call.

        The calls of a group come one after the other.
        """
        walk = self._new_prefetch(resource, course, ask, self._scheduler.current_budget)
        walk.may_stop, walk.group = may_stop, group
        with self._lock:
            self._scheduler.add(walk, foreseen=True)
            self._wake_workers()

    def foresee_for_later(
        self, resource: str, course: PageIterator, ask: SendRequest, *, may_stop: bool
    ) -> None:
        """Fetch the pages of a call that will be made later in the run."""
        walk = self._new_prefetch(resource, course, ask, self._scheduler.later_budget)
        walk.may_stop = may_stop
        with self._lock:
            self._scheduler.add_later(walk)
            self._wake_workers()

    def withdraw(self, group: object) -> None:
        """Calls of this group that were not made are not made any more."""
        with self._lock:
            self._scheduler.withdraw(lambda walk: walk.group is group)
            self._wake_workers()
        self._budget.wake_waiters()

    def end_family(self, root: str) -> None:
        """Calls below parents, and those of this resource, are not made any more."""
        with self._lock:
            self._scheduler.cancel_current()
            self._scheduler.withdraw(lambda walk: walk.resource == root)
            self._wake_workers()
        self._budget.wake_waiters()

    def close(self) -> None:
        """End all requests that were sent ahead, and the threads."""
        with self._lock:
            self._scheduler.close()
            under_way = list(self._under_way)
            self._workers.shut_down()
            self._changed.notify_all()
        for leash in under_way:
            leash.abort()
        self._budget.wake_waiters()
        self._workers.join(_SHUTDOWN_SECONDS)

    def _new_prefetch(
        self, resource: str, course: PageIterator, ask: SendRequest, room: MemoryBudget
    ) -> CallPrefetch:
        guesses = PagePrediction(self._most, by_total_only=self._budget.is_limited)
        size = self._page_bytes.get(resource)
        return CallPrefetch(resource, course, ask, room, guesses, page_bytes=size)

    def _fetch(self, walk: CallPrefetch, request: requests.Request, page: int) -> PageResponse:
        with self._lock:
            entry = walk.claim_page(request, page)
            is_idle = entry is not None and entry.stage is PrefetchStage.PENDING
            if entry is not None and is_idle:
                walk.begin(entry, ahead=False)
            self._wake_workers(walk)
        if entry is None:
            return PageResponse(walk.ask(request, page))
        if is_idle:
            self._ask(walk, entry)
        self._wait_until_read(walk, entry)
        with self._lock:
            if entry.stage is PrefetchStage.READ:
                walk.take(entry)
                self._wake_workers(walk)
        if entry.error is not None:
            raise entry.error
        answer = entry.answer or PageResponse(walk.ask(request, page))
        if self._replay is not None:
            self._replay.note(walk.resource, entry.key, answer)
        return answer

    def _is_work(self) -> bool:
        return self._scheduler.next_request() is not None

    def _take(self) -> tuple[CallPrefetch, PrefetchedPage] | None:
        """The request to send next: it is begun by that."""
        picked = self._scheduler.next_request()
        if picked is not None:
            walk, entry = picked
            walk.begin(entry, ahead=True)
            if entry.leash is not None:
                self._under_way.add(entry.leash)
        return picked

    def _wake_workers(self, walk: CallPrefetch | None = None) -> None:
        """See to it that somebody does what there is to do, perhaps only in one walk."""
        if walk is None or walk.next_page() is not None or self._scheduler.was_out_of_memory:
            self._workers.call()

    def _ask(self, walk: CallPrefetch, entry: PrefetchedPage) -> None:
        """Send a request, and read its answer and those after it that wait for it."""
        outcome: PageResponse | Exception | None = None
        try:
            outcome = PageResponse(entry.send(walk.ask))
        except RequestCancelled:
            outcome = None  # nobody wants it any more
        except Exception as error:  # noqa: BLE001 - it is raised where the page is asked for
            outcome = error
        finally:
            with self._lock:
                if entry.leash is not None:
                    self._under_way.discard(entry.leash)
                walk.end(entry, outcome)
                if walk.page_bytes is not None:
                    self._page_bytes[walk.resource] = walk.page_bytes
                self._changed.notify_all()
        while self._read(walk):
            pass

    def _wait_until_read(self, walk: CallPrefetch, entry: PrefetchedPage) -> None:
        """Wait until the entry that is wanted is read, and read it if nobody else does."""
        while True:
            ready = None
            with self._lock:
                while entry.stage < PrefetchStage.READ and (ready := walk.next_to_read()) is None:
                    self._changed.wait()
            if ready is None:
                return
            self._advance(walk, ready)

    def _read(self, walk: CallPrefetch) -> bool:
        """Read the next answer of a walk; False if there is none to read now."""
        with self._lock:
            entry = walk.next_to_read()
        if entry is not None:
            self._advance(walk, entry)
        return entry is not None

    def _advance(self, walk: CallPrefetch, entry: PrefetchedPage) -> None:
        turned = walk.turn(entry)
        with self._lock:
            walk.mark_read(entry, turned)
            self._changed.notify_all()
            self._wake_workers(walk)
