"""How long requests wait: for the run's rate limit, and before they are sent again.

An API says how long to wait with `Retry-After` (RFC 9110) or with one of the rate limit headers in
use: `X-RateLimit-*` (GitHub and others) and `RateLimit-*` (an IETF draft).
"""

import email.utils
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import requests
import tenacity

from restsource_dagster.engine.errors import RateLimitedError
from restsource_dagster.engine.http.cancellation import Sleep, cancellable_sleep, raise_if_cancelled
from restsource_dagster.engine.run_progress import UsageCounter

__all__ = [
    "MAX_ATTEMPTS",
    "MAX_ATTEMPTS_WITH_RETRY_AFTER",
    "ActionFor",
    "RateLimiter",
    "Retrier",
    "asks_no_wait",
    "is_transient",
    "rate_limit_resets_in",
    "retry_after",
]


_TRANSIT_SECONDS = 0.5
"""The longest time that a request is assumed to take to reach the server."""


@dataclass
class _RequestSlot:
    """One request within the rate limit."""

    arrived_by: float
    """The latest time at which the request can have reached the server, on the limiter's clock."""


class RateLimiter:
    """Limits a run's requests: `max_concurrency` at once, `requests_per_second` in any second.

    All threads and resources of a run share one limiter. An API counts a request in the second in
    which it arrives. It arrives before its response, so a request counts until one second after its
    response, and at most one and a half seconds after its start. `pause` holds all requests back when
    the API asks for it. A waiting request that is cancelled raises `RequestCancelled` when it next
    wakes up.
    """

    def __init__(
        self,
        *,
        requests_per_second: float | None = None,
        max_concurrency: int = 8,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Condition, float], object] = threading.Condition.wait,
    ) -> None:
        self._concurrency = threading.BoundedSemaphore(max_concurrency)
        self._clock = clock
        self._wait = wait
        self._changed = threading.Condition()
        self._resumes_at = 0.0
        self._was_paused = False
        rate = requests_per_second or 0.0
        # below one request a second the window grows instead: 0.5 is one request in two seconds
        self._max_per_window = max(1, int(rate)) if rate else 0
        self._window_seconds = max(1.0, 1.0 / rate) if rate else 0.0
        self._recent_slots: list[_RequestSlot] = []

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot for the block. Waits for a free slot, for the rate limit and for a pause to end."""
        # a cancelled request may wait here, at most until another one ends
        with self._concurrency:
            taken = self._take_slot()
            try:
                raise_if_cancelled()
                yield
            finally:
                with self._changed:
                    # it has arrived by its response, which may be earlier than assumed
                    taken.arrived_by = min(taken.arrived_by, self._clock())
                    self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Start no request for so many seconds."""
        with self._changed:
            self._resumes_at = max(self._resumes_at, self._clock() + seconds)
            self._was_paused = True

    @property
    def is_limited(self) -> bool:
        """True if the file limits the rate or the API asked for a pause.

        Then send no request that may turn out to be unneeded.
        """
        return bool(self._max_per_window) or self._was_paused

    def wake_waiters(self) -> None:
        """Let waiting requests check whether they are cancelled."""
        with self._changed:
            self._changed.notify_all()

    def _take_slot(self) -> _RequestSlot:
        with self._changed:
            # again after each wait: a pause may have come, or another thread may have been first
            while (wait := self._seconds_to_wait()) > 0:
                raise_if_cancelled()
                self._wait(self._changed, wait)
            taken = _RequestSlot(self._clock() + _TRANSIT_SECONDS)
            if self._max_per_window:
                self._recent_slots.append(taken)
            return taken

    def _seconds_to_wait(self) -> float:
        now, window = self._clock(), self._window_seconds
        self._recent_slots = [one for one in self._recent_slots if one.arrived_by + window > now]
        is_full = bool(self._max_per_window) and len(self._recent_slots) >= self._max_per_window
        free_at = min(one.arrived_by for one in self._recent_slots) + window if is_full else now
        return max(self._resumes_at, free_at) - now


