"""The session: every request of the product passes here, token requests included.

A session belongs to one resource, so that what it counts and what it retries are that resource's.
The rules live in the transport, below requests' own handling of redirects, because each hop of a
redirect is a request of its own.

urllib3 logs every URL at debug level, query and all: these lines are redacted, too.

Responses, as they are read whole and parsed once.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar
from requests.utils import get_environ_proxies
from urllib3 import BaseHTTPResponse

from restsource_dagster.engine.http.cancellation import (
    RequestCancelled,
    count_received_bytes,
    end_on_cancel,
    raise_if_cancelled,
)
from restsource_dagster.engine.http.deadline import Deadline, install_deadlines
from restsource_dagster.engine.http.retry import (
    Retrier,
    is_transient,
    rate_limit_resets_in,
    requested_wait_seconds,
)
from restsource_dagster.engine.http.session_rules import SessionRules, UsageCounter
from restsource_dagster.engine.source.fast_json import parse_fast
from restsource_dagster.engine.source.record_values import object_with_duplicate_key

__all__ = [
    "ApiResponse",
    "ApiSession",
    "SessionRules",
    "UsageCounter",
    "read_full_body",
    "redacted_logs",
]

_LOGGERS = ("connection", "connectionpool", "poolmanager", "response", "util.retry")
_current_redact: ContextVar[Callable[[str], str] | None] = ContextVar("redact", default=None)


class _RedactingFilter(logging.Filter):
    """Rewrites the records of the thread that has a redactor; passes all others on untouched."""

    def filter(self, record: logging.LogRecord) -> bool:
        redact = _current_redact.get()
        if redact is not None:
            record.msg, record.args = redact(record.getMessage()), ()
        return True


@contextmanager
def redacted_logs(redact: Callable[[str], str]) -> Iterator[None]:
    """Have what urllib3 logs in this thread pass through `redact`."""
    for name in _LOGGERS:
        logger = logging.getLogger(f"urllib3.{name}")
        if not any(isinstance(known, _RedactingFilter) for known in logger.filters):
            logger.addFilter(_RedactingFilter())
    token = _current_redact.set(redact)
    try:
        yield
    finally:
        _current_redact.reset(token)


_CHUNK_BYTES = 256 * 1024  # requests' own pieces are so small that handling them takes longer


class ApiResponse(requests.Response):
    """A response whose JSON is parsed once, however many ask for it (paginators do)."""

    is_unverified = False
    """Whether the JSON was read fast, and is still to be proved."""

    @cached_property
    def _parsed(self) -> Any:
        try:
            fast = parse_fast(self.content, self.encoding)
        except ValueError:
            return super().json(object_pairs_hook=object_with_duplicate_key)
        self.is_unverified = True
        return fast

    def reread(self) -> Any:
        """The body as JSON, read slowly."""
        self.is_unverified = False
        self._parsed = super().json(object_pairs_hook=object_with_duplicate_key)
        return self._parsed

    def json(self, **kwargs: Any) -> Any:
        """The body as JSON. Raises `requests.exceptions.JSONDecodeError`."""
        return super().json(**kwargs) if kwargs else self._parsed

    def discard_parsed(self) -> None:
        """Parse anew when the JSON is asked for again: what is parsed takes several times the room."""
        self.__dict__.pop("_parsed", None)

    def iter_content(
        self, chunk_size: int | None = 1, decode_unicode: bool = False
    ) -> Iterator[Any]:
        """The body in pieces. Raises `Abandoned` if it is read ahead and takes too much room."""
        size = chunk_size and max(chunk_size, _CHUNK_BYTES)
        for piece in super().iter_content(size, decode_unicode):
            count_received_bytes(len(piece))
            yield piece


def read_full_body(response: requests.Response) -> int:
    """Read the whole body; returns its size. Raises `Abandoned` if nobody wants it any more."""
    try:
        return len(response.content)
    except RequestCancelled:
        response.close()
        raise


_NEUTRAL_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "proxy-authorization",  # the proxy's, set anew for each hop
        "user-agent",
    }
)


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


class ApiSession(requests.Session):
    """A session whose requests keep to the rules, and whose credentials stay at their origin.

    Of the environment it takes proxies and certificate authorities, as requests does, but no
    credentials: `~/.netrc` may know the host and has nothing to do with the connector.
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
        """Proxies and certificate authorities from the environment's usual variables."""
        if verify is None or verify is True:
            bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
            verify = bundle or verify
        proxies = {**self._proxies(str(url)), **(proxies or {})}
        return super().merge_environment_settings(url, proxies, stream, verify, cert)

    def _proxies(self, url: str) -> Mapping[str, str]:
        """The environment's, which is read once for each host: that takes as long as a request."""
        place = urlsplit(url)[:2]
        if place not in self._known_proxies:
            self._known_proxies[place] = get_environ_proxies(url)
        return self._known_proxies[place]

    def rebuild_proxies(
        self,
        prepared_request: requests.PreparedRequest,
        proxies: Any,  # noqa: ARG002 - those of the hop before, which may have been another host
    ) -> Any:
        """The proxies of the next hop of a redirect."""
        return super().rebuild_proxies(  # type: ignore[no-untyped-call]
            prepared_request, self._proxies(str(prepared_request.url))
        )

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        """On a redirect to another origin, even an allowed one, take along no header of the file's.

        requests drops `Authorization` only, and keeps an `X-Api-Key`.
        """
        super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call]
        if not self.rules.origins.is_own(str(prepared_request.url)):
            headers: MutableMapping[str, Any] = prepared_request.headers
            for name in list(headers):
                if name.lower() not in _NEUTRAL_HEADERS:
                    del headers[name]


