"""Count what a resource requests and receives in a run."""

import threading
from dataclasses import dataclass

__all__ = ["ResourceCounts", "Usage", "UsageCounter"]


@dataclass(frozen=True)
class Usage:
    """The requests of a resource: how many were sent, how many of these were retries, bytes read."""

    requests: int = 0
    retries: int = 0
    bytes: int = 0


class UsageCounter:
    """Counts the requests of a resource. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._usage = Usage()

    def add(self, *, requests: int = 0, retries: int = 0, bytes_read: int = 0) -> None:
        """Add to the counts."""
        with self._lock:
            usage = self._usage
            # replaced, never changed: `usage` hands it out without a lock
            self._usage = Usage(
                usage.requests + requests, usage.retries + retries, usage.bytes + bytes_read
            )

    @property
    def usage(self) -> Usage:
        """The counts so far."""
        return self._usage


class ResourceCounts:
    """Counts one resource's requests, records, stated total and skipped parents. Thread-safe."""

    def __init__(self) -> None:
        self.usage_counter = UsageCounter()
        self._lock = threading.Lock()
        self.received = 0
        """Items received, nulls included."""
        self.stated_total: int | None = None
        """The sum of the totals that the API stated; None if it stated none."""
        self.nulls = 0
        self.skipped: tuple[str, ...] = ()
        """The paths of the calls that failed and were skipped."""

    def restart(self) -> None:
        """Reset all counts but the requests: the same pages are about to be read again."""
        with self._lock:
            self.received, self.stated_total, self.nulls, self.skipped = 0, None, 0, ()

    def add_page(self, *, rows: int, nulls: int) -> None:
        """Add a page of `rows` items, `nulls` of which are null."""
        with self._lock:
            self.received += rows
            self.nulls += nulls

    def add_stated_total(self, total: int) -> None:
        """Add the total that the API stated for a call that has ended."""
        with self._lock:
            self.stated_total = (self.stated_total or 0) + total

    def add_skipped(self, path: str) -> int:
        """Add a skipped call; return how many there are now."""
        with self._lock:
            self.skipped = (*self.skipped, path)
            return len(self.skipped)
