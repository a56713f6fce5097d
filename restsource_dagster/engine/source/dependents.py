"""The parents of a dependent resource: each is requested once in a run, and may be skipped.

`http.on_child_error` lets a dependent skip parents whose call fails. Skipped parents are kept in
dlt's state and requested again in the next run, even if the parent itself does not come again.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from restsource_dagster.connector.models.connector_file import SkipChildErrors
from restsource_dagster.engine.errors import IngestError, RequestError, ResponseError
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.http.usage import ResourceCounts
from restsource_dagster.engine.incremental.family_cursors import FamilyCursors, parent_key
from restsource_dagster.engine.incremental.row_filter import SeenRecord
from restsource_dagster.engine.source.calls import values_from_parent
from restsource_dagster.engine.source.resource_plan import ResourcePlan

__all__ = ["ParentQueue", "ParentTracker", "PendingParent"]

Record = dict[str, Any]


@dataclass(frozen=True)
class PendingParent:
    """A parent whose children are still to be requested."""

    parent: Record
    values: tuple[Any, ...] = ()
    """The values that the call takes from it."""
    key: str = ""
    """Identifies all that is taken from it. Each key is requested once in a run."""
    error: IngestError | None = None
    """Set if the parent lacks a value that the call needs."""


class ParentTracker:
    """The parents of one dependent resource during one run."""

    def __init__(
        self,
        plan: ResourcePlan,
        cursors: FamilyCursors,
        on_child_error: Literal["fail"] | SkipChildErrors,
        counts: ResourceCounts,
        redactor: Redactor,
    ) -> None:
        self._plan = plan
        self._cursors = cursors
        self._max_skipped = (
            on_child_error.skip_up_to if isinstance(on_child_error, SkipChildErrors) else 0
        )
        self._counts = counts
        self._redactor = redactor
        self._lock = threading.Lock()
        self._requested: set[str] = set()
        self._prefetched: set[str] = set()
        self._owed: list[Record] | None = None

    @property
    def may_skip(self) -> bool:
        """True if some parents may fail."""
        return self._max_skipped > 0

    def queue(self, parents: Iterable[Any]) -> "ParentQueue":
        """Return the parents of a page as a queue; those skipped in the last run come first.

        Call it in the thread that extracts: it reads dlt's state.
        """
        return ParentQueue(self, self._candidates([*self._take_owed(), *parents]))

    def is_requested(self, key: str) -> bool:
        """True if a parent with this key was requested in this run."""
        return key in self._requested

    def mark_requested(self, key: str) -> None:
        """Note that a parent with this key is requested."""
        self._requested.add(key)

    def is_prefetched(self, key: str) -> bool:
        """True if a parent with this key was prefetched or requested."""
        return key in self._prefetched or key in self._requested

    def mark_prefetched(self, key: str) -> None:
        """Note that a parent with this key is prefetched."""
        self._prefetched.add(key)

    def _candidates(self, parents: Iterable[Any]) -> Iterator[PendingParent]:
        """Yield the parents that at least one loaded dependent has not seen."""
        readers = self._cursors.loaded_below(self._plan.resource.name)
        for parent in parents:
            if isinstance(parent, SeenRecord) and readers <= parent.seen_by:
                continue
            try:
                values = values_from_parent(self._plan, parent, self._redactor)
            except IngestError as error:
                yield PendingParent(parent, error=error)
            else:
                key = parent_key([values, self._included(parent)])
                yield PendingParent(parent, values, key)

    def skip_parent(self, parent: Record, path: str, error: RequestError | ResponseError) -> None:
        """Skip a parent and keep it for the next run. Raises `error` if too many are skipped."""
        if self._counts.add_skipped(path) > self._max_skipped:
            raise error
        if self._plan.loaded and self._owed is not None:
            with self._lock:
                self._owed.append(self._needed_fields(parent))

    def _take_owed(self) -> list[Record]:
        """Return the parents skipped in the last run, at the first call in a run only."""
        if self._owed is not None:
            return []
        if not self._plan.loaded:
            self._owed = []
            return []
        state = self._cursors.state_of(self._plan.resource.name)
        before: list[Record] = state.get("owed", [])
        self._owed = state["owed"] = []
        return before

    def _included(self, parent: Mapping[str, Any]) -> list[Any]:
        return [parent.get(name) for name in self._plan.resource.include_from_parent]

    def _needed_fields(self, parent: Mapping[str, Any]) -> Record:
        """Return the fields of a parent's record that its calls need."""
        fields = {param.field for param in self._plan.endpoint.parent_fields.values()}
        tops = {field.split(".")[0].split("[")[0] for field in fields}
        tops.update(self._plan.resource.include_from_parent)
        if all(top in parent for top in tops):
            return {top: parent[top] for top in tops}
        return dict(parent)


class ParentQueue:
    """The parents of one page, in order, each once in a run."""

    def __init__(self, tracker: ParentTracker, candidates: Iterator[PendingParent]) -> None:
        self._tracker = tracker
        self._candidates = candidates
        self._buffer: deque[PendingParent] = deque()

    def next_parent(self) -> PendingParent | None:
        """Return the next parent; None after the last. Raises `IngestError` for an unusable one."""
        while (candidate := self._next()) is not None:
            if candidate.error is not None:
                raise candidate.error
            if not self._tracker.is_requested(candidate.key):
                self._tracker.mark_requested(candidate.key)
                return candidate
        return None

    def upcoming(self, limit: int) -> Iterator[PendingParent]:
        """Yield the next parents up to an unusable one. Some may have been requested already."""
        while len(self._buffer) < limit and (found := next(self._candidates, None)):
            self._buffer.append(found)
        for candidate in list(self._buffer)[:limit]:
            if candidate.error is not None:
                return
            yield candidate

    def _next(self) -> PendingParent | None:
        return self._buffer.popleft() if self._buffer else next(self._candidates, None)
