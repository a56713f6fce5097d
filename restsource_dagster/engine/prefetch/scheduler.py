"""All calls that are gone through ahead in one run, and whose requests come first.

Threads that start when there is something to do, and end when they are told to.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Generic, TypeVar

from restsource_dagster.engine.prefetch.call_prefetch import CallPrefetch, PrefetchedPage
from restsource_dagster.engine.prefetch.memory_budget import MemoryBudget

__all__ = ["PrefetchScheduler", "WorkerPool"]

Work = TypeVar("Work")


class WorkerPool(Generic[Work]):
    """Up to `most` threads that share the work there is.

    `lock` guards whatever `is_work` and `take` look at: they are called under it, in any thread.
    `take` hands out a piece of work, or None if there is none now; `do` does it, without the lock.
    """

    def __init__(
        self,
        most: int,
        lock: threading.Lock,
        *,
        is_work: Callable[[], bool],
        take: Callable[[], Work | None],
        do: Callable[[Work], None],
    ) -> None:
        self._most = most
        self._lock = lock
        self._is_work = is_work
        self._take = take
        self._do = do
        self._work = threading.Condition(lock)
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._is_shut_down = False

    @property
    def is_idle(self) -> bool:
        """True if all threads wait for work. Call it under the lock."""
        return self._idle == len(self._threads)

    def call(self) -> None:
        """See to it that somebody does what there is to do. Under the lock."""
        if self._is_shut_down:
            return
        if self._idle:
            self._work.notify()
        elif len(self._threads) < self._most and self._is_work():
            name = f"restsource-ahead-{len(self._threads)}"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def shut_down(self) -> None:
        """Let each thread end when it is done with what it does. Under the lock."""
        self._is_shut_down = True
        self._work.notify_all()

    def join(self, seconds: float) -> None:
        """Wait for their end, all in all for so long at most. Not under the lock."""
        ends_at = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, ends_at - time.monotonic()))

    def _run(self) -> None:
        while (work := self._wait()) is not None:
            self._do(work)

    def _wait(self) -> Work | None:
        with self._lock:
            while not self._is_shut_down:
                if (work := self._take()) is not None:
                    self.call()
                    return work
                self._idle += 1
                self._work.wait()
                self._idle -= 1
            return None


STALE_SECONDS = 30.0
"""A call that stood still for so long before it was wanted is gone through anew: links and pages of
an API are not good for ever."""


class PrefetchScheduler:
    """The walks of a run. Not for several threads at once.

    `near` are those through calls that are made by now or about to be made; `far` are through calls
    that come later in the run. At most `most` requests are under way, and no more than half of them
    for near walks while far ones could use them. Each kind has half of the room, and each walk a share
    of that, so that parents leave room for what is below them.
    """

    def __init__(
        self, most: int, room_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._clock = clock
        self.current_budget = MemoryBudget(room_bytes // 2)
        self.later_budget = MemoryBudget(room_bytes // 2)
        self._current: list[CallPrefetch] = []
        self._later: list[CallPrefetch] = []
        self._foreseen: dict[tuple[str, str], deque[CallPrefetch]] = {}
        self._current_group: object = None

    @property
    def held(self) -> int:
        """The bytes held."""
        return self.current_budget.used_bytes + self.later_budget.used_bytes

    @property
    def was_out_of_memory(self) -> bool:
        """Whether a request could not be sent for lack of room, since this was last asked."""
        lacked = self.current_budget.was_exhausted or self.later_budget.was_exhausted
        self.current_budget.was_exhausted = self.later_budget.was_exhausted = False
        return lacked

    def add(self, walk: CallPrefetch, *, foreseen: bool = False) -> None:
        """A near walk; `foreseen` if its call is yet to be made."""
        walk.max_bytes = self.current_budget.most // 2
        self._current.append(walk)
        if foreseen:
            self._register(walk)

    def add_later(self, walk: CallPrefetch) -> None:
        """A walk through a call that comes later."""
        walk.max_bytes = self.later_budget.most // self._most
        self._later.append(walk)
        self._register(walk)

    def claim(self, resource: str, key: str) -> CallPrefetch | None:
        """The walk through a call that is made now, if it was foreseen."""
        walks = self._foreseen.get((resource, key))
        if not walks:
            return None
        walk = walks[0]
        self._unregister(walk)
        if walk.is_stale(self._clock() - STALE_SECONDS):
            self.end(walk)
            return None
        if walk in self._later:
            self._later.remove(walk)
            self._current.append(walk)
            walk.move_to(self.current_budget, self.current_budget.most // 2)
        self._current_group = walk.group
        return walk

    def is_read(self, resource: str) -> bool:
        """Whether one call of the resource was foreseen and is gone through to its end."""
        found = self._foreseen_of(resource)
        return len(found) == 1 and found[0].is_read

    def is_awaited(self, resource: str) -> bool:
        """Whether the first page of a call of the resource is on its way."""
        return any(walk.is_awaited for walk in self._foreseen_of(resource))

    def _foreseen_of(self, resource: str) -> list[CallPrefetch]:
        found = (walks for (name, _), walks in self._foreseen.items() if name == resource)
        return list(chain.from_iterable(found))

    def end(self, walk: CallPrefetch) -> None:
        """A walk is at its end, or given up."""
        walk.close()
        for walks in (self._current, self._later):
            if walk in walks:
                walks.remove(walk)

    def withdraw(self, belongs: Callable[[CallPrefetch], bool]) -> None:
        """Give up the walks to which this applies, if their calls were not made."""
        for walk in [walk for walk in chain(self._current, self._later) if belongs(walk)]:
            if self._unregister(walk):
                self.end(walk)

    def cancel_current(self) -> None:
        """Give up the near walks whose calls were not made."""
        near = set(self._current)
        self.withdraw(near.__contains__)

    def close(self) -> None:
        """Give up all of them."""
        for walk in chain(self._current, self._later):
            walk.close()

    def next_request(self) -> tuple[CallPrefetch, PrefetchedPage] | None:
        """The request to send next."""
        if self._later and sum(walk.in_flight for walk in self._current) * 2 >= self._most:
            return self._next_later() or self._next_current()
        return self._next_current() or self._next_later()

    def _next_current(self) -> tuple[CallPrefetch, PrefetchedPage] | None:
        """Calls below the parents that are read by now, then below others, then parents."""
        grouped = [walk for walk in self._current if walk.group is not None]
        in_front = (walk for walk in grouped if walk.group is self._current_group)
        return _first_pending(chain(in_front, grouped, self._current))

    def _next_later(self) -> tuple[CallPrefetch, PrefetchedPage] | None:
        """Some walks at a time, the least busy first, each with its share of the room."""
        going_on = (walk for walk in self._later if not (walk.has_ended or walk.is_cancelled))
        return _first_pending(sorted(islice(going_on, self._most), key=lambda walk: walk.in_flight))

    def _register(self, walk: CallPrefetch) -> None:
        self._foreseen.setdefault((walk.resource, walk.key), deque()).append(walk)

    def _unregister(self, walk: CallPrefetch) -> bool:
        """Take a walk off those whose calls are yet to be made; False if it was none of them."""
        walks = self._foreseen.get((walk.resource, walk.key), deque())
        if walk not in walks:
            return False
        walks.remove(walk)
        if not walks:
            del self._foreseen[walk.resource, walk.key]
        return True


def _first_pending(
    walks: Iterator[CallPrefetch] | list[CallPrefetch],
) -> tuple[CallPrefetch, PrefetchedPage] | None:
    for walk in walks:
        if (entry := walk.next_page()) is not None:
            return walk, entry
    return None
