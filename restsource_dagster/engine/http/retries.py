"""Which failures are tried again, how often, and how long the waits are."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import requests
import tenacity

from restsource_dagster.engine.errors import RateLimitedError
from restsource_dagster.engine.http.leash import nap
from restsource_dagster.engine.http.rules import SessionRules
from restsource_dagster.engine.http.waits import limit_resets_in, retry_after

__all__ = ["ASKED_ATTEMPTS", "ATTEMPTS", "Retries", "asked_wait", "is_transient"]

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
_backoff = tenacity.wait_exponential_jitter(initial=1, max=60, jitter=0.5)


def is_transient(error: BaseException) -> bool:
    """Whether an error may be gone at the next try; a certificate that is not trusted stays so."""
    return isinstance(error, _RETRIED_ERRORS) and "CERTIFICATE_VERIFY_FAILED" not in str(error)


def asked_wait(response: requests.Response) -> float | None:
    """The seconds that an answer asks to wait; None if it does not say."""
    now = datetime.now(UTC)
    asked = retry_after(response.headers, now)
    return limit_resets_in(response.headers, now) if asked is None else asked


@dataclass(frozen=True)
class Retries:
    """Tries a request until its answer is one to keep."""

    rules: SessionRules

    def run(self, attempt: Callable[[], requests.Response]) -> requests.Response:
        """The last answer, or the last error.

        Raises `RateLimitedError` if the API asks to wait longer than the rules allow, `Abandoned` if
        the request is dropped while it waits.
        """
        retrying = tenacity.Retrying(
            stop=self._is_enough,
            wait=_seconds,
            retry=tenacity.retry_if_exception(is_transient)
            | tenacity.retry_if_result(self._wants_retry),
            before_sleep=self._before_sleep,
            retry_error_callback=_last_result,
            sleep=lambda seconds: nap(seconds, self.rules.sleep),
        )
        return retrying(attempt)

    def _wants_retry(self, response: requests.Response) -> bool:
        verdict = self.rules.verdict(response)
        return verdict == "retry" or (verdict is None and response.status_code in _RETRIED_STATUS)

    def _is_enough(self, state: tenacity.RetryCallState) -> bool:
        """Whether to give up: too many tries, or a wait that would be too long altogether."""
        most = self.rules.max_wait_seconds
        too_long = state.idle_for + state.upcoming_sleep > most
        if _asked(state) is None:
            return too_long or state.attempt_number >= ATTEMPTS
        if too_long:
            raise RateLimitedError(state.upcoming_sleep, state.idle_for, most)
        return state.attempt_number >= ASKED_ATTEMPTS

    def _before_sleep(self, state: tenacity.RetryCallState) -> None:
        self.rules.meter.count(retries=1)
        self.rules.on_wait(
            f"{_what_happened(state)}; waiting {state.upcoming_sleep:.1f} s before try "
            f"{state.attempt_number + 1}"
        )


def _seconds(state: tenacity.RetryCallState) -> float:
    """As long as the API asks, else 1, 2, 4, ... seconds and a little at random.

    "At once" is believed once: an API that goes on refusing is not pestered.
    """
    asked = _asked(state)
    if asked is None or (asked == 0 and state.attempt_number > 1):
        backoff: float = _backoff(state)
        return backoff
    return asked


def _asked(state: tenacity.RetryCallState) -> float | None:
    if state.outcome is None or state.outcome.failed:
        return None
    return asked_wait(state.outcome.result())


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
