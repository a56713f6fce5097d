"""Compare the keys in a table with those that the API lists now. Nothing is written."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from restsource_dagster.connector.model import Connector, Resource
from restsource_dagster.engine.destination.removed_rows import Key, comparable_key
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.incremental.row_filter import PlaceholderCursor
from restsource_dagster.engine.paging.place import CallProgress
from restsource_dagster.engine.plan.resource_plan import ResourcePlan, root_call
from restsource_dagster.engine.run.family_load import ConnectorRun, open_connector_run
from restsource_dagster.engine.run.ingest import endpoint_of
from restsource_dagster.engine.run.load_parts import LoadOptions, SelectedFamily
from restsource_dagster.engine.run_progress import Observer
from restsource_dagster.engine.source.record_steps import DeletionMark, RecordSteps
from restsource_dagster.settings import Settings

__all__ = ["TableComparison", "compare_tables"]

_EXAMPLES = 20
"""The most keys that are named."""


@dataclass(frozen=True)
class TableComparison:
    """What a table has, against what the API lists."""

    resource: str
    table: str
    in_table: int = 0
    """The keys in the table, without those of rows that are marked as deleted."""
    in_api: int = 0
    """The keys that the API lists, without those of records that say they are deleted."""
    missing: int = 0
    """The keys that the API lists and the table doesn't have."""
    extra: int = 0
    """The keys that the table has and the API doesn't list."""
    missing_keys: tuple[Key, ...] = ()
    """The first of them, in order."""
    extra_keys: tuple[Key, ...] = ()
    stated_total: int | None = None
    """The number of records that the API says there are; None if it states no total."""
    problem: str | None = None
    """Why nothing is compared; None if something is."""

    @property
    def is_equal(self) -> bool:
        """True if both have the same keys."""
        return self.problem is None and not self.missing and not self.extra


def compare_tables(
    connector: Connector,
    resources: Collection[str],
    *,
    settings: Settings,
    environment: Mapping[str, str],
    observer: Observer | None = None,
) -> Iterator[TableComparison]:
    """Yield the comparison of each resource, in the order of the file.

    The connector is locked meanwhile, so that no run changes its tables. The keys of a table are read before
    the API is asked. Raises `MissingReferencesError` and `ConnectorBusyError` before the first request.
    """
    with open_connector_run(
        connector,
        settings,
        environment,
        observer,
        None,
        pipeline=connector.name,
        prepare=lambda *_: LoadOptions(),
    ) as run:
        for resource in run.connector.resources:
            if resource.name in resources:
                yield _compare(run, resource)


def _compare(run: ConnectorRun, resource: Resource) -> TableComparison:
    empty = TableComparison(resource.name, resource.table)
    if problem := _why_not(run.connector, resource):
        return _with_problem(empty, problem)
    try:
        known = run.pipelines.read_keys(resource)
        counts = run.endpoints.counts(resource.name)
        listed = {comparable_key(key) for page in _list_keys(run, resource) for key in page}
    except IngestError as error:
        return _with_problem(empty, run.redactor(str(error)))
    missing, extra = listed - known, known - listed
    return TableComparison(
        resource.name,
        resource.table,
        len(known),
        len(listed),
        len(missing),
        len(extra),
        _first(missing),
        _first(extra),
        counts.stated_total,
    )


def _with_problem(empty: TableComparison, problem: str) -> TableComparison:
    return TableComparison(empty.resource, empty.table, problem=problem)


def _first(keys: Collection[Key]) -> tuple[Key, ...]:
    return tuple(sorted(keys, key=lambda key: [part or "" for part in key])[:_EXAMPLES])


def _why_not(connector: Connector, resource: Resource) -> str | None:
    """Return why no list of keys is the whole table; None if one is."""
    endpoint, cursor = resource.endpoint, resource.incremental
    cases = (
        (not resource.primary_key, "it has no primary key"),
        (resource.parent is not None, "its rows come in calls for each record of a parent"),
        (bool(endpoint.for_each), "its rows come in calls for each value of a list"),
        (endpoint.token is not None, "its API says only what changed"),
        (endpoint.job is not None, "its rows come from an export"),
        (
            endpoint.has_relative_times,
            "it asks for a range of time that moves, and the table has more",
        ),
        (bool(cursor and cursor.window), "its API is asked for one range of time after the other"),
        (bool(connector.sharing_table(resource.name)), "other resources load into the same table"),
    )
    return next((why for holds, why in cases if holds), None)


def _list_keys(run: ConnectorRun, resource: Resource) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the keys on each page of a resource, asked for from its first row on.

    Raises `IngestError`, also for a record without a key.
    """
    family = run.connector.family_of(resource.name)
    plan: ResourcePlan = run.plans(SelectedFamily(family, [resource]))[resource.name]
    dlt_cursor = plan.incremental
    cursor = dlt_cursor and PlaceholderCursor.of(dlt_cursor, dlt_cursor.initial_value)
    progress = CallProgress()
    steps = _steps_of(run, resource)
    pages = endpoint_of(run, plan).pages(root_call(plan, cursor), progress=progress)
    for number, page in enumerate(pages, 1):
        records = steps.apply(steps.verify(page, number), number)
        gone = resource.deleted_when is not None
        yield [
            _key_of(resource, record, number)
            for record in records
            if not (gone and steps.is_deleted(record))
        ]
    if progress.is_capped:
        raise IngestError("its API returns no more rows to one query than `max_rows`")


def _steps_of(run: ConnectorRun, resource: Resource) -> RecordSteps:
    moment = run.connector.started
    mark = DeletionMark(resource.deleted_when, moment) if resource.deleted_when and moment else None
    return RecordSteps(resource.name, resource.processing_steps, run.redactor, mark=mark)


def _key_of(resource: Resource, record: Any, page: int) -> tuple[Any, ...]:
    key = []
    for name in resource.primary_key:
        value = record
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None or isinstance(value, dict | list):
            raise IngestError(f"page {page}: a record has no value in {name}, of the primary key")
        key.append(value)
    return tuple(key)
