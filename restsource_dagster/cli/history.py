"""What a Dagster instance knows of connectors: last runs, rows, incremental cursors.

Imported only where there is an instance, because it brings Dagster.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from restsource_dagster.config.connector import Connector
from restsource_dagster.orchestration.names import (
    BACKFILL,
    TAG_CONNECTOR,
    TAG_TRIGGER,
    asset_key,
)

__all__ = ["LastRun", "Materialized", "metadata_value", "read_last_run", "read_materialized"]

_AT_ONCE = 500
_WINDOWS = 500
"""Runs of windows among which a live run is looked for."""


@dataclass(frozen=True)
class LastRun:
    """The latest live run of a connector, whatever asked for it."""

    run_id: str
    status: str
    trigger: str | None
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True)
class Materialized:
    """The latest materialization of a resource's asset; the cursor is None if it has none."""

    run_id: str
    at: datetime
    rows_loaded: int | None
    cursor_path: str | None
    last_value: Any


def read_last_run(instance: dg.DagsterInstance, connector: Connector) -> LastRun | None:
    """The latest live run, or None if there was none; windows of history don't count."""
    for limit in (1, _WINDOWS):  # the first one mostly does
        records = instance.get_run_records(
            filters=dg.RunsFilter(tags={TAG_CONNECTOR: connector.name}), limit=limit
        )
        live = [r for r in records if r.dagster_run.tags.get(TAG_TRIGGER) != BACKFILL]
        if live:
            return _last_run(live[0])
    return None


def _last_run(record: dg.RunRecord) -> LastRun:
    run = record.dagster_run
    return LastRun(
        run_id=run.run_id,
        status=run.status.value,
        trigger=run.tags.get(TAG_TRIGGER),
        started_at=_moment(record.start_time),
        ended_at=_moment(record.end_time),
    )


def read_materialized(
    instance: dg.DagsterInstance, connectors: Sequence[Connector]
) -> Mapping[tuple[str, str], Materialized]:
    """The latest materializations by connector and resource; those never made are left out."""
    names = [(c.name, resource.name) for c in connectors for resource in c.resources]
    found: dict[tuple[str, str], Materialized] = {}
    for start in range(0, len(names), _AT_ONCE):
        keys = [asset_key(*name) for name in names[start : start + _AT_ONCE]]
        for record in instance.get_asset_records(keys):
            entry = record.asset_entry
            event = entry.last_materialization
            if event is not None and event.asset_materialization is not None:
                connector, resource = entry.asset_key.path
                metadata = event.asset_materialization.metadata
                found[connector, resource] = Materialized(
                    run_id=event.run_id,
                    at=datetime.fromtimestamp(event.timestamp, UTC),
                    rows_loaded=metadata_value(metadata, "rows_loaded"),
                    cursor_path=metadata_value(metadata, "incremental/cursor_path"),
                    last_value=metadata_value(metadata, "incremental/last_value"),
                )
    return found


def metadata_value(metadata: Mapping[str, dg.MetadataValue[Any]], name: str) -> Any:
    """The value of a metadata entry, None if there is none; a moment in ISO 8601, UTC."""
    entry = metadata.get(name)
    if isinstance(entry, dg.TimestampMetadataValue):
        return datetime.fromtimestamp(entry.value, UTC).isoformat().replace("+00:00", "Z")
    return entry.value if entry is not None else None


def _moment(timestamp: float | None) -> datetime | None:
    return None if timestamp is None else datetime.fromtimestamp(timestamp, UTC)
