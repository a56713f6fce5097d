"""Filters the rows of one call by its cursor: which are new, for which resource, and when paging may stop."""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from operator import is_
from typing import TYPE_CHECKING, Any, Self

from dlt.extract import Incremental

from restsource_dagster.connector.models.incremental_cursor import Incremental as CursorModel
from restsource_dagster.connector.time_formats import patterns_for, read_time
from restsource_dagster.connector.validation.diagnostics import describe_value
from restsource_dagster.engine.errors import RecordError, ResourceError
from restsource_dagster.engine.http.json_body import UnverifiedRecords
from restsource_dagster.engine.incremental.ordering import (
    CursorOrder,
    IncomparableError,
    check_ordered,
    fast_min_max,
)
from restsource_dagster.engine.incremental.position import (
    CursorRules,
    Position,
    compile_cursor_path,
    first_value,
)

if TYPE_CHECKING:
    from restsource_dagster.engine.incremental.live_window import LiveWindow

__all__ = ["CursorReader", "PlaceholderCursor", "RowFilter", "SeenRecord"]

_UNORDERED_TYPES = {dict: "an object", list: "a list", bool: "true or false"}

Record = dict[str, Any]
Notify = Callable[[str], None]


class SeenRecord(dict[str, Any]):
    """A parent record that the dependents in `seen_by` have read before; they skip it."""

    # a subclass, because a plain dict takes no attributes, and dlt must see a dict
    seen_by: frozenset[str] = frozenset()


class PlaceholderCursor(Incremental[Any]):
    """The cursor as placeholders (`{incremental.start_value}`) see it: without dlt's state."""

    _start: Any = None

    @classmethod
    def of(cls, incremental: Incremental[Any], start: Any) -> Self:
        """Return a cursor with the settings of `incremental` that starts at `start`."""
        view = cls(
            cursor_path=incremental.cursor_path,
            initial_value=incremental.initial_value,
            last_value_func=incremental.last_value_func,
            end_value=incremental.end_value,
            row_order=incremental.row_order,
            on_cursor_value_missing=incremental.on_cursor_value_missing,
            lag=incremental.lag,
            range_start=incremental.range_start,
            range_end=incremental.range_end,
        )
        view.start_value = view._start = start
        return view

    def of_call(self, row_filter: "RowFilter") -> Self:
        """Return a copy with the ends of a call: where its filter starts, and its window. Faster than `of`."""
        # a copy, as calls are prefetched while others are filled in
        view = copy(self)
        view.start_value = view._start = row_filter.start
        if row_filter.live_window is not None and row_filter.sends_end:
            view.end_value = row_filter.live_window.until
        return view

    @property
    def last_value(self) -> Any:
        """The value it starts at: a placeholder is filled before any row is read."""
        return self._start

    def get_state(self) -> Any:
        """Return the state of a first run: the base class would look for a pipeline's."""
        return {"initial_value": None, "last_value": None, "unique_hashes": [], "start_value": None}


