"""The rows of one call, read by its cursor: which are new, for whom, and when to stop asking."""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import lru_cache
from operator import is_
from typing import Any, Self

from dlt.extract import Incremental
from jsonpath_ng import JSONPath

from restsource_dagster.engine.dlt_compat import jsonpath
from restsource_dagster.engine.errors import RecordError
from restsource_dagster.engine.incremental.ordering import (
    CursorOrder,
    IncomparableError,
    fast_min_max,
)
from restsource_dagster.engine.incremental.position import CursorRules, Position

__all__ = ["PlaceholderCursor", "RowFilter", "SeenRecord"]

_UNORDERED_TYPES = {dict: "an object", list: "a list", bool: "true or false"}

Record = dict[str, Any]
Notify = Callable[[str], None]


class SeenRecord(dict[str, Any]):
    """A record that some dependents have had before: those in `again` need not ask below it."""

    again: frozenset[str] = frozenset()


class PlaceholderCursor(Incremental[Any]):
    """What placeholders see of a cursor: dlt's attributes, without dlt's state behind them."""

    _start: Any = None

    @classmethod
    def of(cls, incremental: Incremental[Any], start: Any) -> Self:
        """The same settings, starting at `start`."""
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

    def at(self, start: Any) -> Self:
        """The same, starting elsewhere; much quicker than to make it anew."""
        view = copy(self)
        view.start_value = view._start = start
        return view

    @property
    def last_value(self) -> Any:
        """The value it starts at: a placeholder is filled before any row is read."""
        return self._start

    def get_state(self) -> Any:
        """No state: a first run without an initial value."""
        return {"initial_value": None, "last_value": None, "unique_hashes": [], "start_value": None}


