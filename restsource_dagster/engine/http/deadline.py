"""A limit for an exchange as a whole: connect, headers and the last byte of the body.

A socket's timeout is per read, so a server that sends a byte now and then holds a client for ever.
A deadline shuts the socket down.
"""

import socket
import threading
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

__all__ = ["Deadline", "install"]

_current: ContextVar["Deadline | None"] = ContextVar("deadline", default=None)


class Deadline:
    """Ends the exchange that goes on in this thread after so many seconds.

    A `with` block; `expired` tells afterwards whether it struck, since a body cut short may look
    complete.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._strike)
        self._timer.daemon = True
        self.expired = False

    def __enter__(self) -> Self:
        self._token = _current.set(self)
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _current.reset(self._token)
        self._timer.cancel()
        with self._lock:
            self._socket = None

    def watch(self, connected: socket.socket) -> None:
        """Shut this socket down when the time is up, at once if it is."""
        with self._lock:
            self._socket = connected
        if self.expired:
            _shut(connected)

    def _strike(self) -> None:
        with self._lock:
            self.expired = True
            if self._socket is not None:
                _shut(self._socket)


def _shut(connected: socket.socket) -> None:
    try:
        connected.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed already: that is all we want


class _WatchedHTTP(HTTPConnection):
    def getresponse(self) -> Any:
        """Have the deadline of this thread watch the socket."""
        _watch(self.sock)
        return super().getresponse()


class _WatchedHTTPS(HTTPSConnection):
    def getresponse(self) -> Any:
        """Have the deadline of this thread watch the socket."""
        _watch(self.sock)
        return super().getresponse()


def _watch(connected: socket.socket | None) -> None:
    deadline = _current.get()
    if deadline is not None and connected is not None:
        deadline.watch(connected)


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _WatchedHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPS


def install(manager: PoolManager) -> None:
    """Make the connections of a pool manager obey deadlines."""
    manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
