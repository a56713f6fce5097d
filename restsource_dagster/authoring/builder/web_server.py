"""Serves the builder on 127.0.0.1 until it is stopped, or nobody has looked at it for a while."""

import asyncio
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import uvicorn
from fastapi import FastAPI
from nicegui import app as nicegui_app
from nicegui import ui

from restsource_dagster.authoring.builder.open_files import OpenFiles
from restsource_dagster.authoring.builder.page import BuilderPage
from restsource_dagster.authoring.builder.web_guard import HOST, WebGuard, guarded_address

__all__ = ["serve_builder"]

_LOOK_AGAIN_SECONDS = 1.0
_GRACE_SECONDS = 2


def serve_builder(
    open_files: OpenFiles,
    *,
    port: int,
    token: str | None,
    stop_after: float,
    on_ready: Callable[[str], None],
) -> None:
    """Serve the builder until Ctrl-C, or until no page was open for `stop_after` seconds (0: never).

    `port` 0 takes a free one. Without a token it is a random one. `on_ready` is called with the address to
    open. Raises `OSError` if the port is taken. A process can serve it once.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        taken = listener.getsockname()[1]
        key = token or secrets.token_urlsafe(24)
        application = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        page = BuilderPage(open_files)
        page.add_to(application)
        ui.run_with(
            application,
            root=page.draw,
            title="restsource builder",
            favicon="🧱",
            show_welcome_message=False,
            tailwind=False,
        )
        config = uvicorn.Config(
            WebGuard(application, taken, key),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            server_header=False,
        )
        server = _Server(config)
        server.visits = _Visits(stop_after)
        server.on_started = lambda: on_ready(guarded_address(taken, key))
        nicegui_app.on_connect(server.visits.come)
        nicegui_app.on_disconnect(server.visits.go)
        nicegui_app.on_shutdown(open_files.close)
        # uvicorn stops at Ctrl-C, and raises it again when all is closed
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


@dataclass
class _Visits:
    """How many pages are open, and since when none is."""

    stop_after: float
    _open: int = 0
    _since: float = field(default_factory=time.monotonic)

    def come(self) -> None:
        self._open += 1

    def go(self) -> None:
        self._open -= 1
        self._since = time.monotonic()

    @property
    def are_over(self) -> bool:
        idle = time.monotonic() - self._since
        return bool(self.stop_after) and self._open <= 0 and idle > self.stop_after


class _Server(uvicorn.Server):
    """A server that says when it answers, and ends when nobody is there."""

    visits: _Visits
    on_started: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer, and watch the visits from then on."""
        await super().startup(sockets)
        if self.started:
            self.on_started()
            self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while not self.should_exit:
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            self.should_exit = self.should_exit or self.visits.are_over
