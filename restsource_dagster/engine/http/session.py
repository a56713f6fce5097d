"""Send every request of the product, token requests included.

A session belongs to one resource, so that its counts and its retries are that resource's. The rules
are applied in the transport, below requests' own handling of redirects, because each hop of a
redirect is a request of its own.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar
from requests.utils import get_environ_proxies
from urllib3 import BaseHTTPResponse

from restsource_dagster.connector.models.body_format import BodyFormat
from restsource_dagster.connector.models.response_action import ROW_STATUSES
from restsource_dagster.engine.errors import ResponseTooLargeError
from restsource_dagster.engine.http.cancellation import (
    Deadline,
    RequestCancelled,
    Sleep,
    end_on_abort,
    install_deadlines,
    raise_if_cancelled,
)
from restsource_dagster.engine.http.json_body import ApiResponse
from restsource_dagster.engine.http.origins import OriginPolicy
from restsource_dagster.engine.http.redaction import Redactor, redacted_logs
from restsource_dagster.engine.http.waits import (
    ActionFor,
    RateLimiter,
    Retrier,
    SentRequest,
    asks_no_wait,
    is_transient,
)
from restsource_dagster.engine.run_progress import SentExchange, UsageCounter

__all__ = [
    "ApiSession",
    "RequestSigner",
    "RequestWatch",
    "SessionRules",
    "proxy_variable",
]

# more than can be under way at once, so that urllib3 never throws a connection away
_POOL_SIZE = 256
_NEUTRAL_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "proxy-authorization",  # the proxy's, which requests sets anew for each hop
        "user-agent",
    }
)


def proxy_variable(url: str) -> str | None:
    """Return the environment variable whose proxy a request to a URL goes to; None without one."""
    scheme = urlsplit(url).scheme
    if not get_environ_proxies(url):  # none is set, or NO_PROXY has the host
        return None
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY")
    return next((name for name in names if os.environ.get(name)), None)


class RequestWatch(Protocol):
    """Sees each request of a run, each try and each hop of a redirect. Called from any thread."""

    def before(self, sender: str, request: requests.PreparedRequest) -> None:
        """Handle a request that is about to be sent; raise an `IngestError` to refuse it.

        `sender` names the connector and the resource, `connector/resource`; of a token request
        `connector/token`.
        """

    def after(
        self,
        sender: str,
        request: requests.PreparedRequest,
        response: requests.Response | None,
        seconds: float,
    ) -> None:
        """Handle the answer; None if none came. A request that is tried again is the same object."""


@dataclass(frozen=True)
class TlsFiles:
    """The files of certificates, in PEM."""

    cert: str | None = None
    key: str | None = None
    ca: str | None = None


class RequestSigner:
    """Signs the requests of a session, each time one is sent. Thread-safe."""

    def sign(self, request: requests.PreparedRequest) -> None:
        """Add the signature to a request that is about to be sent."""
        raise NotImplementedError

    def is_challenged(self, response: requests.Response) -> bool:  # noqa: ARG002 - for those who are
        """Return True if the request is to be signed again, with what its answer says."""
        return False


@dataclass(frozen=True)
class SessionRules:
    """The rules that all requests of a session obey.

    `on_wait` gets a sentence about every wait. `sleep` waits, in seconds; without it a wait ends
    early when the request is cancelled.
    """

    origins: OriginPolicy
    rate_limiter: RateLimiter
    usage_counter: UsageCounter
    timeout_seconds: float = 60.0
    max_wait_seconds: float = 300.0
    max_response_mb: int = 256
    action_for: ActionFor = lambda _: None
    asked_wait: Callable[[requests.Response], float | None] = asks_no_wait
    """Returns the seconds that the body of a response asks to wait; None if it doesn't."""
    sender: str = ""
    """Names the connector and the resource for rate limits."""
    base_path: str = ""
    """The path of `base_url`: rate limits name paths after it."""
    watch: RequestWatch | None = None
    signer: RequestSigner | None = None
    """Signs what goes to the own origin."""
    tls: TlsFiles | None = None
    """For the own origin: what proves this client, and who may vouch for the API."""
    on_wait: Callable[[str], None] = lambda _: None
    sleep: Sleep | None = None
    redactor: Redactor = field(default_factory=Redactor)
    body_format: BodyFormat | None = None
    """Given for bodies that go to the disk, and how large they may be."""
    folder: Path | None = None
    """Where bodies on the disk are; None for the system's folder of temporary files."""

    def sent(self, url: str) -> SentRequest:
        """Return what rate limits know of a request to a URL."""
        path = urlsplit(url).path.removeprefix(self.base_path.rstrip("/"))
        return SentRequest(path.lstrip("/"), self.sender)


