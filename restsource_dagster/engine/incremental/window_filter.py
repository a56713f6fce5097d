"""Filters the rows of one backfill window and says which of its ends the API filters by.

No stored cursor is read or moved: positions live as long as the call.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dlt.extract import Incremental

from restsource_dagster.connector.cursor_format import CursorValueError
from restsource_dagster.connector.partitions import Window
from restsource_dagster.engine.errors import ResourceError
from restsource_dagster.engine.incremental.cursor_state import ResourceState
from restsource_dagster.engine.incremental.family_cursors import FamilyCursors, OpenRowFilter
from restsource_dagster.engine.incremental.ordering import IncomparableError
from restsource_dagster.engine.incremental.position import CursorRules, Position
from restsource_dagster.engine.incremental.row_filter import Record, RowFilter
from restsource_dagster.engine.plan.resource_plan import ResourcePlan

__all__ = ["BackfillWindow", "WindowCursors", "WindowFilter", "bounded_plan"]

Notify = Callable[[str], None]


@dataclass(frozen=True)
class BackfillWindow:
    """The window that the API is asked for, and the part of it whose rows are loaded.

    `accepted` ends before `requested` where the live stream has started: later rows are loaded by
    live runs.
    """

    requested: Window
    accepted: Window


def bounded_plan(plan: ResourcePlan, window: BackfillWindow) -> ResourcePlan:
    """Return the root's plan with both ends of the window, without the options of live runs."""
    given = plan.incremental
    if given is None:
        return plan
    bounded: Incremental[Any] = Incremental(
        cursor_path=given.cursor_path,
        initial_value=window.requested.start,
        end_value=window.requested.end,
        # a window ascends; the row order of a descending cursor is the other way round
        row_order=None if given.last_value_func is min else given.row_order,
        # a row without a cursor lies in no window
        on_cursor_value_missing="exclude",
    )
    return replace(plan, incremental=bounded)


class WindowCursors(FamilyCursors):
    """Opens the row filters of a window. The root's is bounded; those of dependents start without a stored cursor."""

    # a window that is loaded is not loaded again
    reads_again = False

    def __init__(
        self, plans: Mapping[str, ResourcePlan], notify: Notify, window: BackfillWindow
    ) -> None:
        super().__init__(plans, notify)
        self._window = window

    def open(self, plan: ResourcePlan, parent: Sequence[Any] | None) -> OpenRowFilter | None:
        """Return the row filter of a call; None if the resource has no cursor. Saving is a no-op."""
        if plan.incremental is None:
            return None
        rules = CursorRules.of(plan.resource.name, plan.incremental)
        row_filter: RowFilter
        if parent is None:
            row_filter = WindowFilter(rules, None, {}, self._notify)
            row_filter.set_window(self._window, api_filters_of(plan))
        else:
            # dependents are merged, so they start anew in each window
            row_filter = RowFilter(rules, Position(rules, {}, remembers=False), {}, self._notify)
        return OpenRowFilter(row_filter, lambda: None)

    def peek(self, plan: ResourcePlan, parent: Sequence[Any]) -> RowFilter | None:
        """Return a new row filter: in a window every call below a parent starts anew."""
        opened = self.open(plan, parent)
        return opened.row_filter if opened else None

    def state_of(self, name: str) -> ResourceState:  # noqa: ARG002 - the same for all
        """Return an empty state that is not stored."""
        return {}

    def paging_state_of(self, name: str) -> ResourceState:  # noqa: ARG002 - the same for all
        """Return an empty state that is not stored."""
        return {}

    def gone_parents_of(self, name: str, asked: str) -> dict[str, Any]:  # noqa: ARG002 - as above
        """Return an empty list that is not stored."""
        return {}


