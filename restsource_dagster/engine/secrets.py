"""Which values of a run are secret: what the file refers to, and what it says where secrets go."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from restsource_dagster.config.references import find_references, resolve_references

__all__ = ["credentials_in", "secrets_of"]

_AUTH_FIELDS = ("token", "api_key", "password", "client_secret", "access_token")
_AUTH_PAIRS = (("username", "password"), ("client_id", "client_secret"))
_SECRET_NAME = re.compile(
    r"key|token|secret|passw|pwd|auth|credential|signature|session|cookie|jwt|bearer|app_?id|"
    r"subscription|^sig$",
    re.IGNORECASE,
)
_NO_SECRET_NAME = re.compile(
    r"(page|next|sync)[-_]?token|continuation|sort|order|keyword|author\b|authors", re.IGNORECASE
)
_RANDOM = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_\-.~+/=]{20,}")
"""What looks like a key, whatever its name: long, of letters and digits, without a space."""
_SCHEME = re.compile(r"(basic|bearer|token|apikey|digest)\s+(?P<rest>\S.*)", re.IGNORECASE)
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_PARTS = ("headers", "params", "json", "data")


def secrets_of(config: Mapping[str, Any], environment: Mapping[str, str]) -> frozenset[str]:
    """The secret values of a connector, its references not yet resolved.

    These are the values of all referred variables, except those in the host and path of `base_url`,
    which people need to read in a message; the secret fields of `auth`; literal values in headers,
    parameters and bodies that have a secret's name or look like a key; and the passwords of
    `base_url` and of proxies. Raises `MissingReferences`.
    """
    referred = find_references(dict(config)) - _public_references(config)
    secret = {environment[name] for name in referred if name in environment}
    resolved = resolve_references(dict(config), environment)
    for holder in _holders(resolved):
        secret.update(credentials_in(holder.get("auth")))
        for part in _PARTS:
            secret.update(_literals(holder.get(part), named=False))
    secret.update(_in_url(str(resolved["client"].get("base_url", ""))))
    for name in _PROXIES:
        for spelled in (name, name.upper()):
            secret.update(_in_url(environment.get(spelled, "")))
    return frozenset(secret)


def credentials_in(auth: Any) -> Iterator[str]:
    """The secrets of an `auth`, as an object of a file or one of dlt's with the secrets filled in.

    Pairs of a name and a secret are given as HTTP Basic joins them, too.
    """
    if auth is None or isinstance(auth, str):
        return

    def get(name: str) -> Any:
        return auth.get(name) if isinstance(auth, Mapping) else getattr(auth, name, None)

    for field in _AUTH_FIELDS:
        if isinstance(value := get(field), str):
            yield value
    for name, secret in _AUTH_PAIRS:
        if isinstance(get(secret), str):
            yield f"{get(name)}:{get(secret)}"
    yield from _literals(get("access_token_request_data"), named=False)


def _public_references(config: Mapping[str, Any]) -> frozenset[str]:
    """The variables in `base_url`, apart from those in its user name, password and query."""
    url = str(config["client"].get("base_url", ""))
    place, _, query = url.partition("?")
    login, found, _ = place.rpartition("@")
    return find_references(place) - find_references(query) - find_references(login if found else "")


def _holders(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The client and all endpoints."""
    defaults = config.get("resource_defaults") or {}
    places = [defaults, *(config.get("resources") or ())]
    holders = [config["client"], *(p.get("endpoint") for p in places if isinstance(p, Mapping))]
    yield from (holder for holder in holders if isinstance(holder, Mapping))


def _literals(value: Any, *, named: bool) -> Iterator[str]:
    """The texts in a JSON value that are secrets; `named` tells that the name above says so."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            is_secret = bool(_SECRET_NAME.search(name)) and not _NO_SECRET_NAME.search(name)
            yield from _literals(item, named=is_secret)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _literals(item, named=named)
    elif isinstance(value, str) and "{" not in value and (named or _RANDOM.fullmatch(value)):
        yield value
        yield from _in_scheme(value)


def _in_scheme(value: str) -> Iterator[str]:
    """What follows `Bearer`, and the password inside of `Basic`."""
    found = _SCHEME.fullmatch(value)
    if not found:
        return
    rest = found["rest"]
    yield rest
    try:
        login = base64.b64decode(rest, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return
    yield login
    yield login.partition(":")[2]


def _in_url(url: str) -> Iterator[str]:
    """The password in a URL, and its query's secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:  # no URL: the request will say so
        return
    login, found, _ = parts.netloc.rpartition("@")
    if found:
        password = login.partition(":")[2]
        yield from (login, unquote(login), password, unquote(password))
    pairs = (pair.partition("=") for pair in parts.query.split("&") if pair)
    for name, _, text in pairs:
        yield from _literals({name: unquote(text)}, named=False)
