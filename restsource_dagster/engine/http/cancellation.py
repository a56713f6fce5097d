"""Cancel requests that were sent ahead and whose response is no longer needed.

A prefetch thread activates a `Cancellation` for the request it sends. Every wait of that request, be
it for the rate limit, for a retry or for bytes, checks it. Threads without one are not affected.
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
    "end_on_abort",
    "raise_if_cancelled",
]

Sleep = Callable[[float], None]
"""Waits for so many seconds."""

# A context variable, not a parameter: between the prefetcher and the waits lie requests, urllib3 and
# tenacity, none of which hands an object of ours through.
_current_cancellation: ContextVar["Cancellation | None"] = ContextVar("cancellation", default=None)


class RequestCancelled(Exception):  # noqa: N818 - not an error: no user sees it
    """The response is no longer needed, or there is no memory for it."""


class Cancellation:
    """Ends one request whose response is no longer needed. Thread-safe.

    `cancel` ends its waits only: an exchange under way completes, since the API works on it anyway and
    its connection can be used again. `abort` ends the exchange, too. `reserve` gets the size of each
    piece of the body, in bytes, and returns False if there is no memory for it.
    """

    def __init__(self, reserve: Callable[[int], bool] = lambda _: True) -> None:
        self._reserve = reserve
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._aborted = False
        self._on_abort: Callable[[], None] | None = None

    @property
    def is_cancelled(self) -> bool:
        """True if the response is no longer needed."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """End the waits of the request."""
        self._cancelled.set()

    def abort(self) -> None:
        """End the request at once, in the middle of an exchange too."""
        self.cancel()
        with self._lock:
            self._aborted = True
            if self._on_abort is not None:
                self._on_abort()

    def wait(self, seconds: float) -> None:
        """Wait for so many seconds, or until the request is cancelled."""
        self._cancelled.wait(seconds)

    def count_received(self, size: int) -> None:
        """Reserve memory for `size` more bytes of the body.

        Raises `RequestCancelled` if there is none.
        """
        if not self._reserve(size):
            raise RequestCancelled

    @contextmanager
    def activated(self) -> Iterator[None]:
        """Apply this cancellation to the requests that the current thread sends in the block."""
        token = _current_cancellation.set(self)
        try:
            yield
        finally:
            _current_cancellation.reset(token)

    @contextmanager
    def aborting_with(self, on_abort: Callable[[], None]) -> Iterator[None]:
        """Call `on_abort` if `abort` is called in the block or was called before it."""
        with self._lock:
            self._on_abort = on_abort
            if self._aborted:  # between the last check and here: nobody else would end the exchange
                on_abort()
        try:
            yield
        finally:
            with self._lock:
                # the connection returns to the pool: an abort must not end its next request
                self._on_abort = None


def raise_if_cancelled() -> None:
    """Raise `RequestCancelled` if the current thread's request is cancelled."""
    cancellation = _current_cancellation.get()
    if cancellation is not None and cancellation.is_cancelled:
        raise RequestCancelled


def cancellable_sleep(seconds: float, sleep: Sleep | None) -> None:
    """Wait with `sleep` if it is given, else until the time is up or the request is cancelled.

    Raises `RequestCancelled`.
    """
    cancellation = _current_cancellation.get()
    if sleep is not None:
        sleep(seconds)
    elif cancellation is not None:
        cancellation.wait(seconds)
    else:
        time.sleep(seconds)
    raise_if_cancelled()


def count_received_bytes(size: int) -> None:
    """Reserve memory for `size` more bytes that the current thread received.

    Raises `RequestCancelled` if they are too many.
    """
    cancellation = _current_cancellation.get()
    if cancellation is not None:
        cancellation.count_received(size)


@contextmanager
def end_on_abort(end: Callable[[], None]) -> Iterator[None]:
    """Call `end` if the current thread's request is aborted in the block.

    An error of a cancelled request becomes `RequestCancelled`: a connection that we shut down fails
    in many ways, and none of them says anything about the API.
    """
    cancellation = _current_cancellation.get()
    if cancellation is None:
        yield
        return
    try:
        with cancellation.aborting_with(end):
            yield
    except Exception:
        raise_if_cancelled()
        raise
