"""The dlt source of a family, and how the records of its resources are read.

It replaces dlt's `rest_api` source and reads a file as that one does. Requests go through the
engine's own session, pages through its page loop, and records through its cursors.
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
    """Reads the records of one resource, call by call, page by page, through its cursor."""

    plan: ResourcePlan
    endpoint: EndpointReader
    cursors: FamilyCursors
    parents: ParentTracker
    sanitizer: RecordSanitizer

    def placeholders(self, row_filter: RowFilter | None) -> PlaceholderCursor | None:
        """Return the cursor as the placeholders of a call see it; None without a cursor."""
        if row_filter is None or self._placeholders is None:
            return None
        return self._placeholders.starting_at(row_filter.start)

    @cached_property
    def _placeholders(self) -> PlaceholderCursor | None:
        incremental = self.plan.incremental
        return None if incremental is None else PlaceholderCursor.of(incremental, None)

    def records(self, call: Call, opened: OpenRowFilter | None) -> Iterator[Records]:
        """Yield the new records of a call, page by page; save the cursor after the last page."""
        may_stop = opened is not None and opened.row_filter.may_finish_early
        with closing(self.endpoint.pages(call, may_stop_early=may_stop)) as pages:
            for number, page in enumerate(pages, 1):
                records = self.sanitizer.sanitize(page, number)
                records = opened.row_filter.filter(records, number) if opened else records
                if records:
                    yield records
                if opened and opened.row_filter.is_finished:
                    break
        if opened:
            opened.row_filter.report()
            opened.save()

    def dependent_records(
        self, pending: PendingParent, opened: OpenRowFilter | None
    ) -> Iterator[Records]:
        """Yield the records of the call for a parent, with the fields that they get from it."""
        parent = pending.parent
        placeholders = self.placeholders(opened.row_filter if opened else None)
        call, parent_fields = dependent_call(self.plan, placeholders, parent)
        pages = (
            self._with_parent_fields(records, parent_fields, parent)
            for records in self.records(call, opened)
        )
        if not self.parents.may_skip:
            yield from pages
            return
        try:
            # all or nothing: if a later page fails, the parent is skipped and none is loaded
            yield from list(pages)
        except (RequestError, ResponseError) as error:
            self.parents.skip_parent(parent, call.path, error)

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
            row_filter = self.cursors.peek(plan, pending.values)
            if row_filter is None and plan.incremental is not None:
                return
            self.parents.mark_prefetched(pending.key)
            try:
                call, _ = dependent_call(plan, self.placeholders(row_filter), pending.parent)
            except Exception:  # noqa: BLE001 - the call itself raises the same error
                return
            may_stop = row_filter is not None and row_filter.may_finish_early
            self.endpoint.prefetch(call, may_stop_early=may_stop, group=parents)


def root_pages(reader: ResourceReader) -> Iterator[Any]:
    """Yield the pages of a resource without a parent."""
    opened = reader.cursors.open(reader.plan, None)
    is_empty = True
    call = root_call(reader.plan, reader.placeholders(opened.row_filter if opened else None))
    for records in reader.records(call, opened):
        is_empty = False
        yield records
    if is_empty:
        yield _empty_page(reader.plan)


def dependent_pages(items: Any, reader: ResourceReader) -> Iterator[Any]:
    """Return the pages of a dependent resource: one call for each record of its parent's page.

    They come in the order of the parents. Calls for the first parents are prefetched at once, and
    more while these are read.
    """
    parents = reader.parents.queue(items if isinstance(items, list) else [items])
    # not in the generator, which dlt may start only after those of earlier pages
    reader.prefetch(parents)
    return _read_dependent_pages(parents, reader)


def _read_dependent_pages(parents: ParentQueue, reader: ResourceReader) -> Iterator[Any]:
    try:
        yield _empty_page(reader.plan)
        while (pending := parents.next_parent()) is not None:
            opened = reader.cursors.open(reader.plan, pending.values)
            reader.prefetch(parents)
            yield from reader.dependent_records(pending, opened)
    finally:
        reader.endpoint.cancel_prefetches(parents)


def _empty_page(plan: ResourcePlan) -> Any:
    """Return a page that makes the table if the file declares columns, and runs the dependents."""
    columns = plan.resource.hints.columns_by_name.values()
    declared = any(column.data_type for column in columns)
    return dlt.mark.materialize_table_schema() if declared and plan.loaded else []


@dataclass(frozen=True)
class FamilySource:
    """The dlt source of one family, and what is known of its resources while it runs."""

    source: DltSource
    counts: Mapping[str, ResourceCounts]
    plans: Mapping[str, ResourcePlan]
    sanitizers: Mapping[str, RecordSanitizer]
    column_loaders: Mapping[str, ColumnLoader]
    """Resources that are loaded as rows have none."""


def build_family_source(
    connector: Connector,
    endpoints: EndpointFactory,
    plans: Mapping[str, ResourcePlan],
    root: str,
    *,
    notify: Callable[[str], None],
    schema: Schema | None = None,
    window: BackfillWindow | None = None,
    files: ParquetFiles | None = None,
) -> FamilySource:
    """Return a source of a family's resources that are loaded or have dependents that are.

    `plans` are those resources' plans and `root` is the name of the root. A parent that is not
    loaded is read all the same, and its own cursor stays where it is. `schema` is the stored schema
    if dlt's pipeline doesn't have it. With a `window` only its rows are read, and no cursor is read
    or moved. Rows that can be written as columns go to `files`.

    Raises dlt's `ConfigFieldMissingException` for a secret that is neither in the file nor where
    dlt looks.
    """
    if window is not None:
        plans = {**plans, root: bounded_plan(plans[root], window)}
    counts = {name: endpoints.counts(name) for name in plans}
    # dlt's configuration says how names of fields become names of columns
    normalize = (schema or Schema(connector.name)).naming.normalize_identifier
    cursors = WindowCursors(plans, notify, window) if window else FamilyCursors(plans, notify)
    loaders = _build_column_loaders(plans, files, notify) if files else {}
    flatten = {name: loader.flatten for name, loader in loaders.items()}
    sanitizers = {
        name: RecordSanitizer(name, normalize, notify, endpoints.redactor, flatten.get(name))
        for name in plans
    }

    def resources() -> Iterator[DltResource]:
        pages: dict[str, DltResource] = {}
        for name, plan in plans.items():
            on_error = connector.http.on_child_error
            parents = ParentTracker(plan, cursors, on_error, counts[name], endpoints.redactor)
            reader = ResourceReader(
                plan, endpoints.endpoint(plan), cursors, parents, sanitizers[name]
            )
            is_parent = any(other.resource.parent == name for other in plans.values())
            yield from _dlt_resources(reader, loaders.get(name), pages, is_parent=is_parent)

    name = connector.name
    named = {"schema": schema} if schema else {"name": name}
    source = dlt.source(resources, section=name, **named)()
    # with the key of their root row in nested rows, a table can become a merge table later
    source.root_key = True
    return FamilySource(source, counts, plans, sanitizers, loaders)


def join_sources(sources: Sequence[DltSource]) -> DltSource:
    """Add the resources of all sources to the first one. They must load different tables."""
    first = sources[0]
    for other in sources[1:]:
        first.resources.add(*other.resources.values())
    return first


def _build_column_loaders(
    plans: Mapping[str, ResourcePlan], files: ParquetFiles, notify: Callable[[str], None]
) -> Mapping[str, ColumnLoader]:
    return {
        name: ColumnLoader(plan.resource.table, files, notify)
        for name, plan in plans.items()
        if plan.loaded and plan.resource.mode != "rows"
    }


def _dlt_resources(
    reader: ResourceReader,
    loader: ColumnLoader | None,
    pages: dict[str, DltResource],
    *,
    is_parent: bool,
) -> Iterator[DltResource]:
    """Yield the dlt resource of a plan.

    A resource with dependents that is loaded as columns gets two: one reads the pages, which its
    dependents take as records, and one loads them as columns. `pages` are the resources that
    dependents read from, by the parent's name.
    """
    plan = reader.plan
    name, parent = plan.resource.name, plan.resource.parent
    above = pages[parent] if parent else None
    if loader is None or not is_parent:
        made = _make_dlt_resource(
            _page_function(above), above, resource_hints(plan.resource), reader, loader
        )
        made.selected = plan.loaded
        pages[name] = made
        yield made
        return
    pages[name] = _make_dlt_resource(
        _page_function(above), above, {"name": f"{name} (pages)"}, reader, None
    )
    pages[name].selected = False
    yield pages[name]
    yield _make_dlt_resource(_loaded_items, pages[name], resource_hints(plan.resource), loader)


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


def _root_items(reader: ResourceReader, loader: ColumnLoader | None) -> Iterator[Any]:
    pages = root_pages(reader)
    return loader.load(pages) if loader else pages


def _dependent_items(
    items: Any, reader: ResourceReader, loader: ColumnLoader | None
) -> Iterator[Any]:
    pages = dependent_pages(items, reader)
    return loader.load(pages) if loader else pages


def _loaded_items(items: Any, loader: ColumnLoader) -> Iterator[Any]:
    return loader.load(iter([items]))
