"""The pages of a resource: those of its own call, or of one call for each record of its parent.

A generator of pages goes on after the checkpoint of a load at the call, or at the parents, that are left.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import dlt

from restsource_dagster.engine.plan.resource_plan import (
    ResourcePlan,
    root_call,
)
from restsource_dagster.engine.source.parents import (
    LastParents,
    ParentQueue,
    PendingParent,
)
from restsource_dagster.engine.source.resource_reader import Records, ResourceReader

__all__ = ["dependent_pages", "root_pages"]


def root_pages(reader: ResourceReader) -> Iterator[Any]:
    """Yield the pages of a resource without a parent."""
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


def dependent_pages(items: Any, reader: ResourceReader) -> Iterator[Any]:
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
    finally:
        # dlt closes the generator in its middle when another resource fails
        reader.endpoint.cancel_prefetches(parents)


def _empty_page(plan: ResourcePlan) -> Any:
    """Return a page that makes the table if the file declares columns, and runs the dependents."""
    columns = plan.resource.hints.columns_by_name.values()
    declared = any(column.data_type for column in columns)
    return dlt.mark.materialize_table_schema() if declared and plan.loaded else []