@dataclass
class RowFilter:
    """Passes on the rows of one call that are new.

    `own` is the position of the resource itself, None if it is not loaded. `followers` are the
    positions of its dependents in these rows, by name. A row passes if it is new to any of them; it
    is then marked with the dependents that have read it before (`SeenRecord`).
    """

    rules: CursorRules
    own: Position | None
    followers: Mapping[str, Position]
    notify: Notify
    api_filters: bool = False
    """True if the file sends the cursor to the API."""
    is_root: bool = True
    """False for a call below a parent: what is left out of thousands of them is not told."""
    live_window: "LiveWindow | None" = field(default=None, init=False)
    """The range that the call asks for, if the file has windows."""
    sends_end: bool = field(default=False, init=False)
    """True if the API is asked for the end of the window."""
    is_capped: bool = field(default=False, init=False)
    """True if the API had more rows than it returns to one query: another call goes on at the last one."""
    start: Any = field(default=None, init=False)
    """The cursor value to request rows from: the oldest start of all positions."""
    is_finished: bool = field(default=False, init=False)
    """True if no later page can have a row that passes."""
    has_nothing_new: bool = field(default=False, init=False)
    """True if all rows were loaded by an earlier run: none passes."""
    _previous: Any = field(default=None, init=False)
    _before: Any = field(default=None, init=False)
    """The last other value before `_previous`."""
    _has_start: bool = field(default=False, init=False)
    """True if a row has the value of `start`: the API sends those, too."""
    _left_out: int = field(default=0, init=False)
    _older: int = field(default=0, init=False)
    _newer: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._order = CursorOrder(descending=self.rules.descending)
        self._row_order = self.rules.row_order
        self._fields = compile_cursor_path(self.rules.path)
        self.start = self._oldest_start()
        is_appended = self.own is not None and self.own.remembers
        self._accepts_older = not is_appended and any(
            position.accepts_older for position in self._positions
        )

    def ask_for(self, window: "LiveWindow | None", *, sends_end: bool) -> None:
        """Have the call ask for this window, which begins at `start`."""
        self.live_window, self.sends_end = window, sends_end

    @property
    def asks_nothing(self) -> bool:
        """True if the window has no length: no request is made."""
        return self.live_window is not None and self.live_window.is_empty

    def finish_window(self) -> None:
        """Move all positions to the end of the window: all its rows were read. Without one, stay."""
        # a query that was cut off has not read the window to its end
        if self.live_window is None or self.is_capped:
            return
        for position in self._positions:
            position.finish_at(self.live_window.reached_like(position.last_value))

    def go_on_from_last(self, max_rows: int) -> None:
        """Move all positions to where the next call starts, as this one has `max_rows` rows and there are more.

        That is the value before the newest one, as the API may have more rows with the newest, and may
        send only rows after the start. Raises `ResourceError` if that gets no further.
        """
        name, path = self.rules.resource, self.rules.path
        if self._row_order is None:
            raise ResourceError(
                name,
                f"the API has more than the {max_rows:,} rows that it returns to one query (max_rows), and they "
                f"are not in the order of {path}, so the paging can't start anew from the last one. Have the "
                "API sort by it, oldest first",
            )
        is_next = self._is_further(self._before)
        if not is_next and self._has_start and not self.rules.excludes_start:
            is_next, self._before = self._is_further(self._previous), self._previous
        if not is_next:
            raise ResourceError(
                name,
                f"more rows than the API returns to one query (max_rows, {max_rows:,}) have one {path}, "
                f"{self._previous!r}, or lie within the lag before it, so the paging can't start anew from there. "
                "Divide the rows by a param that filters, in a resource for each of its values and with one "
                "`table_name`; or use a cursor with finer values",
            )
        for position in self._positions:
            position.finish_at(self._before)
        self.is_capped = True

    def _is_further(self, value: Any) -> bool:
        """True if a call from this value on starts after this one."""
        if value is None:
            return False
        # with the lag of each: a call that starts where this one did would get the same rows, again
        # and again
        starts = [position.start_from(value) for position in self._positions]
        return all(self.start is None or self._order.is_after(one, self.start) for one in starts)

    @property
    def may_finish_early(self) -> bool:
        """True if paging may stop before the last page."""
        ordered = self.rules.row_order
        is_bounded = self.rules.end_value is not None or self.live_window is not None
        return self.has_nothing_new or ordered == "desc" or (is_bounded and ordered == "asc")

    @property
    def can_continue_later(self) -> bool:
        """True if another call, from the cursor on, would send all rows that are still to be read.

        That needs the oldest rows first, and a newer row than at the start of this call, so that each
        call gets further than the last one.
        """
        rules = self.rules
        if self._row_order != ("desc" if rules.descending else "asc") or self.has_nothing_new:
            return False
        # with `lag` each call would read the rows within it again
        if rules.end_value is not None or rules.lag or rules.excludes_start:
            return False
        positions = self._positions
        # rows that are remembered are those of the newest value, and a step back would forget them
        if any(position.remembers for position in positions):
            return False
        starts = [position.start_after_step_back for position in positions]
        return all(
            start is not None and (self.start is None or self._order.is_after(start, self.start))
            for start in starts
        )

    def continue_later(self) -> None:
        """Move all positions back to where a later call must start. See `can_continue_later`."""
        for position in self._positions:
            position.step_back()
            if self.live_window and self._order.is_after(
                position.last_value, self.live_window.reached
            ):
                position.finish_at(self.live_window.reached)

    @property
    def progress(self) -> Mapping[str, Any]:
        """How far an unfinished load has come, as a JSON value: what `resume` takes."""
        named = {"": self.own, **self.followers}
        return {
            "positions": {name: one.progress for name, one in named.items() if one},
            "ordered": self._row_order is not None,
            "newest": [self._before, self._previous, self._has_start],
        }

    def resume(self, progress: Mapping[str, Any]) -> None:
        """Move all positions to where an earlier part of the load ended; `start` stays."""
        for name, one in {"": self.own, **self.followers}.items():
            if one and name in progress["positions"]:
                one.resume(progress["positions"][name])
        if not progress["ordered"]:
            self._row_order = None
        # an earlier version has stored none
        if newest := progress.get("newest"):
            self._before, self._previous, self._has_start = newest

    def filter(self, rows: list[Record], page: int) -> list[Record]:
        """Return the rows of a page that pass; `rows` itself if all do.

        Raises `RecordError` for a row whose cursor can't be compared.
        """
        passed: list[Record] = []
        if self.has_nothing_new:
            self.is_finished = True
            return passed
        if self._all_new(rows):
            return rows
        for number, row in enumerate(rows, 1):
            try:
                value = self._value(row, page, number)
                check_ordered(value)
                if value is None and self.rules.on_missing == "exclude":
                    self._left_out += 1
                elif value is None or self._is_in_range(value):
                    passed.extend(self._accept(value, row))
            except IncomparableError as error:
                raise self._error(str(error), page, number) from None
        if len(passed) == len(rows) and all(map(is_, passed, rows)):
            # the same object, as it may carry its columns (see `FlattenedRecords`)
            return rows
        return passed

    def _all_new(self, rows: list[Record]) -> bool:
        """Move to the newest row at once if all rows pass and none has to be remembered.

        Returns False without a change if the rows must be filtered one by one. This is the fast
        path: most pages of a live run take it.
        """
        own, rules = self.own, self.rules
        if (
            not rows
            or own is None
            or own.remembers
            or self.followers
            or rules.end_value is not None
        ):
            return False
        # each of these has to look at every row
        if self._row_order or rules.descending or rules.excludes_start:
            return False
        if self.live_window is not None and not self.sends_end:
            return False
        ends = fast_min_max(self._values(rows))
        if ends is None or not self._is_from_start(*ends):
            return False
        own.advance_to(ends[1])
        return True

    def _values(self, rows: list[Record]) -> list[Any]:
        """Return the cursors of a page's rows; an empty list if they must be looked up one by one."""
        name = self._fields[0].name if len(self._fields) == 1 else None
        try:
            if name:
                return [row[name] for row in rows]
            return [first_value(self._fields, row) for row in rows]
        except (AttributeError, KeyError, TypeError, ValueError):
            return []  # the filter says which row it is

    def _is_from_start(self, oldest: Any, newest: Any) -> bool:
        """True if none of the values of a page is before the start, and all can be compared."""
        last = self.own.last_value if self.own else None
        known = [value for value in (oldest, self.start, last) if value is not None]
        # if not, filtering one by one raises the error, with page and row
        if not all(self._order.can_compare(newest, value) for value in known):
            return False
        if self.start is None or self._accepts_older:
            return True
        return not self._order.is_before(oldest, self.start)

    def _is_after_window(self, value: Any) -> bool:
        """True if a row is left to the next window.

        Rows that the API sends though it was asked for an end are merged, as older ones are: it may
        filter by another time than the cursor, and then no later window has them.
        """
        window, order = self.live_window, self._order
        if window is None:
            return False
        if any(position.remembers for position in self._positions):
            # those at the end are remembered: the API may count it to either of the windows
            return order.is_after(value, window.reached)
        return not self.sends_end and not order.is_before(value, window.until)

    def report(self) -> None:
        """Report the rows that were left out. Call it after the last page."""
        if self._older and self.is_root and self.rules.end_value is None:
            self.notify(
                f"{self.rules.resource}: left out {self._older} rows whose {self.rules.path} is "
                f"before {self.start!r}: {self._why_older_is_left_out()}"
            )
        if self._newer and self.live_window:
            self.notify(
                f"{self.rules.resource}: left out {self._newer} rows from {self.live_window.reached} on: they are "
                "left to the next window"
            )
        if self._left_out:
            self.notify(
                f"{self.rules.resource}: left out {self._left_out} rows without "
                f"{self.rules.path} (on_cursor_value_missing is exclude)"
            )

    @property
    def _positions(self) -> list[Position]:
        return [*([self.own] if self.own else []), *self.followers.values()]

    def _why_older_is_left_out(self) -> str:
        if not self.api_filters:
            return (
                "the file sends no cursor to the API, so it sends all rows, changed or not. If it "
                'can filter, add "start_param" to the `incremental`'
            )
        if self.own and self.own.may_forget:
            return (
                "earlier runs have removed the rows that they name (`deletes_from`). If deletions come late, "
                'add a "lag" to the `incremental`'
            )
        return (
            "the API sent them as new, but rows that are not merged would be there twice. With a "
            '"primary_key" they are merged'
        )

    def _oldest_start(self) -> Any:
        """Return the oldest start of all positions."""
        if self.own and self.own.remembers:
            # rows before its start are in the table and would be appended twice
            return self.own.start
        # the dependents' places, too: one that was added later has older rows to read
        starts = [position.start for position in self._positions]
        if any(start is None for start in starts):
            return None
        oldest = starts[0] if starts else self.rules.initial_value
        for start in starts:
            oldest = start if self._order.is_before(start, oldest) else oldest
        return oldest

    def _value(self, row: Record, page: int, number: int) -> Any:
        if not isinstance(row, dict):
            raise self._error("the record is not an object, so it has no cursor", page, number)
        try:
            value = first_value(self._fields, row)
        except ValueError as error:
            raise self._error(str(error), page, number) from None
        if value is None and self.rules.on_missing == "raise":
            raise self._error(
                "the record has no value there, so it can't be told whether it is new. Set "
                "`on_cursor_value_missing` to include or exclude",
                page,
                number,
            )
        if type(value) in _UNORDERED_TYPES:
            kind = _UNORDERED_TYPES[type(value)]
            raise self._error(f"{kind} can't be used to order rows", page, number)
        return value

    def _is_in_range(self, value: Any) -> bool:
        """Return True if a row lies in the range; set `is_finished` if no later row can."""
        self._check_row_order(value)
        rules, order = self.rules, self._order
        if rules.end_value is not None:
            is_past = order.is_after(value, rules.end_value)
            if is_past or (rules.excludes_end and order.is_same(value, rules.end_value)):
                self.is_finished = self.is_finished or (is_past and self._row_order == "asc")
                return False
        if self._is_after_window(value):
            self._newer += 1
            # all that follow in this order are newer still
            self.is_finished = self.is_finished or self._row_order == "asc"
            return False
        if self.start is not None and order.is_before(value, self.start):
            self.is_finished = self.is_finished or self._row_order == "desc"
            self._older += not self._accepts_older
            return self._accepts_older
        return True

    def _accept(self, value: Any, row: Record) -> list[Record]:
        """Return the row if it passes, else an empty list; move all positions."""
        is_new = self.own.accept(value, row) if self.own else True
        # a merged row may pass again, for a dependent that has not read it yet
        passes = is_new or (bool(self.followers) and not (self.own and self.own.remembers))
        seen_by = frozenset(
            name for name, position in self.followers.items() if not position.accept(value, row)
        )
        if not passes:
            return []
        if not seen_by:
            return [row]
        marked = SeenRecord(row)
        marked.seen_by = seen_by
        return [marked]

    def _check_row_order(self, value: Any) -> None:
        """Ignore `row_order` from the first row that contradicts it: stopping early loses rows."""
        if self._row_order is None:
            return
        before = self._previous
        self._previous = value
        if self._row_order == "asc" and self._before is None and self.start is not None:
            # the rows with it come first
            self._has_start = self._has_start or self._order.is_same(value, self.start)
        if before is None:
            return
        falls = self._order.is_before(value, before)
        rises = self._order.is_after(value, before)
        self._before = before if rises else self._before
        if (falls and self._row_order == "asc") or (rises and self._row_order == "desc"):
            self.notify(
                f"{self.rules.resource}: row_order is {self._row_order}, but {value!r} comes after "
                f"{before!r}, so all pages are read. Remove row_order"
            )
            self._row_order = None
            # an earlier row of the page may have set this, in trust of the wrong order
            self.is_finished = False

    def _error(self, problem: str, page: int, number: int) -> RecordError:
        return RecordError(self.rules.resource, page, number, self.rules.path, problem)


