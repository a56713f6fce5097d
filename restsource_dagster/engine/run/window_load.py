"""Load one window of a resource's history: beside the live stream, which knows nothing of it.

The window has a dlt pipeline of its own, and so a state of its own, in the same dataset, with the
same schema and tables. The connector's lock keeps live runs and windows apart. Loading a window
again leaves the same rows: what has a key is merged; what is appended takes the place of the rows
that the table has of the window, in one transaction.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import dlt
from dlt.extract import Incremental

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.partitions import Window
from restsource_dagster.connector.resources import Family, Resource
from restsource_dagster.engine.destination.replace_rows import CursorRange, RowDeletion
from restsource_dagster.engine.dlt_compat import (
    DestinationUndefinedEntity,
    WithStateSync,
    jsonpath,
    load_pipeline_state_from_destination,
)
from restsource_dagster.engine.errors import UnknownResourceError
from restsource_dagster.engine.http.cancellation import Sleep
from restsource_dagster.engine.incremental.cursor_overrides import (
    AppliedOverrides,
    require_incremental,
    resource_error,
)
from restsource_dagster.engine.incremental.cursor_state import STATE_KEY, read_lower_bound
from restsource_dagster.engine.incremental.position import CursorRules, Position
from restsource_dagster.engine.incremental.window_filter import BackfillWindow
from restsource_dagster.engine.run.family_load import (
    ConnectorRun,
    LoadOptions,
    SelectedFamily,
    open_connector_run,
)
from restsource_dagster.engine.run.outcome import Observer, Outcome
from restsource_dagster.settings import Settings

__all__ = ["backfill_pipeline_name", "check_backfillable", "ingest_window"]

StateMapping = Mapping[str, Any]


def backfill_pipeline_name(connector: str) -> str:
    """The name of dlt's pipeline for the windows of a connector."""
    return f"{connector}__history"


def ingest_window(
    connector: Connector,
    resource: str,
    span: Window,
    *,
    settings: Settings,
    environment: Mapping[str, str],
    observer: Observer | None = None,
    sleep: Sleep | None = None,
) -> Iterator[Outcome]:
    """Load a window of a root resource and what depends on it; yield an outcome for each.

    Rows whose cursor lies in the span are taken, compared as times where they are times, whatever
    else the API sends. Dependents are asked for below those rows. No stored cursor is read for
    where to start, and none is moved.

    A failure is an outcome, not an exception. Raises `UnknownResourceError`, `IngestError` if the
    resource can't be loaded in windows, `MissingReferences` and `ConnectorBusyError`, all before
    anything was requested. `sleep` waits, in seconds, before a request is tried again.
    """
    check_backfillable(connector, resource)
    family = connector.family_of(resource)
    selected = [member for member in family.members if member.selected] or [family.root]

    def prepare(
        run: ConnectorRun, pipeline: dlt.Pipeline, family: Family, names: Collection[str]
    ) -> LoadOptions:
        if family.root.disposition.value != "append" or family.root.name not in names:
            return LoadOptions(AppliedOverrides(), BackfillWindow(span, span))
        return _prepare_append(run, pipeline, family, span)

    with open_connector_run(
        connector,
        settings,
        environment,
        observer,
        sleep,
        pipeline=backfill_pipeline_name(connector.name),
        prepare=prepare,
    ) as run:
        yield from run.load(SelectedFamily(family, selected))


def check_backfillable(connector: Connector, resource: str) -> None:
    """Refuse a resource whose windows could not be loaded again, or not beside the live stream.

    Raises `UnknownResourceError` or `IngestError` naming the resource and the way out.
    """
    try:
        root = connector.resource(resource)
    except KeyError as error:
        raise UnknownResourceError(str(error.args[0])) from None
    if root.parent is not None:
        top = connector.family_of(resource).root.name
        raise resource_error(
            resource, f"it is loaded with the windows of {top}. Ask for {top} instead"
        )
    if root.incremental is None:
        raise resource_error(
            resource, "a window is a stretch of the incremental cursor, and it has none"
        )
    if root.incremental.end_value is not None:
        raise resource_error(resource, "`end_value` makes one fixed window of it already")
    _check_write_disposition(root)
    for member in connector.family_of(resource).members[1:]:
        if member.selected and member.disposition.value != "merge":
            raise resource_error(
                member.name,
                f"its rows would be there twice when a window of {resource} is loaded again. Give "
                'it a "primary_key", so that they are merged',
            )


