"""How the records of a resource are read: call by call, page by page, and for each parent.

Each parent of a dependent resource is requested once in a run, and may be skipped:
`http.on_child_error` lets a dependent skip parents whose call fails. Skipped parents are kept in
dlt's state and requested again in the next run, even if the API does not send the parent again.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import dlt

from restsource_dagster.connector.models.connector_file import SkipChildErrors
from restsource_dagster.engine.errors import (
    CallValueError,
    IngestError,
    PagingError,
    RecordError,
    RequestError,
    ResponseError,
)
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.incremental.family_cursors import (
    FamilyCursors,
    OpenRowFilter,
    parent_key,
)
from restsource_dagster.engine.incremental.row_filter import (
    PlaceholderCursor,
    RowFilter,
    SeenRecord,
)
from restsource_dagster.engine.paging.endpoint_reader import Call, EndpointReader
from restsource_dagster.engine.paging.paging_watch import PagingWatch
from restsource_dagster.engine.plan.resource_plan import (
    ResourcePlan,
    dependent_call,
    root_call,
    values_from_parent,
)
from restsource_dagster.engine.run_progress import ResourceCounts
from restsource_dagster.engine.source.checkpoint import Checkpoint
from restsource_dagster.engine.source.column_rules import ColumnRules
from restsource_dagster.engine.source.record_steps import RecordSteps
from restsource_dagster.engine.source.record_values import RecordSanitizer
from restsource_dagster.engine.source.repeated_rows import RepeatedRows

__all__ = [
    "ParentQueue",
    "ParentTracker",
    "PendingParent",
    "ResourceReader",
    "dependent_pages",
    "root_pages",
]

_VALUE_SNIPPET_CHARS = 80

Record = dict[str, Any]
Records = list[Any]
SkippableError = CallValueError | RequestError | ResponseError
_SKIPPABLE_ERRORS = (CallValueError, RequestError, ResponseError)
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
        self._skipped_before: set[str] = set()
        self._new_skipped = 0

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
            # earlier runs have requested this parent's children for each resource of this run
            if isinstance(parent, SeenRecord) and readers <= parent.seen_by:
                continue
            try:
                values = values_from_parent(self._plan, parent, self._redactor)
            except IngestError as error:
                yield PendingParent(parent, error=error)
            else:
                key = parent_key([values, self._included(parent)])
                yield PendingParent(parent, values, key)

    def skip_parent(self, pending: PendingParent, path: str, error: SkippableError) -> None:
        """Skip a parent and keep it for the next run; `path` is that of its call.

        Raises `error`, which names the limit then, if too many are skipped that no earlier run has
        skipped.
        """
        self._counts.add_skipped(path)
        with self._lock:
            # a parent that is gone for good is skipped in each run, and more of them come with time
            if parent_key(pending.values) not in self._skipped_before:
                self._new_skipped += 1
            if self._new_skipped > self._max_skipped:
                raise self._limit_error(error)
            # the state is that of the table: a parent that is read for its dependents only has none
            if self._plan.loaded and self._owed is not None:
                self._owed.append(self._needed_fields(pending.parent))

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
        return [parent.get(name) for name in self._plan.resource.include_from_parent]

    def _needed_fields(self, parent: Mapping[str, Any]) -> Record:
        """Return the fields of a parent's record that its calls need."""
        fields = {param.field for param in self._plan.endpoint.parent_fields.values()}
        tops = {field.split(".")[0].split("[")[0] for field in fields}
        tops.update(self._plan.resource.include_from_parent)
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