class ApiSession(requests.Session):
    """A session whose requests obey `rules`, and whose credentials stay at their origin.

    It takes proxies and certificate authorities from the environment, as requests does, but no
    credentials: an entry of `~/.netrc` for the host has nothing to do with the connector.
    """

    def __init__(self, rules: SessionRules) -> None:
        super().__init__()
        self.rules = rules
        self.trust_env = False
        self.cookies = _ThreadSafeCookies()
        self._known_proxies: dict[tuple[str, ...], Mapping[str, str]] = {}
        transport = _Transport(rules)
        self.mount("http://", transport)
        self.mount("https://", transport)

    def merge_environment_settings(
        self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
    ) -> Any:
        """Add proxies and certificate authorities from the environment's usual variables."""
        # requests does this itself, but only with `trust_env`, which would read ~/.netrc, too
        if verify is None or verify is True:
            bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
            verify = bundle or verify
        proxies = {**self._proxies(str(url)), **(proxies or {})}
        return super().merge_environment_settings(url, proxies, stream, verify, cert)

    def _proxies(self, url: str) -> Mapping[str, str]:
        # remembered for each host: reading them takes as long as a request
        place = urlsplit(url)[:2]
        if place not in self._known_proxies:
            self._known_proxies[place] = get_environ_proxies(url)
        return self._known_proxies[place]

    def rebuild_proxies(
        self,
        prepared_request: requests.PreparedRequest,
        proxies: Any,  # noqa: ARG002 - those of the hop before, which may be for another host
    ) -> Any:
        """Return the proxies of the next hop of a redirect."""
        return super().rebuild_proxies(  # type: ignore[no-untyped-call]
            prepared_request, self._proxies(str(prepared_request.url))
        )

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        """Drop all headers of the file when a redirect leaves the origin, even to an allowed host.

        requests drops `Authorization` only, and keeps an `X-Api-Key`. Within the origin it drops the
        cookies of an `auth`, which are kept here.
        """
        super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call]
        if not self.rules.origins.is_own(str(prepared_request.url)):
            headers: MutableMapping[str, Any] = prepared_request.headers
            for name in list(headers):
                if name.lower() not in _NEUTRAL_HEADERS:
                    del headers[name]
            return
        before = response.request
        if self.rules.origins.is_own(str(before.url)) and (sent := before.headers.get("Cookie")):
            _keep_cookies(prepared_request, sent)


def _keep_cookies(request: requests.PreparedRequest, sent: str) -> None:
    """Keep the cookies of the hop before unless they are set again: an `auth` may have added them.

    requests sends those that the API has set, and no others.
    """
    given = request.headers.get("Cookie", "")
    names = {cookie.partition("=")[0] for cookie in given.split("; ")}
    kept = [cookie for cookie in sent.split("; ") if cookie.partition("=")[0] not in names]
    if kept:
        request.headers["Cookie"] = "; ".join(filter(None, (given, *kept)))


class _ThreadSafeCookies(RequestsCookieJar):
    """Cookies that one thread may set while another sends them."""

    def __init__(self) -> None:
        self._guard = threading.RLock()
        super().__init__()

    def set_cookie(self, *args: Any, **kwargs: Any) -> Any:
        with self._guard:
            return super().set_cookie(*args, **kwargs)

    def __iter__(self) -> Iterator[Any]:
        with self._guard:
            return iter(list(super().__iter__()))


