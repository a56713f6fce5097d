"""Counts pages and rows while they arrive and tells the observer."""

import threading
import time
from collections import Counter
from collections.abc import Callable

from restsource_dagster.engine.outcome import Observer

__all__ = ["Progress"]


class Progress:
    """The pages and rows of one run, per resource. Safe to call from several threads.

    What it tells in words passes `redact`, so that no secret gets out here.
    """

    def __init__(self, observer: Observer, redact: Callable[[str], str]) -> None:
        self._observer = observer
        self._redact = redact
        self._lock = threading.Lock()
        self._started: dict[str, float] = {}
        self._pages: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()

    def page(self, resource: str, rows: int) -> None:
        """A page with so many rows arrived."""
        now = time.monotonic()
        with self._lock:
            started = self._started.setdefault(resource, now)
            self._pages[resource] += 1
            self._rows[resource] += rows
            pages, total = self._pages[resource], self._rows[resource]
        rate = total / (now - started) if now > started else float(total)
        self._observer.page(resource, pages, total, rate)

    def start_again(self, resource: str) -> None:
        """Its pages will arrive again."""
        with self._lock:
            self._started.pop(resource, None)
            self._pages[resource] = self._rows[resource] = 0

    def phase(self, family: str, phase: str) -> None:
        """A family enters a phase."""
        self._observer.phase(family, phase)

    def message(self, text: str) -> None:
        """Something a person wants to know."""
        self._observer.message(self._redact(text))
