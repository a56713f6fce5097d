"""What a session keeps to, and what it counts."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import requests

from restsource_dagster.engine.http.cancellation import Sleep
from restsource_dagster.engine.http.origins import OriginPolicy
from restsource_dagster.engine.http.rate_limit import RateLimiter
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.run.outcome import Usage

__all__ = ["ActionName", "SessionRules", "UsageCounter"]

ActionName = Literal["ignore", "retry", "fail"]
"""What the connector file says about an answer (`response_actions`)."""


class UsageCounter:
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


@dataclass(frozen=True)
class SessionRules:
    """What a session keeps to.

    `verdict` tells what the connector file says about an answer; `on_wait` is told of every wait,
    in words; `sleep` waits, in seconds. Without one a wait
    ends as soon as nobody wants the answer any more.
    """

    origins: OriginPolicy
    budget: RateLimiter
    meter: UsageCounter
    timeout_seconds: float = 60.0
    max_wait_seconds: float = 300.0
    verdict: Callable[[requests.Response], ActionName | None] = lambda _: None
    on_wait: Callable[[str], None] = lambda _: None
    sleep: Sleep | None = None
    redactor: Redactor = Redactor()  # noqa: RUF009 - an empty one knows no secrets
