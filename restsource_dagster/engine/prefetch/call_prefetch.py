"""One call, gone through ahead of whoever wants its pages.

One page on its way from a guess to whoever wants it.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

import requests

from restsource_dagster.engine.http.cancellation import Cancellation
from restsource_dagster.engine.http.session import ApiResponse
from restsource_dagster.engine.paging.page_iterator import Page, PageIterator, PageResponse
from restsource_dagster.engine.prefetch.memory_budget import MemoryBudget, MemoryReservation
from restsource_dagster.engine.prefetch.page_prediction import PagePrediction, predicted_requests
from restsource_dagster.engine.prefetch.response_replay import copy_request, request_key

__all__ = [
    "RESPONSE_OVERHEAD_BYTES",
    "CallPrefetch",
    "PrefetchStage",
    "PrefetchedPage",
    "SendRequest",
]

SendRequest = Callable[[requests.Request, int], requests.Response]
"""Sends a request; knows the number of its page."""

RESPONSE_OVERHEAD_BYTES = 16 * 1024
"""What an answer takes up beside its body: headers and objects."""
_PARSED_SIZE_FACTOR = 8
"""How much more room than a body its parsed JSON takes, at most."""


class PrefetchStage(IntEnum):
    """What has become of a request."""

    PENDING = 0
    REQUESTED = 1
    RECEIVED = 2
    READ = 3
    """Its page was read, and what comes after it is known."""
    CANCELLED = 4
    """Nobody wants it."""


@dataclass(eq=False)
class PrefetchedPage:
    """A page that nobody has taken yet."""

    page: int
    key: str
    request: requests.Request
    stage: PrefetchStage = PrefetchStage.PENDING
    reservation: MemoryReservation | None = None
    """What it takes up, if it was asked for ahead."""
    leash: Cancellation | None = None
    answer: PageResponse | None = None
    error: Exception | None = None

    @property
    def held(self) -> int:
        """The bytes that it takes up."""
        return self.reservation.size if self.reservation else 0

    @property
    def body_bytes(self) -> int:
        """The size of the answer's body; 0 without one."""
        return len(self.answer.response.content) if self.answer else 0

    def begin(self, room: MemoryBudget | None, expected: int) -> None:
        """It is asked for: ahead, in this room, or without one by whoever wants it."""
        self.stage = PrefetchStage.REQUESTED
        if room is not None:
            self.reservation = MemoryReservation(room, expected)
            self.leash = Cancellation(self.reservation.grow)

    def send(self, ask: SendRequest) -> requests.Response:
        """Ask for it. Raises what asking raises, and `Abandoned` if nobody wants it any more."""
        if self.leash is None:
            return ask(self.request, self.page)
        with self.leash.activated():
            return ask(self.request, self.page)

    def end(self, outcome: PageResponse | Exception) -> None:
        """Its answer is there, or there is none."""
        self.stage = PrefetchStage.RECEIVED
        if isinstance(outcome, Exception):
            self.error = outcome
        else:
            self.answer = outcome
        if self.reservation:
            self.reservation.set(self.body_bytes + RESPONSE_OVERHEAD_BYTES)

    def fits_parsed(self, spare: int) -> bool:
        """Whether what is parsed can be kept in `spare` bytes."""
        return self.reservation is None or self.body_bytes * _PARSED_SIZE_FACTOR <= spare

    def keep_parsed(self, spare: int) -> None:
        """Keep what was parsed if that takes up no more than `spare`; else it is parsed again."""
        if self.reservation is None or self.reservation.is_required or self.answer is None:
            return
        more = self.body_bytes * _PARSED_SIZE_FACTOR
        if more <= spare:
            self.reservation.set(self.body_bytes + more + RESPONSE_OVERHEAD_BYTES)
        elif isinstance(self.answer.response, ApiResponse):
            self.answer.response.discard_parsed()

    def drop(self) -> None:
        """Nobody wants it any more."""
        self.stage = PrefetchStage.CANCELLED
        if self.leash:
            self.leash.cancel()
        self.release()

    def release(self) -> None:
        """It takes up nothing any more."""
        if self.reservation:
            self.reservation.release()


AdvanceResult = tuple[Page | None, requests.Request | None]
"""A page and the request after it, None where there is none."""

