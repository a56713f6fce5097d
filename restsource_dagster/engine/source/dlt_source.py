"""The dlt source of a family, and how the records of its resources are read.

It replaces dlt's `rest_api` source and reads a file as that one does. Requests go through the
engine's own session, pages through its page loop, and records through its cursors.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import dlt
from dlt.common.schema import Schema
from dlt.extract import DltResource, DltSource

from restsource_dagster.connector.model import Connector, DeletesIn, Resource
from restsource_dagster.engine.columnar.column_loader import ColumnLoader, ParquetFiles
from restsource_dagster.engine.destination.removed_rows import ChildrenOf, comparable_key
from restsource_dagster.engine.destination.tables import SortedNames
from restsource_dagster.engine.dlt_compat import column_identifier, table_identifier
from restsource_dagster.engine.errors import RecordError, ResourceError
from restsource_dagster.engine.incremental.family_cursors import FamilyCursors
from restsource_dagster.engine.incremental.position import find_key_value
from restsource_dagster.engine.paging.paging_watch import PagingWatch
from restsource_dagster.engine.plan.resource_plan import ResourcePlan
from restsource_dagster.engine.run_progress import ResourceCounts
from restsource_dagster.engine.source.checkpoint import LoadPart
from restsource_dagster.engine.source.column_rules import ColumnRules
from restsource_dagster.engine.source.dlt_resources import dlt_resources
from restsource_dagster.engine.source.endpoint_factory import EndpointFactory
from restsource_dagster.engine.source.parents import ParentTracker
from restsource_dagster.engine.source.record_values import RecordSanitizer
from restsource_dagster.engine.source.repeated_rows import RepeatedRows
from restsource_dagster.engine.source.resource_reader import ResourceReader

if TYPE_CHECKING:
    from restsource_dagster.engine.incremental.window_filter import BackfillWindow
    from restsource_dagster.engine.source.column_names import ColumnNames, Lookup
    from restsource_dagster.engine.source.record_steps import RecordSteps

__all__ = [
    "FamilySource",
    "ResourceTools",
    "TableOwners",
    "build_family_source",
    "join_sources",
]


@dataclass(frozen=True)
class ResourceTools:
    """What the records of one resource are read and checked with, and what it knows of them."""

    counts: ResourceCounts
    sanitizer: RecordSanitizer
    column_rules: ColumnRules
    watch: PagingWatch
    repeats: RepeatedRows
    steps: "RecordSteps | None"
    """None if the file leaves the records as they come."""
    parents: ParentTracker
    deleted: "DeletedKeys"


class DeletedKeys:
    """The keys in the records of a resource by which rows of other tables are deleted (`deletes_from`)."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._keys: list[dict[tuple[Any, ...], None]] = [{} for _ in resource.deletes_in]

    def add(self, records: Sequence[Any], page: int) -> None:
        """Add the keys in the new records of a page. Raises `RecordError` for a record without one."""
        for deletes, keys in zip(self._resource.deletes_in, self._keys, strict=True):
            for row, record in enumerate(records, 1):
                keys[self._key_of(record, deletes.fields, page, row)] = None

    def _key_of(
        self, record: Any, fields: Sequence[str], page: int, row: int
    ) -> tuple[str | int, ...]:
        key = []
        for name in fields:
            value = find_key_value(record, name)
            if not isinstance(value, str | int):
                problem = "it has no key there, and names the row that is deleted (`deletes_from`)"
                raise RecordError(self._resource.name, page, row, name, problem)
            key.append(value)
        return tuple(key)

    def by_table(self) -> Iterator[tuple[DeletesIn, tuple[tuple[Any, ...], ...]]]:
        """Yield the tables that have deleted rows, with the keys of these."""
        for deletes, keys in zip(self._resource.deletes_in, self._keys, strict=True):
            if keys:
                yield deletes, tuple(keys)


@dataclass(frozen=True)
class FamilySource:
    """The dlt source of one family, and what is known of its resources while it runs."""

    source: DltSource
    plans: Mapping[str, ResourcePlan]
    tools: Mapping[str, ResourceTools]
    column_loaders: Mapping[str, ColumnLoader]
    """Resources that are loaded as rows have none."""
    notify: Callable[[str], None]
    moment: datetime
    """When the run started."""

    def removed_children(self) -> Iterator[ChildrenOf]:
        """Yield the rows to remove: their parents are gone or have them no longer, or a record says so."""
        for name, one in self.tools.items():
            tracker = one.parents
            resource = self.plans[name].resource
            fields = tuple(self.plans[name].columns_of_a_parent.values())
            # a replaced table has the rows of this load only
            if tracker.gone_fields and resource.disposition.value != "replace":
                yield ChildrenOf(resource.table, fields, tuple(tracker.gone_fields))
            for deletes, keys in one.deleted.by_table():
                yield ChildrenOf(
                    deletes.table,
                    deletes.key,
                    keys,
                    marked_at=self.moment if deletes.on_delete == "mark" else None,
                )
            if tracker.replaced_fields:
                yield ChildrenOf(
                    resource.table,
                    fields,
                    tuple(tracker.replaced_fields),
                    resource.primary_key,
                    frozenset(map(comparable_key, tracker.replaced_by)),
                )

    def check_extracted(self) -> None:
        """Raise `IngestError` if what was extracted is not all there is. Call it before the load."""
        # all before the first message: a resource that fails here fails the family, and nothing is
        # told
        for one in self.tools.values():
            one.watch.conclude()
        for name, one in self.tools.items():
            for said in (one.repeats.describe(), one.steps and one.steps.describe_unseen()):
                if said:
                    self.notify(f"{name}: {said}")