ActionFor = Callable[[requests.Response], str | None]
"""Returns what the connector file's `response_actions` say about a response; None if nothing."""

MAX_ATTEMPTS = 5
"""How often a request is sent if it fails and the API does not say how long to wait."""
MAX_ATTEMPTS_WITH_RETRY_AFTER = 20
"""How often a request is sent if the API says how long to wait; `max_wait_seconds` limits it, too."""

# 52x come from Cloudflare when it cannot reach the API behind it
_RETRIED_STATUS = frozenset({429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_RETRIED_ERRORS = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)
# the jitter keeps requests that failed together from coming back together
_backoff = tenacity.wait_exponential_jitter(initial=1, max=60, jitter=0.5)

# A reset of at least 1e9 is a moment (GitHub), a smaller one a number of seconds (the IETF draft).
# Moments in milliseconds exceed 1e11, which in seconds would be the year 5138.
_MIN_EPOCH_SECONDS = 1e9
_MIN_EPOCH_MILLISECONDS = 1e11
_REMAINING_HEADERS = ("x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining")
_RESET_HEADERS = ("x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset")


def asks_no_wait(response: requests.Response) -> float | None:  # noqa: ARG001
    """Return None: the body of a response says nothing of waits."""
    return None


@dataclass(frozen=True)
class Retrier:
    """Sends a request within the rate limit, and again while its outcome may be temporary.

    `max_wait_seconds` limits all waits of one request together. `on_wait` gets a sentence about each
    wait. `sleep` waits; without it a wait ends early when the request is cancelled.
    """

    action_for: ActionFor
    rate_limiter: RateLimiter
    usage_counter: UsageCounter
    max_wait_seconds: float
    on_wait: Callable[[str], None]
    sleep: Sleep | None = None
    asked_wait: Callable[[requests.Response], float | None] = asks_no_wait
    """Returns the seconds that the body of a response asks to wait; None if it doesn't."""

    def run(self, attempt: Callable[[], requests.Response]) -> requests.Response:
        """Return the last response or raise the last error of `attempt`.

        Raises `RateLimitedError` if the API asks to wait longer than `max_wait_seconds`,
        `RequestCancelled` if the request is cancelled while it waits.
        """
        retrying = tenacity.Retrying(
            stop=self._should_stop,
            wait=self._wait_seconds,
            retry=tenacity.retry_if_exception(is_transient)
            | tenacity.retry_if_result(self._should_retry),
            before_sleep=self._report_retry,
            retry_error_callback=_last_result,
            sleep=lambda seconds: cancellable_sleep(seconds, self.sleep),
        )
        return retrying(self._send, attempt)

    def _send(self, attempt: Callable[[], requests.Response]) -> requests.Response:
        with self.rate_limiter.slot():
            response = attempt()
        self._respect_rate_limit(response)
        return response

    def _respect_rate_limit(self, response: requests.Response) -> None:
        """Pause the whole run when the API says that its rate limit is used up.

        A limit that resets later than `max_wait_seconds` is left to the API to enforce: its refusal
        then ends the run with a clear error.
        """
        if response.status_code == requests.codes.too_many_requests:
            wait = _requested_wait_seconds(response)
        else:
            wait = rate_limit_resets_in(response.headers, datetime.now(UTC))
            wait = wait or self.asked_wait(response)
        if wait and wait <= self.max_wait_seconds:
            self.rate_limiter.pause(wait)
            if response.ok:  # a refused request reports its wait itself, before its retry
                self.on_wait(f"the API's rate limit is used up for another {wait:.0f} s")

    def _should_retry(self, response: requests.Response) -> bool:
        action = self.action_for(response)
        # any action of the file overrides the statuses: a 503 that it ignores is final
        return action == "retry" or (action is None and response.status_code in _RETRIED_STATUS)

    def _should_stop(self, state: tenacity.RetryCallState) -> bool:
        """Return True after too many attempts, or if the waits would be too long together."""
        is_too_long = state.idle_for + state.upcoming_sleep > self.max_wait_seconds
        if self._requested_wait(state) is None:
            return is_too_long or state.attempt_number >= MAX_ATTEMPTS
        if is_too_long:
            # not the API's own 429: the user is to learn which setting would have waited
            raise RateLimitedError(state.upcoming_sleep, state.idle_for, self.max_wait_seconds)
        return state.attempt_number >= MAX_ATTEMPTS_WITH_RETRY_AFTER

    def _wait_seconds(self, state: tenacity.RetryCallState) -> float:
        """Return what the API asks for, else 1, 2, 4, ... seconds plus jitter.

        A wait of 0 is taken literally once: an API that keeps refusing is not sent requests without
        a pause.
        """
        asked = self._requested_wait(state)
        if asked is None or (asked == 0 and state.attempt_number > 1):
            backoff: float = _backoff(state)
            return backoff
        return asked

    def _requested_wait(self, state: tenacity.RetryCallState) -> float | None:
        if state.outcome is None or state.outcome.failed:
            return None
        response = state.outcome.result()
        asked = _requested_wait_seconds(response)
        return self.asked_wait(response) if asked is None else asked

    def _report_retry(self, state: tenacity.RetryCallState) -> None:
        self.usage_counter.add(retries=1)
        self.on_wait(
            f"{_describe_attempt(state)}; waiting {state.upcoming_sleep:.1f} s before try "
            f"{state.attempt_number + 1}"
        )


def is_transient(error: BaseException) -> bool:
    """True if the next attempt may succeed; a certificate that is not trusted stays so."""
    return isinstance(error, _RETRIED_ERRORS) and "CERTIFICATE_VERIFY_FAILED" not in str(error)


def _requested_wait_seconds(response: requests.Response) -> float | None:
    """Return the seconds that a response asks to wait; None if it doesn't ask."""
    now = datetime.now(UTC)
    asked = retry_after(response.headers, now)
    return rate_limit_resets_in(response.headers, now) if asked is None else asked


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds that `Retry-After` asks to wait, given as seconds or a date; None without it."""
    text = (headers.get("Retry-After") or "").strip()
    seconds = _parse_seconds(text)
    return _seconds_until(_parse_http_date(text), now) if seconds is None else seconds


def rate_limit_resets_in(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds until the limit resets if no request remains; else None.

    A reset is a number of seconds, a moment in seconds or milliseconds since 1970, or a date.
    """
    remaining = _parse_seconds(_first_header(headers, _REMAINING_HEADERS))
    if remaining is None or remaining > 0:
        return None
    text = _first_header(headers, _RESET_HEADERS)
    reset = _parse_seconds(text)
    if reset is None:
        return _seconds_until(_parse_http_date(text), now)
    if reset > _MIN_EPOCH_MILLISECONDS:
        reset /= 1000
    return max(0.0, reset - now.timestamp()) if reset > _MIN_EPOCH_SECONDS else reset


def _describe_attempt(state: tenacity.RetryCallState) -> str:
    if state.outcome is None or state.outcome.failed:
        error = state.outcome.exception() if state.outcome else None
        return f"the request failed ({type(error).__name__})"
    return f"the API answered {state.outcome.result().status_code}"


def _last_result(state: tenacity.RetryCallState) -> requests.Response:
    if state.outcome is None:  # tenacity calls this only after an attempt
        raise RuntimeError("no attempt was made")
    response: requests.Response = state.outcome.result()
    return response


def _first_header(headers: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((headers[name].strip() for name in names if name in headers), "")


def _parse_seconds(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def _parse_http_date(text: str) -> datetime | None:
    """Return a date as HTTP writes it, or as ISO 8601 does; None for anything else."""
    for parse in (email.utils.parsedate_to_datetime, datetime.fromisoformat):
        try:
            found = parse(text)
        except (ValueError, OverflowError):
            continue
        # HTTP dates are in GMT by definition; ISO dates without a zone are taken as such
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None


def _seconds_until(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else max(0.0, (moment - now).total_seconds())