def _check_write_disposition(root: Resource) -> None:
    disposition, incremental = root.disposition, require_incremental(root)
    if disposition.value not in ("append", "merge"):
        raise resource_error(
            root.name,
            f"with {disposition.value} a window leaves nothing of the others in the table. Use "
            "merge, with a primary_key, or append",
        )
    if disposition.strategy in ("scd2", "cdc"):
        raise resource_error(
            root.name,
            f"merge ({disposition.strategy}) counts on rows coming in the order of time. Use the "
            "plain merge",
        )
    if disposition.value == "append" and not _cursor_column(incremental.cursor_path):
        raise resource_error(
            root.name,
            f"{incremental.cursor_path} is not the name of a column, so the rows of a window can't "
            'be found in the table to be replaced. Give it a "primary_key", so that they are merged',
        )


def _cursor_column(cursor_path: str) -> str | None:
    name: str | None = jsonpath.extract_simple_field_name(jsonpath.compile_path(cursor_path))
    return name


def _prepare_append(
    run: ConnectorRun, pipeline: dlt.Pipeline, family: Family, span: Window
) -> LoadOptions:
    """The window without the live stream's stretch, and the rows of the table that it replaces.

    The live stream remembers which rows it has appended from a point on, and appends all others
    there. A window that took such rows would have them twice.
    """
    root = family.root
    start = _read_live_start(run, pipeline, family)
    taken, texts = span, []
    if start is not None and span.form.key(start) < span.form.key(span.end):
        taken = replace(span, end=max(span.start, start, key=span.form.key))
        texts.append(
            f"{root.name}: rows from {start} on are left to the live stream, which stands there"
        )
    field = _cursor_column(require_incremental(root).cursor_path) or ""
    rows = CursorRange(field, span.form, taken.start, taken.end)
    return LoadOptions(
        AppliedOverrides(replacements=[RowDeletion(root.table, rows)], texts=texts),
        BackfillWindow(span, taken),
    )


def _read_live_state(run: ConnectorRun, pipeline: dlt.Pipeline) -> StateMapping:
    """dlt's state of live runs, as the destination has it."""
    with (
        run.pipelines.warehouse.held(run.progress.message),
        pipeline.destination_client() as client,
    ):
        if not isinstance(client, WithStateSync):
            return {}
        try:
            stored: Any = load_pipeline_state_from_destination(run.connector.name, client)
        except DestinationUndefinedEntity:
            return {}
    return stored or {}


def _read_live_start(run: ConnectorRun, pipeline: dlt.Pipeline, family: Family) -> Any:
    """Where the live stream will go on reading; None before it has begun, after the history."""
    root = family.root
    sources = _read_live_state(run, pipeline).get("sources", {})
    kept = sources.get(run.connector.name, {}).get("resources", {}).get(root.name, {})
    plan = run.plans(family, [root.name])[root.name]
    rules = CursorRules.of(root.name, cast("Incremental[Any]", plan.incremental))
    if rules.falling:
        raise resource_error(root.name, "its cursor falls, and windows rise")
    ours: StateMapping = kept.get(STATE_KEY, {})
    place: StateMapping = kept.get("incremental", {}).get(rules.path, {})
    begins = read_lower_bound(ours)
    if place.get("last_value") is not None and ours.get("table", root.table) == root.table:
        rules = rules if begins is None else replace(rules, initial=begins)
        return Position(rules, place, remembers=False).start
    if begins is None and root.backfill is None:
        raise resource_error(
            root.name,
            "its rows are appended and it has never been loaded, so nobody can tell where the live "
            "stream will begin. Run it once, or give it a primary_key or a `backfill` block",
        )
    return begins
