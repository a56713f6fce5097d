"""A limit for an exchange as a whole: connect, handshake, headers and the last byte of the body.

A socket's timeout is per read, so a server that sends a byte now and then holds a client for ever.
A deadline shuts the connection down.
"""

import os
import socket
import threading
import time
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

__all__ = ["Deadline", "install_deadlines"]

_current_deadline: ContextVar["Deadline | None"] = ContextVar("deadline", default=None)


class Deadline:
    """Ends the exchange that goes on in this thread after so many seconds.

    A `with` block; `expired` tells afterwards whether it struck, since a body cut short may look
    complete.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True
        self.expired = False

    @property
    def remaining(self) -> float:
        """The seconds that are left; a little more than none, since 0 means "don't wait"."""
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

    def end(self) -> None:
        """End the exchange now."""
        self._expire()

    def watch(self, connected: socket.socket) -> None:
        """Shut this connection down when the time is up, at once if it is.

        It is held by a descriptor of our own: TLS takes the original socket over, and during a
        handshake nobody else has it.
        """
        with self._lock:
            self._close_descriptor()
            self._connection = socket.socket(fileno=os.dup(connected.fileno()))
            if self.expired:
                self._shut_down_socket()

    def _expire(self) -> None:
        with self._lock:
            self.expired = True
            self._shut_down_socket()

    def _shut_down_socket(self) -> None:
        if self._connection is None:
            return
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # closed by the other side already: that is all we want

    def _close_descriptor(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _DeadlineConnection:
    """Has the deadline of this thread watch a connection, from its first moment and when reused."""

    _dns_host: str
    timeout: float | None
    port: int

    def _new_conn(self) -> socket.socket:
        """Connect to the first of the host's addresses that answers in what is left of the time.

        urllib3 gives each address the whole of it.
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
        return [host]  # urllib3 finds the same, and the words for it
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
