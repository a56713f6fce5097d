"""How many requests may be under way, and how many may start in a second, over a whole run."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from restsource_dagster.engine.errors import RateLimitedError

__all__ = ["Budget"]

# A request started just inside a second may arrive just outside it. The window is a little
# longer than a second, so that the server never counts more than it allows.
_WINDOW_SECONDS = 1.1


class Budget:
    """A run's requests: at most `max_concurrency` at once, `requests_per_second` in any second.

    Shared by all threads and resources of a run. `pause` holds all of them back while the API asks
    for it.
    """

    def __init__(
        self,
        *,
        requests_per_second: float | None = None,
        max_concurrency: int = 8,
        max_wait_seconds: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = threading.BoundedSemaphore(max_concurrency)
        self._max_wait_seconds = max_wait_seconds
        self._clock = clock
        self._changed = threading.Condition()
        self._resumes_at = 0.0
        rate = requests_per_second or 0.0
        per_window = max(1, int(rate)) if rate else 0
        self._window_seconds = _WINDOW_SECONDS * (max(1.0, 1.0 / rate) if rate else 0.0)
        self._starts: deque[float] = deque(maxlen=per_window)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Have one of the places; waits for it, for the rate and for a pause to end.

        Raises `RateLimitedError` if a pause would outlast `max_wait_seconds`.
        """
        with self._places:
            self._wait_for_turn()
            yield

    def pause(self, seconds: float) -> None:
        """Let no request start for so long."""
        with self._changed:
            self._resumes_at = max(self._resumes_at, self._clock() + seconds)

    def _wait_for_turn(self) -> None:
        with self._changed:
            while (wait := self._seconds_to_wait()) > 0:
                self._changed.wait(wait)
            if self._starts.maxlen:
                self._starts.append(self._clock())

    def _seconds_to_wait(self) -> float:
        now = self._clock()
        paused = self._resumes_at - now
        if paused > self._max_wait_seconds:
            raise RateLimitedError(paused, self._max_wait_seconds)
        full = bool(self._starts.maxlen) and len(self._starts) == self._starts.maxlen
        crowded = self._starts[0] + self._window_seconds - now if full else 0.0
        return max(paused, crowded)