@dataclass
class RowFilter:
    """Reads the rows of one call.

    `own` is the position of the resource itself, None if it is not loaded; `followers` are the
    positions of dependents in its rows. A row that is new to any of them goes on, marked for those
    that have had it.
    """

    rules: CursorRules
    own: Position | None
    followers: Mapping[str, Position]
    say: Notify
    start: Any = field(default=None, init=False)
    """From where to ask."""
    is_finished: bool = field(default=False, init=False)
    """No page that follows can hold a row that is asked for."""
    over: bool = field(default=False, init=False)
    """Every row was had before: none goes on."""
    _previous: Any = field(default=None, init=False)
    _left_out: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._order = CursorOrder(falling=self.rules.falling)
        self._row_order = self.rules.row_order
        self._path, self._simple = _compile_cursor_path(self.rules.path)
        self.start = self._oldest_start()

    @property
    def may_finish_early(self) -> bool:
        """Whether it may want no more pages before the last one."""
        ordered, is_bounded = self.rules.row_order, self.rules.end is not None
        return self.over or ordered == "desc" or (is_bounded and ordered == "asc")

    def read(self, rows: list[Record], page: int) -> list[Record]:
        """The rows of a page that go on: `rows` itself if all do.

        Raises `RowError` for a cursor that can't be read.
        """
        taken: list[Record] = []
        if self.over:
            self.is_finished = True
            return taken
        if self._all_new(rows):
            return rows
        for number, row in enumerate(rows, 1):
            try:
                value = self._value(row, page, number)
                if value is None and self.rules.on_missing == "exclude":
                    self._left_out += 1
                elif value is None or self._is_in_range(value):
                    taken.extend(self._take(value, row))
            except IncomparableError as error:
                raise self._error(
                    f"{error}; write `initial_value` in the form that the API uses", page, number
                ) from None
        if len(taken) == len(rows) and all(map(is_, taken, rows)):
            return rows
        return taken

    def _all_new(self, rows: list[Record]) -> bool:
        """Whether all rows go on and nothing of them has to be remembered: the usual page.

        Then the position is moved to the newest at once.
        """
        own, rules = self.own, self.rules
        if not rows or own is None or own.remembers or self.followers or rules.end is not None:
            return False
        if not self._simple or self._row_order or rules.falling or rules.open_start:
            return False
        try:
            values = [row[self._simple] for row in rows]
        except (KeyError, TypeError):
            return False
        ends = fast_min_max(values)
        if ends is None or (self.start is not None and self._is_before_start(ends[0])):
            return False
        own.advance_to(ends[1])
        return True

    def _is_before_start(self, value: Any) -> bool:
        try:
            return self._order.is_before(value, self.start)
        except IncomparableError:
            return True  # said where rows are looked at one by one

    def end(self) -> None:
        """Tell what was left out."""
        if self._left_out:
            self.say(
                f"{self.rules.resource}: left out {self._left_out} rows without "
                f"{self.rules.path} (on_cursor_value_missing is exclude)"
            )

    def _oldest_start(self) -> Any:
        """The oldest start of all positions; rows before its own can't be appended again."""
        if self.own and self.own.remembers:
            return self.own.start
        positions = [*([self.own] if self.own else []), *self.followers.values()]
        starts = [position.start for position in positions]
        if any(start is None for start in starts):
            return None
        oldest = starts[0] if starts else self.rules.initial
        for start in starts:
            oldest = start if self._order.is_before(start, oldest) else oldest
        return oldest

    def _value(self, row: Record, page: int, number: int) -> Any:
        if not isinstance(row, dict):
            raise self._error("a record that is no object has no cursor", page, number)
        if self._simple:
            value = row.get(self._simple)
        else:
            found = jsonpath.find_values(self._path, row)
            value = found[0] if found else None
        if value is None and self.rules.on_missing == "raise":
            raise self._error(
                "the record has no value there, so nobody can tell whether it is new; see "
                "`on_cursor_value_missing` (include, exclude)",
                page,
                number,
            )
        if type(value) in _UNORDERED_TYPES:
            kind = _UNORDERED_TYPES[type(value)]
            raise self._error(f"{kind} is no value to order rows by", page, number)
        return value

    def _is_in_range(self, value: Any) -> bool:
        """Whether a row lies within the range; notes the order and whether all others are past."""
        self._check_row_order(value)
        rules, order = self.rules, self._order
        if rules.end is not None:
            past = order.is_after(value, rules.end)
            if past or (rules.open_end and order.is_same(value, rules.end)):
                self.is_finished = self.is_finished or (past and self._row_order == "asc")
                return False
        if self.start is not None and order.is_before(value, self.start):
            self.is_finished = self.is_finished or self._row_order == "desc"
            return False
        return True

    def _take(self, value: Any, row: Record) -> list[Record]:
        new = self.own.accept(value, row) if self.own else True
        # what is merged may be read again, for a dependent that has yet to read it
        wanted = new or (bool(self.followers) and not (self.own and self.own.remembers))
        again = frozenset(
            name for name, position in self.followers.items() if not position.accept(value, row)
        )
        if not wanted:
            return []
        if not again:
            return [row]
        marked = SeenRecord(row)
        marked.again = again
        return [marked]

    def _check_row_order(self, value: Any) -> None:
        """Stop believing in `row_order` as soon as a row contradicts it."""
        if self._row_order is None:
            return
        before = self._previous
        self._previous = value
        if before is None:
            return
        falls = self._order.is_before(value, before)
        rises = self._order.is_after(value, before)
        if (falls and self._row_order == "asc") or (rises and self._row_order == "desc"):
            self.say(
                f"{self.rules.resource}: row_order says {self._row_order}, but {value!r} comes after "
                f"{before!r}; all pages are read. Leave row_order out"
            )
            self._row_order = None
            self.is_finished = False

    def _error(self, problem: str, page: int, number: int) -> RecordError:
        return RecordError(self.rules.resource, page, number, self.rules.path, problem)


@lru_cache(maxsize=1024)
def _compile_cursor_path(path: str) -> tuple[JSONPath, str | None]:
    """A path that can be followed, and the field's name if it is no more than that.

    Compiling takes as long as reading a small page, and every call has a stream of its own.
    """
    compiled = jsonpath.compile_path(path)
    return compiled, jsonpath.extract_simple_field_name(compiled)
