"""Requests that nobody has asked for yet: they end when it turns out that nobody will.

A thread that reads ahead wears a leash. What waits in it, for the rate, for a retry or for bytes,
looks at the leash; other threads have none and are not affected.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = [
    "Cancellation",
    "RequestCancelled",
    "Sleep",
    "cancellable_sleep",
    "count_received_bytes",
    "end_on_cancel",
    "raise_if_cancelled",
]

Sleep = Callable[[float], None]

_current_cancellation: ContextVar["Cancellation | None"] = ContextVar("leash", default=None)


class RequestCancelled(Exception):  # noqa: N818 - no error: nobody is told of it
    """Nobody wants the answer any more."""


class Cancellation:
    """Lets go of one request.

    `drop` ends its waits; an exchange that is under way goes on to its end, since the API works on
    it anyway. `cut` ends the exchange, too. `grow` is told of each piece of the answer, in bytes,
    and says whether there is room for it.
    """

    def __init__(self, grow: Callable[[int], bool] = lambda _: True) -> None:
        self._reserve = grow
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._aborted = False
        self._end: Callable[[], None] | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody wants the answer."""
        return self._cancelled.is_set()

    def drop(self) -> None:
        """End the waits of the request."""
        self._cancelled.set()

    def cut(self) -> None:
        """End the request wherever it is."""
        self.drop()
        with self._lock:
            self._aborted = True
            if self._end is not None:
                self._end()

    def wait(self, seconds: float) -> None:
        """Wait, unless the request is dropped."""
        self._cancelled.wait(seconds)

    def read(self, size: int) -> None:
        """So many bytes more have come. Raises `Abandoned` if there is no room for them."""
        if not self._reserve(size):
            raise RequestCancelled

    @contextmanager
    def activated(self) -> Iterator[None]:
        """Have what this thread does obey."""
        token = _current_cancellation.set(self)
        try:
            yield
        finally:
            _current_cancellation.reset(token)

    @contextmanager
    def aborting_with(self, end: Callable[[], None]) -> Iterator[None]:
        """Have `cut` call `end`."""
        with self._lock:
            self._end = end
            if self._aborted:
                end()
        try:
            yield
        finally:
            with self._lock:
                self._end = None


def raise_if_cancelled() -> None:
    """Raise `Abandoned` if this thread's request is dropped."""
    leash = _current_cancellation.get()
    if leash is not None and leash.is_cancelled:
        raise RequestCancelled


def cancellable_sleep(seconds: float, sleep: Sleep | None) -> None:
    """Wait by `sleep` if there is one, else until the request is dropped. Raises `Abandoned`."""
    leash = _current_cancellation.get()
    if sleep is not None:
        sleep(seconds)
    elif leash is not None:
        leash.wait(seconds)
    else:
        time.sleep(seconds)
    raise_if_cancelled()


def count_received_bytes(size: int) -> None:
    """So many bytes of this thread's answer have come. Raises `Abandoned` if they are too many."""
    leash = _current_cancellation.get()
    if leash is not None:
        leash.read(size)


@contextmanager
def end_on_cancel(end: Callable[[], None]) -> Iterator[None]:
    """Call `end` if this thread's request is cut; raise `Abandoned` then, whatever else is raised."""
    leash = _current_cancellation.get()
    if leash is None:
        yield
        return
    try:
        with leash.aborting_with(end):
            yield
    except Exception:
        raise_if_cancelled()
        raise
