"""How the rows of a resource are read: call by call, page by page, through its cursor."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dlt

from restsource_dagster.engine.calls import call_below, root_call
from restsource_dagster.engine.children import Children
from restsource_dagster.engine.errors import RequestError, ResponseError, RowError
from restsource_dagster.engine.family_cursors import FamilyCursors, OpenStream
from restsource_dagster.engine.paging.pages import Call, Endpoint
from restsource_dagster.engine.plans import ResourcePlan
from restsource_dagster.engine.streams import CursorView, MarkedRow
from restsource_dagster.engine.values import Values

__all__ = ["Reading", "child_pages", "root_pages"]

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

    def view(self, opened: OpenStream | None) -> CursorView | None:
        """What the placeholders of a call see of the cursor."""
        if opened is None or self.plan.incremental is None:
            return None
        return CursorView.of(self.plan.incremental, opened.stream.start)

    def rows(self, call: Call, opened: OpenStream | None) -> Iterator[Records]:
        """The rows of a call that are new, page by page; then the cursor is moved."""
        for number, records in enumerate(self.endpoint.pages(call), 1):
            rows = self.values.settle(records, number)
            rows = opened.stream.read(rows, number) if opened else rows
            if rows:
                yield rows
            if opened and opened.stream.finished:
                break
        if opened:
            opened.stream.end()
            opened.save()


def root_pages(reading: Reading) -> Iterator[Any]:
    """The pages of a resource that stands alone."""
    opened = reading.cursors.open(reading.plan, None)
    pages = 0
    for rows in reading.rows(root_call(reading.plan, reading.view(opened)), opened):
        pages += 1
        yield rows
    if not pages:
        yield _nothing(reading.plan)


def child_pages(items: Any, reading: Reading) -> Iterator[Any]:
    """The pages of a dependent resource: one call for each record of its parent's page."""
    plan, children = reading.plan, reading.children

    def below(parent: Row, opened: OpenStream | None) -> Iterator[Records]:
        call, from_parent = call_below(plan, reading.view(opened), parent)
        pages = (_extended(rows, from_parent, parent, plan) for rows in reading.rows(call, opened))
        if not children.may_skip:
            yield from pages
            return
        try:
            # all or nothing: of a parent whose second page fails, not even the first is loaded
            yield from list(pages)
        except (RequestError, ResponseError) as error:
            children.skip(parent, call.path, error)

    def all_below(parent: Row, opened: OpenStream | None) -> Callable[[], Records]:
        return lambda: [row for page in below(parent, opened) for row in page]

    yield _nothing(plan)
    for parent, values in children.to_ask(items if isinstance(items, list) else [items]):
        opened = reading.cursors.open(plan, values)
        if plan.parallelized:
            yield all_below(parent, opened)
        else:
            yield from below(parent, opened)


def _nothing(plan: ResourcePlan) -> Any:
    """No rows, but the table if its columns are declared; and dependents get their turn."""
    columns = plan.hints.get("columns") or {}
    listed = columns.values() if isinstance(columns, Mapping) else columns
    declared = any(column.get("data_type") for column in listed)
    return dlt.mark.materialize_table_schema() if declared and plan.loaded else []


def _extended(
    rows: Records, from_parent: Mapping[str, Any], parent: Row, plan: ResourcePlan
) -> Records:
    """The rows with the fields that they get from their parent."""
    again = parent.again if isinstance(parent, MarkedRow) else frozenset()
    extended = []
    for number, row in enumerate(rows, 1):
        if from_parent:
            _add(row, from_parent, number, plan)
        if again:
            row = MarkedRow(row)  # noqa: PLW2901 - the same row, marked
            row.again = again
        extended.append(row)
    return extended


def _add(row: Any, from_parent: Mapping[str, Any], number: int, plan: ResourcePlan) -> None:
    name = plan.resource.name
    if not isinstance(row, dict):
        problem = f"the record {row!r:.80} is no object, so include_from_parent has no place in it"
        raise RowError(name, None, number, "", problem)
    for field, value in from_parent.items():
        if field in row and row[field] != value:
            problem = (
                f"the record has {row[field]!r:.80} there, and include_from_parent would put "
                f"{value!r:.80} in its place"
            )
            raise RowError(name, None, number, field, problem)
    row.update(from_parent)
