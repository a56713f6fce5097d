"""Who may talk to the builder: requests with the token, for this host, from a page of this server."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import pytest

# looked for, not imported, as is the module that needs it: each process that collects the tests would
pytestmark = pytest.mark.skipif(
    find_spec("nicegui") is None, reason="the extra `builder` is not installed"
)

PORT = 8123
TOKEN = "the-right-one"
HOST = f"127.0.0.1:{PORT}"
COOKIE = f"restsource_builder_{PORT}={TOKEN}"


def ask(
    headers: Mapping[str, str], *, path: str = "/", query: str = "", kind: str = "http"
) -> tuple[list[Any], bool]:
    """What the guard sends, and whether the request got through."""
    from restsource_dagster.authoring.builder.web_server import WebGuard

    sent: list[Any] = []
    passed: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope["type"])
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    async def receive() -> Any:
        return {"type": f"{kind}.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": kind,
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [(key.encode(), text.encode()) for key, text in headers.items()],
    }
    # in a thread: a browser of another test may have a loop in this one
    with ThreadPoolExecutor(1) as thread:
        thread.submit(
            asyncio.run, WebGuard(application, PORT, TOKEN)(scope, receive, send)
        ).result()
    return sent, bool(passed)


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"host": HOST}, ""),
        ({"host": HOST}, "token=wrong"),
        ({"host": HOST, "cookie": "restsource_builder_1=the-right-one"}, ""),
        ({"host": HOST, "cookie": COOKIE + "x"}, ""),
        ({"host": HOST, "cookie": COOKIE, "origin": "http://evil.example"}, ""),
        ({"host": HOST, "cookie": COOKIE, "origin": "http://127.0.0.1:3000"}, ""),
        ({"host": HOST, "cookie": COOKIE, "origin": "null"}, ""),
        ({"host": f"evil.example:{PORT}", "cookie": COOKIE}, ""),
        ({"host": f"evil.example:{PORT}"}, f"token={TOKEN}"),
        ({"cookie": COOKIE}, ""),
        ({"host": HOST, "authorization": "Bearer wrong"}, ""),
    ],
)
def test_a_request_without_the_token_or_from_elsewhere_is_refused(
    headers: Mapping[str, str], query: str
) -> None:
    sent, has_passed = ask(headers, query=query)
    assert not has_passed
    assert sent[0]["status"] == 403


def test_the_token_of_the_address_becomes_a_cookie_that_no_script_reads() -> None:
    from restsource_dagster.authoring.builder.web_server import guarded_address

    assert guarded_address(PORT, TOKEN) == f"http://{HOST}/?token={TOKEN}"
    sent, has_passed = ask({"host": HOST}, query=f"token={TOKEN}", path="/open/shop")
    headers = {key.decode(): text.decode() for key, text in sent[0]["headers"]}
    assert not has_passed
    assert (sent[0]["status"], headers["location"]) == (303, "/open/shop")
    assert headers["set-cookie"].startswith(COOKIE)
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=strict" in headers["set-cookie"]


@pytest.mark.parametrize(
    "headers",
    [
        {"host": HOST, "cookie": COOKIE},
        {"host": f"localhost:{PORT}", "cookie": f"a=b; {COOKIE}", "origin": f"http://localhost:{PORT}"},
        {"host": HOST, "authorization": f"Bearer {TOKEN}"},
    ],
)  # fmt: skip
def test_a_request_with_the_token_gets_through_and_may_load_nothing_from_elsewhere(
    headers: Mapping[str, str],
) -> None:
    sent, has_passed = ask(headers)
    assert has_passed
    answered = {key.decode(): text.decode() for key, text in sent[0]["headers"]}
    assert answered["content-security-policy"].startswith("default-src 'self'; ")
    assert "frame-ancestors 'none'" in answered["content-security-policy"]


@pytest.mark.parametrize(
    ("headers", "may_pass"),
    [
        ({"host": HOST, "cookie": COOKIE, "origin": f"http://{HOST}"}, True),
        ({"host": HOST, "cookie": COOKIE, "origin": "http://evil.example"}, False),
        ({"host": HOST, "cookie": COOKIE}, False),
        ({"host": HOST, "origin": f"http://{HOST}"}, False),
        ({"host": f"evil.example:{PORT}", "cookie": COOKIE, "origin": f"http://evil.example:{PORT}"}, False),
        ({"host": HOST, "authorization": f"Bearer {TOKEN}", "origin": f"http://{HOST}"}, False),
    ],
)  # fmt: skip
def test_a_websocket_needs_the_cookie_and_an_origin(
    headers: Mapping[str, str], may_pass: bool
) -> None:
    sent, has_passed = ask(headers, kind="websocket")
    assert has_passed == may_pass
    assert [message["type"] for message in sent] == ([] if may_pass else ["websocket.close"])
