"""Resets resources: drops their tables and their cursors, so that the next run loads all rows."""

from collections.abc import Collection, Mapping
from pathlib import Path

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine import dlt_compat
from restsource_dagster.engine.destination.dlt_config import configure_dlt, find_destination_secrets
from restsource_dagster.engine.destination.pipeline import PipelineManager
from restsource_dagster.engine.destination.warehouse import warehouse_from_settings
from restsource_dagster.engine.errors import IngestError, ResourceError
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.incremental.cursor_overrides import check_resources_exist
from restsource_dagster.engine.incremental.cursor_state import gone_parents_path
from restsource_dagster.engine.incremental.unfinished import fingerprint_path
from restsource_dagster.engine.run.window_load import backfill_pipeline_name
from restsource_dagster.engine.run.workspace import connector_workspace
from restsource_dagster.engine.run_progress import Observer, Progress, SilentObserver
from restsource_dagster.engine.source.export_job import forget_jobs
from restsource_dagster.settings import Settings
from restsource_dagster.state.loaded_versions import LoadedVersions
from restsource_dagster.state.store import open_state

__all__ = ["dependents_of", "reset_resources"]


def reset_resources(
    connector: Connector,
    resources: Collection[str] | None,
    settings: Settings,
    observer: Observer | None = None,
    *,
    environment: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """Drop the tables, nested ones included, and the cursors of resources; with None, of all.

    Waits for a run of the connector to end, and for the database. Returns the tables that were
    dropped, none if nothing was loaded. Dependents that are not named keep their rows, and `observer`
    gets a message. Dagster still shows the partitions of a backfill as loaded: the caller must wipe
    them.

    The credentials of the destination in `environment` are redacted from messages and errors.

    Raises `UnknownResourceError`, `ResourceError` for a table that other resources share, `ConnectorBusyError`,
    `DatabaseBusyError`, and `IngestError` if the destination fails with an error that shows one of its credentials.
    """
    # before the lock: a wrong argument should not wait for a run
    check_resources_exist(connector, resources or ())
    _check_shared_tables(connector, resources or ())
    settings = settings.for_destination(connector.destination)
    redactor = Redactor(find_destination_secrets(settings.destination, environment or {}))
    progress = Progress(observer or SilentObserver(), redactor)
    configure_dlt()
    state = open_state(settings)
    redactor.add_secrets(*state.secrets)
    # under the lock: a run in progress would write the tables again
    with (
        redactor.redacted_errors(IngestError),
        connector_workspace(settings, state, connector.name, progress.message) as workspace,
    ):
        # a job of before would bring its rows back
        names = resources or [one.name for one in connector.resources]
        forget_jobs(state, connector.name, names)
        dropped = _drop_tables(connector, resources, settings, progress, workspace.folder)
        # a table that is loaded anew has nothing of an earlier version
        LoadedVersions(state, connector.name).forget(names)
    for name in resources or ():
        kept = [below for below in dependents_of(connector, name) if below not in (resources or ())]
        if kept:
            progress.message(
                f"{', '.join(kept)} depends on {name} and keeps its rows; it is not requested again "
                f"for the records of {name} that it has read"
            )
    return dropped


def _check_shared_tables(connector: Connector, resources: Collection[str]) -> None:
    """Raise `ResourceError` for a table whose other resources are not reset."""
    for name in resources:
        if kept := [one for one in connector.sharing_table(name) if one not in resources]:
            raise ResourceError(
                name,
                f"its table has the rows of {', '.join(kept)}, too, and a reset drops it. Reset "
                f"{', '.join([name, *kept])} together",
            )


def dependents_of(connector: Connector, resource: str) -> tuple[str, ...]:
    """Return the names of the resources below this one, at any depth.

    Raises `KeyError` for an unknown resource.
    """
    return connector.family_of(resource).dependents_of(resource)


def _drop_tables(
    connector: Connector,
    resources: Collection[str] | None,
    settings: Settings,
    progress: Progress,
    folder: Path,
) -> tuple[str, ...]:
    """Drop the tables of the resources, or all with None; return those that had rows."""
    warehouse = warehouse_from_settings(settings)
    # a connector that has loaded windows only has the state of the backfill pipeline and no other
    for name in (connector.name, backfill_pipeline_name(connector.name)):
        pipelines = PipelineManager(
            name, warehouse, progress, folder / name, dataset=connector.name
        )
        pipeline = pipelines.open()
        # both share the dataset, and the first one with a schema knows its tables
        if pipeline.default_schema_name:
            break
    else:
        return ()
    with warehouse.locked(progress.message):
        families = [
            family.root.name
            for family in connector.families
            if resources is None or any(one.name in resources for one in family.members)
        ]
        drop = dlt_compat.pipeline_drop(
            pipeline,
            tuple(resources or ()),
            # the rest of a load that was stored in part is not enough for an empty table
            state_paths=[
                *map(fingerprint_path, families),
                *map(gone_parents_path, resources or ()),
            ],
            drop_all=resources is None,
        )
        if drop.is_empty:
            return ()
        drop()
        # an override to apply again would delete rows of the new table
        pipelines.forget_overrides(resources)
    return tuple(drop.info["tables_with_data"])
