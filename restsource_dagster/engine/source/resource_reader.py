"""How the records of a resource are read: call by call, page by page, and for each parent."""

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from restsource_dagster.engine.errors import (
    CallValueError,
    IngestError,
    ParentGoneError,
    PlaceRefusedError,
    RecordError,
    RequestError,
    ResponseError,
)
from restsource_dagster.engine.incremental.family_cursors import (
    FamilyCursors,
    OpenRowFilter,
)
from restsource_dagster.engine.incremental.row_filter import (
    CursorReader,
    PlaceholderCursor,
    RowFilter,
    SeenRecord,
)
from restsource_dagster.engine.incremental.unfinished import (
    ROOT_CALL,
    UnfinishedCall,
    fingerprint_of,
)
from restsource_dagster.engine.paging.calls import Call
from restsource_dagster.engine.paging.endpoint_reader import EndpointReader
from restsource_dagster.engine.paging.paging_watch import PagingWatch
from restsource_dagster.engine.paging.place import CallProgress
from restsource_dagster.engine.plan.resource_plan import (
    ResourcePlan,
    dependent_call,
)
from restsource_dagster.engine.source.checkpoint import LoadPart
from restsource_dagster.engine.source.column_rules import ColumnRules
from restsource_dagster.engine.source.parents import (
    ParentQueue,
    ParentTracker,
    PendingParent,
)
from restsource_dagster.engine.source.record_values import RecordSanitizer
from restsource_dagster.engine.source.repeated_rows import RepeatedRows

if TYPE_CHECKING:
    from restsource_dagster.engine.incremental.open_token import OpenToken
    from restsource_dagster.engine.source.export_job import ExportJobs
    from restsource_dagster.engine.source.record_steps import RecordSteps

__all__ = ["Records", "ResourceReader"]

_VALUE_SNIPPET_CHARS = 80

Record = dict[str, Any]
Records = list[Any]
_SKIPPABLE_ERRORS = (CallValueError, RequestError, ResponseError)
"""The errors of a single call, which `http.on_child_error` may allow."""


