"""How long requests wait: for the run's rate limit, and before they are sent again.

An API says how long to wait with `Retry-After` (RFC 9110) or with one of the rate limit headers in
use: `X-RateLimit-*` (GitHub and others) and `RateLimit-*` (an IETF draft). Shopify tells with
`X-Shopify-Shop-Api-Call-Limit: 32/40` how full the bucket of calls is.
"""

import email.utils
import fnmatch
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import requests
import tenacity

from restsource_dagster.engine.errors import RateLimitedError
from restsource_dagster.engine.http.cancellation import Sleep, cancellable_sleep, raise_if_cancelled
from restsource_dagster.engine.http.concurrency import ConcurrencyWindow
from restsource_dagster.engine.run_progress import UsageCounter

if TYPE_CHECKING:
    from restsource_dagster.engine.http.request_log import RequestLog

__all__ = [
    "MAX_ATTEMPTS",
    "MAX_ATTEMPTS_WITH_RETRY_AFTER",
    "ActionFor",
    "RateLimiter",
    "RequestLimit",
    "Retrier",
    "SentRequest",
    "Slot",
    "asks_no_wait",
    "full_bucket_seconds",
    "is_transient",
    "rate_limit",
    "rate_limit_resets_in",
    "retry_after",
]


_POLL_SECONDS = 0.2
"""How long a request waits before it looks whether another process has left it room."""
_CALLS = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")
_EMPTYING_SECONDS = 20.0
"""How long a full bucket of calls takes to empty: Shopify's, whatever the plan."""


@dataclass(frozen=True)
class SentRequest:
    """What limits know of a request."""

    path: str = ""
    """The path after `base_url`, without a slash at its beginning."""
    sender: str = ""
    """The connector and the resource, as `shop/orders`."""


@dataclass(frozen=True)
class RequestLimit:
    """At most `requests` in any window of `seconds`, or requests that cost so much."""

    requests: int
    seconds: float
    match: str = "*"
    """Which paths are counted, with `*` for any text."""
    sender: str = "*"
    """Whose requests are counted."""
    costs: tuple[tuple[str, int], ...] = ()
    """Paths, and what a request to them costs: the first that matches holds, and 1 without one."""
    may_wait: bool = True
    """False if a request fails in place of waiting."""

    def counts(self, request: SentRequest) -> bool:
        """True if the request is one of those that are limited."""
        return fnmatch.fnmatchcase(request.path, self.match) and self.sender in (
            "*",
            request.sender,
        )

    def cost_of(self, request: SentRequest) -> int:
        """Return what the request costs."""
        found = (cost for path, cost in self.costs if fnmatch.fnmatchcase(request.path, path))
        return next(found, 1)


@dataclass
class Slot:
    """A request's permission to be in progress."""

    number: int
    """The number of the request in the log of requests."""
    halvings: int
    started: float
    status: int | None = None
    """The status of its response. The sender sets it; it stays None without a response."""


