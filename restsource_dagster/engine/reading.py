"""How the rows of a resource are read: call by call, page by page, through its cursor."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dlt

from restsource_dagster.engine.calls import call_below, root_call
from restsource_dagster.engine.children import AskBelow, Children, Parents
from restsource_dagster.engine.errors import RequestError, ResponseError, RowError
from restsource_dagster.engine.family_cursors import FamilyCursors, OpenStream
from restsource_dagster.engine.paging.pages import Call, Endpoint
from restsource_dagster.engine.plans import ResourcePlan
from restsource_dagster.engine.streams import CursorView, MarkedRow, Stream
from restsource_dagster.engine.values import Values

__all__ = ["Reading", "child_pages", "root_pages"]

_SNIPPET = 80

Row = dict[str, Any]
Records = list[Any]


@dataclass(frozen=True)
class Reading:
    """What it takes to read a resource."""

    plan: ResourcePlan
    endpoint: Endpoint
    cursors: FamilyCursors
    children: Children
    values: Values

    def view(self, stream: Stream | None) -> CursorView | None:
        """What the placeholders of a call see of the cursor."""
        if stream is None or self._view is None:
            return None
        return self._view.at(stream.start)

    @cached_property
    def _view(self) -> CursorView | None:
        incremental = self.plan.incremental
        return None if incremental is None else CursorView.of(incremental, None)

    def rows(self, call: Call, opened: OpenStream | None) -> Iterator[Records]:
        """The rows of a call that are new, page by page; then the cursor is moved."""
        may_stop = opened is not None and opened.stream.may_finish
        with closing(self.endpoint.pages(call, may_stop=may_stop)) as pages:
            for number, records in enumerate(pages, 1):
                rows = self.values.settle(records, number)
                rows = opened.stream.read(rows, number) if opened else rows
                if rows:
                    yield rows
                if opened and opened.stream.finished:
                    break
        if opened:
            opened.stream.end()
            opened.save()

    def rows_below(self, ask: AskBelow, opened: OpenStream | None) -> Iterator[Records]:
        """The rows of the call below a parent, with the fields that they get from it."""
        plan, parent = self.plan, ask.parent
        view = self.view(opened.stream if opened else None)
        call, from_parent = call_below(plan, view, parent)
        pages = (self._extended(rows, from_parent, parent) for rows in self.rows(call, opened))
        if not self.children.may_skip:
            yield from pages
            return
        try:
            # all or nothing: of a parent whose second page fails, not even the first is loaded
            yield from list(pages)
        except (RequestError, ResponseError) as error:
            self.children.skip(parent, call.path, error)

    def _extended(self, rows: Records, from_parent: Mapping[str, Any], parent: Row) -> Records:
        """The rows with the fields that they get from their parent."""
        again = parent.again if isinstance(parent, MarkedRow) else frozenset()
        extended = []
        for number, row in enumerate(rows, 1):
            if from_parent:
                self._add(row, from_parent, number)
            if again:
                row = MarkedRow(row)  # noqa: PLW2901 - the same row, marked
                row.again = again
            extended.append(row)
        return extended

    def _add(self, row: Any, from_parent: Mapping[str, Any], number: int) -> None:
        name = self.plan.resource.name
        if not isinstance(row, dict):
            problem = (
                f"the record {self._shown(row)} is no object, so include_from_parent has no place "
                "in it"
            )
            raise RowError(name, None, number, "", problem)
        for field, value in from_parent.items():
            if field in row and row[field] != value:
                problem = (
                    f"the record has {self._shown(row[field])} there, and include_from_parent would "
                    f"put {self._shown(value)} in its place"
                )
                raise RowError(name, None, number, field, problem)
        row.update(from_parent)

    def _shown(self, value: Any) -> str:
        return self.endpoint.redactor.start_of(repr(value), _SNIPPET)

    def foresee(self, parents: Parents) -> None:
        """Have the calls below the next parents fetched before they are made.

        Each is the call that would be made by now. If it is another one by the time it is made, what
        was fetched is thrown away.
        """
        plan = self.plan
        for ask in parents.coming(self.endpoint.looks_ahead):
            if self.children.is_foreseen(ask.key):
                continue
            stream = self.cursors.peek(plan, ask.values)
            if stream is None and plan.incremental is not None:
                return
            self.children.note_foreseen(ask.key)
            try:
                call, _ = call_below(plan, self.view(stream), ask.parent)
            except Exception:  # noqa: BLE001 - the call itself meets the same error, and tells
                return
            may_stop = stream is not None and stream.may_finish
            self.endpoint.foresee(call, may_stop=may_stop, group=parents)


def root_pages(reading: Reading) -> Iterator[Any]:
    """The pages of a resource that stands alone."""
    opened = reading.cursors.open(reading.plan, None)
    pages = 0
    call = root_call(reading.plan, reading.view(opened.stream if opened else None))
    for rows in reading.rows(call, opened):
        pages += 1
        yield rows
    if not pages:
        yield _nothing(reading.plan)


def child_pages(items: Any, reading: Reading) -> Iterator[Any]:
    """The pages of a dependent resource: one call for each record of its parent's page.

    They come in the order of the parents. The calls below the first parents are fetched as soon as
    the parents are known, and others while these are read.
    """
    parents = reading.children.below(items if isinstance(items, list) else [items])
    reading.foresee(parents)
    return _child_pages(parents, reading)


def _child_pages(parents: Parents, reading: Reading) -> Iterator[Any]:
    try:
        yield _nothing(reading.plan)
        while (ask := parents.take()) is not None:
            opened = reading.cursors.open(reading.plan, ask.values)
            reading.foresee(parents)
            yield from reading.rows_below(ask, opened)
    finally:
        reading.endpoint.withdraw(parents)


def _nothing(plan: ResourcePlan) -> Any:
    """No rows, but the table if its columns are declared; and dependents get their turn."""
    columns = plan.hints.get("columns") or {}
    listed = columns.values() if isinstance(columns, Mapping) else columns
    declared = any(column.get("data_type") for column in listed)
    return dlt.mark.materialize_table_schema() if declared and plan.loaded else []
