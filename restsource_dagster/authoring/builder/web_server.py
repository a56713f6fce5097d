"""Serves the builder on 127.0.0.1 until it is stopped, or nobody has looked at it for a while.

It lets nobody in but the person who has the token, from a page of this server. Every page of the browser can
send requests to 127.0.0.1. So a request needs the token, which no other page knows; its `Host` has to be this
server, or a name that an attacker lets point to 127.0.0.1 would do (DNS rebinding); and its `Origin`, if there
is one, has to be this server's own. A WebSocket always has one.
"""

import asyncio
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

import uvicorn
from fastapi import FastAPI
from nicegui import app as nicegui_app
from nicegui import ui
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from restsource_dagster.authoring.builder.open_files import OpenFiles
from restsource_dagster.authoring.builder.page import BuilderPage

__all__ = ["WebGuard", "guarded_address", "serve_builder"]

_HOST = "127.0.0.1"
USUAL_PORT = 3002
_NAMES = (_HOST, "localhost")
_POLICY = "; ".join(
    (
        "default-src 'self'",
        # NiceGUI writes its page's start into the page, and Vue compiles templates
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "connect-src 'self' {origins}",
        "frame-ancestors 'none'",
        "form-action 'self'",
        "base-uri 'self'",
    )
)
"""What the page may load: nothing from elsewhere."""
_LOOK_AGAIN_SECONDS = 1.0
_GRACE_SECONDS = 2


def serve_builder(
    open_files: OpenFiles,
    *,
    port: int | None,
    token: str | None,
    stop_after: float,
    on_ready: Callable[[str], None],
) -> None:
    """Serve the builder until Ctrl-C, or until no page was open for `stop_after` seconds (0: never).

    `port` 0 takes a free one, None the usual one if it is free. Without a token it is a random one. `on_ready` is called with the address to
    open. Raises `OSError` if the port is taken. A process can serve it once.
    """
    with _listening(port) as listener:
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


def _listening(port: int | None) -> socket.socket:
    """Return a socket that listens. Raises `OSError` if the port is taken."""
    # the usual one, so that links to the builder stay right
    for candidate in (USUAL_PORT, 0) if port is None else (port,):
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((_HOST, candidate))
            # at once: until then others can bind it, too
            made.listen()
        except OSError:
            made.close()
            if port is not None or candidate == 0:
                raise
        else:
            return made
    raise OSError(f"no port is free on {_HOST}")


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


def guarded_address(port: int, token: str) -> str:
    """Return the address to open: it has the token, which becomes a cookie and leaves the address."""
    return f"http://{_HOST}:{port}/?token={token}"


@dataclass(frozen=True)
class WebGuard:
    """An ASGI application that passes on what may come in, for HTTP and WebSockets."""

    app: ASGIApp
    port: int
    token: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = _headers(scope["headers"])
        reason = self._refusal(scope, headers)
        if scope["type"] == "websocket":
            if reason is None and self._has_cookie(headers):
                await self.app(scope, receive, send)
            else:
                # before it is accepted, this is answered with 403
                await receive()
                await send({"type": "websocket.close", "code": 1008})
            return
        if reason is not None:
            await PlainTextResponse(reason, 403)(scope, receive, send)
        elif self._is_right(_token_of(scope)):
            await self._enter(scope, receive, send)
        elif self._has_cookie(headers) or self._is_right(_bearer(headers)):
            await self.app(scope, receive, self._with_policy(send))
        else:
            text = "Open the address that `restsource build` printed: it has the token."
            await PlainTextResponse(text, 403)(scope, receive, send)

    @property
    def _cookie(self) -> str:
        # cookies know no ports, so two servers on one machine would take each other's
        return f"restsource_builder_{self.port}"

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> str | None:
        hosts = {f"{name}:{self.port}" for name in _NAMES}
        if headers.get("host") not in hosts:
            return "This server is reached by its own address only."
        origin = headers.get("origin")
        needs_origin = scope["type"] == "websocket"
        if (origin is not None or needs_origin) and origin != f"http://{headers['host']}":
            return "Another page may not send requests here."
        return None

    def _is_right(self, given: str | None) -> bool:
        # compared in constant time, as texts that have other characters than ASCII can't be
        return given is not None and secrets.compare_digest(given.encode(), self.token.encode())

    def _has_cookie(self, headers: Mapping[str, str]) -> bool:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return False
        return found is not None and self._is_right(found.value)

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Store the token as a cookie, and lead to the address without it."""
        # one slash: two would lead to another host
        answer = RedirectResponse("/" + scope["path"].lstrip("/"), 303)
        answer.set_cookie(self._cookie, self.token, httponly=True, samesite="strict")
        answer.headers["Referrer-Policy"] = "no-referrer"
        await answer(scope, receive, send)

    def _with_policy(self, send: Send) -> Send:
        origins = " ".join(f"ws://{name}:{self.port}" for name in _NAMES)
        added = {
            "Content-Security-Policy": _POLICY.format(origins=origins),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }

        async def sender(message: Mapping[str, object]) -> None:
            if message["type"] == "http.response.start":
                given = message.get("headers", [])
                pairs = [(key.lower().encode(), text.encode()) for key, text in added.items()]
                message = {**message, "headers": [*given, *pairs]}  # type: ignore[misc]
            await send(dict(message))

        return sender


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> Mapping[str, str]:
    return {key.decode("latin-1").lower(): text.decode("latin-1") for key, text in pairs}


def _token_of(scope: Scope) -> str | None:
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    return query["token"][0] if "token" in query else None


def _bearer(headers: Mapping[str, str]) -> str | None:
    kind, _, text = headers.get("authorization", "").partition(" ")
    return text if kind.lower() == "bearer" else None
