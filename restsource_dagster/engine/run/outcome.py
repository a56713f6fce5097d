"""The result of a run: an outcome for each resource, with rows, cursor, columns or the failure.

A load package gives the outcomes of its resources; a family that fails gives one for each of them.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import dlt
from dlt.common.pipeline import LoadInfo
from dlt.common.schema import Schema
from dlt.common.schema.exceptions import DataValidationError
from dlt.extract import DltResource
from dlt.pipeline.exceptions import PipelineStepFailed

from restsource_dagster.connector.model import Family, Resource
from restsource_dagster.engine.columnar.column_loader import ColumnLoader
from restsource_dagster.engine.destination.package_load import LoadSummary
from restsource_dagster.engine.destination.pipeline import PipelineManager
from restsource_dagster.engine.destination.tables import (
    LoadedColumn,
    TableFacts,
    TableSnapshots,
    TableTree,
    describe_schema_changes,
    read_loaded_columns,
    read_table_snapshots,
)
from restsource_dagster.engine.dlt_compat import table_identifier
from restsource_dagster.engine.errors import DatabaseBusyError, IngestError, ResourceError
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.incremental.cursor_state import CursorProgress, read_cursor_progress
from restsource_dagster.engine.run_progress import ResourceCounts, SentExchange, Usage
from restsource_dagster.engine.source.dlt_resources import PAGES_SUFFIX
from restsource_dagster.engine.source.dlt_source import (
    FamilySource,
)
from restsource_dagster.state.state_errors import StateError

__all__ = [
    "DltLoad",
    "Failure",
    "LoadBaseline",
    "LoadResult",
    "Outcome",
    "SweepResult",
    "failed_outcome",
    "failure_reason",
    "join_all_parts",
    "left_outcome",
    "loaded_outcomes_of",
    "root_cause",
]


@dataclass(frozen=True)
class Failure:
    """Why a resource was not loaded.

    `resource` is the one that failed. A family fails together, so it may be another than the
    outcome's. `step` is dlt's: prepare, extract, normalize or load.
    """

    resource: str
    step: str
    message: str


@dataclass(frozen=True)
class SweepResult:
    """Which rows of a table the API no longer lists, and what became of them."""

    listed: int
    """The keys that the API lists."""
    rows: int = 0
    """The rows that were removed or marked."""
    refused: str | None = None
    """Why none was, although the sweep was due."""


@dataclass(frozen=True)
class DltLoad:
    """dlt's objects for a load, for an integration of dlt with something else.

    Read them before you ask for the next outcome: the next family uses the same pipeline.
    """

    pipeline: dlt.Pipeline
    schema: Schema
    """The schema after the load. `pipeline.default_schema` reads it from a file each time."""
    resource: DltResource
    info: LoadInfo


@dataclass(frozen=True)
class Outcome:
    """The result of one resource in one run."""

    resource: str
    table: str
    seconds: float
    usage: Usage = field(default_factory=Usage)
    records_received: int = 0
    """The records that the API sent, before the cursor filtered them."""
    stated_total: int | None = None
    """The number of records that the API says there are; None if it states no total."""
    skipped: tuple[str, ...] = ()
    """The paths of calls below a parent that failed and were skipped (`http.on_child_error`)."""
    gone: tuple[str, ...] = ()
    """The paths of calls whose parent is gone (`response_actions`): its rows are removed."""
    left_as_it_is: str | None = None
    """Why the resource was not loaded, and is no failure: `skip` in `response_actions`."""
    rows_loaded: int = 0
    rows_deleted: int | None = None
    """The loaded rows that say they are deleted (`deleted_when`), or the rows that were removed as their parent
    no longer has them; None if the file doesn't ask for it."""
    sweep: SweepResult | None = None
    """What a sweep after the load has found; None if none was due."""
    rows_deleted_from: Mapping[str, int] = field(default_factory=dict)
    """The rows of other tables that were removed or marked, as this resource names their keys."""
    row_count: int | None = None
    """The rows in the table after the load; None if the destination can't count them."""
    dataset: str = ""
    destination: str = ""
    cursor: CursorProgress | None = None
    cursor_set: tuple[Any, Any] | None = None
    """The stored cursor and the value that an override replaced it with before the run."""
    window: tuple[Any, Any] | None = None
    """The ends of the window that was loaded; None for a live run."""
    now: datetime | None = None
    """The moment of `{now}`, if the resource has relative times."""
    columns: tuple[LoadedColumn, ...] = ()
    write_mode: str = ""
    """How the rows were written: "columns", or "rows" and the reason."""
    nested_tables: Mapping[str, int] = field(default_factory=dict)
    """The rows loaded into each nested table, by its name."""
    schema_changes: tuple[str, ...] = ()
    """The changes of its tables' schemas by this load, in sentences."""
    last_exchanges: tuple[SentExchange, ...] = ()
    """The last requests of a load that succeeded, redacted."""
    facts: TableFacts | None = None
    """What the checks of the table ask about it; None if they ask nothing, or there is no answer."""
    checkpoints: int = 0
    """How often rows were loaded before all were read."""
    resumed_from: str | None = None
    """Where the load of an earlier run was continued: a place in the paging, or the cursor."""
    failure: Failure | None = None
    # live objects: their text would fill the log, and no two compare equal
    load: DltLoad | None = field(default=None, repr=False, compare=False)

    @property
    def failed(self) -> bool:
        """True if an error kept this resource from being loaded.

        Only rows up to a checkpoint before the error are loaded then.
        """
        return self.failure is not None


