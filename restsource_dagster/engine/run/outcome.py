"""Counts pages and rows while they arrive and tells the observer.

What a run tells: one outcome per resource, and progress while it goes.
"""

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

__all__ = [
    "CursorProgress",
    "DltLoad",
    "Failure",
    "LoadedColumn",
    "Observer",
    "Outcome",
    "Progress",
    "SilentObserver",
]


@dataclass(frozen=True)
class CursorProgress:
    """Where an incremental cursor stood before a run and where it stands after it.

    `lag_seconds` is how far `last_value` lies behind the present, or None where the cursor is no
    time (an id, say).
    """

    cursor_path: str
    start_value: Any
    last_value: Any
    lag_seconds: float | None


@dataclass(frozen=True)
class LoadedColumn:
    """A column of a loaded table, in dlt's words (`data_type` is dlt's type name)."""

    name: str
    data_type: str
    nullable: bool
    hints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why a resource was not loaded.

    `resource` is the member of the family that failed: a family fails together, so it may be
    another one than the outcome's.
    """

    resource: str
    step: str
    message: str


@dataclass(frozen=True)
class DltLoad:
    """dlt's own account of a load, for those who integrate dlt with something else.

    Read it before the next outcome is asked for: the pipeline goes on.
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
    received: int = 0
    """Items that the API sent."""
    promised: int | None = None
    """Items that the API said there are, where it names a total."""
    skipped: tuple[str, ...] = ()
    """Paths of parents' calls that failed and were skipped (`http.on_child_error`)."""
    rows_loaded: int = 0
    row_count: int | None = None
    """Rows in the table after the load; None if the destination can't say."""
    dataset: str = ""
    destination: str = ""
    cursor: CursorProgress | None = None
    cursor_set: tuple[Any, Any] | None = None
    """The stored cursor and the value that a person put in its place before the run."""
    window: tuple[Any, Any] | None = None
    """The ends of the window of history that was loaded; None for a live run."""
    columns: tuple[LoadedColumn, ...] = ()
    written: str = ""
    """How its rows were written: "columns", or "rows" and why."""
    nested_tables: Mapping[str, int] = field(default_factory=dict)
    """Rows loaded into each nested table."""
    schema_changes: tuple[str, ...] = ()
    """What this load changed about its tables, in sentences."""
    failure: Failure | None = None
    load: DltLoad | None = field(default=None, repr=False, compare=False)

    @property
    def failed(self) -> bool:
        """Whether nothing of this resource was loaded because of an error."""
        return self.failure is not None


class Observer(Protocol):
    """Is told of a run's progress, from any thread, often: it must be quick and calm."""

    def page(self, resource: str, pages: int, rows: int, rows_per_second: float) -> None:
        """A page arrived; `pages` and `rows` are totals of this run."""

    def phase(self, family: str, phase: str) -> None:
        """A family (by its root's name) enters a phase: extract, normalize or load."""

    def message(self, text: str) -> None:
        """Something a person wants to know: a wait, a retry, a decision."""


class SilentObserver:
    """An observer that tells nobody."""

    def page(self, resource: str, pages: int, rows: int, rows_per_second: float) -> None:
        """Ignore it."""

    def phase(self, family: str, phase: str) -> None:
        """Ignore it."""

    def message(self, text: str) -> None:
        """Ignore it."""


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
