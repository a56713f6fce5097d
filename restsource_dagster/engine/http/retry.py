"""Which failures are tried again, how often, and how long the waits are.

What an API says about waiting: `Retry-After` (RFC 9110) and the rate limit headers in use.
"""

import email.utils
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import requests
import tenacity

from restsource_dagster.engine.errors import RateLimitedError
from restsource_dagster.engine.http.cancellation import cancellable_sleep
from restsource_dagster.engine.http.session_rules import SessionRules

__all__ = [
    "MAX_ATTEMPTS",
    "MAX_ATTEMPTS_WITH_RETRY_AFTER",
    "Retrier",
    "is_transient",
    "rate_limit_resets_in",
    "requested_wait_seconds",
    "retry_after",
]

_MIN_EPOCH_SECONDS = (
    1e9  # a reset above it is a moment (GitHub), below it a number of seconds (IETF draft)
)
_MIN_EPOCH_MILLISECONDS = 1e11
_REMAINING_HEADERS = ("x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining")
_RESET_HEADERS = ("x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset")


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """The seconds that `Retry-After` asks to wait, given as seconds or as a date; None if absent."""
    text = (headers.get("Retry-After") or "").strip()
    seconds = _parse_seconds(text)
    return _seconds_until(_parse_http_date(text), now) if seconds is None else seconds


def rate_limit_resets_in(headers: Mapping[str, str], now: datetime) -> float | None:
    """The seconds until the limit resets, if the API says that nothing remains; else None.

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


def _first_header(headers: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((headers[name].strip() for name in names if name in headers), "")


def _parse_seconds(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def _parse_http_date(text: str) -> datetime | None:
    """A date as HTTP writes it, or as ISO 8601 does."""
    for parse in (email.utils.parsedate_to_datetime, datetime.fromisoformat):
        try:
            found = parse(text)
        except (ValueError, OverflowError):
            continue
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None


def _seconds_until(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else max(0.0, (moment - now).total_seconds())


MAX_ATTEMPTS = 5
"""How often a request is tried that fails without the API saying how long to wait."""
MAX_ATTEMPTS_WITH_RETRY_AFTER = 20
"""How often it is tried where the API says so; the waits are bounded by `max_wait_seconds`, too."""
_RETRIED_STATUS = frozenset({429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_RETRIED_ERRORS = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)
_backoff = tenacity.wait_exponential_jitter(initial=1, max=60, jitter=0.5)


def is_transient(error: BaseException) -> bool:
    """Whether an error may be gone at the next try; a certificate that is not trusted stays so."""
    return isinstance(error, _RETRIED_ERRORS) and "CERTIFICATE_VERIFY_FAILED" not in str(error)


def requested_wait_seconds(response: requests.Response) -> float | None:
    """The seconds that an answer asks to wait; None if it does not say."""
    now = datetime.now(UTC)
    asked = retry_after(response.headers, now)
    return rate_limit_resets_in(response.headers, now) if asked is None else asked


@dataclass(frozen=True)
class Retrier:
    """Tries a request until its answer is one to keep."""

    rules: SessionRules

    def run(self, attempt: Callable[[], requests.Response]) -> requests.Response:
        """The last answer, or the last error.

        Raises `RateLimitedError` if the API asks to wait longer than the rules allow, `Abandoned` if
        the request is dropped while it waits.
        """
        retrying = tenacity.Retrying(
            stop=self._should_stop,
            wait=_wait_seconds,
            retry=tenacity.retry_if_exception(is_transient)
            | tenacity.retry_if_result(self._should_retry),
            before_sleep=self._before_sleep,
            retry_error_callback=_last_result,
            sleep=lambda seconds: cancellable_sleep(seconds, self.rules.sleep),
        )
        return retrying(attempt)

    def _should_retry(self, response: requests.Response) -> bool:
        verdict = self.rules.verdict(response)
        return verdict == "retry" or (verdict is None and response.status_code in _RETRIED_STATUS)

    def _should_stop(self, state: tenacity.RetryCallState) -> bool:
        """Whether to give up: too many tries, or a wait that would be too long altogether."""
        most = self.rules.max_wait_seconds
        too_long = state.idle_for + state.upcoming_sleep > most
        if _requested_wait(state) is None:
            return too_long or state.attempt_number >= MAX_ATTEMPTS
        if too_long:
            raise RateLimitedError(state.upcoming_sleep, state.idle_for, most)
        return state.attempt_number >= MAX_ATTEMPTS_WITH_RETRY_AFTER

    def _before_sleep(self, state: tenacity.RetryCallState) -> None:
        self.rules.meter.count(retries=1)
        self.rules.on_wait(
            f"{_describe_attempt(state)}; waiting {state.upcoming_sleep:.1f} s before try "
            f"{state.attempt_number + 1}"
        )


def _wait_seconds(state: tenacity.RetryCallState) -> float:
    """As long as the API asks, else 1, 2, 4, ... seconds and a little at random.

    "At once" is believed once: an API that goes on refusing is not pestered.
    """
    asked = _requested_wait(state)
    if asked is None or (asked == 0 and state.attempt_number > 1):
        backoff: float = _backoff(state)
        return backoff
    return asked


def _requested_wait(state: tenacity.RetryCallState) -> float | None:
    if state.outcome is None or state.outcome.failed:
        return None
    return requested_wait_seconds(state.outcome.result())


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