_WRITE_MODE_CHARS = 300
"""The most characters of the reason why rows were not written as columns: it quotes a value."""


def failure_reason(error: Exception) -> str:
    """Return the error at the root of dlt's wrappers, in one line."""
    return _error_message(root_cause(error)[1]).partition("\n")[0]


def failed_outcome(
    error: Exception,
    family: Family,
    resource: Resource,
    source: FamilySource | None,
    started: float,
    redactor: Redactor,
    loaded: Outcome | None = None,
    *,
    step: str = "prepare",
) -> Outcome:
    """Return the outcome of a resource whose family failed; `started` is a `time.monotonic()`.

    `loaded` is the outcome of the parts that were loaded before. `step` is where it failed if the
    error doesn't tell.
    """
    step, cause = root_cause(error, step)
    if source and step == "normalize":
        # dlt finds out here that a number is too big, and doesn't know the record any more
        oversized = (one.sanitizer.first_oversized for one in source.tools.values())
        cause = next((known for known in oversized if known), cause)
    failed_resource = _failed_resource(error, cause, family)
    # dlt names table and column, and neither page nor row
    if isinstance(cause, DataValidationError):
        members = {member.name: member for member in family.members}
        cause = _contract_error(cause, members[failed_resource], source)
    tools = source.tools.get(resource.name) if source else None
    message = _error_message(cause)
    if loaded is not None and loaded.rows_loaded:
        message += (
            f" ({loaded.rows_loaded:,} rows of {resource.name} were loaded before and stay; the next run "
            "goes on after them.)"
        )
    return replace(
        loaded or Outcome(resource.name, resource.table, 0.0),
        seconds=time.monotonic() - started,
        usage=tools.counts.usage_counter.usage if tools else Usage(),
        failure=Failure(failed_resource, step, redactor(message)),
    )


def left_outcome(
    resource: Resource, reason: str, pipelines: PipelineManager, counts: ResourceCounts
) -> Outcome:
    """Return the outcome of a resource that is left as it is; its table is the one before the run."""
    outcome = Outcome(
        resource=resource.name,
        table=resource.table,
        seconds=0.0,
        usage=counts.usage_counter.usage,
        left_as_it_is=reason,
        dataset=pipelines.dataset,
        destination=pipelines.destination.destination_name,
    )
    try:
        schema = pipelines.schema() or Schema(pipelines.dataset)
        table = table_identifier(schema, resource.table)
        rows, columns = pipelines.count_rows(resource.table), read_loaded_columns(schema, table)
    except DatabaseBusyError:
        return outcome  # nothing was to be written, so nobody has to wait
    return replace(outcome, table=table, row_count=rows, columns=columns)


