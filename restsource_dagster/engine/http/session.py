"""The session: every request of the product passes here, token requests included.

A session belongs to one resource, so that what it counts and what it retries are that resource's.
The rules live in the transport, below requests' own handling of redirects, because each hop of a
redirect is a request of its own.
"""

import os
import threading
from collections.abc import Iterator, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar
from requests.utils import get_environ_proxies
from urllib3 import BaseHTTPResponse

from restsource_dagster.engine.http.deadline import Deadline, install
from restsource_dagster.engine.http.leash import ends_with, stop_if_unwanted
from restsource_dagster.engine.http.quiet import redacted_logs
from restsource_dagster.engine.http.responses import ApiResponse, read_whole
from restsource_dagster.engine.http.retries import Retries, asked_wait, is_transient
from restsource_dagster.engine.http.rules import Meter, SessionRules
from restsource_dagster.engine.http.waits import limit_resets_in

__all__ = ["ApiSession", "Meter", "SessionRules"]

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


class _Cookies(RequestsCookieJar):
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
        self.cookies = _Cookies()
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
        self._retries = Retries(rules)
        super().__init__(pool_maxsize=256)  # as many as may be under way at once

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """A pool whose connections obey deadlines."""
        super().init_poolmanager(*args, **kwargs)
        install(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """The same for a proxy's."""
        manager = super().proxy_manager_for(*args, **kwargs)
        install(manager)
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
            self._heed_limits(response)
            return response

        return self._retries.run(attempt)

    def _exchange(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        seconds, late = self._rules.timeout_seconds, False
        self._rules.meter.count(requests=1)
        with (
            redacted_logs(self._rules.redactor),
            Deadline(seconds) as deadline,
            ends_with(deadline.end),
        ):
            try:
                # a read may take longer than all of it, so that the deadline is the one that strikes
                timeouts = (seconds, seconds + 1.0)
                response = super().send(request, stream=True, timeout=timeouts, **options)
                self._rules.meter.count(read=read_whole(response))
            except requests.RequestException as error:
                late = isinstance(error, requests.Timeout) or deadline.expired
                if not (late and is_transient(error)):
                    raise
        if late or deadline.expired:
            stop_if_unwanted()
            raise requests.Timeout(
                f"no complete answer within {seconds:g} s (http.timeout_seconds)", request=request
            )
        return response

    def _heed_limits(self, response: requests.Response) -> None:
        """Hold the whole run back where the API says so; one request asking too soon is enough.

        A limit that resets later than a request may wait is left to the API to enforce.
        """
        if response.status_code == requests.codes.too_many_requests:
            wait = asked_wait(response)
        else:
            wait = limit_resets_in(response.headers, datetime.now(UTC))
        if wait and wait <= self._rules.max_wait_seconds:
            self._rules.budget.pause(wait)
            if response.ok:
                self._rules.on_wait(f"the API's rate limit is used up for another {wait:.0f} s")
