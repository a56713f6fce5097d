"""The one way to the API: every request of the product passes here, token requests included.

The session belongs to one resource, so that what it counts and what it retries are that
resource's. The rules live in the transport, below requests' own handling of redirects, because
each hop of a redirect is a request of its own.
"""

import email.utils
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

from restsource_dagster.engine.outcome import Usage

__all__ = ["ApiResponse", "ApiSession", "Meter"]

ATTEMPTS = 5
MAX_WAIT_SECONDS = 300.0
_RETRIED_STATUS = frozenset({429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_RETRIED_ERRORS = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)

Settled = Callable[[requests.Response], bool]
"""Tells that an answer needs no retry although its status says so."""


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


class ApiSession(requests.Session):
    """A session whose requests are counted, timed out and retried.

    `settled` exempts answers that the connector file handles (`response_actions`) from retries;
    `on_wait` is told of every wait, in words.
    """

    def __init__(
        self,
        *,
        timeout_seconds: float,
        meter: Meter,
        settled: Settled = lambda _: False,
        on_wait: Callable[[str], None] = lambda _: None,
        sleep: Callable[[float], None] = tenacity.nap.sleep,
    ) -> None:
        super().__init__()
        transport = _Transport(_Rules(timeout_seconds, meter, settled, on_wait, sleep))
        self.mount("http://", transport)
        self.mount("https://", transport)


@dataclass(frozen=True)
class _Rules:
    timeout_seconds: float
    meter: Meter
    settled: Settled
    on_wait: Callable[[str], None]
    sleep: Callable[[float], None]


class _Transport(HTTPAdapter):
    """Sends one request, with retries, and reads the whole body while retries are possible."""

    def __init__(self, rules: _Rules) -> None:
        super().__init__(pool_maxsize=32)
        self._rules = rules

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
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send it, up to five times; raise what the last attempt raised."""

        def attempt() -> requests.Response:
            self._rules.meter.count(requests=1)
            response = HTTPAdapter.send(
                self,
                request,
                stream=True,
                timeout=timeout or self._rules.timeout_seconds,
                verify=verify,
                cert=cert,
                proxies=proxies,
            )
            self._rules.meter.count(read=len(response.content))
            return response

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=_wait_seconds,
            retry=tenacity.retry_if_exception_type(_RETRIED_ERRORS)
            | tenacity.retry_if_result(self._wants_retry),
            before_sleep=self._before_sleep,
            retry_error_callback=_last_result,
            sleep=self._rules.sleep,
        )
        return retrying(attempt)

    def _wants_retry(self, response: requests.Response) -> bool:
        return response.status_code in _RETRIED_STATUS and not self._rules.settled(response)

    def _before_sleep(self, state: tenacity.RetryCallState) -> None:
        self._rules.meter.count(retries=1)
        wait = state.next_action.sleep if state.next_action else 0.0
        self._rules.on_wait(
            f"{_what_happened(state)}; waiting {wait:.1f} s before try "
            f"{state.attempt_number + 1} of {ATTEMPTS}"
        )


def _wait_seconds(state: tenacity.RetryCallState) -> float:
    """As long as `Retry-After` says (RFC 9110, seconds or a date), else 1, 2, 4, ... seconds."""
    asked = None
    if state.outcome and not state.outcome.failed:
        asked = _retry_after(state.outcome.result().headers.get("Retry-After"))
    backoff: float = tenacity.wait_exponential_jitter(initial=1, max=60, jitter=0.5)(state)
    return min(backoff if asked is None else asked, MAX_WAIT_SECONDS)


def _retry_after(header: str | None) -> float | None:
    if not header:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        when = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


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
