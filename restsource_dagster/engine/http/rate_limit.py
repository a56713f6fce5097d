"""How many requests may be under way, and how many may start in a second, over a whole run."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from restsource_dagster.engine.http.cancellation import raise_if_cancelled

__all__ = ["RateLimiter"]

_TRANSIT_SECONDS = 0.5
"""A request that is not answered yet has arrived after so long, we assume."""


@dataclass
class _RequestSlot:
    """A request, and when it has reached the server at the latest."""

    arrived_by: float


class RateLimiter:
    """A run's requests: at most `max_concurrency` at once, `requests_per_second` in any second.

    Shared by all threads and resources of a run. What counts is the second in which a request
    reaches the server. We know only that it is before the answer, so a request takes up its part
    of the budget until a second after its answer, or a second and a half after its start. `pause`
    holds all requests back while the API asks for it. A request that is dropped while it waits raises
    `Abandoned` (see `leash`), at the latest when it is woken.
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
        self._most = max(1, int(rate)) if rate else 0
        self._window_seconds = max(1.0, 1.0 / rate) if rate else 0.0
        self._recent_slots: list[_RequestSlot] = []

    @contextmanager
    def place(self) -> Iterator[None]:
        """Have one of the places; waits for it, for the rate and for a pause to end."""
        with self._concurrency:
            turn = self._take_slot()
            try:
                raise_if_cancelled()
                yield
            finally:
                with self._changed:
                    turn.arrived_by = min(turn.arrived_by, self._clock())
                    self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Let no request start for so long."""
        with self._changed:
            self._resumes_at = max(self._resumes_at, self._clock() + seconds)
            self._was_paused = True

    @property
    def is_limited(self) -> bool:
        """Whether the file limits the rate, or the API has asked for a pause: ask for nothing idly."""
        return bool(self._most) or self._was_paused

    def wake(self) -> None:
        """Have those who wait look whether they are still wanted."""
        with self._changed:
            self._changed.notify_all()

    def _take_slot(self) -> _RequestSlot:
        with self._changed:
            while (wait := self._seconds_to_wait()) > 0:
                raise_if_cancelled()
                self._wait(self._changed, wait)
            turn = _RequestSlot(self._clock() + _TRANSIT_SECONDS)
            if self._most:
                self._recent_slots.append(turn)
            return turn

    def _seconds_to_wait(self) -> float:
        now = self._clock()
        window = self._window_seconds
        self._recent_slots = [turn for turn in self._recent_slots if turn.arrived_by + window > now]
        crowded = bool(self._most) and len(self._recent_slots) >= self._most
        free_at = min(turn.arrived_by for turn in self._recent_slots) + window if crowded else now
        return max(self._resumes_at, free_at) - now
