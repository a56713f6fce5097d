"""The dlt resources of a plan: their pages, and how these are written, as columns or as rows.

The pages are those of one call, or of one call for each record of the parent. A generator of pages goes on
after the checkpoint of a load at the call, or at the parents, that are left.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import dlt
from dlt.extract import DltResource

from restsource_dagster.engine.columnar.column_loader import ColumnLoader
from restsource_dagster.engine.plan.dlt_adapter import resource_hints
from restsource_dagster.engine.plan.resource_plan import ResourcePlan, root_call
from restsource_dagster.engine.source.exact_rows import ExactRows
from restsource_dagster.engine.source.parents import LastParents, ParentQueue, PendingParent
from restsource_dagster.engine.source.resource_reader import Records, ResourceReader

__all__ = ["PAGES_SUFFIX", "dlt_resources"]

PAGES_SUFFIX = " (pages)"
"""Ends the name of a dlt resource that only reads the pages of another one."""


def dlt_resources(
    reader: ResourceReader,
    loader: ColumnLoader | None,
    pages: dict[str, DltResource],
    *,
    is_parent: bool,
) -> Iterator[DltResource]:
    """Yield the dlt resource of a plan.

    A resource with dependents that is loaded gets two: one reads the pages, which its dependents take
    as records, and one loads them, as columns or with values in other columns than they came in.
    `pages` are the resources that dependents read from, by the parent's name.
    """
    plan = reader.plan
    name, parent = plan.resource.name, plan.resource.parent
    above = pages[parent] if parent else None
    writer = (
        _RowWriter(
            loader, ExactRows(plan.resource.table), tuple(reader.column_rules.untyped_keys())
        )
        if plan.loaded
        else None
    )
    if writer is None or not is_parent:
        made = _make_dlt_resource(
            _page_function(above), above, resource_hints(plan.resource), reader, writer
        )
        # dlt reads a resource that is not selected for its dependents, and stores none of its rows
        made.selected = plan.loaded
        pages[name] = made
        yield made
        return
    pages[name] = _make_dlt_resource(
        _page_function(above), above, {"name": f"{name}{PAGES_SUFFIX}"}, reader, None
    )
    # its records are rows of the other one already
    pages[name].selected = False
    yield pages[name]
    yield _make_dlt_resource(_loaded_items, pages[name], resource_hints(plan.resource), writer)


def _make_dlt_resource(
    function: Callable[..., Any], above: DltResource | None, hints: Mapping[str, Any], *args: Any
) -> DltResource:
    make: Any
    if above is None:
        make = dlt.resource(function, **hints)
    else:
        make = dlt.transformer(function, data_from=above, **hints)
    made: DltResource = make(*args)
    return made


def _page_function(above: DltResource | None) -> Callable[..., Iterator[Any]]:
    return _root_items if above is None else _dependent_items


@dataclass(frozen=True)
class _RowWriter:
    """Takes the pages of a resource that is loaded: as columns, and what is left as exact rows."""

    loader: ColumnLoader | None
    exact_rows: ExactRows
    untyped_keys: Sequence[str]
    """Columns that need a value, and whose type is not known before the first row."""

    def load(self, pages: Iterator[Any]) -> Iterator[Any]:
        made = map(self._with_table, pages)
        return self.exact_rows.load(self.loader.load(made) if self.loader else made)

    def _with_table(self, page: Any) -> Any:
        """Return the page; one without rows that makes the table leaves untyped keys for later.

        dlt refuses a table whose column needs a value and has no type. `ColumnRules` refuses rows
        without a key whatever dlt knows of it.
        """
        is_table_mark = isinstance(page, list) and not page and type(page) is not list
        if not is_table_mark or not self.untyped_keys:
            return page
        columns: Any = {name: {"name": name, "nullable": True} for name in self.untyped_keys}
        return dlt.mark.with_hints(page, dlt.mark.make_hints(columns=columns))


def _root_items(reader: ResourceReader, writer: _RowWriter | None) -> Iterator[Any]:
    pages = _root_pages(reader)
    return writer.load(pages) if writer else pages


def _dependent_items(
    items: Any, reader: ResourceReader, writer: _RowWriter | None
) -> Iterator[Any]:
    pages = _dependent_pages(items, reader)
    return writer.load(pages) if writer else pages


def _loaded_items(items: Any, writer: _RowWriter) -> Iterator[Any]:
    # the mark that no parent follows is no page
    return iter(()) if isinstance(items, LastParents) else writer.load(iter([items]))


def _root_pages(reader: ResourceReader) -> Iterator[Any]:
    """Yield the pages of a resource without a parent."""
    # here, not when the source is built: dlt's state is that of the extraction in progress
    reader.part.begin()
    is_empty = True
    if reader.part.is_later:
        # the dependents begin with the parents that the earlier parts have left
        is_empty = False
        yield _empty_page(reader.plan)
        if reader.part.has_ended:
            if reader.has_batches_below:
                # a batch that is not full is left to the next part
                yield LastParents()
            return
    else:
        # a load that is continued asks from where it began
        reader.cursors.forget_outdated(reader.plan)
    if reader.plan.is_repeated:
        # the values that an earlier part has not come to are left as parents are
        parents = reader.parents.queue([] if reader.part.is_later else [{}])
        reader.prefetch(parents)
        yield from _read_dependent_pages(parents, reader)
        if reader.has_batches_below:
            yield LastParents()
        return
    state = reader.cursors.paging_state_of(reader.plan.resource.name)
    reader.watch.recall(state)
    while True:
        for records in _root_call_pages(reader):
            is_empty = False
            yield records
        # windows without rows need no load of their own, nor do queries that the API cuts off
        if not reader.part.goes_on_within(has_rows=not is_empty):
            break
    reader.watch.store(state)
    if is_empty:
        yield _empty_page(reader.plan)
    if reader.has_batches_below:
        reader.part.finish()
        yield LastParents()


def _root_call_pages(reader: ResourceReader) -> Iterator[Records]:
    """Yield the pages of one call from the stored cursor on; none if there is nothing to ask for."""
    # anew for each call: the one before may have moved the cursor
    opened = reader.cursors.open(reader.plan, None)
    if opened and opened.row_filter.asks_nothing:
        return
    token = reader.cursors.open_token(reader.plan, reader.endpoint.redactor)
    placeholders = reader.placeholders(opened.row_filter if opened else None)
    with reader.located_errors():
        call = root_call(reader.plan, placeholders, token.value if token else None)
    yield from map(reader.repeats.filter, reader.records(call, opened, token=token))


def _dependent_pages(items: Any, reader: ResourceReader) -> Iterator[Any]:
    """Return the pages of a dependent resource: one call for each record of its parent's page.

    They come in the order of the parents. Calls for the first parents are prefetched at once, and
    more while these are read.
    """
    parents = reader.parents.queue(items if isinstance(items, list) else [items])
    # not in the generator, which dlt may start only after those of earlier pages
    if not reader.part.has_ended:
        reader.prefetch(parents)
    pages = _read_dependent_pages(parents, reader)
    if isinstance(items, LastParents) and reader.has_batches_below:
        return chain(pages, [items])
    return pages


def _read_dependent_pages(parents: ParentQueue, reader: ResourceReader) -> Iterator[Any]:
    state = reader.cursors.paging_state_of(reader.plan.resource.name)
    reader.watch.recall(state)
    is_followed = False
    try:
        yield _empty_page(reader.plan)
        # a parent whose call, or a call below it, has ended early is left together with the others
        ended: list[PendingParent] = []
        while not reader.part.has_ended and (pending := parents.next_parent()) is not None:
            opened = reader.cursors.open(reader.plan, pending.values)
            reader.prefetch(parents)
            yield from reader.dependent_records(pending, opened)
            ended = [pending] if reader.part.has_ended else []
        if reader.part.has_ended:
            reader.parents.leave([*ended, *parents.remaining()])
        reader.watch.store(state)
        is_followed = reader.part.is_followed
    finally:
        if is_followed:
            # the next part begins with the parents that are left, and would request them again
            reader.endpoint.keep_prefetches(parents, reader.part)
        else:
            # dlt closes the generator in its middle when another resource fails
            reader.endpoint.cancel_prefetches(parents)


def _empty_page(plan: ResourcePlan) -> Any:
    """Return a page that makes the table if the file declares columns, and runs the dependents."""
    columns = plan.resource.hints.columns_by_name.values()
    declared = any(column.data_type for column in columns)
    return dlt.mark.materialize_table_schema() if declared and plan.loaded else []
