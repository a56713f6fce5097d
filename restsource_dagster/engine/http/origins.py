"""Which hosts may be asked: credentials go to their own origin only (RFC 6454)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from restsource_dagster.engine.errors import ForeignOriginError

__all__ = ["Origin", "OriginPolicy"]

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port of a URL."""

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, url: str) -> Self:
        """The origin of a URL. Raises `ValueError` for a port that is no number."""
        parts = urlsplit(url)
        scheme = parts.scheme.lower()
        host = (parts.hostname or "").rstrip(".").lower()
        return cls(scheme, host, parts.port or _DEFAULT_PORTS.get(scheme))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = _DEFAULT_PORTS.get(self.scheme) == self.port
        return f"{self.scheme}://{host}" + ("" if default else f":{self.port}")


@dataclass(frozen=True)
class OriginPolicy:
    """The origins that a resource's requests may reach: its own, and hosts that the file lists.

    `allowed_hosts` are `host` or `host:port`; a listed host is never asked over plain http where
    the own origin uses https.
    """

    own: Origin
    allowed_hosts: tuple[str, ...] = ()

    @classmethod
    def for_url(cls, url: str, allowed_hosts: Iterable[str] = ()) -> Self:
        """The policy of requests that belong to this URL's origin."""
        return cls(Origin.of(url), tuple(host.lower() for host in allowed_hosts))

    def is_own(self, url: str) -> bool:
        """Whether a URL has the same scheme, host and port."""
        return Origin.of(url) == self.own

    def check(self, url: str) -> None:
        """Raise `ForeignOriginError`, naming both origins, unless the URL may be asked."""
        origin = Origin.of(url)
        if origin == self.own:
            return
        downgraded = self.own.scheme == "https" and origin.scheme != "https"
        listed = origin.host in self.allowed_hosts
        listed = listed or f"{origin.host}:{origin.port}" in self.allowed_hosts
        if downgraded or not listed:
            raise ForeignOriginError(str(self.own), str(origin), origin.host)
