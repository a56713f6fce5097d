"""One call, gone through ahead of whoever wants its pages."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

import requests

from restsource_dagster.engine.ahead.guesses import Guesses, following
from restsource_dagster.engine.ahead.room import Holding, Room
from restsource_dagster.engine.ahead.twins import key_of, twin_of
from restsource_dagster.engine.http.leash import Leash
from restsource_dagster.engine.http.session import ApiResponse
from restsource_dagster.engine.paging.course import Answer, Course, Page

__all__ = ["Ask", "Entry", "Stage", "Walk"]

Ask = Callable[[requests.Request, int], requests.Response]
"""Sends a request; knows the number of its page."""
Turned = tuple[Page | None, requests.Request | None]
"""A page and the request after it, None where there is none."""

FIRST_GUESS_BYTES = 256 * 1024
"""A page is taken to be so large until one has come."""
FEW_PAGES = 4
"""Where pages may not be wanted though they are there, none is fetched ahead before so many were."""
OVERHEAD_BYTES = 16 * 1024
"""What an answer takes up beside its body: headers and objects."""
PARSED_FACTOR = 8
"""How much more room than a body its parsed JSON takes, at most."""


class Stage(IntEnum):
    """What has become of a request."""

    IDLE = 0
    ASKED = 1
    ANSWERED = 2
    TURNED = 3
    """Its page was read, and what comes after it is known."""
    GONE = 4
    """Nobody wants it."""


@dataclass(eq=False)
class Entry:
    """A page that nobody has taken yet."""

    page: int
    key: str
    request: requests.Request
    stage: Stage = Stage.IDLE
    holding: Holding | None = None
    leash: Leash | None = None
    answer: Answer | None = None
    error: Exception | None = None


class Walk:
    """Goes through the pages of a call and keeps the answers until they are taken.

    `course` is its own, apart from that of whoever wants the pages. All methods but `turn` are called
    under one lock.
    """

    def __init__(
        self,
        resource: str,
        course: Course,
        ask: Ask,
        room: Room,
        guesses: Guesses,
        *,
        page_bytes: int | None = None,
    ) -> None:
        self.resource = resource
        self.key = key_of(course.request)
        self.ask = ask
        self.room = room
        self.asked_for = 0
        """The last page that somebody wanted."""
        self.under_way = 0
        """Requests under way by threads that read ahead."""
        self.is_closed = False
        self.is_over = False
        """No page follows those that it has."""
        self.page_bytes = page_bytes
        """The size of the largest page so far; None if there was none."""
        self._course = course
        self._guesses = guesses
        self.may_stop = False
        """Pages may not be wanted though they are there: it goes only as far ahead as were asked for."""
        self.heard_at = 0.0
        """When the last answer came, by the monotonic clock."""
        self.group: object = None
        """The calls among which it was foreseen."""
        self._entries: deque[Entry] = deque()
        self._begun = 0
        self._read = 0
        self._turning = False
        self._foreseen: Iterator[requests.Request] | None = None
        self._add(1, course.next())

    @property
    def _expected(self) -> int:
        return FIRST_GUESS_BYTES if self.page_bytes is None else self.page_bytes + OVERHEAD_BYTES

    @property
    def held(self) -> int:
        """The bytes that it holds."""
        return sum(entry.holding.size for entry in self._entries if entry.holding)

    def next_entry(self) -> Entry | None:
        """A request that may be sent now; None if there is none."""
        page = self._begun + 1
        if (
            self.is_closed
            or self.is_over
            or page > self._last_allowed()
            or not self.room.has(self._expected)
        ):
            return None
        return self._entry(page)

    def begin(self, entry: Entry, *, ahead: bool) -> None:
        """A request is about to be sent, `ahead` of whoever wants it or by them."""
        self._begun = entry.page
        entry.stage = Stage.ASKED
        if ahead:
            entry.holding = Holding(self.room, self._expected)
            entry.leash = Leash(entry.holding.grow)
            self.under_way += 1

    def end(self, entry: Entry, outcome: Answer | Exception | None) -> None:
        """A request has its answer, has failed, or (None) was given up."""
        if entry.leash is not None:
            self.under_way -= 1
        if entry.stage is Stage.GONE:
            if entry.holding:
                entry.holding.release()
            return
        if outcome is None:
            self.close()
            return
        entry.stage = Stage.ANSWERED
        self.heard_at = time.monotonic()
        if isinstance(outcome, Exception):
            entry.error = outcome
        else:
            entry.answer = outcome
        self._settle(entry)

    def to_turn(self) -> Entry | None:
        """The answer to read next, for one thread: it says so by `turned`."""
        entry = self._at(self._read + 1)
        if self._turning or self.is_closed or entry is None or entry.stage is not Stage.ANSWERED:
            return None
        self._turning = True
        return entry

    def turn(self, entry: Entry) -> Turned:
        """Read an answer; not under the lock."""
        if entry.answer is None:
            return None, None
        try:
            page = self._course.turn(entry.answer)
            return page, self._course.next() if page and self._course.goes_on else None
        except Exception:  # noqa: BLE001 - whoever asks for the page meets the same error, and tells
            return None, None

    def turned(self, entry: Entry, turned: Turned) -> None:
        """An answer was read."""
        self._turning = False
        if self.is_closed:
            return
        entry.stage = Stage.TURNED
        self._read = entry.page
        page, upcoming = turned
        if page and entry.answer:
            entry.answer = replace(entry.answer, mark=page.mark)
            self._keep_parsed(entry)
        if page is None or upcoming is None:
            self._drop_after(entry.page)
            self.is_over = True
            return
        self._guesses.learn(self._course, page)
        self._line_up(entry.page + 1, upcoming)

    def front(self, request: requests.Request, page: int) -> Entry | None:
        """The entry of a page that is wanted now; None, and it is closed, if it has another one."""
        first = self._entries[0] if self._entries else None
        if self.is_closed or first is None or first.page != page or first.key != key_of(request):
            self.close()
            return None
        self.asked_for = page
        if first.holding:
            first.holding.is_wanted = True
        return first

    def take(self, entry: Entry) -> None:
        """An entry is taken: it takes up no room any more."""
        self._entries.popleft()
        if entry.holding:
            entry.holding.release()

    def move_to(self, room: Room) -> None:
        """Hold all in another room."""
        self.room = room
        for entry in self._entries:
            if entry.holding:
                entry.holding.move_to(room)

    def is_stale(self, since: float) -> bool:
        """Whether it stands still somewhere in the middle, and has done so since then."""
        stands = self._begun > 0 and not self.under_way and not self.is_over
        return stands and self.heard_at < since

    def close(self) -> None:
        """Give up all that is not taken."""
        self.is_closed = True
        self._drop_after(0)

    def _last_allowed(self) -> int:
        last = min(self._guesses.last, self._course.guard.max_pages)
        if not self.may_stop:
            return last
        # most such calls end after a page or two
        more = self.asked_for - FEW_PAGES
        ahead = 2 ** min(more, 16) if more >= 0 else 0
        return min(last, max(1, self.asked_for + ahead))

    def _entry(self, page: int) -> Entry | None:
        """The entry of a page that was not begun; made if it can be foreseen."""
        known = self._at(page)
        if known is not None or self.is_over or self._foreseen is None:
            return known
        request = next(self._foreseen, None)
        return None if request is None else self._add(page, request)

    def _at(self, page: int) -> Entry | None:
        at = page - self._entries[0].page if self._entries else -1
        return self._entries[at] if 0 <= at < len(self._entries) else None

    def _add(self, page: int, request: requests.Request) -> Entry:
        entry = Entry(page, key_of(request), twin_of(request))
        self._entries.append(entry)
        return entry

    def _line_up(self, page: int, upcoming: requests.Request) -> None:
        """See to it that the entry of a page is the request that really comes next."""
        known = self._at(page)
        if known is not None and known.key == key_of(upcoming):
            return
        if known is not None:
            self._guesses.fail()
            self._drop_after(page - 1)
        self._add(page, upcoming)
        self._foreseen = following(self._course)

    def _drop_after(self, page: int) -> None:
        while self._entries and self._entries[-1].page > page:
            entry = self._entries.pop()
            entry.stage = Stage.GONE
            if entry.leash:
                entry.leash.drop()
            if entry.holding:
                entry.holding.release()
        self._begun = min(self._begun, page)

    def _settle(self, entry: Entry) -> None:
        """Hold as many bytes as the answer takes up."""
        body = len(entry.answer.response.content) if entry.answer else 0
        if entry.answer:
            self.page_bytes = max(self.page_bytes or 0, body)
        if entry.holding:
            entry.holding.set(body + OVERHEAD_BYTES)

    def _keep_parsed(self, entry: Entry) -> None:
        """Keep what was parsed while there is plenty of room; else it is parsed again."""
        if entry.holding is None or entry.holding.is_wanted or entry.answer is None:
            return
        body = len(entry.answer.response.content)
        more = body * PARSED_FACTOR
        if self.room.used + more <= self.room.most // 2:
            entry.holding.set(body + more + OVERHEAD_BYTES)
        elif isinstance(entry.answer.response, ApiResponse):
            entry.answer.response.forget_parsed()
