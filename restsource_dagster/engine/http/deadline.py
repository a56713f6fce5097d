"""A limit for an exchange as a whole: connect, handshake, headers and the last byte of the body.

A socket's timeout is per read, so a server that sends a byte now and then holds a client for ever.
A deadline shuts the connection down.
"""

import os
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
        self._connection: socket.socket | None = None
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
            self._let_go()

    def watch(self, connected: socket.socket) -> None:
        """Shut this connection down when the time is up, at once if it is.

        It is held by a descriptor of our own: TLS takes the original socket over, and during a
        handshake nobody else has it.
        """
        with self._lock:
            self._let_go()
            self._connection = socket.socket(fileno=os.dup(connected.fileno()))
            if self.expired:
                self._shut()

    def _strike(self) -> None:
        with self._lock:
            self.expired = True
            self._shut()

    def _shut(self) -> None:
        if self._connection is None:
            return
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # closed by the other side already: that is all we want

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Watched:
    """Has the deadline of this thread watch a connection, from its first moment and when reused."""

    def _new_conn(self) -> socket.socket:
        connected: socket.socket = super()._new_conn()  # type: ignore[misc]
        return _watch(connected)

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request."""
        if (reused := getattr(self, "sock", None)) is not None:
            _watch(reused)
        super().request(*args, **kwargs)  # type: ignore[misc]


def _watch(connected: socket.socket) -> socket.socket:
    deadline = _current.get()
    if deadline is not None:
        deadline.watch(connected)
    return connected


class _WatchedHTTP(_Watched, HTTPConnection):
    pass


class _WatchedHTTPS(_Watched, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _WatchedHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPS


def install(manager: PoolManager) -> None:
    """Make the connections of a pool manager obey deadlines."""
    manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
