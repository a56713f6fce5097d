"""Requests that nobody has asked for yet: they end when it turns out that nobody will.

A thread that reads ahead wears a leash. What waits in it, for the rate, for a retry or for bytes,
looks at the leash; other threads have none and are not affected.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["Abandoned", "Leash", "Sleep", "count_bytes", "ends_with", "nap", "stop_if_unwanted"]

Sleep = Callable[[float], None]

_worn: ContextVar["Leash | None"] = ContextVar("leash", default=None)


class Abandoned(Exception):  # noqa: N818 - no error: nobody is told of it
    """Nobody wants the answer any more."""


class Leash:
    """Lets go of one request.

    `drop` ends its waits; an exchange that is under way goes on to its end, since the API works on
    it anyway. `cut` ends the exchange, too. `grow` is told of each piece of the answer, in bytes,
    and says whether there is room for it.
    """

    def __init__(self, grow: Callable[[int], bool] = lambda _: True) -> None:
        self._grow = grow
        self._dropped = threading.Event()
        self._lock = threading.Lock()
        self._cut = False
        self._end: Callable[[], None] | None = None

    @property
    def is_dropped(self) -> bool:
        """Whether nobody wants the answer."""
        return self._dropped.is_set()

    def drop(self) -> None:
        """End the waits of the request."""
        self._dropped.set()

    def cut(self) -> None:
        """End the request wherever it is."""
        self.drop()
        with self._lock:
            self._cut = True
            if self._end is not None:
                self._end()

    def wait(self, seconds: float) -> None:
        """Wait, unless the request is dropped."""
        self._dropped.wait(seconds)

    def read(self, size: int) -> None:
        """So many bytes more have come. Raises `Abandoned` if there is no room for them."""
        if not self._grow(size):
            raise Abandoned

    @contextmanager
    def worn(self) -> Iterator[None]:
        """Have what this thread does obey."""
        token = _worn.set(self)
        try:
            yield
        finally:
            _worn.reset(token)

    @contextmanager
    def ending(self, end: Callable[[], None]) -> Iterator[None]:
        """Have `cut` call `end`."""
        with self._lock:
            self._end = end
            if self._cut:
                end()
        try:
            yield
        finally:
            with self._lock:
                self._end = None


def stop_if_unwanted() -> None:
    """Raise `Abandoned` if this thread's request is dropped."""
    leash = _worn.get()
    if leash is not None and leash.is_dropped:
        raise Abandoned


def nap(seconds: float, sleep: Sleep | None) -> None:
    """Wait by `sleep` if there is one, else until the request is dropped. Raises `Abandoned`."""
    leash = _worn.get()
    if sleep is not None:
        sleep(seconds)
    elif leash is not None:
        leash.wait(seconds)
    else:
        time.sleep(seconds)
    stop_if_unwanted()


def count_bytes(size: int) -> None:
    """So many bytes of this thread's answer have come. Raises `Abandoned` if they are too many."""
    leash = _worn.get()
    if leash is not None:
        leash.read(size)


@contextmanager
def ends_with(end: Callable[[], None]) -> Iterator[None]:
    """Call `end` if this thread's request is cut; raise `Abandoned` then, whatever else is raised."""
    leash = _worn.get()
    if leash is None:
        yield
        return
    try:
        with leash.ending(end):
            yield
    except Exception:
        stop_if_unwanted()
        raise
