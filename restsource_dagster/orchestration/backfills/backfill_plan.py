"""The plan of a backfill: which partitions a resource has, from its file and its creation time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import dagster as dg

from restsource_dagster.connector.cursor_format import CursorFormat, detect_cursor_format
from restsource_dagster.connector.model import Connector, Resource
from restsource_dagster.connector.models.backfill import (
    Backfill,
    backfill_end,
    backfill_partitions,
)
from restsource_dagster.connector.partitions import (
    Partition,
    Window,
    partition_of_key,
    window_of_partition,
)
from restsource_dagster.orchestration.names import (
    backfill_asset_key,
    backfill_job_name,
    backfill_tag_value,
)
from restsource_dagster.orchestration.state_files import CreationTimes, LiveStarts
from restsource_dagster.settings import Settings
from restsource_dagster.state.store import open_state

__all__ = ["BackfillPlan", "build_backfill_plans", "read_backfill_plans", "read_live_start_values"]


@dataclass(frozen=True)
class BackfillPlan:
    """The backfill of one resource: its partitions, and its names in Dagster."""

    connector: Connector
    resource: Resource
    backfill: Backfill
    created_at: datetime
    live_start: datetime
    """Where the live stream began, UTC."""

    @property
    def asset_key(self) -> dg.AssetKey:
        """The key of the partitioned asset."""
        return backfill_asset_key(self.connector.name, self.resource.name)

    @property
    def job_name(self) -> str:
        """The name of the job that loads one partition."""
        return backfill_job_name(self.connector.name, self.resource.name)

    @property
    def tag(self) -> str:
        """The value of the tag by which its runs are found."""
        return backfill_tag_value(self.connector.name, self.resource.name)

    @property
    def end(self) -> datetime:
        """The end of the newest partition."""
        return backfill_end(self.backfill, self.created_at, live_start_at=self.live_start)

    # Cached: an hourly backfill of years has tens of thousands, and each tick asks for them.
    @cached_property
    def partitions(self) -> tuple[Partition, ...]:
        """All partitions, newest first. The newest may end in the future."""
        return backfill_partitions(self.backfill, self.created_at, live_start_at=self.live_start)

    def due_keys(self, now: datetime | None = None) -> tuple[str, ...]:
        """Return the keys of the partitions that have ended, newest first.

        A partition that hasn't exists only after `partition` was set to a longer one. Until its end, the
        live stream loads part of its rows, too.
        """
        moment = now or datetime.now(UTC)
        return tuple(partition.key for partition in self.partitions if partition.end <= moment)

    def partition(self, key: str) -> Partition:
        """Return the partition of a key. Raises `ValueError` for an invalid key."""
        return partition_of_key(self.backfill.partition, key)

    def live_start_value(self, requested: str | None = None) -> Any:
        """Return where the live stream began, as a cursor value.

        `requested` is that moment (ISO 8601) as the process that requested this run knows it. A run on another
        machine may find another state, and the earlier of the two leaves no gap.
        """
        moments = [self.live_start, *([datetime.fromisoformat(requested)] if requested else [])]
        return _plan_cursor_format(self.resource).render(min(moments))

    def window(self, key: str) -> Window:
        """Return a partition as a window of cursor values. Raises `ValueError` for an invalid key."""
        return window_of_partition(self.partition(key), _plan_cursor_format(self.resource))


def build_backfill_plans(
    connector: Connector, created_at: datetime, live_starts: LiveStarts
) -> tuple[BackfillPlan, ...]:
    """Return the plans of a connector's resources, in the order of the file."""
    return tuple(
        BackfillPlan(
            connector,
            resource,
            resource.backfill,
            created_at,
            live_starts.get(connector.name, resource, created_at),
        )
        for resource in connector.resources
        if resource.backfill is not None
    )


def read_backfill_plans(connector: Connector, settings: Settings) -> tuple[BackfillPlan, ...]:
    """Return the plans with the creation time and the live starts of the state."""
    state = open_state(settings)
    created_at = CreationTimes(state).get(connector)
    return build_backfill_plans(connector, created_at, LiveStarts(state))


def read_live_start_values(connector: Connector, settings: Settings) -> Mapping[str, Any]:
    """Return the cursor values where live streams begin, by resource; only resources with a backfill.

    A value is used as long as no cursor is stored.
    """
    return {
        plan.resource.name: plan.live_start_value()
        for plan in read_backfill_plans(connector, settings)
    }


def _plan_cursor_format(resource: Resource) -> CursorFormat:
    return detect_cursor_format(
        resource.incremental.initial_value if resource.incremental else None
    )
