"""The progress of a run: messages and phases for an observer, and counts per resource."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

__all__ = [
    "Observer",
    "PageReporter",
    "Progress",
    "ResourceCounts",
    "SentExchange",
    "SilentObserver",
    "Usage",
    "UsageCounter",
]


class Observer(Protocol):
    """Receives the progress of a run. Called often and from any thread: return fast, don't raise."""

    def page(self, resource: str, pages: int, rows: int, rows_per_second: float) -> None:
        """Handle a page that arrived. `pages` and `rows` are the resource's totals in this run."""

    def phase(self, family: str, phase: str) -> None:
        """Handle a family's new phase: extract, normalize or load. `family` is its root's name."""

    def checkpoint(self, resource: str, rows: int) -> None:
        """Handle a checkpoint: so many rows of this run are loaded, and reading goes on."""

    def message(self, text: str) -> None:
        """Handle a sentence for the person who watches: a wait, a retry, a decision."""


class SilentObserver:
    """An observer that ignores everything."""

    def page(self, resource: str, pages: int, rows: int, rows_per_second: float) -> None:
        """Do nothing."""

    def phase(self, family: str, phase: str) -> None:
        """Do nothing."""

    def checkpoint(self, resource: str, rows: int) -> None:
        """Do nothing."""

    def message(self, text: str) -> None:
        """Do nothing."""


class Progress:
    """Reports one run to an observer, from any thread, and redacts the secrets in messages."""

    def __init__(self, observer: Observer, redact: Callable[[str], str]) -> None:
        self._observer = observer
        self._redact = redact

    def page(self, resource: str, pages: int, rows: int, rows_per_second: float) -> None:
        """Report a page. `pages` and `rows` are the resource's totals in this run."""
        self._observer.page(resource, pages, rows, rows_per_second)

    def phase(self, family: str, phase: str) -> None:
        """Report a family's new phase."""
        self._observer.phase(family, phase)

    def checkpoint(self, resource: str, rows: int) -> None:
        """Report a checkpoint of a resource, with the rows of this run that are loaded."""
        self._observer.checkpoint(resource, rows)

    def message(self, text: str) -> None:
        """Report a sentence, with secrets redacted."""
        self._observer.message(self._redact(text))


@dataclass(frozen=True)
class Usage:
    """The requests of a resource: how many were sent, how many of these were retries, bytes read."""

    requests: int = 0
    retries: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class SentExchange:
    """A request and what became of it."""

    request: str
    """The method and the URL. It may hold secrets until it is redacted."""
    answer: str
    """The status, or `no answer`."""
    seconds: float


_LAST_EXCHANGES = 10


class UsageCounter:
    """Counts the requests of a resource, and keeps the last ones. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: deque[SentExchange] = deque(maxlen=_LAST_EXCHANGES)
        self.usage = Usage()
        """The counts so far."""

    def add(self, *, requests: int = 0, retries: int = 0, bytes_read: int = 0) -> None:
        """Add to the counts."""
        with self._lock:
            usage = self.usage
            # replaced, never changed: others read it without the lock
            self.usage = Usage(
                usage.requests + requests, usage.retries + retries, usage.bytes + bytes_read
            )

    def add_exchange(self, exchange: SentExchange) -> None:
        """Keep an exchange as the last one."""
        with self._lock:
            self._last.append(exchange)

    def last_exchanges(self, redact: Callable[[str], str]) -> tuple[SentExchange, ...]:
        """Return the last ten exchanges, with secrets redacted."""
        with self._lock:
            last = tuple(self._last)
        return tuple(replace(one, request=redact(one.request)) for one in last)


class ResourceCounts:
    """Counts one resource's requests, records, stated total and skipped parents. Thread-safe."""

    def __init__(self) -> None:
        self.usage_counter = UsageCounter()
        self._lock = threading.Lock()
        self._started: float | None = None
        self.pages = 0
        self.received = 0
        """Items received, nulls included."""
        self.stated_total: int | None = None
        """The sum of the totals that the API stated; None if it stated none."""
        self.skipped: tuple[str, ...] = ()
        """The paths of the calls that failed and were skipped."""
        self.gone: tuple[str, ...] = ()
        """The paths of the calls whose parent is gone."""

    def restart(self) -> None:
        """Reset all counts but the requests: the same pages are about to be read again."""
        with self._lock:
            self._started, self.pages, self.received = None, 0, 0
            self.stated_total, self.skipped, self.gone = None, (), ()

    def add_page(self, rows: int, pages: int = 1) -> tuple[int, int, float]:
        """Add a page of `rows` items; return all pages, all items, and the items per second.

        Pass 0 `pages` for rows of a page that more will follow.
        """
        now = time.monotonic()
        with self._lock:
            # from the first page on: the rate is that of the pages, without the login before them
            self._started = now if self._started is None else self._started
            self.pages += pages
            self.received += rows
            seconds = now - self._started
            # the clock has not moved at the first page
            rate = self.received / seconds if seconds > 0 else float(self.received)
            return self.pages, self.received, rate

    def add_stated_total(self, total: int) -> None:
        """Add the total that the API stated for a call that has ended."""
        with self._lock:
            self.stated_total = (self.stated_total or 0) + total

    def add_gone(self, path: str) -> None:
        """Add a call whose parent is gone."""
        with self._lock:
            self.gone = (*self.gone, path)

    def add_skipped(self, path: str) -> int:
        """Add a skipped call; return how many there are now."""
        with self._lock:
            self.skipped = (*self.skipped, path)
            return len(self.skipped)


@dataclass(frozen=True)
class PageReporter:
    """Counts what one resource receives, and reports what is missing. Thread-safe."""

    resource: str
    counts: ResourceCounts
    progress: Progress

    def on_page(self, rows: int, nulls: int, *, ends_page: bool = True) -> None:
        """Count a page, or a part of it before its last one. `nulls` of its `rows` items are null."""
        # outside the lock of the counts: an observer that waits must not stop the other threads
        self.progress.page(self.resource, *self.counts.add_page(rows, int(ends_page)))
        if nulls:
            self.progress.message(f"{self.resource}: left out {nulls} null items of a page")

    def on_call_end(self, stated_total: int | None, received: int) -> None:
        """Report the rows that are missing if fewer arrived than the API stated."""
        if stated_total is None:
            return
        self.counts.add_stated_total(stated_total)
        if received < stated_total:
            self.progress.message(
                f"{self.resource}: the API named a total of {stated_total}, and {received} arrived; "
                f"{stated_total - received} are missing"
            )

    def on_message(self, text: str) -> None:
        """Report a sentence about the resource."""
        self.progress.message(f"{self.resource}: {text}")
