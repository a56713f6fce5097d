"""Sweeps: rows whose keys the API no longer lists leave the table, or are marked in it.

The keys of the table are read first. So a record that is created while the API lists its records, or between
two lists, is not among those that may go. The connector is locked, so no other run of it loads meanwhile.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from restsource_dagster.connector.model import Resource
from restsource_dagster.connector.models.checks import duration_seconds
from restsource_dagster.connector.models.deletes import Sweep
from restsource_dagster.connector.naming import key_column
from restsource_dagster.engine.destination.removed_rows import ChildrenOf, Key
from restsource_dagster.engine.run.family_load import ConnectorRun
from restsource_dagster.engine.run.outcome import Outcome, SweepResult, failure_reason
from restsource_dagster.engine.run.table_comparison import list_keys
from restsource_dagster.state.store import StateStore

__all__ = ["swept"]

_ALWAYS_ALLOWED = 10
"""Rows. Of a table of five one may go, although that is a fifth."""
_NEARLY = 0.98
"""A daily run that starts some seconds earlier than the day before is due all the same."""


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
        if not _is_due(state, name, resource.name, resource.sweep, moment):
            return outcome
        found = _try_sweep(run, resource, resource.sweep, moment)
        _note(state, name, resource.name, moment)
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
    listed = list_keys(run, resource, known)
    gone, doubt = known.keys - listed.keys, listed.doubt
    if gone and listed.pages > 1 and doubt is None:
        # a row that moves to an earlier page while pages are read is on none of them
        again = list_keys(run, resource, known)
        gone, doubt = gone - again.keys, again.doubt
    refused = doubt or _suspicion(len(known.keys), len(gone), len(listed.keys), sweep)
    rows = 0 if refused or not gone else run.pipelines.remove_rows(_rows(resource, gone, moment))
    return SweepResult(len(listed.keys), rows, refused)


def _suspicion(known: int, gone: int, listed: int, sweep: Sweep) -> str | None:
    """Return why so many rows can't be gone; None if they can."""
    if sweep.at_most_percent == 100:
        return None
    if gone and not listed:
        return f"the API lists no record, and the table has {known}"
    if gone > max(_ALWAYS_ALLOWED, known * sweep.at_most_percent / 100):
        return (
            f"{gone} of {known} rows would go, and `at_most_percent` is {sweep.at_most_percent}. If they "
            "are gone, set it to 100 for a run"
        )
    return None


def _rows(resource: Resource, keys: frozenset[Key], moment: datetime) -> ChildrenOf:
    columns = tuple(map(key_column, resource.primary_key))
    marked_at = moment if resource.on_delete == "mark" else None
    return ChildrenOf(resource.table, columns, tuple(keys), marked_at=marked_at)


def _is_due(
    state: StateStore, connector: str, resource: str, sweep: Sweep, moment: datetime
) -> bool:
    """Return True if the last sweep was long enough ago. The first load is noted as one."""
    last = _read(state, connector).get(resource)
    if last is None:
        _note(state, connector, resource, moment)
        return False
    since = timedelta(seconds=duration_seconds(sweep.every))
    return moment - datetime.fromisoformat(last) >= since * _NEARLY


def _read(state: StateStore, connector: str) -> dict[str, str]:
    stored = state.read("sweeps", connector)
    try:
        return dict(json.loads(stored.content)) if stored else {}
    except ValueError:
        return {}  # edited by hand: the next run counts as the first


def _note(state: StateStore, connector: str, resource: str, moment: datetime) -> None:
    noted = {**_read(state, connector), resource: moment.isoformat()}
    state.write("sweeps", connector, json.dumps(noted))