class _Transport(HTTPAdapter):
    """Sends one request, with retries, and reads the whole body while retries are possible."""

    def __init__(self, rules: SessionRules) -> None:
        self._rules = rules
        self._retries = Retrier(rules)
        super().__init__(pool_maxsize=256)  # as many as may be under way at once

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """A pool whose connections obey deadlines."""
        super().init_poolmanager(*args, **kwargs)
        install_deadlines(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """The same for a proxy's."""
        manager = super().proxy_manager_for(*args, **kwargs)
        install_deadlines(manager)
        return manager

    def build_response(
        self, req: requests.PreparedRequest, resp: BaseHTTPResponse
    ) -> requests.Response:
        """The response as ours, which parses JSON once."""
        response = ApiResponse()
        response.__dict__.update(super().build_response(req, resp).__dict__)
        return response

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: ARG002 - the body is always read here, for retries
        timeout: Any = None,  # noqa: ARG002 - the rules say it, for the exchange as a whole
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send it, again if it fails, and return the last answer or raise the last error.

        Raises `ForeignOriginError` before anything is sent to an origin that may not be asked,
        `RateLimitedError` if the API asks to wait too long, `Abandoned` if nobody wants the answer.
        """
        self._rules.origins.check(str(request.url))

        def attempt() -> requests.Response:
            with self._rules.budget.place():
                response = self._exchange(request, verify=verify, cert=cert, proxies=proxies)
            self._respect_rate_limit(response)
            return response

        return self._retries.run(attempt)

    def _exchange(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        seconds, late = self._rules.timeout_seconds, False
        self._rules.meter.count(requests=1)
        with (
            redacted_logs(self._rules.redactor),
            Deadline(seconds) as deadline,
            end_on_cancel(deadline.end),
        ):
            try:
                # a read may take longer than all of it, so that the deadline is the one that strikes
                timeouts = (seconds, seconds + 1.0)
                response = super().send(request, stream=True, timeout=timeouts, **options)
                self._rules.meter.count(read=read_full_body(response))
            except requests.RequestException as error:
                late = isinstance(error, requests.Timeout) or deadline.expired
                if not (late and is_transient(error)):
                    raise
        if late or deadline.expired:
            raise_if_cancelled()
            raise requests.Timeout(
                f"no complete answer within {seconds:g} s (http.timeout_seconds)", request=request
            )
        return response

    def _respect_rate_limit(self, response: requests.Response) -> None:
        """Hold the whole run back where the API says so; one request asking too soon is enough.

        A limit that resets later than a request may wait is left to the API to enforce.
        """
        if response.status_code == requests.codes.too_many_requests:
            wait = requested_wait_seconds(response)
        else:
            wait = rate_limit_resets_in(response.headers, datetime.now(UTC))
        if wait and wait <= self._rules.max_wait_seconds:
            self._rules.budget.pause(wait)
            if response.ok:
                self._rules.on_wait(f"the API's rate limit is used up for another {wait:.0f} s")