_ASSUMED_PAGE_BYTES = 256 * 1024
"""A page is taken to be so large until one has come."""
_MIN_REQUESTED_PAGES = 4
"""Where pages may not be wanted though they are there, none is fetched ahead before so many were."""


class CallPrefetch:
    """Goes through the pages of a call and keeps the answers until they are taken.

    `course` is its own, apart from that of whoever wants the pages. All methods but `turn` are called
    under one lock.
    """

    def __init__(
        self,
        resource: str,
        course: PageIterator,
        ask: SendRequest,
        room: MemoryBudget,
        guesses: PagePrediction,
        *,
        page_bytes: int | None = None,
    ) -> None:
        self.resource = resource
        self.key = request_key(course.request)
        self.ask = ask
        self.room = room
        self.max_bytes = room.most
        """The bytes that it may hold."""
        self.last_requested_page = 0
        """The last page that somebody wanted."""
        self.in_flight = 0
        """Requests under way by threads that read ahead."""
        self.is_cancelled = False
        self.has_ended = False
        """No page follows those that it has."""
        self.page_bytes = page_bytes
        """The size of the largest page so far; None if there was none."""
        self.may_stop = False
        """Pages may not be wanted though they are there: it goes only as far ahead as were asked for."""
        self.group: object = None
        """The calls among which it was foreseen."""
        self._course = course
        self._prediction = guesses
        self._pages: deque[PrefetchedPage] = deque()
        self._last_started = 0
        self._read = 0
        self._last_response_at = 0.0
        self._is_reading = False
        self._foreseen: Iterator[requests.Request] | None = None
        self._add(1, course.next())

    @property
    def held(self) -> int:
        """The bytes that it holds."""
        return sum(entry.held for entry in self._pages)

    @property
    def is_read(self) -> bool:
        """Whether all pages are there, and read, and none was taken."""
        if self.is_cancelled or not self.has_ended or not self._pages or self._pages[0].page != 1:
            return False
        return all(one.stage is PrefetchStage.READ and one.error is None for one in self._pages)

    @property
    def is_awaited(self) -> bool:
        """Whether its first page is on its way, or can be sent for now."""
        first = self._at(1)
        if self.is_cancelled or first is None:
            return False
        under_way = first.stage in (PrefetchStage.REQUESTED, PrefetchStage.RECEIVED)
        return under_way or self.next_page() is first

    def next_page(self) -> PrefetchedPage | None:
        """A request that may be sent now; None if there is none."""
        page = self._last_started + 1
        if self.is_cancelled or self.has_ended or page > self._last_allowed():
            return None
        if not self.room.has(self._expected):
            return None
        if self.held >= self.max_bytes:
            return None
        return self._entry(page)

    def begin(self, entry: PrefetchedPage, *, ahead: bool) -> None:
        """A request is about to be sent, `ahead` of whoever wants it or by them."""
        self._last_started = entry.page
        entry.begin(self.room if ahead else None, self._expected)
        self.in_flight += ahead

    def end(self, entry: PrefetchedPage, outcome: PageResponse | Exception | None) -> None:
        """A request has its answer, has failed, or (None) was given up."""
        self.in_flight -= entry.leash is not None
        if entry.stage is PrefetchStage.CANCELLED:
            entry.release()
        elif outcome is None:
            self.close()
        else:
            entry.end(outcome)
            self._last_response_at = time.monotonic()
            if entry.answer:
                self.page_bytes = max(self.page_bytes or 0, entry.body_bytes)

    def next_to_read(self) -> PrefetchedPage | None:
        """The answer to read next, for one thread: it says so by `turned`."""
        entry = self._at(self._read + 1)
        if (
            self._is_reading
            or self.is_cancelled
            or entry is None
            or entry.stage is not PrefetchStage.RECEIVED
        ):
            return None
        is_urgent = entry.page <= self.last_requested_page or self._at(entry.page + 1) is None
        if not is_urgent and not entry.fits_parsed(self._spare()):
            return None  # it would be parsed twice, and what comes after it is foreseen
        self._is_reading = True
        return entry

    def turn(self, entry: PrefetchedPage) -> AdvanceResult:
        """Read an answer; not under the lock."""
        if entry.answer is None:
            return None, None
        try:
            page = self._course.turn(entry.answer)
            return page, self._course.next() if page and self._course.has_next_page else None
        except Exception:  # noqa: BLE001 - whoever asks for the page meets the same error, and tells
            return None, None

    def mark_read(self, entry: PrefetchedPage, turned: AdvanceResult) -> None:
        """An answer was read."""
        self._is_reading = False
        if self.is_cancelled:
            return
        entry.stage = PrefetchStage.READ
        self._read = entry.page
        page, upcoming = turned
        if page and entry.answer:
            entry.answer = replace(entry.answer, mark=page.mark)
            entry.keep_parsed(self._spare())
        if page is None or upcoming is None:
            self._cancel_after(entry.page)
            self.has_ended = True
            return
        self._prediction.learn(self._course, page)
        self._expect_request(entry.page + 1, upcoming)

    def claim_page(self, request: requests.Request, page: int) -> PrefetchedPage | None:
        """The entry of a page that is wanted now; None, and it is closed, if it has another one."""
        first = self._pages[0] if self._pages else None
        if (
            self.is_cancelled
            or first is None
            or first.page != page
            or first.key != request_key(request)
        ):
            self.close()
            return None
        self.last_requested_page = page
        if first.reservation:
            first.reservation.is_required = True
        return first

    def take(self, entry: PrefetchedPage) -> None:
        """The first entry is taken: it takes up no room any more."""
        self._pages.popleft()
        entry.release()

    def move_to(self, room: MemoryBudget, share: int) -> None:
        """Hold all in another room, with another share in it."""
        self.room, self.max_bytes = room, share
        for entry in self._pages:
            if entry.reservation:
                entry.reservation.move_to(room)

    def is_stale(self, since: float) -> bool:
        """Whether it stands still somewhere in the middle, and has done so since then, by the
        monotonic clock."""
        stands = self._last_started > 0 and not self.in_flight and not self.has_ended
        return stands and self._last_response_at < since

    def close(self) -> None:
        """Give up all that is not taken."""
        self.is_cancelled = True
        self._cancel_after(0)

    @property
    def _expected(self) -> int:
        """The size of the next answer, most likely."""
        return (
            _ASSUMED_PAGE_BYTES
            if self.page_bytes is None
            else self.page_bytes + RESPONSE_OVERHEAD_BYTES
        )

    def _spare(self) -> int:
        """The bytes that may be held for convenience: half of what there is."""
        return min(self.room.most // 2 - self.room.used_bytes, self.max_bytes // 2 - self.held)

    def _last_allowed(self) -> int:
        last = min(self._prediction.last, self._course.guard.max_pages)
        if not self.may_stop:
            return last
        # most such calls end after a page or two
        more = self.last_requested_page - _MIN_REQUESTED_PAGES
        ahead = min(2 ** min(more, 16), self.last_requested_page) if more >= 0 else 0
        return min(last, max(1, self.last_requested_page + ahead))

    def _entry(self, page: int) -> PrefetchedPage | None:
        """The entry of a page that was not begun; made if it can be foreseen."""
        known = self._at(page)
        if known is not None or self._foreseen is None:
            return known
        request = next(self._foreseen, None)
        return None if request is None else self._add(page, request)

    def _at(self, page: int) -> PrefetchedPage | None:
        at = page - self._pages[0].page if self._pages else -1
        return self._pages[at] if 0 <= at < len(self._pages) else None

    def _add(self, page: int, request: requests.Request) -> PrefetchedPage:
        entry = PrefetchedPage(page, request_key(request), copy_request(request))
        self._pages.append(entry)
        return entry

    def _expect_request(self, page: int, upcoming: requests.Request) -> None:
        """See to it that the entry of a page is the request that really comes next."""
        known = self._at(page)
        if known is not None and known.key == request_key(upcoming):
            return
        if known is not None:
            self._prediction.fail()
            self._cancel_after(page - 1)
        self._add(page, upcoming)
        self._foreseen = predicted_requests(self._course)

    def _cancel_after(self, page: int) -> None:
        while self._pages and self._pages[-1].page > page:
            self._pages.pop().drop()
        self._last_started = min(self._last_started, page)
