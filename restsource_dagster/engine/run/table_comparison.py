"""Compare the keys in a table with those that the API lists now: `restsource verify`, and sweeps.

A sweep removes or marks the rows whose keys the API no longer lists. The keys of the table are read first. So a
record that is created while the API lists its records, or between two lists, is not among those that may go.
The connector is locked, so no other run of it loads meanwhile.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from restsource_dagster.connector.model import Connector, Resource
from restsource_dagster.connector.models.checks import duration_seconds
from restsource_dagster.connector.models.deletes import Sweep
from restsource_dagster.connector.naming import key_column
from restsource_dagster.connector.validation.delete_rules import why_not_listed
from restsource_dagster.engine.destination.removed_rows import ChildrenOf, Key, TableKeys
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.incremental.position import find_key_value
from restsource_dagster.engine.incremental.row_filter import PlaceholderCursor
from restsource_dagster.engine.paging.paging_watch import PagingWatch
from restsource_dagster.engine.paging.place import CallProgress
from restsource_dagster.engine.plan.resource_plan import ResourcePlan, root_call
from restsource_dagster.engine.run.family_load import ConnectorRun, open_connector_run
from restsource_dagster.engine.run.ingest import endpoint_of
from restsource_dagster.engine.run.load_parts import LoadOptions, SelectedFamily
from restsource_dagster.engine.run.outcome import Outcome, SweepResult, failure_reason
from restsource_dagster.engine.run_progress import Observer
from restsource_dagster.engine.source.record_steps import DeletionMark, RecordSteps
from restsource_dagster.settings import Settings
from restsource_dagster.state.store import StateStore

__all__ = ["TableComparison", "compare_tables", "swept"]

_ALWAYS_SWEPT = 10
"""Rows. Of a table of five one may go, although that is a fifth."""
_NEARLY_DUE = 0.98
"""A daily run that starts some seconds earlier than the day before is due all the same."""
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
    shares_table = bool(run.connector.sharing_table(resource.name))
    if problem := why_not_listed(resource, shares_table=shares_table):
        return _with_problem(empty, problem)
    try:
        known = run.pipelines.read_keys(resource)
        counts = run.endpoints.counts(resource.name)
        listed = _list_keys(run, resource, known).keys
    except IngestError as error:
        return _with_problem(empty, run.redactor(str(error)))
    missing, extra = listed - known.keys, known.keys - listed
    return TableComparison(
        resource.name,
        resource.table,
        len(known.keys),
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


@dataclass(frozen=True)
class _ListedKeys:
    """The keys that the API lists, and how."""

    keys: frozenset[Key]
    pages: int
    doubt: str | None
    """Why the list may not be whole; None if nothing points to it."""


def _list_keys(run: ConnectorRun, resource: Resource, known: TableKeys) -> _ListedKeys:
    """Ask for all records of a resource, from its first one on, and return their keys as the table spells them.

    Raises `IngestError`, also for a record without a key, and for a paging that does not end as it should.
    """
    family = run.connector.family_of(resource.name)
    plan: ResourcePlan = run.plans(SelectedFamily(family, [resource]))[resource.name]
    dlt_cursor = plan.incremental
    cursor = dlt_cursor and PlaceholderCursor.of(dlt_cursor, dlt_cursor.initial_value)
    progress = CallProgress()
    steps = _steps_of(run, resource)
    watch = PagingWatch(lambda text: run.progress.message(f"{resource.name}: {text}"))
    pages = endpoint_of(run, plan).pages(root_call(plan, cursor), watch=watch, progress=progress)
    keys: set[Key] = set()
    for number, page in enumerate(pages, 1):
        records = steps.apply(steps.verify(page, number), number)
        for record in records:
            if resource.deleted_when is None or not steps.is_deleted(record):
                keys.add(known.spelled(_key_of(resource, record, number)))
    watch.conclude()
    if progress.is_capped:
        raise IngestError("its API returns no more rows to one query than `max_rows`")
    doubt, totals = watch.take_shift() or watch.doubt, progress.totals
    if totals and totals.newest_total is not None and totals.newest_total > totals.rows:
        doubt = f"the API states {totals.newest_total} records, and lists {totals.rows}"
    return _ListedKeys(frozenset(keys), progress.pages, doubt)


def _steps_of(run: ConnectorRun, resource: Resource) -> RecordSteps:
    moment = run.connector.started
    mark = DeletionMark(resource.deleted_when, moment) if resource.deleted_when and moment else None
    return RecordSteps(resource.name, resource.processing_steps, run.redactor, mark=mark)


def _key_of(resource: Resource, record: Any, page: int) -> tuple[Any, ...]:
    key = []
    for name in resource.primary_key:
        value = find_key_value(record, name)
        if value is None or isinstance(value, dict | list):
            raise IngestError(f"page {page}: a record has no value in {name}, of the primary key")
        key.append(value)
    return tuple(key)


def swept(run: ConnectorRun, outcome: Outcome, state: StateStore) -> Outcome:
    """Return the outcome of a load with what a sweep of its table has found, if one is due.

    A sweep that fails or is refused removes nothing, and is due again after the same time. One that is killed
    is due in the next run.
    """
    resource = run.connector.resource(outcome.resource)
    moment = run.connector.started or datetime.now(UTC)
    if outcome.left_as_it_is or resource.sweep is None:
        return outcome
    found, rows, name = SweepResult(0), outcome.row_count, run.connector.name
    try:
        if not _is_sweep_due(state, name, resource.name, resource.sweep, moment):
            return outcome
        found = _try_sweep(run, resource, resource.sweep, moment)
        _note_sweep(state, name, resource.name, moment)
        rows = run.pipelines.count_rows(resource.table) if found.rows else rows
    except Exception as error:  # noqa: BLE001 - the rows are loaded, and no error of the state may hide that
        found = replace(found, refused=run.redactor(failure_reason(error)))
    what = "marked" if resource.on_delete == "mark" else "removed"
    run.progress.message(
        f"{resource.name}: the sweep has removed nothing: {found.refused}"
        if found.refused and not found.rows
        else f"{resource.name}: the API lists {found.listed} records; {found.rows} others were {what}"
    )
    usage = run.endpoints.counts(resource.name).usage_counter.usage
    return replace(outcome, sweep=found, row_count=rows, usage=usage)


def _try_sweep(
    run: ConnectorRun, resource: Resource, sweep: Sweep, moment: datetime
) -> SweepResult:
    try:
        return _sweep(run, resource, sweep, moment)
    except Exception as error:  # noqa: BLE001 - databases have errors of their own, and the rows are loaded
        return SweepResult(0, refused=run.redactor(failure_reason(error)))


def _sweep(run: ConnectorRun, resource: Resource, sweep: Sweep, moment: datetime) -> SweepResult:
    known = run.pipelines.read_keys(resource)
    listed = _list_keys(run, resource, known)
    gone, doubt = known.keys - listed.keys, listed.doubt
    if gone and listed.pages > 1 and doubt is None:
        # a row that moves to an earlier page while pages are read is on none of them
        again = _list_keys(run, resource, known)
        gone, doubt = gone - again.keys, again.doubt
    refused = doubt or _suspicion(len(known.keys), len(gone), len(listed.keys), sweep)
    rows = (
        0 if refused or not gone else run.pipelines.remove_rows(_swept_rows(resource, gone, moment))
    )
    return SweepResult(len(listed.keys), rows, refused)


def _suspicion(known: int, gone: int, listed: int, sweep: Sweep) -> str | None:
    """Return why so many rows can't be gone; None if they can."""
    # a person has said that any number may go, so no number is suspicious
    if sweep.at_most_percent == 100:
        return None
    if gone and not listed:
        return f"the API lists no record, and the table has {known}"
    if gone > max(_ALWAYS_SWEPT, known * sweep.at_most_percent / 100):
        return (
            f"{gone} of {known} rows would go, and `at_most_percent` is {sweep.at_most_percent}. If they "
            "are gone, set it to 100 for a run"
        )
    return None