def _join_parts(parts: Sequence[Outcome]) -> Outcome:
    """Return the outcome of a resource that was loaded in parts."""
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return last
    nested: Counter[str] = Counter()
    for part in parts:
        nested.update(part.nested_tables)
    cursor = last.cursor
    if cursor and first.cursor:
        # a person looks for how far the run has come, not its last part
        cursor = replace(cursor, start_value=first.cursor.start_value)
    return replace(
        last,
        # the total is of the last part's call only, and the records are of all parts
        stated_total=None,
        rows_loaded=sum(part.rows_loaded for part in parts),
        rows_deleted=None
        if last.rows_deleted is None
        else sum(part.rows_deleted or 0 for part in parts),
        rows_deleted_from={
            table: sum(part.rows_deleted_from[table] for part in parts)
            for table in last.rows_deleted_from
        },
        cursor=cursor,
        nested_tables=dict(nested),
        schema_changes=tuple(change for part in parts for change in part.schema_changes),
        checkpoints=sum(part.checkpoints for part in parts) + len(parts) - 1,
        resumed_from=first.resumed_from,
    )


def _failed_resource(error: Exception, cause: BaseException, family: Family) -> str:
    """Return the resource that a family failed in: the root if the error doesn't tell."""
    if known := getattr(cause, "resource", None):
        return str(known)
    current: BaseException | None = error
    while current is not None:
        # dlt names the pipe that extracts a resource, the table of a row, or the file of a table
        pipe, table = getattr(current, "pipe_name", None), getattr(current, "table_name", None)
        if job := getattr(current, "job_id", None):
            table = str(job).partition(".")[0]
        for member in family.members:
            if pipe in (member.name, f"{member.name}{PAGES_SUFFIX}"):
                return member.name
        # the longest name: `orders__lines` may be a resource, or a table nested in orders
        for member in sorted(family.members, key=lambda one: -len(one.table)):
            if table and (table == member.table or str(table).startswith(f"{member.table}__")):
                return member.name
        current = current.__cause__ or current.__context__
    return family.root.name


_REFUSED_BY_CONTRACT = {
    "tables": "a new table",
    "columns": "a new column",
    "data_type": "a value of another type",
}


def _contract_error(
    error: DataValidationError, resource: Resource, source: FamilySource | None
) -> ResourceError:
    """Return dlt's error about a schema contract with the page, row and field, and the ways out."""
    entity, table, column = error.schema_entity, error.table_name, error.column_name or ""
    name = column or table.removeprefix(f"{resource.table}__")
    tools = source.tools.get(resource.name) if source else None
    # the rows of nested tables are known by the list that they come from
    is_known = table == resource.table or not column
    found = tools.column_rules.first_seen(name) if tools and is_known else None
    where = f"page {found[0]}, row {found[1]}, " if found else ""
    is_own_table = entity == "tables" and table == resource.table
    place = (
        f"table {table}" if is_own_table else f"field {name.partition('__v_')[0]}, table {table}"
    )
    # only columns can be declared
    declare = "Set" if entity == "tables" else "Declare it in `columns`, or set"
    return ResourceError(
        resource.name,
        f"{where}{place}: it would be {_REFUSED_BY_CONTRACT[entity]}, and the schema_contract of the "
        f"file has `{entity}`: `{error.contract_mode}`. {declare} `{entity}` to `evolve`, or to "
        "`discard_value` to leave such values out",
    )


def root_cause(error: BaseException, step: str = "prepare") -> tuple[str, BaseException]:
    """Return the step that failed, and the cause: our own error, else the innermost of the chain.

    `step` is returned if the error is not one of a dlt step.
    """
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, IngestError | StateError):
            return step, current
        if isinstance(current, PipelineStepFailed):
            step = current.step
        # dlt wraps errors in those of pipes and steps, with or without `from`
        error, current = current, current.__cause__ or current.__context__
    return step, error


def _error_message(error: BaseException) -> str:
    # our own messages are sentences; those of libraries often need the type to be understood
    return str(error) if isinstance(error, IngestError) else f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class LoadBaseline:
    """The state before a load, to compare with that after it."""

    started: float
    """When the load started, as a `time.monotonic()`."""
    state: Mapping[str, Any]
    tables: TableSnapshots
    window: tuple[Any, Any] | None
    """The ends of the window that is loaded; None for a live run."""
    overridden_cursors: Mapping[str, tuple[Any, Any]]
    """By resource, the stored cursor and the value that replaced it."""
    resumed_from: str | None = None
    """Where the load of an earlier run goes on, in words."""