@dataclass(frozen=True)
class ResourceReader:
    """Reads the records of one resource, call by call, page by page, through its cursor."""

    plan: ResourcePlan
    endpoint: EndpointReader
    cursors: FamilyCursors
    parents: ParentTracker
    steps: RecordSteps
    sanitizer: RecordSanitizer
    column_rules: ColumnRules
    watch: PagingWatch
    repeats: RepeatedRows
    checkpoint: Checkpoint | None = None
    """The call ends early when this checkpoint is due; None: the call is read to its end."""

    def placeholders(self, row_filter: RowFilter | None) -> PlaceholderCursor | None:
        """Return the cursor as the placeholders of a call see it; None without a cursor."""
        if row_filter is None or self._placeholders is None:
            return None
        return self._placeholders.starting_at(row_filter.start)

    @cached_property
    def _placeholders(self) -> PlaceholderCursor | None:
        incremental = self.plan.incremental
        return None if incremental is None else PlaceholderCursor.of(incremental, None)

    def records(
        self,
        call: Call,
        opened: OpenRowFilter | None,
        parent_fields: Mapping[str, Any] | None = None,
    ) -> Iterator[Records]:
        """Yield the new records of a call, page by page; save the cursor after the last page.

        That is the last page before the checkpoint, if there is one and it is reached.
        """
        may_stop = opened is not None and opened.row_filter.may_finish_early
        read = self.endpoint.pages(call, may_stop_early=may_stop, watch=self.watch)
        with closing(read) as pages:
            for number, page in enumerate(self._until_checkpoint(pages, opened), 1):
                made = self._after_steps(page, number, parent_fields or {})
                records = self.sanitizer.sanitize(made, number)
                sound = records
                records = opened.row_filter.filter(records, number) if opened else records
                if records:
                    # only what is loaded: the filter leaves out rows that need no value
                    if self.plan.loaded:
                        self.column_rules.check(records, sound, number)
                    yield records
                if opened and opened.row_filter.is_finished:
                    break
        if opened:
            opened.row_filter.report()
        self._save_unless_shifted(opened)

    def _after_steps(self, page: Records, number: int, parent_fields: Mapping[str, Any]) -> Records:
        """Return what the processing steps make of a page. As in dlt, they see the parent's fields."""
        if not self.steps:
            return page
        records = self.steps.verify(page, number)
        for row, record in enumerate(records if parent_fields else (), 1):
            self._add_parent_fields(record, parent_fields, row)
        return self.steps.apply(records, number)

    def _save_unless_shifted(self, opened: OpenRowFilter | None) -> None:
        """Save the cursor. If rows may have been skipped, keep the old one, so that they are read again.

        Raises `IngestError` if rows that are read again would be stored twice.
        """
        shift, name = self.watch.take_shift(), self.plan.resource.name
        if shift is None:
            if opened:
                opened.save()
            return
        shift += " while its pages were read, so rows may have been skipped"
        if opened is None:
            self.watch.notify(f"{shift}; the next run reads all of them again")
            return
        followers = opened.row_filter.followers.values()
        if (
            self.plan.appends
            or not self.cursors.reads_again
            or any(position.remembers for position in followers)
        ):
            error = IngestError(
                f"resource {name}: {shift}. Nothing is loaded and the cursor stays, so the next run "
                "reads them again"
            )
            error.resource = name
            raise error
        self.watch.notify(f"{shift}; the cursor stays, so the next run reads them again")

    def _until_checkpoint(
        self, pages: Iterator[Records], opened: OpenRowFilter | None
    ) -> Iterator[Records]:
        """Yield the pages up to the checkpoint or the first error, if the rest can be read later."""
        checkpoint = self.checkpoint
        if checkpoint is None or opened is None:
            yield from pages
            return
        row_filter = opened.row_filter
        try:
            for page in pages:
                yield page
                checkpoint.add_page(len(page))
                if checkpoint.is_due and row_filter.can_continue_later:
                    checkpoint.is_reached = True
                    break
            else:
                return
        except PagingError:
            # paging that repeats itself may not have sent what it seems to have sent
            raise
        except IngestError as error:
            if not row_filter.can_continue_later:
                raise
            checkpoint.error = error
        row_filter.continue_later()

    def dependent_records(
        self, pending: PendingParent, opened: OpenRowFilter | None
    ) -> Iterator[Records]:
        """Yield the records of the call for a parent, with the parent's fields that the file includes."""
        if not self.parents.may_skip:
            call, parent_fields = self._dependent_call(pending, opened)
            pages = self._records_below(pending.parent, call, parent_fields, opened)
            yield from map(self.repeats.filter, pages)
            return
        path = self.plan.endpoint.path
        try:
            call, parent_fields = self._dependent_call(pending, opened)
            path = call.path
            # all or nothing: if a later page fails, the parent is skipped and none is loaded
            pages = self._records_below(pending.parent, call, parent_fields, opened)
            yield from map(self.repeats.filter, list(pages))
        except _SKIPPABLE_ERRORS as error:
            self.parents.skip_parent(pending, path, error)

    def _dependent_call(
        self, pending: PendingParent, opened: OpenRowFilter | None
    ) -> tuple[Call, Record]:
        placeholders = self.placeholders(opened.row_filter if opened else None)
        with self.located_errors():
            return dependent_call(self.plan, placeholders, pending.parent, pending.values)

    @contextmanager
    def located_errors(self) -> Iterator[None]:
        """Name the resource in the error of a value that a call can't take."""
        try:
            yield
        except CallValueError as error:
            error.locate(self.plan.resource.name, 1, self.endpoint.redactor)
            raise

    def _records_below(
        self,
        parent: Record,
        call: Call,
        parent_fields: Mapping[str, Any],
        opened: OpenRowFilter | None,
    ) -> Iterator[Records]:
        for records in self.records(call, opened, parent_fields):
            added = {} if self.steps else parent_fields
            yield self._with_parent_fields(records, added, parent)

    def _with_parent_fields(
        self, records: Records, parent_fields: Mapping[str, Any], parent: Record
    ) -> Records:
        """Return the records with the fields of their parent, seen by the same dependents."""
        seen_by = parent.seen_by if isinstance(parent, SeenRecord) else frozenset()
        extended = []
        for number, record in enumerate(records, 1):
            if parent_fields:
                self._add_parent_fields(record, parent_fields, number)
            if seen_by:
                # on the record itself, as dlt hands nothing else to the dependents below
                record = SeenRecord(record)  # noqa: PLW2901 - the same record, marked
                record.seen_by = seen_by
            extended.append(record)
        return extended

    def _add_parent_fields(
        self, record: Any, parent_fields: Mapping[str, Any], number: int
    ) -> None:
        name = self.plan.resource.name
        if not isinstance(record, dict):
            problem = (
                f"the record {self._shown(record)} is no object, so include_from_parent has no place "
                "in it"
            )
            raise RecordError(name, None, number, "", problem)
        for field, value in parent_fields.items():
            self.column_rules.check_parent_field(field, value, number)
            if field in record and record[field] != value:
                problem = (
                    f"the record has {self._shown(record[field])} there, and include_from_parent would "
                    f"put {self._shown(value)} in its place"
                )
                raise RecordError(name, None, number, field, problem)
        record.update(parent_fields)

    def _shown(self, value: Any) -> str:
        return self.endpoint.redactor.snippet(repr(value), _VALUE_SNIPPET_CHARS)

    def prefetch(self, parents: ParentQueue) -> None:
        """Prefetch the calls for the next parents.

        A call may differ by the time it is made, as the cursor moves; its prefetch is unused then.
        """
        plan = self.plan
        for pending in parents.upcoming(self.endpoint.max_prefetched_calls):
            if self.parents.is_prefetched(pending.key):
                continue
            row_filter = self.cursors.peek(plan, pending.values)
            # the cursor's start is known only from the first call on; a guess would be a wrong request
            if row_filter is None and plan.incremental is not None:
                return
            self.parents.mark_prefetched(pending.key)
            try:
                placeholders = self.placeholders(row_filter)
                call, _ = dependent_call(plan, placeholders, pending.parent, pending.values)
            except Exception:  # noqa: BLE001 - the call itself raises the same error
                return
            may_stop = row_filter is not None and row_filter.may_finish_early
            self.endpoint.prefetch(call, may_stop_early=may_stop, group=parents)


