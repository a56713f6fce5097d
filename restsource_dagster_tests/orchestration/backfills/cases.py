"""Backfills as a code location has them, and the runs that their sensor requests."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from restsource_dagster.connector.model import Connector
from restsource_dagster.orchestration.backfills.backfill_assets import (
    backfill_run_tags,
    build_backfill_asset,
    build_backfill_job,
)
from restsource_dagster.orchestration.backfills.backfill_plan import (
    BackfillPlan,
    build_backfill_plans,
)
from restsource_dagster.orchestration.backfills.backfill_status import build_backfill_sensor
from restsource_dagster.orchestration.names import TAG_WINDOW
from restsource_dagster.orchestration.run_config import RunSettings
from restsource_dagster.orchestration.state_files import LiveStarts
from restsource_dagster.state.store import FolderStore
from restsource_dagster_tests.making import make_connector, make_settings

__all__ = ["CREATED", "Location", "orders"]

CREATED = datetime(2024, 1, 6, 10, 3, tzinfo=UTC)
"""Five days after the start of `orders`, so that its backfill has five partitions."""


def orders(name: str = "orders", **changes: Any) -> dict[str, Any]:
    """Return a resource with a daily backfill from 2024-01-01 on; `changes` are fields of its block."""
    return {
        "name": name,
        "primary_key": "id",
        "endpoint": {
            "path": name,
            "data_selector": "data",
            "params": {"since": "{incremental.start_value}", "until": "{incremental.end_value}"},
            "incremental": {"cursor_path": "at", "initial_value": "2020-01-01T00:00:00Z"},
        },
        "backfill": {"start": "2024-01-01", "partition": "daily", **changes},
    }


class Location:
    """The backfills of connectors, their sensor, and the runs that an instance knows."""

    def __init__(
        self,
        folder: Path,
        *connectors: Connector,
        created_at: datetime = CREATED,
        now: datetime = CREATED + timedelta(hours=1),
    ) -> None:
        settings = make_settings(folder)
        starts = LiveStarts(FolderStore(settings.state_dir))
        self.plans: Sequence[BackfillPlan] = [
            plan
            for connector in connectors
            for plan in build_backfill_plans(connector, created_at, starts)
        ]
        assets = [build_backfill_asset(plan, RunSettings(settings)) for plan in self.plans]
        jobs = {
            plan.job_name: build_backfill_job(plan, asset)
            for plan, asset in zip(self.plans, assets, strict=True)
        }
        self.sensor = build_backfill_sensor(self.plans, jobs, CREATED, clock=lambda: now)
        self.definitions = dg.Definitions(
            assets=assets, jobs=list(jobs.values()), sensors=[self.sensor]
        )

    @classmethod
    def of(cls, folder: Path, *resources: Any, name: str = "shop", **more: Any) -> "Location":
        """The location of one connector."""
        return cls(folder, make_connector("http://127.0.0.1:9", *resources, name=name), **more)

    def tick(
        self, instance: dg.DagsterInstance, cursor: str | None = None
    ) -> tuple[list[dg.RunRequest], str | None, str | None]:
        """Evaluate one tick; return its run requests, the sensor cursor and the reason for a skip."""
        context = dg.build_sensor_context(
            instance=instance, cursor=cursor, definitions=self.definitions
        )
        data = self.sensor.evaluate_tick(context)
        return list(data.run_requests or ()), data.cursor, data.skip_message

    def create(
        self,
        instance: dg.DagsterInstance,
        request: dg.RunRequest,
        status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTING,
    ) -> dg.DagsterRun:
        """Return the run that the daemon creates."""
        run = dg.DagsterRun(job_name=request.job_name or "", tags={**request.tags}, status=status)
        return instance.add_run(run)

    def end(self, instance: dg.DagsterInstance, run: dg.DagsterRun, *, loaded: bool = True) -> None:
        """Let a run succeed (its partition is loaded) or fail."""
        if loaded:
            [plan] = [plan for plan in self.plans if plan.job_name == run.job_name]
            self.load(instance, plan, run.tags[TAG_WINDOW])
            event = dg.DagsterEventType.RUN_SUCCESS
        else:
            event = dg.DagsterEventType.RUN_FAILURE
        instance.report_dagster_event(
            dg.DagsterEvent(event.value, job_name=run.job_name), run_id=run.run_id
        )

    def load(self, instance: dg.DagsterInstance, plan: BackfillPlan, key: str) -> None:
        """Record that a partition was loaded under the current definition."""
        version = {"dagster/data_version": plan.resource.definition_key}
        instance.report_runless_asset_event(
            dg.AssetMaterialization(plan.asset_key, partition=key, tags=version)
        )

    def tags(self, key: str) -> dict[str, str]:
        """Return the tags of a run of the first backfill."""
        return {**backfill_run_tags(self.plans[0]), TAG_WINDOW: key, "dagster/partition": key}
