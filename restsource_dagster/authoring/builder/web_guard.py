"""Lets nobody in but the person who has the token, from a page of this server.

Every page of the browser can send requests to 127.0.0.1. So a request needs the token, which no other
page knows; its `Host` has to be this server, or a name that an attacker lets point to 127.0.0.1 would do
(DNS rebinding); and its `Origin`, if there is one, has to be this server's own. A WebSocket always has one.
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["WebGuard", "guarded_address"]

HOST = "127.0.0.1"
_NAMES = (HOST, "localhost")
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


def guarded_address(port: int, token: str) -> str:
    """Return the address to open: it has the token, which becomes a cookie and leaves the address."""
    return f"http://{HOST}:{port}/?token={token}"


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