@dataclass(frozen=True)
class LoadResult:
    """The state after a load, shared by all resources of its package.

    dlt parses the schema and the state from files on each access, and both grow with the resources.
    """

    pipeline: dlt.Pipeline
    schema: Schema
    state: Mapping[str, Any]
    tables: TableSnapshots
    tree: TableTree
    loaded: LoadSummary

    @classmethod
    def of(cls, pipeline: dlt.Pipeline, loaded: LoadSummary) -> "LoadResult":
        """Read the state that a load has left in its pipeline."""
        tables = read_table_snapshots(loaded.schema)
        tree = TableTree(loaded.schema.tables)
        return cls(pipeline, loaded.schema, pipeline.state, tables, tree, loaded)


def loaded_outcomes_of(
    connector: str,
    resources: Collection[Resource],
    source: FamilySource,
    result: LoadResult,
    before: LoadBaseline,
    redactor: Redactor,
    started: datetime | None = None,
) -> Iterator[Outcome]:
    """Yield the outcomes of a family's resources that were loaded; `started` is the moment of `{now}`."""
    schema, pipeline, loaded = result.schema, result.pipeline, result.loaded
    for resource in resources:
        steps = source.tools[resource.name].steps
        table = table_identifier(schema, resource.table)
        yield replace(
            _read_outcome(resource, source, redactor, pipeline.destination.destination_name),
            table=table,
            seconds=time.monotonic() - before.started,
            rows_loaded=loaded.rows.get(table, 0),
            rows_deleted=steps.rows_deleted if steps else loaded.removed.get(resource.table),
            rows_deleted_from={
                one.table: loaded.removed.get(one.table, 0) for one in resource.deletes_in
            },
            row_count=loaded.counts.get(table),
            dataset=pipeline.dataset_name,
            # a window moves no stored cursor, so there is nothing to show
            cursor=None
            if before.window
            else read_cursor_progress(before.state, result.state, connector, resource),
            cursor_set=before.overridden_cursors.get(resource.name),
            resumed_from=before.resumed_from,
            window=before.window,
            now=started if resource.endpoint.has_relative_times else None,
            columns=read_loaded_columns(schema, table),
            schema_changes=(
                *loaded.withdrawn.get(table, ()),
                *describe_schema_changes(table, before.tables, result.tables, result.tree),
            ),
            nested_tables=_nested_row_counts(result.tree, table, loaded.rows),
            facts=loaded.facts.get(table),
            load=DltLoad(pipeline, schema, source.source.resources[resource.name], loaded.info),
        )


def _read_outcome(
    resource: Resource, source: FamilySource, redactor: Redactor, destination: str
) -> Outcome:
    """Return what is known of a resource once it is read, before anything of it is loaded."""
    counts, loader = source.tools[resource.name].counts, source.column_loaders.get(resource.name)
    mode = _describe_write_mode(loader, resource, destination)
    return Outcome(
        resource=resource.name,
        table=resource.table,
        seconds=0.0,
        usage=counts.usage_counter.usage,
        records_received=counts.received,
        stated_total=counts.stated_total,
        skipped=tuple(map(redactor, counts.skipped)),
        gone=tuple(map(redactor, counts.gone)),
        destination=destination,
        write_mode=redactor.snippet(mode, _WRITE_MODE_CHARS),
        last_exchanges=counts.usage_counter.last_exchanges(redactor),
    )


def _nested_row_counts(tree: TableTree, table: str, rows: Mapping[str, int]) -> Mapping[str, int]:
    # not by the beginning of the name: another resource may be called `orders__lines`
    names = (str(one["name"]) for one in tree.with_nested(table))
    return {name: rows[name] for name in names if name in rows and name != table}


def _describe_write_mode(loader: ColumnLoader | None, resource: Resource, destination: str) -> str:
    if loader is None:
        # no reason where the file asks for it
        return "rows" if resource.mode == "rows" else f"rows: {destination} takes no columns"
    if loader.refusal is None:
        return "columns"
    mode = f"columns for the first {loader.rows:,} rows, then rows" if loader.rows else "rows"
    return f"{mode}: {loader.refusal}"


def join_all_parts(parts: Sequence[Sequence[Outcome]]) -> list[Outcome]:
    """Return the outcome of each resource, given those of each part."""
    return [_join_parts(outcomes) for outcomes in zip(*parts, strict=True)]
