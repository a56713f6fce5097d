"""URLs of a file that no request could go to."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from restsource_dagster.connector.env_references import without_references
from restsource_dagster.connector.models.auth import Auth, OAuth2ClientCredentialsAuth
from restsource_dagster.connector.models.connector_file import Client
from restsource_dagster.connector.models.endpoint import FieldPath
from restsource_dagster.connector.validation.diagnostics import (
    Finding,
    describe_value,
    json_pointer,
)

__all__ = ["base_url_findings", "is_full_url", "token_url_findings", "url_findings"]

_EXAMPLE = "a URL such as `https://api.example.com/v1`"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_TO_FILL_IN = re.compile(r"<[^<>]*>|\{[^{}]*\}|\[[A-Za-z][^\[\]]*\]")


def base_url_findings(client: Client) -> Iterator[Finding]:
    """Yield why nothing can be requested below `base_url`."""
    at: FieldPath = ("client", "base_url")
    problems = list(url_findings(client.base_url, at))
    yield from problems
    text = without_references(client.base_url)
    if not problems and ("?" in text or "#" in text):
        yield Finding(
            json_pointer(at),
            "`base_url` has a query or a `#`, and the paths are put behind it",
            fix='Leave it out, and write the parameters as "params" of `resource_defaults.endpoint`',
            severity="warning",
        )


def token_url_findings(auth: Auth | None, at: FieldPath) -> Iterator[Finding]:
    """Yield why no token can be requested from an `access_token_url`; "" is looked up by dlt."""
    if isinstance(auth, OAuth2ClientCredentialsAuth) and auth.access_token_url:
        yield from url_findings(auth.access_token_url, (*at, "access_token_url"))


def is_full_url(path: str) -> bool:
    """True if the path of an endpoint is a URL of its own, or is meant to be one."""
    return _SCHEME.match(path.strip()) is not None


def url_findings(url: str, at: FieldPath) -> Iterator[Finding]:
    """Yield why no request can be made to a URL. What a reference stands for is not known here."""
    # a digit can be in a port, too
    text = without_references(url, "1")
    problem, fix = _problem_of(text, starts_with_reference=url.startswith("${"))
    if problem:
        yield Finding(
            json_pointer(at),
            f"`{at[-1]}` {problem}",
            describe_value(url, at),
            _EXAMPLE,
            fix,
            code="deliberate:url",
        )


def _problem_of(text: str, *, starts_with_reference: bool) -> tuple[str, str | None]:
    """Return what is wrong with a URL, and what to write; "" if nothing is."""
    if not text.strip():
        return "is empty", None
    if re.search(r"[\s\x00-\x1f]", text):
        return "has a space or a line break", "Leave it out, or write it as %20"
    if match := _TO_FILL_IN.search(text):
        return f"has a part that is to be filled in: `{match[0]}`", "Write your own value there"
    return ("", None) if starts_with_reference else _problem_of_origin(text)


def _problem_of_origin(text: str) -> tuple[str, str | None]:
    scheme = _SCHEME.match(text)
    if scheme is None:
        return "has no scheme", f"Write `https://{text.lstrip('/:')}`"
    if scheme[1].lower() not in ("http", "https"):
        return f"has the scheme `{scheme[1]}`, and an API is requested over http or https", None
    return _problem_of_host(text), None


def _problem_of_host(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_odd = not parts.hostname or parts.netloc.endswith(":") or parts.port == 0
    except ValueError:  # a port that is no number, brackets that are no address
        is_odd = True
    return "names no host, or a port that is none" if is_odd or "\\" in text else ""