def _swept_rows(resource: Resource, keys: frozenset[Key], moment: datetime) -> ChildrenOf:
    columns = tuple(map(key_column, resource.primary_key))
    marked_at = moment if resource.on_delete == "mark" else None
    return ChildrenOf(resource.table, columns, tuple(keys), marked_at=marked_at)


def _is_sweep_due(
    state: StateStore, connector: str, resource: str, sweep: Sweep, moment: datetime
) -> bool:
    """Return True if the last sweep was long enough ago. The first load is noted as one."""
    last = _read_sweeps(state, connector).get(resource)
    if last is None:
        _note_sweep(state, connector, resource, moment)
        return False
    since = timedelta(seconds=duration_seconds(sweep.every))
    return moment - datetime.fromisoformat(last) >= since * _NEARLY_DUE


def _read_sweeps(state: StateStore, connector: str) -> dict[str, str]:
    stored = state.read("sweeps", connector)
    try:
        return dict(json.loads(stored.content)) if stored else {}
    except ValueError:
        return {}  # edited by hand: the next run counts as the first


def _note_sweep(state: StateStore, connector: str, resource: str, moment: datetime) -> None:
    noted = {**_read_sweeps(state, connector), resource: moment.isoformat()}
    state.write("sweeps", connector, json.dumps(noted))
