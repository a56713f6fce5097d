"""Reads last runs, rows and incremental cursors of connectors from a Dagster instance.

Imports Dagster, so commands import it only when there is an instance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from restsource_dagster.connector.model import Connector
from restsource_dagster.orchestration.names import (
    TAG_CONNECTOR,
    TAG_TRIGGER,
    TRIGGER_BACKFILL,
    asset_key,
)
from restsource_dagster.orchestration.sensors.killed_runs import fail_if_process_gone

__all__ = [
    "LastMaterialization",
    "LastRun",
    "metadata_value",
    "read_last_materializations",
    "read_last_run",
]

# Each key is a variable of the SQL statement, and SQLite before 3.32 takes 999 of them.
_ASSETS_PER_QUERY = 500
_MAX_BACKFILL_RUNS = 500
"""How many runs of backfills are skipped in search of a live run."""


@dataclass(frozen=True)
class LastRun:
    """The latest live run of a connector, whatever started it."""

    run_id: str
    status: str
    trigger: str | None
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True)
class LastMaterialization:
    """The latest materialization of a resource's asset; the cursor is None without one."""

    run_id: str
    materialized_at: datetime
    rows_loaded: int | None
    cursor_path: str | None
    last_value: Any


def read_last_run(instance: dg.DagsterInstance, connector: Connector) -> LastRun | None:
    """Return the latest live run, None if there is none. Runs of backfills don't count."""
    for limit in (1, _MAX_BACKFILL_RUNS):  # the latest run is usually a live one
        records = instance.get_run_records(
            filters=dg.RunsFilter(tags={TAG_CONNECTOR: connector.name}), limit=limit
        )
        live = [r for r in records if r.dagster_run.tags.get(TAG_TRIGGER) != TRIGGER_BACKFILL]
        if live:
            # The run of a killed process is STARTED forever. It is marked as failed, then read
            # again.
            if fail_if_process_gone(instance, live[0].dagster_run):
                live = list(
                    instance.get_run_records(dg.RunsFilter(run_ids=[live[0].dagster_run.run_id]))
                )
            return _to_last_run(live[0])
    return None


def _to_last_run(record: dg.RunRecord) -> LastRun:
    run = record.dagster_run
    return LastRun(
        run_id=run.run_id,
        status=run.status.value,
        trigger=run.tags.get(TAG_TRIGGER),
        started_at=_timestamp_to_utc(record.start_time),
        ended_at=_timestamp_to_utc(record.end_time),
    )


def read_last_materializations(
    instance: dg.DagsterInstance, connectors: Sequence[Connector]
) -> Mapping[tuple[str, str], LastMaterialization]:
    """Return the latest materializations by connector and resource, without assets that have none."""
    names = [(c.name, resource.name) for c in connectors for resource in c.resources]
    found: dict[tuple[str, str], LastMaterialization] = {}
    for start in range(0, len(names), _ASSETS_PER_QUERY):
        keys = [asset_key(*name) for name in names[start : start + _ASSETS_PER_QUERY]]
        for record in instance.get_asset_records(keys):
            entry = record.asset_entry
            event = entry.last_materialization
            if event is not None and event.asset_materialization is not None:
                connector, resource = entry.asset_key.path
                metadata = event.asset_materialization.metadata
                found[connector, resource] = LastMaterialization(
                    run_id=event.run_id,
                    materialized_at=datetime.fromtimestamp(event.timestamp, UTC),
                    rows_loaded=metadata_value(metadata, "rows_loaded"),
                    cursor_path=metadata_value(metadata, "incremental/cursor_path"),
                    last_value=metadata_value(metadata, "incremental/last_value"),
                )
    return found


def metadata_value(metadata: Mapping[str, dg.MetadataValue[Any]], name: str) -> Any:
    """Return the value of a metadata entry, None without one; a timestamp in ISO 8601, UTC."""
    entry = metadata.get(name)
    if isinstance(entry, dg.TimestampMetadataValue):
        return datetime.fromtimestamp(entry.value, UTC).isoformat().replace("+00:00", "Z")
    return entry.value if entry is not None else None


def _timestamp_to_utc(timestamp: float | None) -> datetime | None:
    return None if timestamp is None else datetime.fromtimestamp(timestamp, UTC)