@dataclass
class WindowFilter(RowFilter):
    """Passes on the rows of a window and counts the others."""

    window: BackfillWindow = field(init=False)
    _api_filters: tuple[bool, bool] = field(default=(True, True), init=False)
    _received: int = field(default=0, init=False)
    _accepted: int = field(default=0, init=False)
    _left_to_live: int = field(default=0, init=False)

    def set_window(self, window: BackfillWindow, api_filters: tuple[bool, bool]) -> None:
        """Set the window, and whether the API filters by its start and by its end.

        If it doesn't, reports which rows are requested although the window leaves them out.
        """
        self.window = window
        self._api_filters = api_filters
        self.start = window.requested.start
        text = _describe_filter_cost(self.rules.resource, window.requested, api_filters)
        if text:
            self.notify(text)

    def filter(self, rows: Sequence[Record], page: int) -> list[Record]:
        """Return the rows of a page that lie in the window.

        Raises `RecordError` for a row whose cursor can't be compared.
        """
        accepted = []
        for number, row in enumerate(rows, 1):
            self._received += 1
            value = self._value(row, page, number)
            if value is None:
                self._left_out += 1
                continue
            try:
                if self._is_in_window(value):
                    accepted.append(row)
            except CursorValueError as error:
                problem = f"{error}; write `initial_value` in the API's form"
                raise self._error(problem, page, number) from None
            except IncomparableError as error:
                raise self._error(str(error), page, number) from None
        self._accepted += len(accepted)
        return accepted

    def report(self) -> None:
        """Report how many rows were left out, and how many were received for the window's rows."""
        name, path = self.rules.resource, self.rules.path
        if self._left_out:
            self.notify(
                f"{name}: left out {self._left_out} rows without {path}: they are in no window and "
                "are loaded by live runs"
            )
        if self._left_to_live:
            self.notify(
                f"{name}: left out {self._left_to_live} rows from {self.window.accepted.end} on: "
                "they are loaded by live runs"
            )
        if not all(self._api_filters):
            self.notify(
                f"{name}: received {self._received} rows for the {self._accepted} rows of the window"
            )

    def go_on_from_last(self, max_rows: int) -> None:
        """Raise `ResourceError`: the window has more rows than the API returns to one query."""
        raise ResourceError(
            self.rules.resource,
            f"the window {self.window.requested.label} has more rows than the API returns to one query "
            f"(max_rows, {max_rows:,}). Load it in shorter windows",
        )

    def _is_in_window(self, value: Any) -> bool:
        """Return True if a row is loaded with this window; set `is_finished` if no later row is."""
        self._check_row_order(value)
        if self.window.accepted.contains(value):
            return True
        # `accepted` is the start of `requested`, so this row is after it
        if self.window.requested.contains(value):
            self._left_to_live += 1
            return False
        end = self.window.requested.end if self._row_order == "asc" else None
        if end is not None and self._order.is_after(value, end):
            self.is_finished = True
        if self._row_order == "desc" and self._order.is_before(value, self.start):
            self.is_finished = True
        return False


def api_filters_of(plan: ResourcePlan) -> tuple[bool, bool]:
    """Return whether requests send the start of a window, and whether they send its end."""
    # in a window, the initial value is its start
    lower = plan.sends_start or plan.endpoint.mentions("{incremental.initial_value")
    return lower, plan.sends_end


def _describe_filter_cost(name: str, window: Window, api_filters: tuple[bool, bool]) -> str | None:
    if all(api_filters):
        return None
    upper = '"end_param" in its `incremental`, or "{incremental.end_value}" in a param'
    if api_filters[0]:
        return (
            f"{name}: the file names no param for the end of a window, so all rows from "
            f"{window.start} on are requested and those from {window.end} on are left out. The "
            f"older the window, the more rows. If the API can filter by an end, add {upper}"
        )
    if api_filters[1]:
        return (
            f"{name}: the file names no param for the start of a window, so all rows up to "
            f"{window.end} are requested and those before {window.start} are left out. If the API "
            'can filter by a start, add "start_param" to its `incremental`'
        )
    return (
        f"{name}: the file names no param for the ends of a window, so each window requests all "
        f"rows and those outside {window.label} are left out. If the API can filter, add "
        f'"start_param" and {upper}'
    )
