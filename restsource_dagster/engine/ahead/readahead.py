"""The threads that fetch ahead, and the way to what they fetch."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import requests

from restsource_dagster.engine.ahead.crew import Crew
from restsource_dagster.engine.ahead.entry import Ask, Entry, Stage
from restsource_dagster.engine.ahead.guesses import Guesses
from restsource_dagster.engine.ahead.kept import Kept
from restsource_dagster.engine.ahead.room import Room
from restsource_dagster.engine.ahead.twins import key_of
from restsource_dagster.engine.ahead.walk import Walk
from restsource_dagster.engine.ahead.walks import Walks
from restsource_dagster.engine.http.budget import Budget
from restsource_dagster.engine.http.leash import Abandoned, Leash
from restsource_dagster.engine.paging.course import Answer, Course

__all__ = ["Fetch", "ReadAhead"]

Fetch = Callable[[requests.Request, int], Answer]
"""Gives the answer to a request; knows the number of its page."""

ROOM_BYTES = 64 * 2**20
"""How much is held, in one run, of what nobody has asked for yet."""
_END_SECONDS = 5.0
"""How long the end of a run waits for its threads, which are cut off from the network by then."""


class ReadAhead:
    """What one run fetches ahead, with up to `most` threads.

    The threads start when there is something to do and end with `close`. `budget` is the one that
    all requests of the run pass.
    """

    def __init__(
        self,
        most: int,
        budget: Budget,
        room_bytes: int = ROOM_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._budget = budget
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._walks = Walks(most, room_bytes, clock)
        self._under_way: set[Leash] = set()
        self._page_bytes: dict[str, int] = {}
        self._crew = Crew(
            most, self._lock, is_work=self._is_work, take=self._take, do=lambda it: self._ask(*it)
        )
        self._kept: Kept | None = None

    @property
    def held(self) -> int:
        """The bytes held."""
        return self._walks.held

    @property
    def most_foreseen(self) -> int:
        """How many calls are worth being foreseen at a time."""
        return 2 * self._most

    @contextmanager
    def fetching(
        self, resource: str, key: str, course: Callable[[], Course], ask: Ask, *, may_stop: bool
    ) -> Iterator[Fetch]:
        """Fetch the pages of a call, for one thread that goes through them in order.

        `key` is that of its first request, `course` makes one to go ahead with; what is yielded is
        asked for each request of the caller's.
        """
        kept = self._kept
        if kept is not None and kept.has_calls_of(resource):
            yield (
                lambda request, page: (
                    kept.take(resource, key_of(request)) or Answer(ask(request, page))
                )
            )
            return
        with self._lock:
            walk = self._walks.take_up(resource, key)
            if walk is None:
                walk = self._walk(resource, course(), ask, self._walks.near_room)
                self._walks.add(walk)
            walk.may_stop = may_stop
        try:
            yield lambda request, page: self._fetch(walk, request, page)
        finally:
            with self._lock:
                self._walks.end(walk)
                self._stir()
            self._budget.wake()

    @contextmanager
    def keeping(self) -> Iterator[Kept]:
        """Keep the answers that one thread takes meanwhile: it may have to make its calls again."""
        self._kept = Kept()
        try:
            yield self._kept
        finally:
            self._kept = None

    def is_read(self, resource: str) -> bool:
        """Whether the resource's next call was foreseen, and all of its pages are at hand."""
        with self._lock:
            return self._walks.is_read(resource)

    def wait_for_first(self, resource: str, most: float) -> None:
        """Wait until the first page of the resource's next call is read, if it was foreseen; `most` in
        seconds."""
        with self._lock:
            timeout = None if most == math.inf else max(0.0, most)
            self._news.wait_for(lambda: not self._walks.is_awaited(resource), timeout)

    def foresee(
        self, resource: str, course: Course, ask: Ask, *, may_stop: bool, group: object
    ) -> None:
        """Fetch the pages of a call that somebody is about to make; `course` is that of the call.

        The calls of a group come one after the other.
        """
        walk = self._walk(resource, course, ask, self._walks.near_room)
        walk.may_stop, walk.group = may_stop, group
        with self._lock:
            self._walks.add(walk, foreseen=True)
            self._stir()

    def foresee_for_later(self, resource: str, course: Course, ask: Ask, *, may_stop: bool) -> None:
        """Fetch the pages of a call that will be made later in the run."""
        walk = self._walk(resource, course, ask, self._walks.far_room)
        walk.may_stop = may_stop
        with self._lock:
            self._walks.add_far(walk)
            self._stir()

    def withdraw(self, group: object) -> None:
        """Calls of this group that were not made are not made any more."""
        with self._lock:
            self._walks.withdraw(lambda walk: walk.group is group)
            self._stir()
        self._budget.wake()

    def end_family(self, root: str) -> None:
        """Calls below parents, and those of this resource, are not made any more."""
        with self._lock:
            self._walks.withdraw_near()
            self._walks.withdraw(lambda walk: walk.resource == root)
            self._stir()
        self._budget.wake()

    def close(self) -> None:
        """End all requests that were sent ahead, and the threads."""
        with self._lock:
            self._walks.close()
            under_way = list(self._under_way)
            self._crew.dismiss()
            self._news.notify_all()
        for leash in under_way:
            leash.cut()
        self._budget.wake()
        self._crew.join(_END_SECONDS)

    def _walk(self, resource: str, course: Course, ask: Ask, room: Room) -> Walk:
        guesses = Guesses(self._most, by_total_only=self._budget.is_tight)
        size = self._page_bytes.get(resource)
        return Walk(resource, course, ask, room, guesses, page_bytes=size)

    def _fetch(self, walk: Walk, request: requests.Request, page: int) -> Answer:
        with self._lock:
            entry = walk.front(request, page)
            is_idle = entry is not None and entry.stage is Stage.IDLE
            if entry is not None and is_idle:
                walk.begin(entry, ahead=False)
            self._stir(walk)
        if entry is None:
            return Answer(walk.ask(request, page))
        if is_idle:
            self._ask(walk, entry)
        self._see_turned(walk, entry)
        with self._lock:
            if entry.stage is Stage.TURNED:
                walk.take(entry)
                self._stir(walk)
        if entry.error is not None:
            raise entry.error
        answer = entry.answer or Answer(walk.ask(request, page))
        if self._kept is not None:
            self._kept.note(walk.resource, entry.key, answer)
        return answer

    def _is_work(self) -> bool:
        return self._walks.pick() is not None

    def _take(self) -> tuple[Walk, Entry] | None:
        """The request to send next: it is begun by that."""
        picked = self._walks.pick()
        if picked is not None:
            walk, entry = picked
            walk.begin(entry, ahead=True)
            if entry.leash is not None:
                self._under_way.add(entry.leash)
        return picked

    def _stir(self, walk: Walk | None = None) -> None:
        """See to it that somebody does what there is to do, perhaps only in one walk."""
        if walk is None or walk.next_entry() is not None or self._walks.lacked_room:
            self._crew.call()

    def _ask(self, walk: Walk, entry: Entry) -> None:
        """Send a request, and read its answer and those after it that wait for it."""
        outcome: Answer | Exception | None = None
        try:
            outcome = Answer(entry.send(walk.ask))
        except Abandoned:
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
                self._news.notify_all()
        while self._read(walk):
            pass

    def _see_turned(self, walk: Walk, entry: Entry) -> None:
        """Wait until the entry that is wanted is read, and read it if nobody else does."""
        while True:
            ready = None
            with self._lock:
                while entry.stage < Stage.TURNED and (ready := walk.to_turn()) is None:
                    self._news.wait()
            if ready is None:
                return
            self._turn(walk, ready)

    def _read(self, walk: Walk) -> bool:
        """Read the next answer of a walk; False if there is none to read now."""
        with self._lock:
            entry = walk.to_turn()
        if entry is not None:
            self._turn(walk, entry)
        return entry is not None

    def _turn(self, walk: Walk, entry: Entry) -> None:
        turned = walk.turn(entry)
        with self._lock:
            walk.turned(entry, turned)
            self._news.notify_all()
            self._stir(walk)
