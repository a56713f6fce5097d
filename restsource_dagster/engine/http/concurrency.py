"""How many requests of a run may be in progress at once: more while the API keeps up, fewer when it does not."""

from collections import deque

from restsource_dagster.connector.models.http_settings import USUAL_CONCURRENCY

__all__ = ["ConcurrencyWindow"]

_REFUSALS = frozenset({429, 503})
_RECENT_RESPONSES = 8
_SLOWER_FACTOR = 2.0
_SLOWER_SECONDS = 0.05
"""Added to the factor: a response that takes a millisecond easily takes three."""


class ConcurrencyWindow:
    """The number of requests that may be in progress at once, from 1 to `most`. Not thread-safe.

    It follows TCP's congestion window (RFC 5681): it begins at `USUAL_CONCURRENCY`, doubles with each round of
    responses until the first sign of strain, and from then on grows by one for each round. A 429 or 503
    halves it, and so do responses that become slow. Slow responses only take back growth beyond `USUAL_CONCURRENCY`,
    because deep pages are slow without any strain.
    """

    def __init__(self, most: int) -> None:
        self._usual = min(USUAL_CONCURRENCY, most)
        self._most = most
        self._is_doubling = True
        self._responses = 0
        self._fastest: dict[str, float] = {}
        self._recent: dict[str, deque[float]] = {}
        self.size = self._usual
        """How many requests may be in progress at once."""
        self.halvings = 0
        """How often it was halved. A request notes it when it is sent."""

    def responded(
        self, sender: str, status: int, seconds: float, *, halvings: int, in_progress: int
    ) -> None:
        """Take a response into account.

        `sender` names the resource that was requested, whose responses are compared with one another.
        `halvings` is the number when the request was sent, `in_progress` the requests at its end, this one
        included.
        """
        # Requests that were sent before the window was halved say nothing about the smaller one: eight
        # that are refused together halve it once.
        if halvings != self.halvings:
            return
        if status in _REFUSALS:
            # what was refused beyond the usual number is not tried again in this run
            self._most = min(self._most, max(self._usual, self.size - 1))
            self._halve(least=1)
        elif self._has_become_slow(sender, seconds) and self.size > self._usual:
            self._halve(least=self._usual)
        # a window that isn't filled says nothing about a larger one
        elif in_progress >= self.size:
            self._grow()

    def _grow(self) -> None:
        self._responses += 1
        # one more for each response doubles the size in a round; one for each round adds one
        if (self._is_doubling or self._responses >= self.size) and self.size < self._most:
            self.size += 1
            self._responses = 0

    def _halve(self, *, least: int) -> None:
        self.size = max(least, self.size // 2)
        self._is_doubling = False
        self._responses = 0
        # responses that were slow with the larger window would halve the smaller one again
        self._recent.clear()
        self.halvings += 1

    def _has_become_slow(self, sender: str, seconds: float) -> bool:
        """Return True if even the fastest of the sender's last responses is slow, compared with all of them."""
        # the fastest, not the mean: some responses are slow by themselves, and strain slows all of
        # them
        fastest = self._fastest[sender] = min(seconds, self._fastest.get(sender, seconds))
        recent = self._recent.setdefault(sender, deque(maxlen=_RECENT_RESPONSES))
        recent.append(seconds)
        slow = fastest * _SLOWER_FACTOR + _SLOWER_SECONDS
        return len(recent) == _RECENT_RESPONSES and min(recent) > slow
