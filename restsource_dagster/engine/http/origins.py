"""Endpoints that the file itself puts at another origin than the client's `base_url`.

Which hosts may be asked: credentials go to their own origin only (RFC 6454).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from requests import PreparedRequest
from requests.exceptions import InvalidURL
from urllib3.util import parse_url

from restsource_dagster.engine.errors import ForeignOriginError

__all__ = ["Origin", "OriginPolicy", "has_foreign_origin", "without_foreign_defaults"]

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port of a URL.

    `api.example.com` and `api.example.com.` are two hosts: only the first one goes through a
    resolver's search domains.
    """

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, url: str) -> Self:
        """The origin of a URL, as requests would connect to it.

        Raises `requests.exceptions.InvalidURL` for a URL that has none, or that two parsers read
        as two hosts.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
            other = parse_url(url).host
        except ValueError as error:
            raise InvalidURL(f"no valid URL ({error})") from None
        scheme = parts.scheme.lower()
        host = _ascii_host(scheme, parts.hostname or "")
        if host != _ascii_host(scheme, (other or "").strip("[]")):
            raise InvalidURL("no clear host in the URL")
        return cls(scheme, host, _DEFAULT_PORTS.get(scheme) if port is None else port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = self.port is None or _DEFAULT_PORTS.get(self.scheme) == self.port
        return f"{self.scheme}://{host}" + ("" if default else f":{self.port}")


@dataclass(frozen=True)
class OriginPolicy:
    """The origins that a resource's requests may reach: its own, and hosts that the file lists.

    `allowed_hosts` are `host` (any port) or `host:port`; a listed host is never asked over plain
    http where the own origin uses https.
    """

    own: Origin
    allowed_hosts: tuple[str, ...] = ()

    @classmethod
    def for_url(cls, url: str, allowed_hosts: Iterable[str] = ()) -> Self:
        """The policy of requests that belong to this URL's origin."""
        return cls(Origin.of(url), tuple(allowed_hosts))

    def is_own(self, url: str) -> bool:
        """Whether a URL has the same scheme, host and port."""
        return Origin.of(url) == self.own

    def check(self, url: str) -> None:
        """Raise `ForeignOriginError`, naming both origins, unless the URL may be asked."""
        origin = Origin.of(url)
        if origin == self.own or (self._is_listed(origin) and not self._is_downgrade(origin)):
            return
        raise ForeignOriginError(
            str(self.own),
            str(origin),
            origin.host,
            same_host=origin.host == self.own.host,
            downgrade=self._is_downgrade(origin),
        )

    def _is_downgrade(self, origin: Origin) -> bool:
        return self.own.scheme == "https" and origin.scheme != "https"

    def _is_listed(self, origin: Origin) -> bool:
        for listed in self.allowed_hosts:
            wanted = Origin.of(f"{origin.scheme}://{listed}")
            has_port = urlsplit(f"//{listed}").port is not None
            if wanted.host == origin.host and (wanted.port == origin.port or not has_port):
                return True
        return False


def _ascii_host(scheme: str, host: str) -> str:
    """A host in lower case and, if it is international, in the spelling that is looked up."""
    if host.isascii():
        return host.lower()
    request = PreparedRequest()
    request.prepare_url(f"{scheme}://{host}", None)
    return urlsplit(str(request.url)).hostname or ""


_SENT_FIELDS = ("auth", "headers", "params", "json", "data")


def has_foreign_origin(base_url: str, path: str) -> bool:
    """Whether a path is a full URL of an origin that is not the base URL's.

    A host with a placeholder in it is not: what the API puts there is checked at each request.
    """
    parts = urlsplit(path)
    if parts.scheme.lower() not in ("http", "https") or not parts.netloc or "{" in parts.netloc:
        return False
    return not OriginPolicy.for_url(base_url).is_own(path)


def without_foreign_defaults(
    endpoint: Mapping[str, Any], given: Mapping[str, Any] | None, base_url: str
) -> Mapping[str, Any]:
    """An endpoint without what `resource_defaults` send along, if it is a foreign one.

    `endpoint` is merged with the defaults, `given` is what the resource itself says. Credentials in
    the defaults are meant for the API of `base_url`.
    """
    if not has_foreign_origin(base_url, str(endpoint.get("path", ""))):
        return endpoint
    own = dict(endpoint)
    for name in _SENT_FIELDS:
        said = (given or {}).get(name)
        if said is None:
            own.pop(name, None)
        elif isinstance(said, Mapping) and isinstance(own.get(name), Mapping):
            own[name] = {key: value for key, value in own[name].items() if key in said}
    return own
