"""Where a secret may stand in a file, what may fail around it, and where it must not be found."""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply
from restsource_dagster_tests.waiting import PATIENCE_SECONDS

__all__ = [
    "CANARY", "FAULTS", "FEW_FAULTS", "LITERAL", "PLACES", "PLAIN", "SPACED", "TOKEN", "TOTAL",
    "Place", "assert_clean", "assert_clean_files", "chain_of", "echo", "places",
]  # fmt: skip

CANARY = "c4n4ry+/=&% 'é\"\\{x}-Zq9"
SPACED = "c4n4ry+=&/ 'é-Zq9"  # what a path can carry
PLAIN = "c4n4ry-in-a-header-Zq9"  # what a header can carry
LITERAL = "c4n4ry-literal-0123456789abcdef"
TOKEN = "c4n4ry-token-out-of-an-answer"
MARK = "c4n4ry"
"""What all of them have in common; every search looks for it and for base64 of them."""


@dataclass(frozen=True)
class Place:
    """Where a secret may stand in a file."""

    client: Mapping[str, Any]
    endpoint: Mapping[str, Any]
    defaults: Mapping[str, Any] | None = None


def places(server: FaultServer) -> dict[str, Place]:
    """All places, as many together as go into one file."""
    key = {"type": "api_key", "name": "appid"}
    oauth = {
        "type": "oauth2_client_credentials",
        "access_token_url": f"{server.url}/token",
        "client_id": "${PLAIN}",
        "client_secret": "${CANARY}",
        "access_token_request_data": {"audience": "${CANARY}", "assertion": LITERAL},
    }
    login = base64.b64encode(f"me:{LITERAL}".encode()).decode()
    login_request = {
        "type": "login",
        "path": "token",
        "json": {"user": "${PLAIN}", "password": "${CANARY}", "secret": LITERAL},
        "token_path": "access_token",
    }
    hmac = {
        "type": "hmac",
        "secret": "${CANARY}",
        "message": "{path}",
        "headers": {"X-Signature": "{signature}", "X-Key": LITERAL},
    }
    basic = {"type": "http_basic", "username": "${PLAIN}", "password": "${CANARY}"}
    return {
        "bearer, headers, parameter": Place(
            {
                "auth": {"type": "bearer", "token": "${PLAIN}"},
                "headers": {"X-Custom": "Key ${PLAIN}", "X-Api-Key": LITERAL},
            },
            {"headers": {"X-Other": "${PLAIN}"}, "params": {"appid": "${CANARY}"}},
        ),
        "oauth, default parameter": Place(
            {"auth": oauth}, {}, {"endpoint": {"params": {"appid": "${CANARY}"}}}
        ),
        "basic, form body": Place(
            {"auth": basic}, {"method": "POST", "data": {"password": "${CANARY}"}}
        ),
        "key in the query, path": Place(
            {"auth": {**key, "api_key": "${CANARY}", "location": "query"}},
            {"path": "items/${SPACED}"},
        ),
        "key in a header, json body": Place(
            {"auth": {**key, "api_key": "${PLAIN}"}},
            {"method": "POST", "json": {"deep": {"secret": "${CANARY}", "api_key": LITERAL}}},
        ),
        "literal bearer, literal parameter": Place(
            {"auth": {"type": "bearer", "token": LITERAL}},
            {"params": {"subscription-key": LITERAL}},
        ),
        "literal basic": Place(
            {"auth": {"type": "http_basic", "username": "me", "password": LITERAL}}, {}
        ),
        "literal authorization": Place({"headers": {"Authorization": f"Bearer {LITERAL}"}}, {}),
        "literal login": Place({"headers": {"Authorization": f"Basic {login}"}}, {}),
        "login by a request": Place({"auth": login_request}, {}),
        "signature": Place({"auth": hmac}, {}),
        "login in the url": Place({"base_url": f"http://me:${{PLAIN}}@{server.url[7:]}"}, {}),
    }


PLACES = [
    "bearer, headers, parameter",
    "oauth, default parameter",
    "basic, form body",
    "key in the query, path",
    "key in a header, json body",
    "literal bearer, literal parameter",
    "literal basic",
    "literal authorization",
    "literal login",
    "login by a request",
    "signature",
    "login in the url",
]


def echo(seen: Arrival, status: int = 200, **more: Any) -> Reply:
    """An answer that repeats everything that was sent, in the body and in headers."""
    text = f"{seen.target} {dict(seen.headers)} {seen.body!r}"
    headers = {"Content-Type": f"text/plain; {seen.target}", "X-Echo": seen.target}
    return Reply(
        {"message": text, "reason": seen.target, "detail": seen.body.decode()},
        status=status,
        headers=headers,
        **more,
    )


def foreign_link(seen: Arrival) -> Any:
    return {"data": [{"id": 1}], "next": f"http://other.invalid{seen.target}"}


def endless_link(seen: Arrival) -> Any:
    return {"data": [{"id": 1}], "next": seen.target}


FAULTS: dict[str, Any] = {
    "refused and repeated": lambda seen: echo(seen, 400),
    "unauthorized": lambda seen: echo(seen, 401),
    "not found": lambda seen: echo(seen, 404),
    "not json": lambda seen: Reply(
        f"<html>{seen.target} {dict(seen.headers)} {seen.body!r}".encode()
    ),
    "an error with 200": echo,
    "a bad total": lambda seen: {"data": [{"id": 1}], "total": [seen.target, seen.body.decode()]},
    "redirect away": lambda seen: Reply(
        status=302, headers={"Location": f"http://other.invalid{seen.target}"}
    ),
    "redirect in a circle": lambda seen: Reply(status=302, headers={"Location": seen.target}),
    "link away": foreign_link,
    "endless link": endless_link,
    "long wait": Reply(status=429, headers={"Retry-After": "1200"}),
    "too late": Reply([], delay=PATIENCE_SECONDS),
    "rows": {"data": [{"id": 1}], "next": None},
}
FEW_FAULTS = ["refused and repeated", "not json", "redirect away", "link away", "too late", "rows"]
TOTAL = {"type": "offset", "limit": 5, "stop_after_empty_page": False}


def spellings(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret)
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield base64.b64encode(secret.encode()).decode().rstrip("=")
    yield base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")


@cache
def hidden() -> frozenset[str]:
    secrets = [CANARY, PLAIN, SPACED, LITERAL, TOKEN]
    secrets += [f"me:{LITERAL}", f"{PLAIN}:{CANARY}", f"me:{PLAIN}"]
    return frozenset({text for secret in secrets for text in spellings(secret)} | {MARK})


def assert_clean(text: str, where: str) -> None:
    for secret in hidden():
        at = text.find(secret)
        assert at < 0, f"{where}: ...{text[max(0, at - 80) : at + 80]}..."


def assert_clean_files(*folders: Path) -> None:
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                raw = path.read_bytes()
                for secret in hidden():
                    assert secret.encode() not in raw, f"{path} has {secret}"


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