class TableOwners:
    """Which resource each table is of. Make it once for all families of a package.

    The resources are those of the file, and those that the file had before.
    """

    def __init__(self, connector: Connector, stored: Schema) -> None:
        self._stored = stored
        self._owners = {
            table_identifier(stored, one.table): one.name for one in connector.resources
        }
        for name, table in stored.tables.items():
            if not table.get("parent") and table.get("resource"):
                self._owners.setdefault(name, str(table["resource"]))
        self._names = SortedNames(self._owners)

    def foreign_tables(self, resource: Resource) -> Mapping[str, str]:
        """Return other resources' tables that a list of this one could be nested in.

        By the part of their names below the table of this resource.
        """
        table = table_identifier(self._stored, resource.table)
        below = f"{table}{self._stored.naming.PATH_SEPARATOR}"
        return {
            name.removeprefix(below): name
            for name in self._names.starting_with(below)
            if self._owners[name] != resource.name
        }


def build_family_source(
    connector: Connector,
    endpoints: EndpointFactory,
    plans: Mapping[str, ResourcePlan],
    root: str,
    *,
    notify: Callable[[str], None],
    schema: Schema | None = None,
    stored: Schema | None = None,
    owners: TableOwners | None = None,
    window: "BackfillWindow | None" = None,
    files: ParquetFiles | None = None,
    part: LoadPart | None = None,
    known_rows: Mapping[str, RepeatedRows] | None = None,
    look_up: "Lookup" = lambda _: (),
) -> FamilySource:
    """Return a source of a family's resources that are loaded or have dependents that are.

    `plans` are those resources' plans and `root` is the name of the root. A parent that is not
    loaded is read all the same, and its own cursor stays where it is. `schema` is the stored schema
    if dlt's pipeline doesn't have it, and `stored` is the schema of all tables that exist; `owners` says
    whose they are, if several families share it. With a
    `window` only its rows are read, and no cursor is read or moved. Rows that can be written as
    columns go to `files`. `part` says where the calls start, and where they may end early.
    `known_rows` are those that earlier parts of the load have read, by resource. `look_up` reads the
    labels of fields (`rename_from`).

    Raises dlt's `ConfigFieldMissingException` for a secret that is neither in the file nor where
    dlt looks.
    """
    cursors = FamilyCursors(plans, notify)
    if window is not None:
        # most runs are live
        from restsource_dagster.engine.incremental.window_filter import WindowCursors, bounded_plan

        plans = {**plans, root: bounded_plan(plans[root], window)}
        cursors = WindowCursors(plans, notify, window)
    known_schema = stored or Schema(connector.name)
    family = _Family(
        connector,
        endpoints,
        plans,
        cursors,
        notify,
        known_schema,
        owners or TableOwners(connector, known_schema),
        # dlt's configuration says how names of fields become names of columns
        partial(column_identifier, schema or known_schema),
        part or LoadPart(root),
        look_up,
        is_live=window is None,
    )
    loaders = _build_column_loaders(plans, files, notify) if files else {}
    known_rows = known_rows or {}
    tools = {
        name: family.tools(plan, loaders.get(name), known_rows.get(name))
        for name, plan in plans.items()
    }

    def resources() -> Iterator[DltResource]:
        yield from family.resources(tools, loaders)

    named = {"schema": schema} if schema else {"name": connector.name}
    source = dlt.source(resources, section=connector.name, **named)()
    # with the key of their root row in nested rows, a table can become a merge table later
    source.root_key = True
    return FamilySource(source, plans, tools, loaders, notify, family.moment)


