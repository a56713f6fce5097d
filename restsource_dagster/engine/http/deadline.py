"""Limit the time of a whole exchange: connect, TLS handshake, headers and the last byte of the body.

A socket's timeout is per read, so a server that sends one byte now and then holds a client for ever.
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
