"""The session: every request of the product passes here, token requests included.

A session belongs to one resource, so that what it counts and what it retries are that resource's.
The rules live in the transport, below requests' own handling of redirects, because each hop of a
redirect is a request of its own.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import requests
import tenacity
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse

from restsource_dagster.engine.errors import RateLimitedError
from restsource_dagster.engine.http.budget import Budget
from restsource_dagster.engine.http.deadline import Deadline, install
from restsource_dagster.engine.http.origins import OriginPolicy
from restsource_dagster.engine.http.waits import limit_resets_in, retry_after
from restsource_dagster.engine.outcome import Usage

__all__ = ["ApiResponse", "ApiSession", "Meter", "SessionRules"]

ATTEMPTS = 5
"""How often a request is tried that fails without the API saying how long to wait."""
ASKED_ATTEMPTS = 20
"""How often it is tried where the API says so; the waits are bounded by `max_wait_seconds`, too."""
_RETRIED_STATUS = frozenset({429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_RETRIED_ERRORS = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)
_NEUTRAL_HEADERS = frozenset({"accept", "accept-encoding", "connection", "user-agent"})


class Meter:
    """Counts what a resource asks of the API. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._usage = Usage()

    def count(self, *, requests: int = 0, retries: int = 0, read: int = 0) -> None:
        """Add to the counts."""
        with self._lock:
            usage = self._usage
            self._usage = Usage(
                usage.requests + requests, usage.retries + retries, usage.bytes + read
            )

    @property
    def usage(self) -> Usage:
        """The counts so far."""
        return self._usage


class ApiResponse(requests.Response):
    """A response whose JSON is parsed once, however many ask for it (paginators do)."""

    @cached_property
    def _parsed(self) -> Any:
        return super().json()

    def json(self, **kwargs: Any) -> Any:
        """The body as JSON. Raises `requests.exceptions.JSONDecodeError`."""
        return super().json(**kwargs) if kwargs else self._parsed


@dataclass(frozen=True)
class SessionRules:
    """What a session keeps to.

    `settled` exempts answers that the connector file handles (`response_actions`) from retries;
    `on_wait` is told of every wait, in words.
    """

    origins: OriginPolicy
    budget: Budget
    meter: Meter
    timeout_seconds: float = 60.0
    max_wait_seconds: float = 300.0
    settled: Callable[[requests.Response], bool] = lambda _: False
    on_wait: Callable[[str], None] = lambda _: None
    sleep: Callable[[float], None] = tenacity.nap.sleep


class ApiSession(requests.Session):
    """A session whose requests keep to the rules, and whose credentials stay at their origin."""

    def __init__(self, rules: SessionRules) -> None:
        super().__init__()
        self.rules = rules
        transport = _Transport(rules)
        self.mount("http://", transport)
        self.mount("https://", transport)

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        """On a redirect to another origin, even an allowed one, take along nothing of the file's.

        requests drops `Authorization` only, and keeps an `X-Api-Key`.
        """
        super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call]
        if not self.rules.origins.is_own(str(prepared_request.url)):
            for name in list(prepared_request.headers):
                if name.lower() not in _NEUTRAL_HEADERS:
                    del prepared_request.headers[name]


class _Transport(HTTPAdapter):
    """Sends one request, with retries, and reads the whole body while retries are possible."""

    def __init__(self, rules: SessionRules) -> None:
        self._rules = rules
        super().__init__(pool_maxsize=32)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """A pool whose connections obey deadlines."""
        super().init_poolmanager(*args, **kwargs)
        install(self.poolmanager)

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

        Raises `ForeignOriginError` before anything is sent to an origin that may not be asked.
        """
        self._rules.origins.check(str(request.url))

        def attempt() -> requests.Response:
            with self._rules.budget.place():
                return self._exchange(request, verify=verify, cert=cert, proxies=proxies)

        retrying = tenacity.Retrying(
            stop=self._is_enough,
            wait=_wait_seconds,
            retry=tenacity.retry_if_exception_type(_RETRIED_ERRORS)
            | tenacity.retry_if_result(self._wants_retry),
            before_sleep=self._before_sleep,
            retry_error_callback=_last_result,
            sleep=self._rules.sleep,
        )
        return retrying(attempt)

    def _exchange(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        seconds = self._rules.timeout_seconds
        self._rules.meter.count(requests=1)
        with Deadline(seconds) as deadline:
            try:
                response = super().send(request, stream=True, timeout=seconds, **options)
                self._rules.meter.count(read=len(response.content))
            except _RETRIED_ERRORS as error:
                if deadline.expired:
                    raise _too_slow(seconds) from error
                raise
        if deadline.expired:
            raise _too_slow(seconds)
        resets_in = limit_resets_in(response.headers, datetime.now(UTC))
        if resets_in is not None:
            self._rules.budget.pause(resets_in)
        return response

    def _wants_retry(self, response: requests.Response) -> bool:
        return response.status_code in _RETRIED_STATUS and not self._rules.settled(response)

    def _is_enough(self, state: tenacity.RetryCallState) -> bool:
        """Whether to give up: too many tries, or a wait that would be too long altogether."""
        asked = _asked_wait(state)
        if asked is None:
            return state.attempt_number >= ATTEMPTS
        if state.idle_for + asked > self._rules.max_wait_seconds:
            raise RateLimitedError(state.idle_for + asked, self._rules.max_wait_seconds)
        return state.attempt_number >= ASKED_ATTEMPTS

    def _before_sleep(self, state: tenacity.RetryCallState) -> None:
        self._rules.meter.count(retries=1)
        wait = state.next_action.sleep if state.next_action else 0.0
        self._rules.on_wait(
            f"{_what_happened(state)}; waiting {wait:.1f} s before try {state.attempt_number + 1}"
        )


def _too_slow(seconds: float) -> requests.Timeout:
    return requests.Timeout(f"no complete answer within {seconds:g} s (http.timeout_seconds)")


def _wait_seconds(state: tenacity.RetryCallState) -> float:
    """As long as the API asks, else 1, 2, 4, ... seconds and a little at random."""
    asked = _asked_wait(state)
    if asked is not None:
        return asked
    backoff: float = tenacity.wait_exponential_jitter(initial=1, max=60, jitter=0.5)(state)
    return backoff


def _asked_wait(state: tenacity.RetryCallState) -> float | None:
    if state.outcome is None or state.outcome.failed:
        return None
    headers = state.outcome.result().headers
    now = datetime.now(UTC)
    asked = retry_after(headers, now)
    return limit_resets_in(headers, now) if asked is None else asked


def _what_happened(state: tenacity.RetryCallState) -> str:
    if state.outcome is None or state.outcome.failed:
        error = state.outcome.exception() if state.outcome else None
        return f"the request failed ({type(error).__name__})"
    return f"the API answered {state.outcome.result().status_code}"


def _last_result(state: tenacity.RetryCallState) -> requests.Response:
    if state.outcome is None:  # tenacity calls this only after an attempt
        raise RuntimeError("no attempt was made")
    response: requests.Response = state.outcome.result()
    return response
