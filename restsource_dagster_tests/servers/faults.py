"""A real HTTP server on 127.0.0.1 that misbehaves on command and records what reached it.

It speaks HTTP/1.1 on bare sockets, because a framework would mend what a test wants broken: a body
shorter than its Content-Length, headers byte by byte, a connection that is reset.
"""

import asyncio
import inspect
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

__all__ = ["Arrival", "FaultServer", "Reply"]


@dataclass(frozen=True)
class Arrival:
    """One request that reached the server, `at` seconds of the monotonic clock."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def path(self) -> str:
        """The path, without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters; of a repeated one, the last."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    def has(self, text: str) -> bool:
        """Whether a text stands anywhere in the request."""
        return text in f"{self.target}\n{dict(self.headers)}\n{self.body!r}"


@dataclass(frozen=True)
class Reply:
    """What the server does with a request. `body` is sent as JSON unless it is bytes."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before the first byte."""
    together: int = 0
    """Wait until so many requests have been under way at once: see `FaultServer.peak`."""
    drip_head: float = 0.0
    """Seconds between two bytes of the status line and headers."""
    drip_body: float = 0.0
    """Seconds between two bytes of the body."""
    missing: int = 0
    """How many bytes more than it sends the Content-Length says; the connection stays open."""
    cut: int | None = None
    """Close the connection after so many bytes of the body."""
    unframed: bool = False
    """No Content-Length: the body ends where the connection does."""
    reset: bool = False
    """Answer with nothing but a TCP reset."""


_PHRASES = {status.value: status.phrase for status in HTTPStatus}
Plan = Reply | Sequence[Any] | Callable[[Arrival], Any] | Any


class FaultServer:
    """Use it in a `with` statement; it stops at its end.

    `plan` maps a path to what is done with its requests: a `Reply`, plain JSON, a function of the
    `Arrival` that returns either, or a tuple of them of which each serves one request and the last
    one all that follow. A function may be `async`, to wait for other requests with `reached`.
    `arrivals` holds all requests in order; `connections` counts also those that sent nothing; `peak`
    is how many requests have been under way at once.
    """

    def __init__(self, plan: Mapping[str, Plan] | None = None) -> None:
        self.plan: dict[str, Plan] = dict(plan or {})
        self.arrivals: list[Arrival] = []
        self.connections = 0
        self.peak = 0
        self._under_way = 0
        self._taken: dict[str, tuple[Any, int]] = {}
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stop = asyncio.Event()
        self._arrived = asyncio.Event()

    @property
    def under_way(self) -> int:
        """How many requests are under way now."""
        return self._under_way

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    def asked(self, path: str) -> list[Arrival]:
        """The requests for a path."""
        return [arrival for arrival in self.arrivals if arrival.path == path]

    def most_within(self, seconds: float) -> int:
        """The most requests that arrived in any window of so many seconds."""
        times = sorted(arrival.at for arrival in self.arrivals)
        return max((sum(at <= t < at + seconds for t in times) for at in times), default=0)

    async def reached(self, is_reached: Callable[[], bool]) -> None:
        """Wait, while an answer is decided on, until requests have arrived that make this true."""
        while not is_reached():
            await self._arrived.wait()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        for task in (tasks := asyncio.all_tasks(self._loop)):
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._talk, sock=self._listener)
        await self._stop.wait()
        server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        at_once = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # each byte leaves when it is written
        writer.get_extra_info("socket").setsockopt(*at_once)
        try:
            while (arrival := await _read(reader)) is not None:
                self.arrivals.append(arrival)
                self._under_way += 1
                self.peak = max(self.peak, self._under_way)
                self._arrived.set()
                self._arrived = asyncio.Event()
                try:
                    goes_on = await self._reply(arrival, writer)
                finally:
                    self._under_way -= 1
                if not goes_on:
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return  # the client went away, which is its right, or the server stops
        finally:
            writer.close()

    async def _reply(self, arrival: Arrival, writer: asyncio.StreamWriter) -> bool:
        """Answer; returns whether the connection goes on."""
        reply = await self._decide(arrival)
        await self.reached(lambda: self.peak >= reply.together)
        await asyncio.sleep(reply.delay)
        if reply.reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            return False
        raw = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        raw = b"" if reply.status in {204, 304} else raw
        await _send(writer, _head(reply, len(raw)), reply.drip_head)
        await _send(writer, raw[: reply.cut], reply.drip_body)
        if reply.missing:
            await self._stop.wait()
        return reply.cut is None and not reply.unframed

    async def _decide(self, arrival: Arrival) -> Reply:
        missing = Reply({"error": "no such path"}, status=404)
        plan = self.plan.get(arrival.path, missing)
        if isinstance(plan, tuple):
            of, taken = self._taken.get(arrival.path, (None, 0))
            taken = taken if of is plan else 0
            self._taken[arrival.path] = (plan, taken + 1)
            plan = plan[min(taken, len(plan) - 1)]
        decided = plan(arrival) if callable(plan) else plan
        decided = await decided if inspect.isawaitable(decided) else decided
        return decided if isinstance(decided, Reply) else Reply(decided)


def _head(reply: Reply, length: int) -> bytes:
    headers = {"Content-Type": "application/json", "Content-Length": str(length + reply.missing)}
    headers |= reply.headers
    if reply.unframed:
        del headers["Content-Length"]
        headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {reply.status} {_PHRASES.get(reply.status, 'Unheard Of')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _send(writer: asyncio.StreamWriter, raw: bytes, pause: float) -> None:
    if not pause:
        writer.write(raw)
        await writer.drain()
        return
    for position in range(len(raw)):
        writer.write(raw[position : position + 1])
        await writer.drain()
        await asyncio.sleep(pause)


async def _read(reader: asyncio.StreamReader) -> Arrival | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    at = time.monotonic()
    request, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = request.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Arrival(method, target, headers, body, at)
