"""Secrets that stand in the file itself: accepted, with a warning that doesn't repeat them."""

import re
from collections.abc import Iterator
from typing import Any

from restsource_dagster.config.problems import Finding
from restsource_dagster.config.references import find_references
from restsource_dagster.config.wording import pointer_to

__all__ = ["secret_warnings"]

Path = tuple[str | int, ...]
_AUTH_FIELDS = ("token", "api_key", "password", "client_secret", "access_token")
_NAMES = re.compile(
    r"^(x-)?(authorization|proxy-authorization|cookie|api[-_]?key|apikey|key|token|secret|password"
    r"|access[-_]?token|auth[-_]?token|[\w-]*[-_](api[-_]?key|token|secret|password)"
    r"|subscription-key|ocp-apim-subscription-key|hapikey|appid|client_secret)$",
    re.IGNORECASE,
)
_NOT_SECRET = re.compile(
    r"page[-_]?token|next[-_]?token|continuation|sync[-_]?token", re.IGNORECASE
)


def secret_warnings(value: dict[str, Any]) -> Iterator[Finding]:
    """A warning for each literal secret in `auth`, in headers and in query parameters."""
    client = value.get("client")
    if isinstance(client, dict):
        yield from _auth_warnings(client.get("auth"), ("client", "auth"))
        yield from _named_warnings(client.get("headers"), ("client", "headers"))
    for at, endpoint in _endpoints(value):
        yield from _auth_warnings(endpoint.get("auth"), (*at, "auth"))
        for part in ("headers", "params"):
            yield from _named_warnings(endpoint.get(part), (*at, part))


def _endpoints(value: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    places: list[tuple[Path, Any]] = [(("resource_defaults",), value.get("resource_defaults"))]
    resources = value.get("resources")
    if isinstance(resources, list):
        places.extend((("resources", index), item) for index, item in enumerate(resources))
    for at, item in places:
        endpoint = item.get("endpoint") if isinstance(item, dict) else None
        if isinstance(endpoint, dict):
            yield (*at, "endpoint"), endpoint


def _auth_warnings(auth: Any, at: Path) -> Iterator[Finding]:
    if isinstance(auth, dict):
        for name in _AUTH_FIELDS:
            if _is_literal(auth.get(name)):
                yield _warning((*at, name), name)


def _named_warnings(values: Any, at: Path) -> Iterator[Finding]:
    if isinstance(values, dict):
        for name, item in values.items():
            if _NAMES.match(name) and not _NOT_SECRET.search(name) and _is_literal(item):
                yield _warning((*at, name), name)


def _is_literal(item: Any) -> bool:
    return isinstance(item, str) and bool(item) and "{" not in item and not find_references(item)


def _warning(at: Path, name: str) -> Finding:
    variable = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").upper() or "NAME"
    return Finding(
        pointer_to(at),
        "A secret stands in the file, where everybody who can read the file sees it",
        expected="a reference to an environment variable",
        mend=f"Put it into .env as {variable}=... and write `${{{variable}}}`",
        severity="warning",
    )
