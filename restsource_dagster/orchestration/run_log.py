"""Progress in the run's log, at a calm pace."""

import time
from dataclasses import dataclass, field
from typing import Any

from restsource_dagster.engine.outcome import Observer

__all__ = ["RunLog"]

_CALM_SECONDS = 5.0


@dataclass
class RunLog:
    """An observer that writes to a Dagster run's log and passes everything on to `also`."""

    log: Any
    also: Observer | None
    _told: dict[str, float] = field(default_factory=dict)

    def page(self, resource: str, pages: int, rows: int, rows_per_second: float) -> None:
        """Log at most one line per resource in five seconds."""
        if self.also:
            self.also.page(resource, pages, rows, rows_per_second)
        now = time.monotonic()
        if now - self._told.setdefault(resource, now) >= _CALM_SECONDS:
            self._told[resource] = now
            self.log.info(f"{resource}: {pages} pages, {rows} rows, {rows_per_second:.0f} rows/s")

    def phase(self, family: str, phase: str) -> None:
        """Log the phases of a family at debug level."""
        if self.also:
            self.also.phase(family, phase)
        self.log.debug(f"{family}: {phase}")

    def message(self, text: str) -> None:
        """Log what a person wants to know."""
        if self.also:
            self.also.message(text)
        self.log.warning(text)
