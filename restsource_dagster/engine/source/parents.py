"""The parents of a dependent resource: which are requested, skipped, or left for a later load.

Each parent is requested once in a run, and may be skipped: `http.on_child_error` lets a dependent skip
parents whose call fails. Skipped parents are kept in dlt's state and requested again in the next run,
even if the API does not send the parent again.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Literal

from restsource_dagster.connector.models.endpoint import EACH_PREFIX, as_url_text
from restsource_dagster.connector.models.http_settings import SkipChildErrors
from restsource_dagster.engine.errors import (
    CallValueError,
    IngestError,
    RequestError,
    ResponseError,
)
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.incremental.cursor_state import parent_key
from restsource_dagster.engine.incremental.family_cursors import FamilyCursors
from restsource_dagster.engine.incremental.row_filter import SeenRecord
from restsource_dagster.engine.incremental.unfinished import (
    LeftParent,
    fingerprint_of,
)
from restsource_dagster.engine.plan.resource_plan import (
    EACH_FIELD,
    ResourcePlan,
    records_of_calls,
    values_from_parent,
)
from restsource_dagster.engine.run_progress import ResourceCounts
from restsource_dagster.engine.source.checkpoint import LoadPart

__all__ = [
    "MAX_GONE_PARENTS",
    "LastParents",
    "ParentQueue",
    "ParentTracker",
    "PendingParent",
    "SkippableError",
]

_MAX_SHIFTED_PARENTS = 2_000
"""How many of the last parents are known over the parts of a load if each comes once, unless pages shift."""
_MAX_STORED_PARENTS = 50_000
"""How many parents are known over the parts of a load if several records may be one parent."""
MAX_GONE_PARENTS = 10_000
"""How many parents are known to be gone. An older one is requested again, and is gone again."""

Record = dict[str, Any]
SkippableError = CallValueError | RequestError | ResponseError
"""The errors of a single call, which `http.on_child_error` may allow."""


@dataclass(frozen=True)
class PendingParent:
    """A parent whose children are still to be requested."""

    parent: Record
    values: tuple[Any, ...] = ()
    """The values of the parent that the call needs."""
    key: str = ""
    """Identifies the values that are taken from the parent. Each key is requested once in a run."""
    error: IngestError | None = None
    """Set if the parent lacks a value that the call needs."""
    batch: tuple["PendingParent", ...] = ()
    """The parents of a call that takes the values of several."""

    @property
    def parents(self) -> tuple["PendingParent", ...]:
        """The parents of the call, one or several."""
        return self.batch or (self,)


class LastParents(list[Any]):
    """An empty page of parents after the last one: what a batch has by then is asked for."""


class ParentTracker:
    """The parents of one dependent resource during one run."""

    def __init__(
        self,
        plan: ResourcePlan,
        cursors: FamilyCursors,
        on_child_error: Literal["fail"] | SkipChildErrors,
        counts: ResourceCounts,
        redactor: Redactor,
        part: LoadPart,
        *,
        has_own_key: bool = False,
        tombstones: Sequence[str] = (),
    ) -> None:
        """`has_own_key` is True if a call takes the primary key of its parent.

        `tombstones` are the fields that say, if they are true, that the row of the parent is removed.
        """
        self._plan = plan
        self._cursors = cursors
        self._part = part
        self._has_own_key = has_own_key
        self._tombstones = tombstones
        self._max_skipped = (
            on_child_error.skip_up_to if isinstance(on_child_error, SkipChildErrors) else 0
        )
        self._counts = counts
        self._redactor = redactor
        self._lock = threading.Lock()
        # in the order of the requests
        self._requested: dict[str, None] = {}
        self._prefetched: set[str] = set()
        self._owed: list[Record] | None = None
        self._gone: dict[str, Any] | None = None
        self.gone_fields: list[tuple[Any, ...]] = []
        """What rows have of each parent that is gone since this run (`ResourcePlan.columns_of_a_parent`)."""
        self.replaced_fields: list[tuple[Any, ...]] = []
        """The same of each parent whose rows are replaced by those of its call (`children`)."""
        self.replaced_by: list[tuple[Any, ...]] = []
        """The keys of the rows that came in their place."""
        self._skipped_before: set[str] = set()
        self._new_skipped = 0
        self._is_resumed = False
        # those of batches that are not full, by the other values of the call
        self._open_batches: dict[str, list[PendingParent]] = {}

    @property
    def may_skip(self) -> bool:
        """True if some parents may fail."""
        return self._max_skipped > 0

    @property
    def may_be_gone(self) -> bool:
        """True if the file says which answer means that a parent is gone."""
        return self._plan.endpoint.has_action("gone")

    def mark_gone(self, pending: PendingParent, path: str) -> None:
        """Note that a parent is gone for good; `path` is that of its call."""
        self._counts.add_gone(path)
        with self._lock:
            self.gone_fields.append(self._identity(pending))
            if self._gone is None:
                return
            self._gone[parent_key(pending.values)] = None
            while len(self._gone) > MAX_GONE_PARENTS:
                del self._gone[next(iter(self._gone))]

    @property
    def replaces(self) -> bool:
        """True if the rows of a call replace those that the table has of its parent."""
        return self._plan.loaded and self._plan.resource.children is not None

    def mark_replaced(self, pending: PendingParent, keys: Sequence[tuple[Any, ...]]) -> None:
        """Note that all rows of a parent, or of a batch of them, were read; these are their keys."""
        self.replaced_fields += (self._identity(one) for one in pending.parents)
        self.replaced_by += keys

    def _identity(self, pending: PendingParent) -> tuple[Any, ...]:
        """Return the values by which the rows of a parent are found."""
        params = (param.field for param in self._plan.endpoint.parent_fields.values())
        values = dict(zip(params, pending.values, strict=True))
        return tuple(values[field] for field in self._plan.columns_of_a_parent)

    def queue(self, parents: Iterable[Any]) -> "ParentQueue":
        """Return the parents of a page as a queue.

        Those that an earlier part of the load has left come first, then those skipped in the last run.
        Call it in the thread that extracts: it reads dlt's state.
        """
        left = self._take_left()
        if self._gone is None and self.may_be_gone:
            # for one path: the keys of another API's records mean others
            asked = fingerprint_of(self._redactor(self._plan.endpoint.path))
            self._gone = self._cursors.gone_parents_of(self._plan.resource.name, asked)
        known = [*left, *self._take_owed()]
        candidates = chain(
            self._candidates(known),
            (one for parent in parents for one in self._candidates_below(parent)),
        )
        if self._plan.batch_size is None:
            return ParentQueue(self, candidates)
        # at once: the next page adds to the batch that this one leaves open
        batches = list(self._batches(candidates, self._plan.batch_size))
        if isinstance(parents, LastParents):
            batches += [self._batch(members) for members in self._open_batches.values()]
            self._open_batches.clear()
        return ParentQueue(self, iter(batches))

    def _candidates_below(self, parent: Any) -> Iterator[PendingParent]:
        """Yield a parent once for each of its calls."""
        try:
            records = records_of_calls(self._plan, parent, self._redactor)
        except IngestError as error:
            yield PendingParent(parent, error=error)
        else:
            yield from self._candidates(records)

    def _batches(self, candidates: Iterator[PendingParent], size: int) -> Iterator[PendingParent]:
        """Yield the batches that are full, each value of a parent once in a run."""
        for candidate in candidates:
            if candidate.error is not None:
                yield candidate
                continue
            if self.is_requested(candidate.key):
                continue
            self.mark_requested(candidate.key)
            others = parent_key(self._batch_values(candidate.values, None))
            members = self._open_batches.setdefault(others, [])
            members.append(candidate)
            if len(members) == size:
                yield self._batch(self._open_batches.pop(others))

    def _batch(self, members: Sequence[PendingParent]) -> PendingParent:
        """Return the call that takes the values of all these parents."""
        index = self._list_index
        listed: Any = [one.values[index] for one in members]
        separator = self._plan.endpoint.resolve_params[str(self._plan.list_param)].separator
        if separator is not None:
            listed = separator.join(str(as_url_text(value)) for value in listed)
        seen_by: list[frozenset[str]] = [
            getattr(one.parent, "seen_by", frozenset()) for one in members
        ]
        parent = _seen_record(members[0].parent, frozenset.intersection(*seen_by))
        key = parent_key([one.key for one in members])
        values = self._batch_values(members[0].values, listed)
        return PendingParent(parent, values, key, batch=tuple(members))

    @cached_property
    def _list_index(self) -> int:
        names = [param.param_name for param in self._plan.parent_params]
        return names.index(str(self._plan.list_param))

    def _batch_values(self, values: Sequence[Any], listed: Any) -> tuple[Any, ...]:
        """Return the values of a call with `listed` in place of the one of a single parent."""
        index = self._list_index
        return (*values[:index], listed, *values[index + 1 :])

    def leave(self, parents: Iterable[PendingParent]) -> None:
        """Leave parents to the next part of the load, with those whose batch is not full."""
        left: list[LeftParent] = []
        waiting = [one for members in self._open_batches.values() for one in members]
        self._open_batches.clear()
        for pending in (*parents, *waiting):
            for one in (pending, *pending.batch):
                # its call may have begun
                self._requested.pop(one.key, None)
            left.extend(self._left_parent(one.parent) for one in pending.parents)
        self._part.leave_parents(self._plan.resource.name, left)

    def _left_parent(self, parent: Any) -> LeftParent:
        if not isinstance(parent, dict):
            return LeftParent(fields=parent)
        seen_by = parent.seen_by if isinstance(parent, SeenRecord) else ()
        return LeftParent(fields=self._needed_fields(parent), seen_by=tuple(sorted(seen_by)))

    def _take_left(self) -> list[Any]:
        """Return the parents that an earlier part has left, at the first call in a part only."""
        if self._is_resumed:
            return []
        self._is_resumed = True
        left, requested = self._part.resume_parents(
            self._plan.resource.name, self._requested_to_store
        )
        self._requested |= dict.fromkeys(requested)
        return [_seen_record(one.fields, one.seen_by) for one in left]

    def _requested_to_store(self) -> tuple[str, ...] | None:
        """Return the keys of requested parents that the next part must not request again.

        None if they are too many. Merged rows may be requested again, and are newer then.
        """
        if self._plan.resource.disposition.value == "merge":
            return ()
        requested = tuple(self._requested)
        if self._has_own_key:
            # each parent comes once, unless pages shift
            return requested[-_MAX_SHIFTED_PARENTS:]
        return requested if len(requested) <= _MAX_STORED_PARENTS else None

    def is_requested(self, key: str) -> bool:
        """True if a parent with this key was requested in this run."""
        return key in self._requested

    def mark_requested(self, key: str) -> None:
        """Note that a parent with this key is requested."""
        self._requested[key] = None

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
            # earlier runs have requested this parent's children for each resource of this run
            if isinstance(parent, SeenRecord) and readers <= parent.seen_by:
                continue
            try:
                values = values_from_parent(self._plan, parent, self._redactor)
            except IngestError as error:
                yield PendingParent(parent, error=error)
            else:
                if self._gone and parent_key(values) in self._gone:
                    continue
                if self.replaces and self._is_removed(parent):
                    # nothing replaces the rows below it, so there is nothing to ask for
                    self.mark_replaced(PendingParent(parent, values), ())
                    continue
                key = parent_key([values, self._included(parent)])
                yield PendingParent(parent, values, key)

    def _is_removed(self, parent: Any) -> bool:
        return isinstance(parent, dict) and any(
            parent.get(name) is True for name in self._tombstones
        )

    def skip_parent(self, pending: PendingParent, path: str, error: SkippableError) -> None:
        """Skip a parent and keep it for the next run; `path` is that of its call.

        Raises `error`, which names the limit then, if too many are skipped that no earlier run has
        skipped.
        """
        self._counts.add_skipped(path)
        with self._lock:
            # a parent that is gone for good is skipped in each run, and more of them come with time
            keys = {parent_key(one.values) for one in pending.parents}
            self._new_skipped += len(keys - self._skipped_before)
            if self._new_skipped > self._max_skipped:
                raise self._limit_error(error)
            # the state is that of the table: a parent that is read for its dependents only has none
            if self._plan.loaded and self._owed is not None:
                self._owed.extend(self._needed_fields(one.parent) for one in pending.parents)

    def _limit_error(self, error: SkippableError) -> SkippableError:
        name = self._plan.resource.name
        text = (
            f"resource {name}: the calls of more parents fail than http.on_child_error.skip_up_to "
            f"({self._max_skipped}) allows, not counting those that earlier runs skipped. The last "
            f"one: {error}"
        )
        error.args = (text,)
        return error

    def _take_owed(self) -> list[Record]:
        """Return the parents skipped in the last run, at the first call in a run only."""
        if self._owed is not None:
            return []
        state = self._cursors.state_of(self._plan.resource.name)
        before: list[Record] = state.get("owed", [])
        self._skipped_before = {key for parent in before if (key := self._call_key(parent))}
        self._owed = []
        if not self._plan.loaded:
            return []
        state["owed"] = self._owed
        return before

    def _call_key(self, parent: Record) -> str | None:
        """Return what a parent's call takes from it, as a key; None if it lacks something."""
        try:
            return parent_key(values_from_parent(self._plan, parent, self._redactor))
        except IngestError:
            return None

    def _included(self, parent: Mapping[str, Any]) -> list[Any]:
        names = self._plan.resource.include_from_parent
        return [parent.get(name) for name in names if not name.startswith(EACH_PREFIX)]

    def _needed_fields(self, parent: Mapping[str, Any]) -> Record:
        """Return the fields of a parent's record that its calls need."""
        params = self._plan.endpoint.parent_fields.items()
        # the value of a list is in the record already
        fields = {param.field for name, param in params if name != self._plan.list_param}
        tops = {field.split(".")[0].split("[")[0] for field in fields}
        tops.update(
            name
            for name in self._plan.resource.include_from_parent
            if not name.startswith(EACH_PREFIX)
        )
        if EACH_FIELD in parent:
            tops.add(EACH_FIELD)
        # else a path that this can't cut apart, such as a quoted name: keep the whole record
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
                # before its call: the queue of another page may hold the same parent
                self._tracker.mark_requested(candidate.key)
                return candidate
        return None

    def remaining(self) -> Iterator[PendingParent]:
        """Yield the parents that were not requested, unusable ones too. The queue is empty then."""
        while (candidate := self._next()) is not None:
            if not self._tracker.is_requested(candidate.key):
                yield candidate

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


def _seen_record(fields: Any, seen_by: Iterable[str]) -> Any:
    names = frozenset(seen_by)
    if not names:
        return fields
    record = SeenRecord(fields)
    record.seen_by = names
    return record
