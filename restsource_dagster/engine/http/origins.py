"""Keep requests and credentials at the API's own origin (RFC 6454), or at hosts the file allows.

This covers links, redirects, and endpoints that the file itself puts at another origin.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from requests import PreparedRequest
from requests.exceptions import InvalidURL
from urllib3.util import parse_url

from restsource_dagster.engine.errors import ForeignOriginError

__all__ = ["Origin", "OriginPolicy", "has_foreign_origin"]

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port of a URL.

    `api.example.com` and `api.example.com.` are two hosts: a resolver's search domains apply to the
    first one only.
    """

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the origin that requests would connect to.

        Raises `requests.exceptions.InvalidURL` for a URL without an origin, and for one in which two
        parsers find different hosts.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
            # urllib3 opens the connection: a host that it reads differently would pass our check
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

    `allowed_hosts` are `host` (any port) or `host:port`. A listed host never gets a request over
    plain http if the own origin uses https.
    """

    own_origin: Origin
    allowed_hosts: tuple[str, ...] = ()

    @classmethod
    def for_url(cls, url: str, allowed_hosts: Iterable[str] = ()) -> Self:
        """Return the policy of requests whose own origin is this URL's."""
        return cls(Origin.of(url), tuple(allowed_hosts))

    def is_own(self, url: str) -> bool:
        """True if a URL has the own origin's scheme, host and port."""
        return Origin.of(url) == self.own_origin

    def check(self, url: str) -> None:
        """Raise `ForeignOriginError`, which names both origins, unless a request may go to the URL."""
        origin = Origin.of(url)
        if origin == self.own_origin or (
            self._is_listed(origin) and not self._is_downgrade(origin)
        ):
            return
        raise ForeignOriginError(
            str(self.own_origin),
            str(origin),
            origin.host,
            same_host=origin.host == self.own_origin.host,
            downgrade=self._is_downgrade(origin),
        )

    def _is_downgrade(self, origin: Origin) -> bool:
        # from http to https is fine: nothing is sent less safely than before
        return self.own_origin.scheme == "https" and origin.scheme != "https"

    def _is_listed(self, origin: Origin) -> bool:
        for listed in self.allowed_hosts:
            # read by the same rules as a URL: upper case, international names, default ports
            wanted = Origin.of(f"{origin.scheme}://{listed}")
            has_port = urlsplit(f"//{listed}").port is not None
            if wanted.host == origin.host and (wanted.port == origin.port or not has_port):
                return True
        return False


def _ascii_host(scheme: str, host: str) -> str:
    """Return a host in lower case, an international one in the ASCII form that DNS looks up."""
    if host.isascii():
        return host.lower()
    # requests itself encodes it, so that both always agree
    request = PreparedRequest()
    request.prepare_url(f"{scheme}://{host}", None)
    return urlsplit(str(request.url)).hostname or ""


def has_foreign_origin(base_url: str, path: str) -> bool:
    """True if a path is a full URL with another origin than the base URL.

    False for a host that contains a placeholder: each request checks what the API puts there.
    """
    parts = urlsplit(path)
    if parts.scheme.lower() not in ("http", "https") or not parts.netloc or "{" in parts.netloc:
        return False
    return not OriginPolicy.for_url(base_url).is_own(path)
