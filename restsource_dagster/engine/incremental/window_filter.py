"""The rows of one window of history: which are taken, and what the API is asked for.

Nothing here knows or moves a stored cursor: positions are made for the call and thrown away.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dlt.extract import Incremental

from restsource_dagster.connector.cursor_format import CursorValueError
from restsource_dagster.connector.partitions import Window
from restsource_dagster.engine.incremental.cursor_state import ResourceState
from restsource_dagster.engine.incremental.family_cursors import FamilyCursors, OpenRowFilter
from restsource_dagster.engine.incremental.ordering import IncomparableError
from restsource_dagster.engine.incremental.position import CursorRules, Position
from restsource_dagster.engine.incremental.row_filter import Record, RowFilter
from restsource_dagster.engine.source.resource_plan import ResourcePlan

__all__ = ["BackfillWindow", "WindowCursors", "WindowFilter", "bounded_plan"]

Notify = Callable[[str], None]
_START_PLACEHOLDERS = ("start_value", "last_value", "initial_value")


@dataclass(frozen=True)
class BackfillWindow:
    """A stretch of a root's cursor, and the part of it whose rows are taken.

    `taken` is less than `asked` where the live stream has begun: its rows are its own.
    """

    asked: Window
    taken: Window


def bounded_plan(plan: ResourcePlan, window: BackfillWindow) -> ResourcePlan:
    """The root's plan with both ends of the window, and without what is meant for live runs."""
    given = plan.incremental
    if given is None:
        return plan
    ends: Incremental[Any] = Incremental(
        cursor_path=given.cursor_path,
        initial_value=window.asked.start,
        end_value=window.asked.end,
        row_order=None if given.last_value_func is min else given.row_order,
        on_cursor_value_missing="exclude",
    )
    return replace(plan, incremental=ends)


class WindowCursors(FamilyCursors):
    """Opens the streams of a window: that of the root is bounded, those below begin anew."""

    def __init__(
        self, plans: Mapping[str, ResourcePlan], say: Notify, window: BackfillWindow
    ) -> None:
        super().__init__(plans, say)
        self._window = window

    def open(self, plan: ResourcePlan, parent: Sequence[Any] | None) -> OpenRowFilter | None:
        """The stream of a call; None if the resource has no cursor. Saving it does nothing."""
        if plan.incremental is None:
            return None
        rules = CursorRules.of(plan.resource.name, plan.incremental)
        stream: RowFilter
        if parent is None:
            stream = WindowFilter(rules, None, {}, self._say)
            stream.begin(self._window, api_filters_of(plan))
        else:
            stream = RowFilter(rules, Position(rules, {}, remembers=False), {}, self._say)
        return OpenRowFilter(stream, lambda: None)

    def peek(self, plan: ResourcePlan, parent: Sequence[Any]) -> RowFilter | None:
        """As for live runs; here every call below a parent starts anew."""
        opened = self.open(plan, parent)
        return opened.stream if opened else None

    def state_of(self, name: str) -> ResourceState:  # noqa: ARG002 - the same for all
        """A state that nobody keeps."""
        return {}


@dataclass
class WindowFilter(RowFilter):
    """Takes the rows of a window and counts the others."""

    window: BackfillWindow = field(init=False)
    _api_filters: tuple[bool, bool] = field(default=(True, True), init=False)
    _received: int = field(default=0, init=False)
    _taken: int = field(default=0, init=False)
    _left_to_live: int = field(default=0, init=False)

    def begin(self, window: BackfillWindow, filters: tuple[bool, bool]) -> None:
        """Set the window, and which of its ends the API is asked for; say what that costs."""
        self.window = window
        self._api_filters = filters
        self.start = window.asked.start
        text = _describe_filter_cost(self.rules.resource, window.asked, filters)
        if text:
            self.say(text)

    def read(self, rows: Sequence[Record], page: int) -> list[Record]:
        """The rows of a page that lie in the window. Raises `RowError` for one that can't be read."""
        taken = []
        for number, row in enumerate(rows, 1):
            self._received += 1
            value = self._value(row, page, number)
            if value is None:
                self._left_out += 1
                continue
            try:
                if self._is_in_window(value):
                    taken.append(row)
            except (CursorValueError, IncomparableError) as error:
                problem = f"{error}; write `initial_value` in the form that the API uses"
                raise self._error(problem, page, number) from None
        self._taken += len(taken)
        return taken

    def end(self) -> None:
        """Tell what was left out, and what asking for it has cost."""
        name, path = self.rules.resource, self.rules.path
        if self._left_out:
            self.say(
                f"{name}: left out {self._left_out} rows without {path}: they lie in no window and "
                "belong to the live stream"
            )
        if self._left_to_live:
            self.say(
                f"{name}: left out {self._left_to_live} rows from {self.window.taken.end} on, which belong "
                "to the live stream"
            )
        if not all(self._api_filters):
            self.say(
                f"{name}: {self._received} rows were received for the {self._taken} of the window"
            )

    def _is_in_window(self, value: Any) -> bool:
        self._check_row_order(value)
        if self.window.taken.holds(value):
            return True
        if self.window.asked.holds(value):
            self._left_to_live += 1
            return False
        end = self.window.asked.end if self._row_order == "asc" else None
        if end is not None and self._order.is_after(value, end):
            self.is_finished = True
        if self._row_order == "desc" and self._order.is_before(value, self.start):
            self.is_finished = True
        return False


def api_filters_of(plan: ResourcePlan) -> tuple[bool, bool]:
    """Whether the file gives the API the lower and the upper end of a window."""
    texts = list(_strings_in(plan.endpoint))
    lower = any(f"{{incremental.{name}" in text for text in texts for name in _START_PLACEHOLDERS)
    upper = any("{incremental.end_value" in text for text in texts)
    return bool(plan.start_param) or lower, bool(plan.end_param) or upper


def _strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings_in(item)


def _describe_filter_cost(name: str, span: Window, filters: tuple[bool, bool]) -> str | None:
    if all(filters):
        return None
    upper = '"end_param" in its `incremental`, or "{incremental.end_value}" in a param'
    if filters[0]:
        return (
            f"{name}: the file names no param for the end of a window, so all rows from "
            f"{span.start} on are asked for and those from {span.end} on are left out here: the "
            f"older the window, the more. If the API can filter by an end, add {upper}"
        )
    if filters[1]:
        return (
            f"{name}: the file names no param for the start of a window, so all rows up to "
            f"{span.end} are asked for and those before {span.start} are left out here. If the API "
            'can filter by a start, add "start_param" to its `incremental`'
        )
    return (
        f"{name}: the file names no param for the ends of a window, so each window asks for all "
        f"rows there are and those outside {span.name} are left out here. If the API can filter, "
        f'add "start_param" and {upper}'
    )
