"""From a connector to a dlt source.

It stands where dlt's `rest_api` source stands and shares its reading of the file, but requests
pass our session, pages our page loop, rows our cursors, and each resource has a session of its own.

How the rows of a resource are read: call by call, page by page, through its cursor.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dlt
from dlt.common.schema import Schema
from dlt.extract import DltResource, DltSource

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.columnar.column_loader import ColumnLoader
from restsource_dagster.engine.columnar.parquet_files import ParquetFiles
from restsource_dagster.engine.errors import RecordError, RequestError, ResponseError
from restsource_dagster.engine.http.usage import ResourceCounts
from restsource_dagster.engine.incremental.family_cursors import FamilyCursors, OpenRowFilter
from restsource_dagster.engine.incremental.row_filter import (
    PlaceholderCursor,
    RowFilter,
    SeenRecord,
)
from restsource_dagster.engine.incremental.window_filter import (
    BackfillWindow,
    WindowCursors,
    bounded_plan,
)
from restsource_dagster.engine.paging.endpoint_reader import Call, EndpointReader
from restsource_dagster.engine.source.calls import dependent_call, root_call
from restsource_dagster.engine.source.dependents import ParentQueue, ParentTracker, PendingParent
from restsource_dagster.engine.source.dlt_adapter import resource_hints
from restsource_dagster.engine.source.endpoint_factory import EndpointFactory
from restsource_dagster.engine.source.record_values import RecordSanitizer
from restsource_dagster.engine.source.resource_plan import ResourcePlan

__all__ = [
    "FamilySource",
    "ResourceReader",
    "build_family_source",
    "dependent_pages",
    "join_sources",
    "root_pages",
]

_VALUE_SNIPPET_CHARS = 80

Record = dict[str, Any]
Records = list[Any]


@dataclass(frozen=True)
class ResourceReader:
    """What it takes to read a resource."""

    plan: ResourcePlan
    endpoint: EndpointReader
    cursors: FamilyCursors
    children: ParentTracker
    values: RecordSanitizer

    def view(self, stream: RowFilter | None) -> PlaceholderCursor | None:
        """What the placeholders of a call see of the cursor."""
        if stream is None or self._view is None:
            return None
        return self._view.starting_at(stream.start)

    @cached_property
    def _view(self) -> PlaceholderCursor | None:
        incremental = self.plan.incremental
        return None if incremental is None else PlaceholderCursor.of(incremental, None)

    def rows(self, call: Call, opened: OpenRowFilter | None) -> Iterator[Records]:
        """The rows of a call that are new, page by page; then the cursor is moved."""
        may_stop = opened is not None and opened.row_filter.may_finish_early
        with closing(self.endpoint.pages(call, may_stop_early=may_stop)) as pages:
            for number, records in enumerate(pages, 1):
                rows = self.values.sanitize(records, number)
                rows = opened.row_filter.filter(rows, number) if opened else rows
                if rows:
                    yield rows
                if opened and opened.row_filter.is_finished:
                    break
        if opened:
            opened.row_filter.report()
            opened.save()

    def dependent_records(
        self, ask: PendingParent, opened: OpenRowFilter | None
    ) -> Iterator[Records]:
        """The rows of the call below a parent, with the fields that they get from it."""
        plan, parent = self.plan, ask.parent
        view = self.view(opened.row_filter if opened else None)
        call, from_parent = dependent_call(plan, view, parent)
        pages = (
            self._with_parent_fields(rows, from_parent, parent) for rows in self.rows(call, opened)
        )
        if not self.children.may_skip:
            yield from pages
            return
        try:
            # all or nothing: of a parent whose second page fails, not even the first is loaded
            yield from list(pages)
        except (RequestError, ResponseError) as error:
            self.children.skip(parent, call.path, error)

    def _with_parent_fields(
        self, rows: Records, from_parent: Mapping[str, Any], parent: Record
    ) -> Records:
        """The rows with the fields that they get from their parent."""
        again = parent.seen_by if isinstance(parent, SeenRecord) else frozenset()
        extended = []
        for number, row in enumerate(rows, 1):
            if from_parent:
                self._add(row, from_parent, number)
            if again:
                row = SeenRecord(row)  # noqa: PLW2901 - the same row, marked
                row.seen_by = again
            extended.append(row)
        return extended

    def _add(self, row: Any, from_parent: Mapping[str, Any], number: int) -> None:
        name = self.plan.resource.name
        if not isinstance(row, dict):
            problem = (
                f"the record {self._shown(row)} is no object, so include_from_parent has no place "
                "in it"
            )
            raise RecordError(name, None, number, "", problem)
        for field, value in from_parent.items():
            if field in row and row[field] != value:
                problem = (
                    f"the record has {self._shown(row[field])} there, and include_from_parent would "
                    f"put {self._shown(value)} in its place"
                )
                raise RecordError(name, None, number, field, problem)
        row.update(from_parent)

    def _shown(self, value: Any) -> str:
        return self.endpoint.redactor.snippet(repr(value), _VALUE_SNIPPET_CHARS)

    def foresee(self, parents: ParentQueue) -> None:
        """Have the calls below the next parents fetched before they are made.

        Each is the call that would be made by now. If it is another one by the time it is made, what
        was fetched is thrown away.
        """
        plan = self.plan
        for ask in parents.upcoming(self.endpoint.max_prefetched_calls):
            if self.children.is_prefetched(ask.key):
                continue
            stream = self.cursors.peek(plan, ask.values)
            if stream is None and plan.incremental is not None:
                return
            self.children.mark_prefetched(ask.key)
            try:
                call, _ = dependent_call(plan, self.view(stream), ask.parent)
            except Exception:  # noqa: BLE001 - the call itself meets the same error, and tells
                return
            may_stop = stream is not None and stream.may_finish_early
            self.endpoint.prefetch(call, may_stop_early=may_stop, group=parents)


def root_pages(reading: ResourceReader) -> Iterator[Any]:
    """The pages of a resource that stands alone."""
    opened = reading.cursors.open(reading.plan, None)
    pages = 0
    call = root_call(reading.plan, reading.view(opened.row_filter if opened else None))
    for rows in reading.rows(call, opened):
        pages += 1
        yield rows
    if not pages:
        yield _empty_page(reading.plan)


def dependent_pages(items: Any, reading: ResourceReader) -> Iterator[Any]:
    """The pages of a dependent resource: one call for each record of its parent's page.

    They come in the order of the parents. The calls below the first parents are fetched as soon as
    the parents are known, and others while these are read.
    """
    parents = reading.children.queue(items if isinstance(items, list) else [items])
    reading.foresee(parents)
    return _read_dependent_pages(parents, reading)


def _read_dependent_pages(parents: ParentQueue, reading: ResourceReader) -> Iterator[Any]:
    try:
        yield _empty_page(reading.plan)
        while (ask := parents.take()) is not None:
            opened = reading.cursors.open(reading.plan, ask.values)
            reading.foresee(parents)
            yield from reading.dependent_records(ask, opened)
    finally:
        reading.endpoint.cancel_prefetches(parents)


def _empty_page(plan: ResourcePlan) -> Any:
    """No rows, but the table if its columns are declared; and dependents get their turn."""
    columns = plan.resource.hints.columns_by_name.values()
    declared = any(column.data_type for column in columns)
    return dlt.mark.materialize_table_schema() if declared and plan.loaded else []


@dataclass(frozen=True)
class FamilySource:
    """The dlt source of one family, with what its resources count."""

    source: DltSource
    counts: Mapping[str, ResourceCounts]
    plans: Mapping[str, ResourcePlan]
    values: Mapping[str, RecordSanitizer]
    feeds: Mapping[str, ColumnLoader]
    """What is written as columns; resources that are loaded as rows have none."""


def build_family_source(
    connector: Connector,
    maker: EndpointFactory,
    plans: Mapping[str, ResourcePlan],
    root: str,
    *,
    say: Callable[[str], None],
    schema: Schema | None = None,
    window: BackfillWindow | None = None,
    parts: ParquetFiles | None = None,
) -> FamilySource:
    """A source of a family's resources that are loaded, or that a loaded one depends on.

    `plans` are theirs, `root` is the name of the one above all others. A parent that is not
    loaded is asked for all the same, and its own incremental cursor stays where it is. Raises dlt's
    `ConfigFieldMissingException` for a secret that is neither in the file nor where dlt looks.
    `schema` is what the destination knows of the tables, if dlt's pipeline doesn't. With a `window`
    only its rows are read, and no cursor is known or moved. Rows that can be columns go to `parts`.
    """
    if window is not None:
        plans = {**plans, root: bounded_plan(plans[root], window)}
    tallies = {name: maker.tally(name) for name in plans}
    # names become columns as dlt's configuration says
    normalize = (schema or Schema(connector.name)).naming.normalize_identifier
    cursors = WindowCursors(plans, say, window) if window else FamilyCursors(plans, say)
    feeds = _build_column_loaders(plans, parts, say) if parts else {}
    spreads = {name: feed.flatten for name, feed in feeds.items()}
    values = {
        name: RecordSanitizer(name, normalize, say, maker.redactor, spreads.get(name))
        for name in plans
    }

    def resources() -> Iterator[DltResource]:
        pages: dict[str, DltResource] = {}
        for name, plan in plans.items():
            rule = connector.http.on_child_error
            children = ParentTracker(plan, cursors, rule, tallies[name], maker.redactor)
            endpoint = maker.endpoint(plan)
            reading = ResourceReader(plan, endpoint, cursors, children, values[name])
            is_parent = any(other.resource.parent == name for other in plans.values())
            yield from _plan_resources(reading, feeds.get(name), pages, is_parent=is_parent)

    name = connector.name
    named = {"schema": schema} if schema else {"name": name}
    source = dlt.source(resources, section=name, **named)()
    # nested rows know their root row, so that a table can be merged into later on, too
    source.root_key = True
    return FamilySource(source, tallies, plans, values, feeds)


def join_sources(sources: Sequence[DltSource]) -> DltSource:
    """The first source with the resources of the others added: all of one connector, with different tables."""
    first = sources[0]
    for other in sources[1:]:
        first.resources.add(*other.resources.values())
    return first


def _build_column_loaders(
    plans: Mapping[str, ResourcePlan], parts: ParquetFiles, say: Callable[[str], None]
) -> Mapping[str, ColumnLoader]:
    return {
        name: ColumnLoader(plan.resource.table, parts, say)
        for name, plan in plans.items()
        if plan.loaded and plan.resource.mode != "rows"
    }


def _plan_resources(
    reading: ResourceReader,
    feed: ColumnLoader | None,
    pages: dict[str, DltResource],
    *,
    is_parent: bool,
) -> Iterator[DltResource]:
    """The resource of a plan; and, before it, the one that reads its pages if both its table and its
    dependents need them. `pages` are those that dependents read from, by the parent's name."""
    plan = reading.plan
    name, parent = plan.resource.name, plan.resource.parent
    above = pages[parent] if parent else None
    if feed is None or not is_parent:
        made = _make_dlt_resource(
            _page_function(above), above, resource_hints(plan.resource), reading, feed
        )
        made.selected = plan.loaded
        pages[name] = made
        yield made
        return
    pages[name] = _make_dlt_resource(
        _page_function(above), above, {"name": f"{name} (pages)"}, reading, None
    )
    pages[name].selected = False
    yield pages[name]
    yield _make_dlt_resource(_loaded_items, pages[name], resource_hints(plan.resource), feed)


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


def _root_items(reading: ResourceReader, feed: ColumnLoader | None) -> Iterator[Any]:
    pages = root_pages(reading)
    return feed.load(pages) if feed else pages


def _dependent_items(
    items: Any, reading: ResourceReader, feed: ColumnLoader | None
) -> Iterator[Any]:
    pages = dependent_pages(items, reading)
    return feed.load(pages) if feed else pages


def _loaded_items(items: Any, feed: ColumnLoader) -> Iterator[Any]:
    return feed.load(iter([items]))
