"""Loads one window of a resource's cursor, for a backfill, without touching the live stream.

Windows have a dlt pipeline of their own, and so their own state, with the dataset, schema and tables
of the live pipeline. The connector's lock keeps live runs and windows apart. A window that is loaded
again leaves the same rows: with a key they are merged; appended rows replace those that the table
has of the window, in one transaction.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import dlt
from dlt.extract import Incremental

from restsource_dagster.connector.model import Connector, Resource
from restsource_dagster.connector.partitions import Window
from restsource_dagster.connector.time_formats import moved_by
from restsource_dagster.engine.dlt_compat import (
    DestinationUndefinedEntity,
    WithStateSync,
    load_pipeline_state_from_destination,
)
from restsource_dagster.engine.errors import ResourceError
from restsource_dagster.engine.http.cancellation import Sleep
from restsource_dagster.engine.incremental.cursor_overrides import (
    AppliedOverrides,
    CursorRange,
    RowDeletion,
    check_resources_exist,
    cursor_column,
    require_incremental,
)
from restsource_dagster.engine.incremental.cursor_state import (
    STATE_KEY,
    StateMapping,
    note_seam,
    read_lower_bound,
    resource_state_in,
)
from restsource_dagster.engine.incremental.position import CursorRules, Position
from restsource_dagster.engine.incremental.window_filter import BackfillWindow
from restsource_dagster.engine.run.family_load import ConnectorRun, open_connector_run
from restsource_dagster.engine.run.load_parts import LoadOptions, SelectedFamily
from restsource_dagster.engine.run.outcome import Failure, Outcome
from restsource_dagster.engine.run_progress import Observer
from restsource_dagster.settings import Settings

__all__ = ["backfill_pipeline_name", "check_backfillable", "ingest_window", "read_stored_state"]


def backfill_pipeline_name(connector: str) -> str:
    """Return the name of the dlt pipeline that loads a connector's windows."""
    # the name is in the state of deployed pipelines
    return f"{connector}__history"


def ingest_window(
    connector: Connector,
    resource: str,
    window: Window,
    *,
    settings: Settings,
    environment: Mapping[str, str],
    observer: Observer | None = None,
    sleep: Sleep | None = None,
    live_from: Any = None,
) -> Iterator[Outcome]:
    """Load a window of a root resource and of its dependents; yield an outcome for each.

    Rows whose cursor lies in the window are loaded, whatever else the API sends; times are compared
    as times. Dependents are requested for these rows. No stored cursor is read or moved. `live_from` is
    the cursor value at which all windows of the backfill end; it is stored with the rows, and the live
    stream starts there at the latest.

    A failure is an outcome, not an exception. Raises, before the first request,
    `UnknownResourceError`, `ResourceError` if the resource can't be loaded in windows,
    `MissingReferencesError` and `ConnectorBusyError`. `sleep` replaces the wait, in seconds, before a
    request is retried.
    """
    check_backfillable(connector, resource)
    _check_length(connector.resource(resource), window)
    family = connector.family_of(resource)
    # with no resource of the family selected in the file, the root is what was asked for
    members = [member for member in family.members if member.selected] or [family.root]

    def prepare(
        run: ConnectorRun, pipeline: dlt.Pipeline, selected: SelectedFamily, _: Collection[str]
    ) -> LoadOptions:
        if live_from is not None:
            with pipeline.managed_state() as state:
                note_seam(cast("dict[str, Any]", state), connector.name, resource, live_from)
        appends = family.root.disposition.value == "append"
        # merged rows need no deletion, and may overlap those of the live stream
        if not appends or family.root not in selected.selected:
            return LoadOptions(window=BackfillWindow(window, window))
        return _prepare_append(run, pipeline, selected, window)

    with open_connector_run(
        connector,
        settings,
        environment,
        observer,
        sleep,
        pipeline=backfill_pipeline_name(connector.name),
        prepare=prepare,
    ) as run:
        yield from map(_loaded_or_failed, run.load(SelectedFamily(family, members)))


def _loaded_or_failed(outcome: Outcome) -> Outcome:
    """Return the outcome; a window of a resource that is left as it is fails, as it is not loaded."""
    if outcome.left_as_it_is is None:
        return outcome
    message = f"{outcome.left_as_it_is}. A window is loaded or fails"
    return replace(outcome, failure=Failure(outcome.resource, "extract", message))


def check_backfillable(connector: Connector, resource: str) -> None:
    """Raise `ResourceError`, with a fix, if a resource can't be loaded in windows.

    Loading a window twice, or beside the live stream, must leave each row once. Raises
    `UnknownResourceError`, too.
    """
    check_resources_exist(connector, [resource])
    root = connector.resource(resource)
    if root.parent is not None:
        top = connector.family_of(resource).root.name
        raise ResourceError(
            resource, f"it is loaded with the windows of {top}. Ask for {top} instead"
        )
    if root.incremental is None:
        raise ResourceError(
            resource, "a window is a range of the incremental cursor, and it has no cursor"
        )
    if root.incremental.end_value is not None:
        raise ResourceError(resource, "`end_value` makes one fixed window of it already")
    _check_write_disposition(root)
    for member in connector.family_of(resource).members[1:]:
        if member.selected and member.disposition.value != "merge":
            raise ResourceError(
                member.name,
                f"its rows would be stored twice when a window of {resource} is loaded again. Add "
                'a "primary_key", so that they are merged',
            )