@dataclass(frozen=True)
class ResourceReader:
    """Reads the records of one resource, call by call, page by page, through its cursor."""

    plan: ResourcePlan
    endpoint: EndpointReader
    cursors: FamilyCursors
    parents: ParentTracker
    steps: "RecordSteps | None"
    """What the file does with the records; None if nothing."""
    sanitizer: RecordSanitizer
    column_rules: ColumnRules
    watch: PagingWatch
    repeats: RepeatedRows
    part: LoadPart
    on_loaded: Callable[[Records, int], None]
    """Called with the new records of a page, if they are loaded, and the number of the page."""
    has_batches_below: bool = False
    """True if a resource below asks for the values of several parents in one call."""
    jobs: "ExportJobs | None" = None
    """Given if a call creates a job, whose file has the rows."""

    def placeholders(self, row_filter: RowFilter | None) -> PlaceholderCursor | None:
        """Return the cursor as the placeholders of a call see it; None without a cursor."""
        if row_filter is None or self._placeholders is None:
            return None
        return self._placeholders.of_call(row_filter)

    @cached_property
    def _cursor_reader(self) -> CursorReader | None:
        """What reads the cursor of records; None if they spell it as usual."""
        cursor = self.plan.endpoint.cursor
        return CursorReader(self.plan.resource.name, cursor) if cursor and cursor.formats else None

    @cached_property
    def _placeholders(self) -> PlaceholderCursor | None:
        incremental = self.plan.incremental
        return None if incremental is None else PlaceholderCursor.of(incremental, None)

    def records(
        self,
        call: Call,
        opened: OpenRowFilter | None,
        key: str = ROOT_CALL,
        parent_fields: Mapping[str, Any] | None = None,
        token: "OpenToken | None" = None,
        on_last_page: Callable[[], None] | None = None,
    ) -> Iterator[Records]:
        """Yield the new records of a call, page by page; save the cursor after the last page.

        If the part of the load ends before, store how far the call has come. `key` is `ROOT_CALL` or
        that of the parent. `on_last_page` is called when all pages of the call were yielded, in this
        part of the load. With it no part ends within the call.
        """
        name, part = self.plan.resource.name, self.part
        resumed = part.resume_call(name, key, lambda: self._fingerprint(call))
        new = CallProgress(is_whole=on_last_page is not None)
        progress = self._resume(resumed, opened) if resumed else new
        # an earlier part may have read all pages, and stopped in the calls below the last one
        was_read = progress.has_ended
        # open until the last page is taken: a checkpoint below it stores how far this call has
        # come, too
        part.open_call(name, progress)
        try:
            if not progress.has_ended:
                yield from self._pages(call, opened, progress, parent_fields, token)
        except PlaceRefusedError as error:
            if part.adds_rows:
                raise
            # merged rows may come again
            self.watch.notify(f"{error.reason}. The call starts anew")
            progress = CallProgress(is_whole=on_last_page is not None)
            part.open_call(name, progress)
            yield from self._pages(call, opened, progress, parent_fields, token)
        part.close_call(name)
        if on_last_page and progress.has_ended and not was_read:
            on_last_page()
        # also if a call below the last page has ended early: its parent counts as read later
        if part.has_ended:
            self._interrupt(call, opened, key, progress)
            return
        if opened:
            opened.row_filter.report()
            if progress.is_capped:
                opened.row_filter.go_on_from_last(self.endpoint.rules.max_rows or 0)
        shift = resumed.shift if resumed else None
        if self._save_unless_shifted(opened, shift, has_token=token is not None) and token:
            token.save(progress, self.watch.notify)

    def _pages(
        self,
        call: Call,
        opened: OpenRowFilter | None,
        progress: CallProgress,
        parent_fields: Mapping[str, Any] | None,
        token: "OpenToken | None",
    ) -> Iterator[Records]:
        may_stop = opened is not None and opened.row_filter.may_finish_early
        read = self._read(call, opened, progress, may_stop=may_stop)
        with closing(read) as pages:
            checked = token.checked(pages) if token else pages
            for page in self._until_checkpoint(checked, opened, progress):
                number = progress.pages
                with _rows_of_page(progress):
                    records = self._ready(page, number, opened, parent_fields or {})
                if records:
                    yield records
                if opened and opened.row_filter.is_finished:
                    # whatever the API has more, it is not asked for now
                    progress.has_ended, progress.is_capped = True, False
                    break

    def _read(
        self, call: Call, opened: OpenRowFilter | None, progress: CallProgress, *, may_stop: bool
    ) -> Generator[Records, None, None]:
        def pages(endpoint: EndpointReader, asked: Call) -> Generator[Records, None, None]:
            return endpoint.pages(
                asked, may_stop_early=may_stop, watch=self.watch, progress=progress
            )

        if self.jobs is None:
            return pages(self.endpoint, call)
        start, incremental = opened and opened.row_filter.start, self.plan.incremental
        # an initial value may be relative to the start of the run
        is_first = incremental is not None and start == incremental.initial_value
        state = self.cursors.paging_state_of(self.plan.resource.name)
        return self.jobs.pages(call, None if is_first else start, state, pages)

    def _ready(
        self,
        page: Records,
        number: int,
        opened: OpenRowFilter | None,
        parent_fields: Mapping[str, Any],
    ) -> Records:
        """Return the new records of a page as they are loaded."""
        made = self._after_steps(page, number, parent_fields)
        # after the steps, which may make the cursor
        spelt = self._cursor_reader.read(made, number) if self._cursor_reader else made
        sound = self.sanitizer.sanitize(spelt, number)
        records = opened.row_filter.filter(sound, number) if opened else sound
        # only what is loaded: the filter leaves out rows that need no value
        if records and self.plan.loaded:
            self.column_rules.check(records, sound, number)
            self.on_loaded(records, number)
        return records

    def _after_steps(self, page: Records, number: int, parent_fields: Mapping[str, Any]) -> Records:
        """Return what the processing steps make of a page. As in dlt, they see the parent's fields."""
        if not self.steps:
            return page
        records = self.steps.verify(page, number)
        for row, record in enumerate(records if parent_fields else (), 1):
            self._add_parent_fields(record, parent_fields, row)
        return self.steps.apply(records, number)

    def _fingerprint(self, call: Call) -> str:
        asked = [call.method, call.path, call.params, call.json, call.data]
        return fingerprint_of(self.endpoint.redactor(json.dumps(asked, default=str)))

    def _resume(self, resumed: UnfinishedCall, opened: OpenRowFilter | None) -> CallProgress:
        """Go on where an earlier part has ended, and return the progress of the call there."""
        if opened and resumed.cursor:
            opened.row_filter.resume(resumed.cursor)
        self.repeats.resume(resumed.boundary)
        return resumed.progress

    def _interrupt(
        self, call: Call, opened: OpenRowFilter | None, key: str, progress: CallProgress
    ) -> None:
        """Store how far a call has come, so that the next part goes on there."""
        name, part = self.plan.resource.name, self.part
        # a cursor is the safer place: an API may forget a page token, and shift the rows of a page
        # number
        if opened and self._goes_on_from_cursor(opened) and not part.has_pending:
            opened.row_filter.continue_later()
            opened.save()
            part.continue_from_cursor()
            return
        if not progress.pages:
            return  # the call has not begun: it starts at its first page
        part.interrupt_call(
            name,
            UnfinishedCall(
                key=key,
                call=self._fingerprint(call),
                place=None if progress.has_ended else progress.read_place(),
                has_ended=progress.has_ended,
                is_capped=progress.is_capped,
                pages=progress.pages,
                cursor=opened.row_filter.progress if opened else None,
                boundary=self.repeats.boundary(),
                totals=progress.totals.carry() if progress.totals else progress.carried,
                shift=self.watch.take_shift(),
                token=progress.token,
                has_token_place=progress.has_token_place,
            ),
        )

    @property
    def _is_root(self) -> bool:
        return self.plan.resource.name == self.part.root

    def _goes_on_from_cursor(self, opened: OpenRowFilter | None) -> bool:
        """True if the next part can begin at the cursor in place of a place in the paging."""
        return bool(
            self._is_root
            and not self.plan.is_repeated
            and self.part.by_cursor
            and opened
            and opened.row_filter.can_continue_later
        )

    def _save_unless_shifted(
        self,
        opened: OpenRowFilter | None,
        shift_before: str | None = None,
        *,
        has_token: bool = False,
    ) -> bool:
        """Save the cursor; return True if a token may be saved, too.

        If rows may have been skipped, keep the old one, so that they are read again. `shift_before` is
        what an earlier part has noticed. Raises `IngestError` if rows that are read again would be stored
        twice.
        """
        shift, name = self.watch.take_shift() or shift_before, self.plan.resource.name
        if shift is None:
            if opened:
                opened.row_filter.finish_window()
                opened.save()
                if self._is_root:
                    self.part.end_call(opened.row_filter)
            return True
        shift += " while its pages were read, so rows may have been skipped"
        if self.plan.appends and self.part.is_later:
            # the rows of the earlier parts are in the table: they are taken back first
            raise PlaceRefusedError(name, shift)
        if opened is None and not (has_token and self.plan.appends):
            self.watch.notify(f"{shift}; the next run reads all of them again")
            return False
        followers = opened.row_filter.followers.values() if opened else ()
        if (
            self.plan.appends
            or not self.cursors.reads_again
            or any(position.remembers for position in followers)
        ):
            if self.part.is_later and self.cursors.reads_again:
                raise PlaceRefusedError(name, shift)
            error = IngestError(
                f"resource {name}: {shift}. Nothing is loaded and the cursor stays, so the next run "
                "reads them again"
            )
            error.resource = name
            raise error
        self.watch.notify(f"{shift}; the cursor stays, so the next run reads them again")
        return False

    def _until_checkpoint(
        self, pages: Iterator[Records], opened: OpenRowFilter | None, progress: CallProgress
    ) -> Iterator[Records]:
        """Yield the pages up to the checkpoint, or to an error after which a later part can go on."""
        by_cursor = False
        try:
            for page in pages:
                yield page
                if progress.is_within_page or (progress.is_whole and not progress.has_ended):
                    self.part.add_rows(len(page))
                    continue
                by_cursor = self._goes_on_from_cursor(opened)
                ends = self.part.ends_after_page(
                    len(page),
                    by_cursor=by_cursor,
                    is_last=progress.has_ended and self._is_root and not self.plan.is_repeated,
                )
                # the last page is followed by what the end of the call shows
                if ends and not progress.has_ended:
                    # from its cursor on a call asks for other pages
                    progress.goes_on = not by_cursor
                    return
        except IngestError as error:
            # rows of a page that is not complete would come again
            is_first_call = self._is_root and not self.plan.is_repeated
            is_early = progress.is_within_page or (is_first_call and not progress.pages)
            if is_early or not self.part.ends_at_error(error, by_cursor=by_cursor):
                raise

    def dependent_records(
        self, pending: PendingParent, opened: OpenRowFilter | None
    ) -> Iterator[Records]:
        """Yield the records of the call for a parent, with the parent's fields that the file includes."""
        if not (self.parents.may_skip or self.parents.may_be_gone):
            call, parent_fields = self._dependent_call(pending, opened)
            pages = self._records_below(pending, call, parent_fields, opened)
            yield from map(self.repeats.filter, pages)
            return
        path = self.plan.endpoint.path
        try:
            call, parent_fields = self._dependent_call(pending, opened)
            path = call.path
            # all or nothing: if a later page fails, the parent is skipped and none is loaded
            pages = self._records_below(pending, call, parent_fields, opened)
            yield from map(self.repeats.filter, list(pages))
        except ParentGoneError:
            self.part.close_call(self.plan.resource.name)
            self.parents.mark_gone(pending, path)
        except _SKIPPABLE_ERRORS as error:
            if not self.parents.may_skip:
                raise
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
        pending: PendingParent,
        call: Call,
        parent_fields: Mapping[str, Any],
        opened: OpenRowFilter | None,
    ) -> Iterator[Records]:
        keys: list[tuple[Any, ...]] = []
        replaced = self.plan.resource.primary_key if self.parents.replaces else ()
        note = partial(self.parents.mark_replaced, pending, keys) if replaced else None
        for records in self.records(call, opened, pending.key, parent_fields, on_last_page=note):
            added = {} if self.steps else parent_fields
            made = self._with_parent_fields(records, added, pending.parent)
            if replaced:
                keys += (tuple(map(record.get, replaced)) for record in made)
            yield made

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
            if self.part.is_interrupted(plan.resource.name, pending.key):
                continue  # it does not start at its first page
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


@contextmanager
def _rows_of_page(progress: CallProgress) -> Iterator[None]:
    """Count an error's row from the start of its page: these records may be only a part of it."""
    try:
        yield
    except RecordError as error:
        if progress.rows_before:
            error.move_rows(progress.rows_before)
        raise
