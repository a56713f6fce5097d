"""What people type of an API, its URL and its login, as a file has it: with references in place of secrets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from restsource_dagster.authoring.importing.imported_api import EnvVariables, looks_like_secret
from restsource_dagster.authoring.sent_body import SentBody
from restsource_dagster.connector.validation.diagnostics import printable

__all__ = [
    "LoginOptions",
    "TypedLoginError",
    "read_auth",
    "read_body",
    "read_headers",
    "url_without_secrets",
]

_REFERENCE = "${"


class TypedLoginError(ValueError):
    """What is wrong with a login or a URL. `option` is the one of the command line that says it."""

    def __init__(self, message: str, option: str) -> None:
        self.option = option
        super().__init__(message)


@dataclass(frozen=True)
class LoginOptions:
    """How to authenticate, as a person types it; each value may be a secret or a reference."""

    bearer: str | None = None
    basic: str | None = None
    api_key: str | None = None
    headers: tuple[str, ...] = ()


def url_without_secrets(url: str, variables: EnvVariables) -> str:
    """Return the URL with references in place of params that may be secrets.

    Raises `TypedLoginError` for what is no URL, and for one with a password.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise TypedLoginError("write it with https:// or http://", "--url")
    if "@" in parts.netloc:
        raise TypedLoginError("leave the password out, and give it as a login (--basic)", "--url")
    params = [
        (key, _hidden(key, text, variables) if looks_like_secret(key, text) else text)
        for key, text in parse_qsl(parts.query, keep_blank_values=True)
    ]
    # references stay readable; the engine encodes what it sends
    query = urlencode(params, safe="${}:/,[]")
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


def read_body(text: str | None, variables: EnvVariables) -> SentBody | None:
    """Return the body of a POST; None if there is none. Raises `TypedLoginError` for what is no JSON object."""
    if text is None or not text.strip():
        return None
    try:
        return SentBody.parse(text, variables)
    except ValueError as error:
        raise TypedLoginError(
            f"write a JSON object such as '{{}}', or a GraphQL query: {error}", "--data"
        ) from None


def _hidden(suffix: str, text: str, variables: EnvVariables) -> str:
    """Return a text as the file has it: a reference as it is, anything else by a new one."""
    return text if _REFERENCE in text else variables.reference(suffix, text)


def read_auth(login: LoginOptions, variables: EnvVariables) -> Mapping[str, Any] | None:
    """Return the block `auth`. Raises `TypedLoginError` for two logins, or a broken one."""
    given = [one for one in (login.bearer, login.basic, login.api_key) if one is not None]
    if len(given) > 1:
        raise TypedLoginError("give one of --bearer, --basic and --api-key", "login")
    if login.bearer is not None:
        return {"type": "bearer", "token": _hidden("token", login.bearer, variables)}
    if login.basic is not None:
        user, colon, password = login.basic.partition(":")
        if not colon:
            raise TypedLoginError("write USER:PASSWORD", "--basic")
        hidden = _hidden("password", password, variables)
        return {"type": "http_basic", "username": user, "password": hidden}
    if login.api_key is not None:
        key, equals, text = login.api_key.partition("=")
        if not equals or not key.removeprefix("?"):
            raise TypedLoginError("write NAME=KEY, or ?NAME=KEY", "--api-key")
        return {
            "type": "api_key",
            "name": key.removeprefix("?"),
            "api_key": _hidden("key", text, variables),
            "location": "query" if key.startswith("?") else "header",
        }
    return None


def read_headers(login: LoginOptions, variables: EnvVariables) -> Mapping[str, str]:
    """Return the headers of a login. Raises `TypedLoginError` for one without a value."""
    headers = {}
    for given in login.headers:
        key, separator, text = given.partition("=" if "=" in given.partition(":")[0] else ":")
        if not separator:
            raise TypedLoginError(f"{printable(given)}: write NAME=VALUE", "--header")
        text = text.strip()
        is_secret = looks_like_secret(key, text) or key.lower() in ("authorization", "cookie")
        headers[key.strip()] = _hidden(key, text, variables) if is_secret else text
    return headers
