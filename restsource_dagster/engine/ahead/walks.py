"""All calls that are gone through ahead in one run, and whose requests come first."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, islice

from restsource_dagster.engine.ahead.entry import Entry
from restsource_dagster.engine.ahead.room import Room
from restsource_dagster.engine.ahead.walk import Walk

__all__ = ["Walks"]

STALE_SECONDS = 30.0
"""A call that stood still for so long before it was wanted is gone through anew: links and pages of
an API are not good for ever."""


class Walks:
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
        self.near_room = Room(room_bytes // 2)
        self.far_room = Room(room_bytes // 2)
        self._near: list[Walk] = []
        self._far: list[Walk] = []
        self._foreseen: dict[tuple[str, str], deque[Walk]] = {}
        self._front: object = None

    @property
    def held(self) -> int:
        """The bytes held."""
        return self.near_room.used + self.far_room.used

    @property
    def lacked_room(self) -> bool:
        """Whether a request could not be sent for lack of room, since this was last asked."""
        lacked = self.near_room.was_full or self.far_room.was_full
        self.near_room.was_full = self.far_room.was_full = False
        return lacked

    def add(self, walk: Walk, *, foreseen: bool = False) -> None:
        """A near walk; `foreseen` if its call is yet to be made."""
        walk.share = self.near_room.most // 2
        self._near.append(walk)
        if foreseen:
            self._foresee(walk)

    def add_far(self, walk: Walk) -> None:
        """A walk through a call that comes later."""
        walk.share = self.far_room.most // self._most
        self._far.append(walk)
        self._foresee(walk)

    def take_up(self, resource: str, key: str) -> Walk | None:
        """The walk through a call that is made now, if it was foreseen."""
        walks = self._foreseen.get((resource, key))
        if not walks:
            return None
        walk = walks[0]
        self._forget(walk)
        if walk.is_stale(self._clock() - STALE_SECONDS):
            self.end(walk)
            return None
        if walk in self._far:
            self._far.remove(walk)
            self._near.append(walk)
            walk.move_to(self.near_room, self.near_room.most // 2)
        self._front = walk.group
        return walk

    def is_read(self, resource: str) -> bool:
        """Whether one call of the resource was foreseen and is gone through to its end."""
        found = self._foreseen_of(resource)
        return len(found) == 1 and found[0].is_read

    def is_awaited(self, resource: str) -> bool:
        """Whether the first page of a call of the resource is on its way."""
        return any(walk.is_awaited for walk in self._foreseen_of(resource))

    def _foreseen_of(self, resource: str) -> list[Walk]:
        found = (walks for (name, _), walks in self._foreseen.items() if name == resource)
        return list(chain.from_iterable(found))

    def end(self, walk: Walk) -> None:
        """A walk is at its end, or given up."""
        walk.close()
        for walks in (self._near, self._far):
            if walk in walks:
                walks.remove(walk)

    def withdraw(self, belongs: Callable[[Walk], bool]) -> None:
        """Give up the walks to which this applies, if their calls were not made."""
        for walk in [walk for walk in chain(self._near, self._far) if belongs(walk)]:
            if self._forget(walk):
                self.end(walk)

    def withdraw_near(self) -> None:
        """Give up the near walks whose calls were not made."""
        near = set(self._near)
        self.withdraw(near.__contains__)

    def close(self) -> None:
        """Give up all of them."""
        for walk in chain(self._near, self._far):
            walk.close()

    def pick(self) -> tuple[Walk, Entry] | None:
        """The request to send next."""
        if self._far and sum(walk.under_way for walk in self._near) * 2 >= self._most:
            return self._pick_far() or self._pick_near()
        return self._pick_near() or self._pick_far()

    def _pick_near(self) -> tuple[Walk, Entry] | None:
        """Calls below the parents that are read by now, then below others, then parents."""
        grouped = [walk for walk in self._near if walk.group is not None]
        in_front = (walk for walk in grouped if walk.group is self._front)
        return _first(chain(in_front, grouped, self._near))

    def _pick_far(self) -> tuple[Walk, Entry] | None:
        """Some walks at a time, the least busy first, each with its share of the room."""
        going_on = (walk for walk in self._far if not (walk.is_over or walk.is_closed))
        return _first(sorted(islice(going_on, self._most), key=lambda walk: walk.under_way))

    def _foresee(self, walk: Walk) -> None:
        self._foreseen.setdefault((walk.resource, walk.key), deque()).append(walk)

    def _forget(self, walk: Walk) -> bool:
        """Take a walk off those whose calls are yet to be made; False if it was none of them."""
        walks = self._foreseen.get((walk.resource, walk.key), deque())
        if walk not in walks:
            return False
        walks.remove(walk)
        if not walks:
            del self._foreseen[walk.resource, walk.key]
        return True


def _first(walks: Iterator[Walk] | list[Walk]) -> tuple[Walk, Entry] | None:
    for walk in walks:
        if (entry := walk.next_entry()) is not None:
            return walk, entry
    return None