class _Transport(HTTPAdapter):
    """Sends one hop of a request, with retries, and reads the whole body within the retries."""

    def __init__(self, rules: SessionRules) -> None:
        self._rules = rules
        self._retrier = Retrier(
            rules.action_for,
            rules.rate_limiter,
            rules.usage_counter,
            rules.max_wait_seconds,
            rules.on_wait,
            rules.sleep,
            rules.asked_wait,
        )
        super().__init__(pool_maxsize=_POOL_SIZE)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create the pool; its connections obey deadlines."""
        super().init_poolmanager(*args, **kwargs)
        install_deadlines(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool of a proxy; its connections obey deadlines."""
        manager = super().proxy_manager_for(*args, **kwargs)
        install_deadlines(manager)
        return manager

    def build_response(
        self, req: requests.PreparedRequest, resp: BaseHTTPResponse
    ) -> requests.Response:
        """Return the response as an `ApiResponse`."""
        response = ApiResponse()
        # requests has no setting for the class of its responses
        response.__dict__.update(super().build_response(req, resp).__dict__)
        response.max_mb = self._rules.max_response_mb
        # requests reads a text without a charset as Latin-1
        response.encoding = _declared_charset(response.headers.get("Content-Type", ""))
        return response

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: ARG002 - the body is always read here, for retries
        timeout: Any = None,  # noqa: ARG002 - the rules limit the exchange as a whole
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request, again if it fails; return the last response or raise the last error.

        Raises `ForeignOriginError` before anything is sent to an origin that is not allowed,
        `RateLimitedError` if the API asks to wait too long, `RequestCancelled` if the response is no
        longer needed.
        """
        url = str(request.url)
        self._rules.origins.check(url)
        tls = self._rules.tls
        if tls is not None and self._rules.origins.is_own(url):
            cert, verify = (tls.cert, tls.key) if tls.key else tls.cert, tls.ca or verify
        options = {"verify": verify, "cert": cert, "proxies": proxies}

        def try_to_send() -> requests.Response:
            return self._retrier.run(
                lambda: self._watched_exchange(request, **options), self._rules.sent(url)
            )

        response = try_to_send()
        signer = self._rules.signer
        if signer and self._rules.origins.is_own(url) and signer.is_challenged(response):
            # once: a second challenge refuses the credentials
            return try_to_send()
        return response

    def _watched_exchange(
        self, request: requests.PreparedRequest, **options: Any
    ) -> requests.Response:
        watch, sender = self._rules.watch, self._rules.sender
        if watch is not None:
            watch.before(sender, request)
        response, started = None, time.monotonic()
        try:
            response = self._signed_exchange(request, **options)
        finally:
            seconds = time.monotonic() - started
            answer = "no answer" if response is None else str(response.status_code)
            self._rules.usage_counter.add_exchange(
                SentExchange(f"{request.method} {request.url}", answer, seconds)
            )
            if watch is not None:
                watch.after(sender, request, response, seconds)
        return response

    def _signed_exchange(
        self, request: requests.PreparedRequest, **options: Any
    ) -> requests.Response:
        """Send a request once, signed at this moment: a signature is good for a short time, or one use."""
        signer = self._rules.signer
        if signer is None or not self._rules.origins.is_own(str(request.url)):
            return self._exchange(request, **options)
        # a copy, so that the next try and the next hop of a redirect start without a signature
        signed = request.copy()
        signer.sign(signed)
        response = self._exchange(signed, **options)
        # messages name the request as the file says it
        response.request, response.url = request, str(request.url)
        return response

    def _exchange(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send a request once and read the whole body within `timeout_seconds`."""
        seconds, is_late = self._rules.timeout_seconds, False
        self._rules.usage_counter.add(requests=1)
        asked_at = time.monotonic()
        with (
            redacted_logs(self._rules.redactor),
            Deadline(seconds) as deadline,
            end_on_abort(deadline.expire_now),
        ):
            try:
                # a read may take longer than the whole, so that the deadline is what ends it
                timeouts = (seconds, seconds + 1.0)
                response = super().send(request, stream=True, timeout=timeouts, **options)
                self._read_body(response, deadline.renew)
                if isinstance(response, ApiResponse):
                    response.asked_at, response.answered_at = asked_at, time.monotonic()
            except requests.RequestException as error:
                is_late = isinstance(error, requests.Timeout) or deadline.expired
                if not (is_late and is_transient(error)):
                    raise
        if is_late or deadline.expired:
            raise_if_cancelled()
            raise requests.Timeout(
                f"no complete answer within {seconds:g} s (http.timeout_seconds)", request=request
            )
        return response

    def _read_body(self, response: requests.Response, renew: Callable[[], None]) -> None:
        body_format = self._rules.body_format
        try:
            if isinstance(response, ApiResponse):
                # an error is read as it is, whatever the format of the rows
                if body_format is not None and response.status_code in ROW_STATUSES:
                    response.max_mb, response.size_option = body_format.max_mb, "response.max_mb"
                    response.check_announced_size()
                    self._store_body(response, renew)
                    return
                response.check_announced_size()
            self._rules.usage_counter.add(bytes_read=len(response.content))
        except (RequestCancelled, ResponseTooLargeError):
            # the rest of the body is still in the connection, so it can't be used again
            response.close()
            raise

    def _store_body(self, response: ApiResponse, renew: Callable[[], None]) -> None:
        # only bodies that are no plain JSON
        from restsource_dagster.engine.http.body_file import BodyFile

        file = BodyFile(self._rules.folder)
        try:
            response.store_body(file, renew)
        except BaseException:
            file.close()
            raise
        self._rules.usage_counter.add(bytes_read=file.size)


def _declared_charset(content_type: str) -> str | None:
    header = Message()
    header["Content-Type"] = content_type
    return header.get_content_charset()
