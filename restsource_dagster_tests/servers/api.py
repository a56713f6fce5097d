"""A real HTTP server on 127.0.0.1 that answers as a test tells it and records what reached it."""

import asyncio
import inspect
import json
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from restsource_dagster_tests.waiting import wait_for

__all__ = ["Answer", "ApiServer", "Seen"]


@dataclass(frozen=True)
class Seen:
    """One request that reached the server."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """One answer: `body` is sent as JSON unless it is bytes."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def as_response(self) -> Response:
        """What Starlette sends."""
        raw = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        headers = {"content-type": "application/json", **self.headers}
        return Response(raw, status_code=self.status, headers=headers)


Handler = Callable[[Seen], Answer | Any]


class _Server(uvicorn.Server):
    """Tells when it listens, and stops at once: uvicorn's own takes a fifth of a second for it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        if self._loop:
            self._loop.call_soon_threadsafe(self._stopping.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self.ready.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)  # what it does each second, such as noting the date
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()


class ApiServer:
    """A server to use in a `with` statement; it stops at its end.

    `answers` maps a path to what it answers: a function of the request, or plain JSON. Change it at
    any time. A function that waits holds all other requests up, unless it is `async`. `seen` holds
    all requests in order of arrival.
    """

    def __init__(self, answers: Mapping[str, Handler | Any] | None = None) -> None:
        self.answers: dict[str, Handler | Any] = dict(answers or {})
        self.seen: list[Seen] = []
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "SEARCH", "QUERY"]
        app = Starlette(routes=[Route("/{path:path}", self._answer, methods=methods)])
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def asked(self, path: str) -> list[Seen]:
        """The requests for a path."""
        return [seen for seen in self.seen if seen.path == path]

    def __enter__(self) -> Self:
        self._thread.start()
        wait_for(self._server.ready, "the start of the test server")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop()
        self._thread.join(10)

    async def _answer(self, request: Request) -> Response:
        seen = Seen(
            method=request.method,
            path=request.scope["path"],  # decoded; `request.url` splits it at a `#` or `?` in it
            query=dict(request.query_params),
            headers=dict(request.headers),
            body=await request.body(),
        )
        self.seen.append(seen)
        answer = self.answers.get(seen.path, Answer({"error": "no such path"}, status=404))
        answer = answer(seen) if callable(answer) else answer
        answer = await answer if inspect.isawaitable(answer) else answer
        return (answer if isinstance(answer, Answer) else Answer(answer)).as_response()
