"""Dependent resources: below which parents to ask, once each, and what a failing call does.

`http.on_child_error` lets a dependent go on without some of its parents. Those are owed: they are
kept in dlt's state and asked for again in the next run, even if the parent does not come again.
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
    """A parent to ask below."""

    parent: Record
    values: tuple[Any, ...] = ()
    """What the call takes from it."""
    key: str = ""
    """Stands for all that is taken from it: it is asked for once in a run."""
    error: IngestError | None = None
    """It lacks what the call needs."""


class ParentTracker:
    """The parents of one dependent resource during one run."""

    def __init__(
        self,
        plan: ResourcePlan,
        cursors: FamilyCursors,
        rule: Literal["fail"] | SkipChildErrors,
        tally: ResourceCounts,
        redactor: Redactor,
    ) -> None:
        self._plan = plan
        self._cursors = cursors
        self._may_skip = rule.skip_up_to if isinstance(rule, SkipChildErrors) else 0
        self._tally = tally
        self._redactor = redactor
        self._lock = threading.Lock()
        self._asked: set[str] = set()
        self._foreseen: set[str] = set()
        self._owed: list[Record] | None = None

    @property
    def may_skip(self) -> bool:
        """Whether some parents may fail."""
        return self._may_skip > 0

    def queue(self, parents: Iterable[Any]) -> "ParentQueue":
        """The parents of a page to ask below; those owed from the last run come first.

        Call it in the thread that extracts.
        """
        return ParentQueue(self, self._candidates([*self._take_owed(), *parents]))

    def is_requested(self, key: str) -> bool:
        """Whether a parent with this key was asked below in this run."""
        return key in self._asked

    def mark_requested(self, key: str) -> None:
        """A parent with this key is asked below now."""
        self._asked.add(key)

    def is_prefetched(self, key: str) -> bool:
        """Whether it is known that a parent with this key will be asked below, or was."""
        return key in self._foreseen or key in self._asked

    def mark_prefetched(self, key: str) -> None:
        """A parent with this key will be asked below."""
        self._foreseen.add(key)

    def _candidates(self, parents: Iterable[Any]) -> Iterator[PendingParent]:
        """All but those that all loaded dependents have had."""
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

    def skip(self, parent: Record, path: str, error: RequestError | ResponseError) -> None:
        """Go on without a parent, and ask for it in the next run; raises `error` if too many."""
        if self._tally.add_skipped(path) > self._may_skip:
            raise error
        if self._plan.loaded and self._owed is not None:
            with self._lock:
                self._owed.append(self._needed_fields(parent))

    def _take_owed(self) -> list[Record]:
        """The parents owed from before, at the first call in a run; none at any other."""
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
        """What of a parent's record its calls need."""
        fields = {param.field for param in self._plan.endpoint.parent_fields.values()}
        tops = {field.split(".")[0].split("[")[0] for field in fields}
        tops.update(self._plan.resource.include_from_parent)
        if all(top in parent for top in tops):
            return {top: parent[top] for top in tops}
        return dict(parent)


class ParentQueue:
    """The parents of one page, in order, each asked below once in a run."""

    def __init__(self, children: ParentTracker, candidates: Iterator[PendingParent]) -> None:
        self._children = children
        self._candidates = candidates
        self._looked_at: deque[PendingParent] = deque()

    def take(self) -> PendingParent | None:
        """The next one; None after the last. Raises `IngestError` if the parent can't be used."""
        while (candidate := self._next()) is not None:
            if candidate.error is not None:
                raise candidate.error
            if not self._children.is_requested(candidate.key):
                self._children.mark_requested(candidate.key)
                return candidate
        return None

    def upcoming(self, most: int) -> Iterator[PendingParent]:
        """The next ones, up to so many and as far as they can be used; some may be asked for before."""
        while len(self._looked_at) < most and (found := next(self._candidates, None)):
            self._looked_at.append(found)
        for candidate in list(self._looked_at)[:most]:
            if candidate.error is not None:
                return
            yield candidate

    def _next(self) -> PendingParent | None:
        return self._looked_at.popleft() if self._looked_at else next(self._candidates, None)
