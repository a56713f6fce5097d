"""What a preview may cost: its limits, and how it ends at one of them."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

import requests

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.auth import LoginAuth
from restsource_dagster.connector.models.oauth_logins import OAuthLogin
from restsource_dagster.engine.errors import ForeignOriginError
from restsource_dagster.engine.http.cancellation import Cancellation
from restsource_dagster.engine.http.origins import Origin
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.preview.previewed import PreviewedRequest

__all__ = ["PreviewEnd", "PreviewLimits", "PreviewWatch", "hosts_of", "urls_of"]

_MEGABYTE = 1_000_000
_MAX_REQUESTS = 500
"""Requests of one resource that are kept."""
_HEADER_CHARS = 2_000


@dataclass(frozen=True)
class PreviewLimits:
    """The most that a preview asks an API for."""

    pages: int = 2
    """Of each call."""
    rows: int = 10
    """Of each table that are returned; all rows of the pages are looked at."""
    calls: int = 3
    """Of each resource: for the first parents, values of `for_each`, or windows."""
    megabytes: float = 20.0
    """Of all answers together."""
    seconds: float = 60.0
    """For all requests together. What was read by then is returned."""
    hosts: frozenset[str] | None = None
    """The hosts that may be asked, `host` or `host:port`; None: those that the file names."""
    answer_chars: int = 0
    """How much of each answer's body is returned."""


class PreviewEnd:
    """Ends a preview early, from any thread. Make one for each preview."""

    def __init__(self) -> None:
        self.cancellation = Cancellation(self._reserve)
        self.reason: str | None = None
        """Why it ended early; None if it did not."""
        self._lock = threading.Lock()
        self._received = 0
        self._max_bytes: float | None = None

    def stop(self, reason: str = "stopped") -> None:
        """End it at once, in the middle of a request too. Only the first reason counts."""
        with self._lock:
            self.reason = self.reason or reason
        self.cancellation.abort()

    @contextmanager
    def limited(self, limits: PreviewLimits) -> Iterator[None]:
        """Apply the limits of bytes and time to the requests of the block, in this thread."""
        self._max_bytes = limits.megabytes * _MEGABYTE
        timer = threading.Timer(
            limits.seconds, self.stop, [f"the time is up ({limits.seconds:g} s)"]
        )
        timer.daemon = True
        timer.start()
        try:
            with self.cancellation.activated():
                yield
        finally:
            timer.cancel()

    def _reserve(self, size: int) -> bool:
        self._received += size
        if self._max_bytes is None or self._received <= self._max_bytes:
            return True
        with self._lock:
            self.reason = (
                self.reason or f"the answers are larger than {self._max_bytes / _MEGABYTE:g} MB"
            )
        self.cancellation.cancel()
        return False


def hosts_of(connector: Connector) -> frozenset[str]:
    """Return the hosts that a file names, as `host:port` or as in `http.allowed_hosts`."""
    named = {urlsplit(url).netloc.rpartition("@")[2] for url in urls_of(connector)}
    return frozenset({*named, *connector.http.allowed_hosts})


def urls_of(connector: Connector) -> frozenset[str]:
    """Return the URLs that a file names: of the API, of other endpoints and of logins."""
    urls = [connector.client.base_url]
    auths = [connector.client.auth]
    for resource in connector.resources:
        auths.append(resource.endpoint.auth)
        if urlsplit(resource.bound_path).scheme in ("http", "https"):
            urls.append(resource.bound_path)
    urls += [one.access_token_url for one in auths if isinstance(one, OAuthLogin)]
    urls += [one.path for one in auths if isinstance(one, LoginAuth) and "://" in one.path]
    # a host with a placeholder is known only when its parent is read
    return frozenset(url for url in urls if "{" not in urlsplit(url).netloc)


@dataclass
class PreviewWatch:
    """Notes each request, and refuses those to hosts that the preview may not ask.

    A download whose URL an answer names goes to a host that the file does not name, too.
    """

    redactor: Redactor
    hosts: Collection[str]
    answer_chars: int = 0
    on_request: Callable[[PreviewedRequest], None] | None = None
    """Is called after each try of a request."""
    noted: dict[str, list[PreviewedRequest]] = field(default_factory=dict)
    """By resource, in the order of the requests; those for tokens are at `token`."""
    responses: dict[str, requests.Response] = field(default_factory=dict)
    """The last answer to each resource."""
    _last: dict[str, requests.PreparedRequest] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def before(self, sender: str, request: requests.PreparedRequest) -> None:  # noqa: ARG002
        """Raise `ForeignOriginError` for a host that may not be asked."""
        origin = Origin.of(str(request.url))
        for listed in self.hosts:
            wanted = Origin.of(f"{origin.scheme}://{listed}")
            has_port = urlsplit(f"//{listed}").port is not None
            if wanted.host == origin.host and (wanted.port == origin.port or not has_port):
                return
        own = next(iter(sorted(self.hosts)), "")
        raise ForeignOriginError(own, str(origin), origin.host, same_host=False, downgrade=False)

    def after(
        self,
        sender: str,
        request: requests.PreparedRequest,
        response: requests.Response | None,
        seconds: float,
    ) -> None:
        """Note a request; a further try of one adds to its retries."""
        name = sender.rpartition("/")[2]
        noted = self._noted(request, response, seconds)
        with self._lock:
            kept = self.noted.setdefault(name, [])
            if kept and self._last.get(name) is request:
                kept[-1] = replace(noted, retries=kept[-1].retries + 1)
            elif len(kept) < _MAX_REQUESTS:
                kept.append(noted)
            self._last[name] = request
            if response is not None:
                self.responses[name] = response
        if self.on_request is not None:
            self.on_request(noted)

    def _noted(
        self,
        request: requests.PreparedRequest,
        response: requests.Response | None,
        seconds: float,
    ) -> PreviewedRequest:
        content = b"" if response is None else response.content or b""
        text = content.decode("utf-8", "replace") if self.answer_chars else ""
        return PreviewedRequest(
            method=str(request.method),
            url=self.redactor(str(request.url)),
            status=None if response is None else response.status_code,
            milliseconds=round(seconds * 1000),
            bytes=len(content),
            retries=0,
            request_headers=self._redacted(request.headers),
            answer_headers=self._redacted({} if response is None else response.headers),
            # whole first: half a secret is not found any more
            answer=self.redactor(text)[: self.answer_chars],
        )

    def _redacted(self, headers: Mapping[str, str | bytes]) -> Mapping[str, str]:
        texts = {
            name: value.decode("latin-1") if isinstance(value, bytes) else str(value)
            for name, value in headers.items()
        }
        return {name: self.redactor.snippet(text, _HEADER_CHARS) for name, text in texts.items()}