@dataclass(frozen=True)
class CursorReader:
    """Reads the cursor of records by `cursor_format`, and puts a time in UTC or a date in its place."""

    resource: str
    cursor: CursorModel

    def read(self, records: list[Any], page: int) -> list[Any]:
        """Return the records of a page, changed in place. Raises `RecordError` for another form."""
        for number, record in enumerate(records, 1):
            self._read_record(record, page, number)
        if not isinstance(records, UnverifiedRecords):
            return records
        strict = records.parse_strictly
        # the strict parser reads the text again, in which the cursor is as the API spells it
        return UnverifiedRecords.of(
            records, records.key_count, records.raw, lambda: self.read(strict(), page)
        )

    def _read_record(self, record: Any, page: int, number: int) -> None:
        if not isinstance(record, dict):
            return  # the filter says what is wrong with it
        for cursor_field in compile_cursor_path(self.cursor.path):
            name = cursor_field.name
            if name is not None:
                if record.get(name) is not None:
                    record[name] = self._standard(record[name], name, page, number)
                continue
            for found in cursor_field.path.find(record):
                if found.value is not None:
                    made = self._standard(found.value, str(cursor_field.path), page, number)
                    found.full_path.update(record, made)

    def _standard(self, value: Any, path: str, page: int, number: int) -> str:
        is_text = isinstance(value, str | int) and not isinstance(value, bool)
        found = read_time(str(value), self.cursor.formats, self.cursor.zone) if is_text else None
        if found is None:
            others = patterns_for(value) if isinstance(value, str) else ()
            fix = f". Add {' or '.join(others)} to it" if others else ""
            problem = (
                f"{describe_value(value)} fits no format of cursor_format "
                f"({', '.join(self.cursor.formats)}){fix}"
            )
            raise RecordError(self.resource, page, number, path, problem)
        return found