def _check_write_disposition(root: Resource) -> None:
    disposition, incremental = root.disposition, require_incremental(root)
    if disposition.value not in ("append", "merge"):
        raise ResourceError(
            root.name,
            f"with {disposition.value} each window removes the rows of the others. Use merge, with "
            "a primary_key, or append",
        )
    if disposition.strategy in ("scd2", "cdc"):
        raise ResourceError(
            root.name,
            f"merge ({disposition.strategy}) needs rows in the order of time. Use the plain merge",
        )
    if disposition.value == "append" and not cursor_column(incremental.path):
        raise ResourceError(
            root.name,
            f"{incremental.path} is not the name of a column, so the rows of a window can't "
            'be found in the table to be replaced. Add a "primary_key", so that they are merged',
        )


def _check_length(root: Resource, window: Window) -> None:
    """Raise `ResourceError` for a window that is longer than the file says the API can answer."""
    limits, form = require_incremental(root).window, window.cursor_format
    if limits is None or limits.size is None or not form.is_time:
        return
    if moved_by(form.parse(window.start), limits.size) < form.parse(window.end):
        raise ResourceError(
            root.name,
            f"the window {window.label} is asked for at once, and it is longer than the {limits.size} of "
            f"`incremental.window`. Load it in shorter ones, with --window {limits.size}",
        )


def _prepare_append(
    run: ConnectorRun, pipeline: dlt.Pipeline, selected: SelectedFamily, window: Window
) -> LoadOptions:
    """Return the window up to the live stream's start, and the deletion of the rows it replaces.

    The live stream knows the rows that it has appended, and appends all others after its start. If a
    window loaded such rows, they would be stored twice.
    """
    root = selected.family.root
    start = _read_live_start(run, pipeline, selected)
    key = window.cursor_format.comparison_key
    accepted, messages = window, []
    if start is not None and key(start) < key(window.end):
        accepted = replace(window, end=max(window.start, start, key=key))
        messages.append(
            f"{root.name}: rows from {start} on are left to the live stream, which starts there"
        )
    column = cursor_column(require_incremental(root).path) or ""
    rows = CursorRange(column, window.cursor_format, accepted.start, accepted.end)
    return LoadOptions(
        AppliedOverrides(deletions=[RowDeletion(root.table, rows)], messages=messages),
        BackfillWindow(window, accepted),
    )


def _read_live_start(run: ConnectorRun, pipeline: dlt.Pipeline, selected: SelectedFamily) -> Any:
    """Return the cursor value that the next live run reads from.

    None if it has not started and starts after the backfill. Raises `ResourceError` if that is unknown.
    """
    root, name = selected.family.root, run.connector.name
    stored = resource_state_in(read_stored_state(run, pipeline, name), name, root.name)
    plan = run.plans(SelectedFamily(selected.family, [root]))[root.name]
    rules = CursorRules.of(root.name, cast("Incremental[Any]", plan.incremental))
    if rules.descending:
        raise ResourceError(root.name, "its cursor descends, and windows ascend")
    ours: StateMapping = stored.get(STATE_KEY, {})
    position: StateMapping = stored.get("incremental", {}).get(rules.path, {})
    lower_bound = read_lower_bound(ours)
    # after a change of `table_name` the stored cursor is that of the old table
    is_same_table = ours.get("table", root.table) == root.table
    if position.get("last_value") is not None and is_same_table:
        if lower_bound is not None:
            rules = replace(rules, initial_value=lower_bound)
        # with the lag taken off, as the live run does
        return Position(rules, position, remembers=False).start
    if lower_bound is None and root.backfill is None:
        raise ResourceError(
            root.name,
            "its rows are appended and it has never been loaded, so it is unknown where the live "
            "stream will start. Run it once, or add a primary_key or a `backfill` block",
        )
    return lower_bound


def read_stored_state(run: ConnectorRun, pipeline: dlt.Pipeline, name: str) -> StateMapping:
    """Return the state of the pipeline `name` as the destination has it; empty before its first load.

    `pipeline` is the open one, of the same dataset.
    """
    with (
        # DuckDB's file is open in one process at a time
        run.pipelines.warehouse.locked(run.progress.message),
        pipeline.destination_client() as client,
    ):
        if not isinstance(client, WithStateSync):
            return {}
        try:
            stored: Any = load_pipeline_state_from_destination(name, client)
        except DestinationUndefinedEntity:
            return {}  # no run has created the dataset yet
    return stored or {}
