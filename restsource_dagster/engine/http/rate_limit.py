"""Limit how many requests of a run are under way at once and how many start in a second."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from restsource_dagster.engine.http.cancellation import raise_if_cancelled

__all__ = ["RateLimiter"]

_TRANSIT_SECONDS = 0.5
"""The longest time that a request is assumed to take to reach the server."""


@dataclass
class _RequestSlot:
    """One request within the rate limit."""

    arrived_by: float
    """When the request has reached the server at the latest, on the limiter's clock."""


class RateLimiter:
    """Limits a run's requests: `max_concurrency` at once, `requests_per_second` in any second.

    All threads and resources of a run share one limiter. An API counts the second in which a request
    reaches it. We only know that this is before the response, so a request counts until one second
    after its response, or one and a half seconds after its start. `pause` holds all requests back
    when the API asks for it. A waiting request that is cancelled raises `RequestCancelled` when it
    next wakes up.
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
        """Hold one of the slots; wait for it, for the rate and for the end of a pause."""
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
