"""What a resource counts during a run, from any thread."""

import threading

from restsource_dagster.engine.http.session_rules import UsageCounter

__all__ = ["ResourceCounts"]


class ResourceCounts:
    """Requests, rows received and promised, and what was left out."""

    def __init__(self) -> None:
        self.meter = UsageCounter()
        self._lock = threading.Lock()
        self.received = 0
        self.promised: int | None = None
        self.nulls = 0
        self.skipped: tuple[str, ...] = ()

    def start_again(self) -> None:
        """Forget what was received: it will be counted again. Requests stay counted."""
        with self._lock:
            self.received, self.promised, self.nulls, self.skipped = 0, None, 0, ()

    def count(self, *, rows: int, nulls: int) -> None:
        """A page with so many items, nulls among them."""
        with self._lock:
            self.received += rows
            self.nulls += nulls

    def add_stated_total(self, total: int) -> None:
        """The total that the API names for one call, when the call has ended."""
        with self._lock:
            self.promised = (self.promised or 0) + total

    def skip(self, path: str) -> int:
        """A call that failed and is skipped; returns how many there are now."""
        with self._lock:
            self.skipped = (*self.skipped, path)
            return len(self.skipped)
