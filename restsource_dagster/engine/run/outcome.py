"""The results of a run: its progress, for an observer, and at the end one outcome per resource."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from dlt import Pipeline
from dlt.common.pipeline import LoadInfo
from dlt.extract import DltResource

from restsource_dagster.engine.http.usage import Usage
from restsource_dagster.engine.incremental.cursor_state import CursorProgress

__all__ = [
    "DltLoad",
    "Failure",
    "LoadedColumn",
    "Observer",
    "Outcome",
    "Progress",
    "SilentObserver",
]


@dataclass(frozen=True)
class LoadedColumn:
    """A column of a loaded table. `data_type` is dlt's name of the type."""

    name: str
    data_type: str
    nullable: bool
    hints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why a resource was not loaded.

    `resource` is the one that failed. A family fails together, so it may be another than the
    outcome's. `step` is dlt's: prepare, extract, normalize or load.
    """

    resource: str
    step: str
    message: str


@dataclass(frozen=True)
class DltLoad:
    """dlt's objects for a load, for an integration of dlt with something else.

    Read them before you ask for the next outcome: the next family uses the same pipeline.
    """

    pipeline: Pipeline
    resource: DltResource
    info: LoadInfo


@dataclass(frozen=True)
class Outcome:
    """The result of one resource in one run."""

    resource: str
    table: str
    seconds: float
    usage: Usage = field(default_factory=Usage)
    records_received: int = 0
    """The records that the API sent, before the cursor filtered them."""
    stated_total: int | None = None
    """The number of records that the API says there are; None if it states no total."""
    skipped: tuple[str, ...] = ()
    """The paths of calls below a parent that failed and were skipped (`http.on_child_error`)."""
    rows_loaded: int = 0
    row_count: int | None = None
    """The rows in the table after the load; None if the destination can't count them."""
    dataset: str = ""
    destination: str = ""
    cursor: CursorProgress | None = None
    cursor_set: tuple[Any, Any] | None = None
    """The stored cursor and the value that an override replaced it with before the run."""
    window: tuple[Any, Any] | None = None
    """The ends of the window that was loaded; None for a live run."""
    columns: tuple[LoadedColumn, ...] = ()
    write_mode: str = ""
    """How the rows were written: "columns", or "rows" and the reason."""
    nested_tables: Mapping[str, int] = field(default_factory=dict)
    """The rows loaded into each nested table, by its name."""
    schema_changes: tuple[str, ...] = ()
    """The changes of its tables' schemas by this load, in sentences."""
    failure: Failure | None = None
    # live objects: their text would fill the log, and no two compare equal
    load: DltLoad | None = field(default=None, repr=False, compare=False)

    @property
    def failed(self) -> bool:
        """True if an error kept this resource from being loaded; then none of its rows is."""
        return self.failure is not None


class Observer(Protocol):
    """Receives the progress of a run. Called often and from any thread: return fast, don't raise."""

    def page(self, resource: str, pages: int, rows: int, rows_per_second: float) -> None:
        """Handle a page that arrived. `pages` and `rows` are the resource's totals in this run."""

    def phase(self, family: str, phase: str) -> None:
        """Handle a family's new phase: extract, normalize or load. `family` is its root's name."""

    def message(self, text: str) -> None:
        """Handle a sentence for the person who watches: a wait, a retry, a decision."""


class SilentObserver:
    """An observer that ignores everything."""

    def page(self, resource: str, pages: int, rows: int, rows_per_second: float) -> None:
        """Do nothing."""

    def phase(self, family: str, phase: str) -> None:
        """Do nothing."""

    def message(self, text: str) -> None:
        """Do nothing."""


class Progress:
    """Counts the pages and rows of one run, per resource, and reports to an observer. Thread-safe.

    Messages pass through `redact`, so that they have no secrets.
    """

    def __init__(self, observer: Observer, redact: Callable[[str], str]) -> None:
        self._observer = observer
        self._redact = redact
        self._lock = threading.Lock()
        self._started: dict[str, float] = {}
        self._pages: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()

    def page(self, resource: str, rows: int) -> None:
        """Count a page with so many rows."""
        now = time.monotonic()
        with self._lock:
            # from the first page on: the rate is that of the pages, without the login before them
            started = self._started.setdefault(resource, now)
            self._pages[resource] += 1
            self._rows[resource] += rows
            pages, total = self._pages[resource], self._rows[resource]
        # the clock has not moved at the first page
        rate = total / (now - started) if now > started else float(total)
        # outside the lock: an observer that waits must not stop the other threads
        self._observer.page(resource, pages, total, rate)

    def start_again(self, resource: str) -> None:
        """Set a resource's counts to zero: its pages arrive again."""
        with self._lock:
            self._started.pop(resource, None)
            self._pages[resource] = self._rows[resource] = 0

    def phase(self, family: str, phase: str) -> None:
        """Report a family's new phase."""
        self._observer.phase(family, phase)

    def message(self, text: str) -> None:
        """Report a sentence, with secrets redacted."""
        self._observer.message(self._redact(text))