class RateLimiter:
    """Limits a run's requests: up to `max_concurrency` at once, `requests_per_second` in any second.

    How many may be in progress at once depends on the responses, see `ConcurrencyWindow`.

    All threads and resources of a run share one limiter. `limits` are further limits, and the `log` of
    requests may be shared by the runs of several connectors. See `request_log` for how requests are
    counted. `pause` holds all requests back when the API asks for it. A waiting request that is cancelled
    raises `RequestCancelled` when it next wakes up.
    """

    def __init__(
        self,
        *,
        requests_per_second: float | None = None,
        max_concurrency: int = 8,
        limits: Sequence[RequestLimit] = (),
        log: "RequestLog | None" = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Condition, float], object] = threading.Condition.wait,
    ) -> None:
        self.window = ConcurrencyWindow(max_concurrency)
        """How many requests may be in progress at once."""
        self._in_progress = 0
        self._clock = clock
        self._wait = wait
        self._changed = threading.Condition()
        self._resumes_at = 0.0
        self._was_paused = False
        self._limits = (*rate_limit(requests_per_second), *limits)
        # without a limit nothing has to be counted
        self._log = log or (_log_of_run(clock) if self._limits else None)

    @contextmanager
    def slot(self, request: SentRequest | None = None) -> Iterator[Slot]:
        """Hold a slot for the block. Waits for a free slot, for the limits and for a pause to end.

        Raises `LimitUsedUpError` where a limit says to fail in place of waiting.
        """
        sent = request or SentRequest()
        with self._changed:
            # the slot before the limits: a request that waits for a slot must not hold room in the
            # log
            while self._in_progress >= self.window.size:
                self._changed.wait()
                raise_if_cancelled()
            self._in_progress += 1
        slot: Slot | None = None
        try:
            slot = self._take_slot(sent)
            raise_if_cancelled()
            yield slot
        finally:
            with self._changed:
                in_progress = self._in_progress
                # first: a shared log that can't be written must not keep the slot from others
                self._in_progress -= 1
                self._changed.notify_all()
                if slot is not None:
                    self._note_end(slot, sent, in_progress)

    def pause(self, seconds: float) -> None:
        """Start no request for so many seconds; nor do the other runs that share the log."""
        with self._changed:
            # the longest: a later answer with a shorter wait does not take back an earlier one
            self._resumes_at = max(self._resumes_at, self._clock() + seconds)
            self._was_paused = True
            if self._log is not None and self._log.is_shared:
                self._log.pause(seconds)

    @property
    def is_limited(self) -> bool:
        """True if the file limits the rate or the API asked for a pause.

        Then send no request that may turn out to be unneeded.
        """
        return bool(self._limits) or self._was_paused

    def wake_waiters(self) -> None:
        """Let waiting requests check whether they are cancelled."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()

    def _note_end(self, slot: Slot, request: SentRequest, in_progress: int) -> None:
        # it has arrived by its response, which may be earlier than assumed
        if self._log is not None:
            self._log.note_response(slot.number)
        if slot.status is not None:
            self.window.responded(
                request.sender,
                slot.status,
                self._clock() - slot.started,
                halvings=slot.halvings,
                in_progress=in_progress,
            )

    def _take_slot(self, request: SentRequest) -> Slot:
        """Return the slot of a request as soon as it may be sent."""
        with self._changed:
            # again after each wait: a pause may have come, or another thread may have been first
            while True:
                number, wait = 0, self._resumes_at - self._clock()
                if wait <= 0 and self._log is not None:
                    number, wait = self._log.take(request, self._limits)
                if wait <= 0:
                    return Slot(number, self.window.halvings, self._clock())
                raise_if_cancelled()
                is_shared = self._log is not None and self._log.is_shared
                self._wait(self._changed, min(wait, _POLL_SECONDS) if is_shared else wait)


def _log_of_run(clock: Callable[[], float]) -> "RequestLog":
    from restsource_dagster.engine.http.request_log import RequestLog
    from restsource_dagster.state.request_table import SqliteRequests

    return RequestLog(SqliteRequests(clock))


def rate_limit(requests_per_second: float | None, sender: str = "*") -> Iterator[RequestLimit]:
    """Yield the limit of so many requests in any second; none for None.

    Below one request a second the window grows instead: 0.5 is one request in two seconds.
    """
    if rate := requests_per_second or 0.0:
        yield RequestLimit(max(1, int(rate)), max(1.0, 1.0 / rate), sender=sender)


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

    def run(
        self, attempt: Callable[[], requests.Response], request: SentRequest | None = None
    ) -> requests.Response:
        """Return the last response or raise the last error of `attempt`, which sends `request`.

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
        return retrying(self._send, attempt, request)

    def _send(
        self, attempt: Callable[[], requests.Response], request: SentRequest | None
    ) -> requests.Response:
        # anew for each try: a request that waits for its retry leaves its slot to others
        with self.rate_limiter.slot(request) as slot:
            response = attempt()
            slot.status = response.status_code
        self._respect_rate_limit(response)
        return response

    def _respect_rate_limit(self, response: requests.Response) -> None:
        """Pause the whole run when the API says that its rate limit is used up.

        A limit that resets later than `max_wait_seconds` is left to the API to enforce: its refusal
        then ends the run with a clear error.
        """
        # a refusal names its own wait; the headers of other answers say what is left of the API's
        # budget
        if response.status_code == requests.codes.too_many_requests:
            wait = _requested_wait_seconds(response)
        else:
            wait = rate_limit_resets_in(response.headers, datetime.now(UTC))
            wait = wait or self.asked_wait(response)
            if full := full_bucket_seconds(response.headers, self.rate_limiter.window.size):
                # so often that a message each time would say nothing
                self.rate_limiter.pause(min(full, self.max_wait_seconds))
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


def full_bucket_seconds(headers: Mapping[str, str], requests_to_come: int) -> float:
    """Return how long a bucket of calls needs for room for so many more requests; 0 if it has it.

    It is read from a header whose name ends in `-call-limit`, as `32/40`.
    """
    for name, text in headers.items():
        if name.lower().endswith("-call-limit") and (found := _CALLS.fullmatch(text.strip())):
            used, size = int(found[1]), max(1, int(found[2]))
            too_many = used + min(requests_to_come, size) - size
            return max(0.0, too_many * _EMPTYING_SECONDS / size)
    return 0.0


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