def root_pages(reader: ResourceReader) -> Iterator[Any]:
    """Yield the pages of a resource without a parent."""
    opened = reader.cursors.open(reader.plan, None)
    state = reader.cursors.paging_state_of(reader.plan.resource.name)
    reader.watch.recall(state)
    is_empty = True
    with reader.located_errors():
        call = root_call(reader.plan, reader.placeholders(opened.row_filter if opened else None))
    for records in map(reader.repeats.filter, reader.records(call, opened)):
        is_empty = False
        yield records
    reader.watch.store(state)
    if is_empty:
        yield _empty_page(reader.plan)


def dependent_pages(items: Any, reader: ResourceReader) -> Iterator[Any]:
    """Return the pages of a dependent resource: one call for each record of its parent's page.

    They come in the order of the parents. Calls for the first parents are prefetched at once, and
    more while these are read.
    """
    parents = reader.parents.queue(items if isinstance(items, list) else [items])
    # not in the generator, which dlt may start only after those of earlier pages
    reader.prefetch(parents)
    return _read_dependent_pages(parents, reader)


def _read_dependent_pages(parents: ParentQueue, reader: ResourceReader) -> Iterator[Any]:
    state = reader.cursors.paging_state_of(reader.plan.resource.name)
    reader.watch.recall(state)
    try:
        yield _empty_page(reader.plan)
        while (pending := parents.next_parent()) is not None:
            opened = reader.cursors.open(reader.plan, pending.values)
            reader.prefetch(parents)
            yield from reader.dependent_records(pending, opened)
        reader.watch.store(state)
    finally:
        # dlt closes the generator in its middle when another resource fails
        reader.endpoint.cancel_prefetches(parents)


def _empty_page(plan: ResourcePlan) -> Any:
    """Return a page that makes the table if the file declares columns, and runs the dependents."""
    columns = plan.resource.hints.columns_by_name.values()
    declared = any(column.data_type for column in columns)
    return dlt.mark.materialize_table_schema() if declared and plan.loaded else []