@dataclass(frozen=True)
class _Family:
    """What the readers of a family's resources share."""

    connector: Connector
    endpoints: EndpointFactory
    plans: Mapping[str, ResourcePlan]
    cursors: FamilyCursors
    notify: Callable[[str], None]
    stored: Schema
    owners: TableOwners
    normalize: Callable[[str], str]
    """Makes the name of a column of a field's name."""
    part: LoadPart
    look_up: "Lookup"
    is_live: bool
    """False for a window of a backfill."""

    @cached_property
    def moment(self) -> datetime:
        """When the run started."""
        return self.connector.started or datetime.now(UTC).replace(microsecond=0)

    def tools(
        self, plan: ResourcePlan, loader: ColumnLoader | None, known_rows: RepeatedRows | None
    ) -> ResourceTools:
        """Return the tools of a resource; `known_rows` are those of earlier parts of the load."""
        resource, redactor = plan.resource, self.endpoints.redactor
        counts = self.endpoints.counts(resource.name)
        return ResourceTools(
            counts,
            RecordSanitizer(
                resource.name,
                self.normalize,
                self.notify,
                redactor,
                loader.flatten if loader else None,
                levels=resource.max_table_nesting,
                json_columns=resource.hints.json_columns,
                foreign_tables=self.owners.foreign_tables(resource),
            ),
            ColumnRules(resource, self.stored, redactor.snippet),
            PagingWatch(_named(resource.name, self.notify), is_strict=self.is_live),
            known_rows or RepeatedRows(plan),
            self._steps_of(resource),
            ParentTracker(
                plan,
                self.cursors,
                self.connector.http.on_child_error,
                counts,
                redactor,
                self.part,
                has_own_key=_takes_own_key(plan, self.plans),
                tombstones=_tombstones_of(plan, self.plans),
            ),
            DeletedKeys(resource),
        )

    def _steps_of(self, resource: Resource) -> "RecordSteps | None":
        condition, steps = resource.deleted_when, resource.processing_steps
        if not steps and resource.rename_from is None and condition is None:
            return None
        from restsource_dagster.engine.source.record_steps import DeletionMark, RecordSteps

        mark = None if condition is None else DeletionMark(condition, self.moment)
        names = self._names_of(resource)
        return RecordSteps(resource.name, steps, self.endpoints.redactor, names, mark)

    def _names_of(self, resource: Resource) -> "ColumnNames | None":
        if resource.rename_from is None:
            return None
        if not self.is_live:
            raise ResourceError(
                resource.name,
                "a window doesn't know which names the live runs have given to fields (`rename_from`)",
            )
        from restsource_dagster.engine.source.column_names import ColumnNames

        read_state = partial(self.cursors.state_of, resource.name)
        return ColumnNames(
            resource.name,
            resource.rename_from,
            self.look_up,
            self.normalize,
            read_state,
            self.notify,
        )

    def resources(
        self, tools: Mapping[str, ResourceTools], loaders: Mapping[str, ColumnLoader]
    ) -> Iterator[DltResource]:
        """Yield the dlt resources of the family, parents first."""
        above_batches = _names_above_batches(self.plans)
        parents = {plan.resource.parent for plan in self.plans.values()}
        pages: dict[str, DltResource] = {}
        for name, plan in self.plans.items():
            one = tools[name]
            reader = ResourceReader(
                plan,
                # only here: dlt looks secrets up by the source that it is about to extract
                self.endpoints.endpoint(plan),
                self.cursors,
                one.parents,
                one.steps,
                one.sanitizer,
                one.column_rules,
                one.watch,
                one.repeats,
                self.part,
                on_loaded=_on_loaded(one),
                has_batches_below=name in above_batches,
                jobs=self.endpoints.jobs(plan),
            )
            # dependents read records, and a page that is written as columns yields none
            yield from dlt_resources(reader, loaders.get(name), pages, is_parent=name in parents)


def _on_loaded(tools: ResourceTools) -> Callable[[Sequence[Any], int], None]:
    """Return what is called with the new records of a page that are loaded, and its number."""

    def note(records: Sequence[Any], page: int) -> None:
        tools.deleted.add(records, page)
        if tools.steps:
            tools.steps.count_deleted(records)

    return note


def _names_above_batches(plans: Mapping[str, ResourcePlan]) -> frozenset[str]:
    """Return the resources above one that asks for the values of several parents in one call."""
    names: set[str] = set()
    for plan in plans.values():
        parent = plan.resource.parent if plan.batch_size else None
        while parent:
            names.add(parent)
            parent = plans[parent].resource.parent
    return frozenset(names)


def _takes_own_key(plan: ResourcePlan, plans: Mapping[str, ResourcePlan]) -> bool:
    """True if a call below a parent takes the primary key of its parent, so that no two are the same."""
    if plan.resource.parent is None:
        return False
    fields = {param.field for param in plan.endpoint.parent_fields.values()}
    key = plans[plan.resource.parent].resource.primary_key
    return bool(key) and fields.issuperset(key)


def _tombstones_of(plan: ResourcePlan, plans: Mapping[str, ResourcePlan]) -> Sequence[str]:
    """Return the fields of a parent's records that say, if they are true, that its row is removed."""
    if plan.resource.parent is None:
        return ()
    columns = plans[plan.resource.parent].resource.hints.columns_by_name
    return [name for name, column in columns.items() if column.hard_delete]


def _named(name: str, notify: Callable[[str], None]) -> Callable[[str], None]:
    return lambda text: notify(f"{name}: {text}")


def join_sources(sources: Sequence[DltSource]) -> DltSource:
    """Add the resources of all sources to the first one. They must load different tables."""
    # one source is one extraction, and so one load package
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
