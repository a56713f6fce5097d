"""End a request before its response is complete: it takes too long, or is no longer needed.

A prefetch thread activates a `Cancellation` for the request it sends. Every wait of that request, be
it for the rate limit, for a retry or for bytes, checks it. Threads without one are not affected.

A `Deadline` limits a whole exchange: connect, TLS handshake, headers and the last byte of the body.
A socket's timeout is per read, so a server that sends one byte now and then holds a client for ever.
A deadline shuts the connection down.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

__all__ = [
    "Cancellation",
    "Deadline",
    "RequestCancelled",
    "Sleep",
    "cancellable_sleep",
    "count_received_bytes",
    "end_on_abort",
    "install_deadlines",
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
            if self._aborted:  # since the last check: no later call would end this exchange
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


# urllib3 makes its connections by itself, so a connection finds its deadline by the thread it is in.
_current_deadline: ContextVar["Deadline | None"] = ContextVar("deadline", default=None)


class Deadline:
    """Ends the current thread's exchange after so many seconds. Used as a `with` block.

    Read `expired` after the block: a body that was cut short may look complete.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self.expire_now)
        # a process must be able to exit while an exchange is under way
        self._timer.daemon = True
        self.expired = False

    @property
    def remaining(self) -> float:
        """The seconds that are left, at least 0.001: to a socket 0 means "don't wait"."""
        return max(0.001, self._ends_at - time.monotonic())

    def __enter__(self) -> Self:
        self._ends_at = time.monotonic() + self.seconds
        self._token = _current_deadline.set(self)
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _current_deadline.reset(self._token)
        self._timer.cancel()
        with self._lock:
            self._close_descriptor()

    def renew(self) -> None:
        """Give the exchange its whole time again, unless that is up already."""
        with self._lock:
            if self.expired:
                return
            self._timer.cancel()
            self._ends_at = time.monotonic() + self.seconds
            self._timer = threading.Timer(self.seconds, self.expire_now)
            self._timer.daemon = True
            self._timer.start()

    def watch(self, connected: socket.socket) -> None:
        """Shut this connection down when the time is up; at once if it is up already.

        The deadline holds a descriptor of its own: TLS takes the original socket over, and during a
        handshake no other object holds it.
        """
        with self._lock:
            self._close_descriptor()
            self._socket = socket.socket(fileno=os.dup(connected.fileno()))
            if self.expired:
                self._shut_down_socket()

    def expire_now(self) -> None:
        """End the exchange, whatever time is left."""
        with self._lock:
            self.expired = True
            self._shut_down_socket()

    def _shut_down_socket(self) -> None:
        if self._socket is None:
            return
        try:
            # not close(): only a shutdown wakes a thread that is blocked in a read
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the other side has closed it already, which ends the exchange as well

    def _close_descriptor(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _DeadlineConnection:
    """Registers a connection with the thread's deadline when it is made and when it is reused."""

    _dns_host: str
    timeout: float | None
    port: int

    def _new_conn(self) -> socket.socket:
        """Connect to the first of the host's addresses that answers in the time that is left.

        urllib3 gives each address the whole timeout.
        """
        deadline, host = _current_deadline.get(), self._dns_host
        addresses = [host] if deadline is None else _host_addresses(host, self.port)
        try:
            for left, address in enumerate(addresses, 1 - len(addresses)):
                if deadline is not None:
                    self._dns_host, self.timeout = address, deadline.remaining
                try:
                    return _watch_connection(super()._new_conn())  # type: ignore[misc]
                except (ConnectTimeoutError, NewConnectionError):
                    if not left:
                        raise
            raise NewConnectionError(self, "the host has no address")  # type: ignore[arg-type]
        finally:
            # TLS checks the certificate against the name, not against the address
            self._dns_host = host

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request."""
        if (reused := getattr(self, "sock", None)) is not None:
            _watch_connection(reused)
        super().request(*args, **kwargs)  # type: ignore[misc]


def _host_addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return [host]  # urllib3 looks it up again, fails, too, and words the error
    return [str(place[0]) for *_, place in found]


def _watch_connection(connected: socket.socket) -> socket.socket:
    deadline = _current_deadline.get()
    if deadline is not None:
        deadline.watch(connected)
    return connected


class _DeadlineHTTPConnection(_DeadlineConnection, HTTPConnection):
    pass


class _DeadlineHTTPSConnection(_DeadlineConnection, HTTPSConnection):
    pass


class _DeadlineHTTPPool(HTTPConnectionPool):
    ConnectionCls = _DeadlineHTTPConnection


class _DeadlineHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _DeadlineHTTPSConnection


def install_deadlines(manager: PoolManager) -> None:
    """Make the connections of a pool manager obey deadlines."""
    manager.pool_classes_by_scheme = {"http": _DeadlineHTTPPool, "https": _DeadlineHTTPSPool}
