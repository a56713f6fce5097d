"""One call, gone through ahead of whoever wants its pages."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import requests

from restsource_dagster.engine.ahead.entry import OVERHEAD_BYTES, Ask, Entry, Stage
from restsource_dagster.engine.ahead.guesses import Guesses, following
from restsource_dagster.engine.ahead.room import Room
from restsource_dagster.engine.ahead.twins import key_of, twin_of
from restsource_dagster.engine.paging.course import Answer, Course, Page

__all__ = ["Walk"]

Turned = tuple[Page | None, requests.Request | None]
"""A page and the request after it, None where there is none."""

_FIRST_GUESS_BYTES = 256 * 1024
"""A page is taken to be so large until one has come."""
_FEW_PAGES = 4
"""Where pages may not be wanted though they are there, none is fetched ahead before so many were."""


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
        self.share = room.most
        """The bytes that it may hold."""
        self.asked_for = 0
        """The last page that somebody wanted."""
        self.under_way = 0
        """Requests under way by threads that read ahead."""
        self.is_closed = False
        self.is_over = False
        """No page follows those that it has."""
        self.page_bytes = page_bytes
        """The size of the largest page so far; None if there was none."""
        self.may_stop = False
        """Pages may not be wanted though they are there: it goes only as far ahead as were asked for."""
        self.group: object = None
        """The calls among which it was foreseen."""
        self._course = course
        self._guesses = guesses
        self._entries: deque[Entry] = deque()
        self._begun = 0
        self._read = 0
        self._heard_at = 0.0
        self._turning = False
        self._foreseen: Iterator[requests.Request] | None = None
        self._add(1, course.next())

    @property
    def held(self) -> int:
        """The bytes that it holds."""
        return sum(entry.held for entry in self._entries)

    @property
    def is_read(self) -> bool:
        """Whether all pages are there, and read, and none was taken."""
        if self.is_closed or not self.is_over or not self._entries or self._entries[0].page != 1:
            return False
        return all(one.stage is Stage.TURNED and one.error is None for one in self._entries)

    @property
    def is_awaited(self) -> bool:
        """Whether its first page is on its way, or can be sent for now."""
        first = self._at(1)
        if self.is_closed or first is None:
            return False
        under_way = first.stage in (Stage.ASKED, Stage.ANSWERED)
        return under_way or self.next_entry() is first

    def next_entry(self) -> Entry | None:
        """A request that may be sent now; None if there is none."""
        page = self._begun + 1
        if self.is_closed or self.is_over or page > self._last_allowed():
            return None
        if not self.room.has(self._expected):
            return None
        if self.held >= self.share:
            return None
        return self._entry(page)

    def begin(self, entry: Entry, *, ahead: bool) -> None:
        """A request is about to be sent, `ahead` of whoever wants it or by them."""
        self._begun = entry.page
        entry.begin(self.room if ahead else None, self._expected)
        self.under_way += ahead

    def end(self, entry: Entry, outcome: Answer | Exception | None) -> None:
        """A request has its answer, has failed, or (None) was given up."""
        self.under_way -= entry.leash is not None
        if entry.stage is Stage.GONE:
            entry.release()
        elif outcome is None:
            self.close()
        else:
            entry.end(outcome)
            self._heard_at = time.monotonic()
            if entry.answer:
                self.page_bytes = max(self.page_bytes or 0, entry.body_bytes)

    def to_turn(self) -> Entry | None:
        """The answer to read next, for one thread: it says so by `turned`."""
        entry = self._at(self._read + 1)
        if self._turning or self.is_closed or entry is None or entry.stage is not Stage.ANSWERED:
            return None
        is_urgent = entry.page <= self.asked_for or self._at(entry.page + 1) is None
        if not is_urgent and not entry.fits_parsed(self._spare()):
            return None  # it would be parsed twice, and what comes after it is foreseen
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
            entry.keep_parsed(self._spare())
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
        """The first entry is taken: it takes up no room any more."""
        self._entries.popleft()
        entry.release()

    def move_to(self, room: Room, share: int) -> None:
        """Hold all in another room, with another share in it."""
        self.room, self.share = room, share
        for entry in self._entries:
            if entry.holding:
                entry.holding.move_to(room)

    def is_stale(self, since: float) -> bool:
        """Whether it stands still somewhere in the middle, and has done so since then, by the
        monotonic clock."""
        stands = self._begun > 0 and not self.under_way and not self.is_over
        return stands and self._heard_at < since

    def close(self) -> None:
        """Give up all that is not taken."""
        self.is_closed = True
        self._drop_after(0)

    @property
    def _expected(self) -> int:
        """The size of the next answer, most likely."""
        return _FIRST_GUESS_BYTES if self.page_bytes is None else self.page_bytes + OVERHEAD_BYTES

    def _spare(self) -> int:
        """The bytes that may be held for convenience: half of what there is."""
        return min(self.room.most // 2 - self.room.used, self.share // 2 - self.held)

    def _last_allowed(self) -> int:
        last = min(self._guesses.last, self._course.guard.max_pages)
        if not self.may_stop:
            return last
        # most such calls end after a page or two
        more = self.asked_for - _FEW_PAGES
        ahead = min(2 ** min(more, 16), self.asked_for) if more >= 0 else 0
        return min(last, max(1, self.asked_for + ahead))

    def _entry(self, page: int) -> Entry | None:
        """The entry of a page that was not begun; made if it can be foreseen."""
        known = self._at(page)
        if known is not None or self._foreseen is None:
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
            self._entries.pop().drop()
        self._begun = min(self._begun, page)
