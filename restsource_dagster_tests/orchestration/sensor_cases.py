"""Connectors and tiny definitions for the tests of the sensors."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.validation.connector_builder import parse_connector
from restsource_dagster.orchestration.names import TAG_CONNECTOR, asset_key, job_name
from restsource_dagster.orchestration.sensors.first_run import build_first_run_sensor

CREATED = datetime(2026, 11, 23, 10, 3, tzinfo=UTC)
HOURLY = {"mode": "hours"}
MANUAL = {"mode": "manual"}


def connector(
    name: str,
    *resources: str | dict[str, Any],
    schedule: dict[str, Any] = HOURLY,
    created_at: datetime | None = None,
    path: Path | None = None,
) -> Connector:
    """A connector as a file of these resources gives it."""
    value = {
        "name": name,
        "schedule": schedule,
        "client": {"base_url": "http://127.0.0.1:9/"},
        "resources": list(resources) or ["orders"],
    }
    if created_at is not None:
        value["created_at"] = created_at.isoformat()
    parsed, findings = parse_connector(value, path or Path(f"configs/{name}.json"))
    assert parsed is not None, findings
    return parsed


class Location:
    """Connectors as a code location has them, with an op that loads nothing (or fails)."""

    def __init__(
        self,
        *connectors: Connector,
        failing: bool = False,
        created_at: datetime = CREATED,
        loaded_at: datetime = CREATED,
        now: datetime = CREATED + timedelta(hours=1),
    ) -> None:
        assets = [_assets(connector, failing) for connector in connectors]
        jobs = {
            connector.name: dg.define_asset_job(
                job_name(connector.name),
                selection=dg.AssetSelection.assets(definition),
                tags={TAG_CONNECTOR: connector.name},
            )
            for connector, definition in zip(connectors, assets, strict=True)
        }
        self.sensor = build_first_run_sensor(
            [(connector, created_at) for connector in connectors],
            jobs,
            loaded_at,
            clock=lambda: now,
        )
        self.definitions = dg.Definitions(
            assets=assets,
            jobs=list(jobs.values()),
            sensors=[self.sensor],
            executor=dg.in_process_executor,
        )

    def tick(
        self, instance: dg.DagsterInstance | None, cursor: str | None = None
    ) -> tuple[list[dg.RunRequest], str | None, str | None]:
        """Evaluate one tick; return its run requests, its cursor and the reason for a skip."""
        context = dg.build_sensor_context(
            instance=instance, cursor=cursor, definitions=self.definitions
        )
        data = self.sensor.evaluate_tick(context)
        return list(data.run_requests or ()), data.cursor, data.skip_message

    def execute(self, request: dg.RunRequest, instance: dg.DagsterInstance) -> None:
        """Execute a requested run, as the daemon would."""
        self.definitions.resolve_job_def(request.job_name or "").execute_in_process(
            instance=instance,
            asset_selection=request.asset_selection,
            tags=dict(request.tags),
            raise_on_error=False,
        )


def _assets(connector: Connector, failing: bool) -> dg.AssetsDefinition:
    specs = [
        dg.AssetSpec(asset_key(connector.name, resource.name), skippable=True)
        for resource in connector.resources
    ]

    @dg.multi_asset(name=connector.name, specs=specs, can_subset=True)
    def load(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        if failing:
            raise dg.Failure("the API is down", allow_retries=False)
        for key in context.selected_asset_keys:
            yield dg.MaterializeResult(asset_key=key)

    return load
