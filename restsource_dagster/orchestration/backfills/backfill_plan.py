"""The histories of a connector, as its file and its creation time give them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import dagster as dg

from restsource_dagster.connector.cursor_format import detect_cursor_format
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.partitions import (
    Partition,
    Window,
    backfill_end,
    backfill_partitions,
    partition_of_key,
    window_of_partition,
)
from restsource_dagster.connector.resources import Backfill, Resource
from restsource_dagster.orchestration.names import (
    backfill_asset_key,
    backfill_job_name,
    history_tag_value,
)
from restsource_dagster.orchestration.state_files import CreationTimes, LiveStarts
from restsource_dagster.settings import Settings

__all__ = ["BackfillPlan", "build_backfill_plans", "read_backfill_plans", "read_live_start_values"]


@dataclass(frozen=True)
class BackfillPlan:
    """The history of one resource: which windows there should be, and the names it goes by."""

    connector: Connector
    resource: Resource
    backfill: Backfill
    created_at: datetime
    live_from: datetime
    """Where the live stream began, UTC."""

    @property
    def asset_key(self) -> dg.AssetKey:
        """The twin asset, whose partitions are the windows."""
        return backfill_asset_key(self.connector.name, self.resource.name)

    @property
    def job_name(self) -> str:
        """The job that loads one window."""
        return backfill_job_name(self.connector.name, self.resource.name)

    @property
    def tag(self) -> str:
        """What the runs of its windows are found by."""
        return history_tag_value(self.connector.name, self.resource.name)

    @property
    def end(self) -> datetime:
        """Where the newest window ends."""
        return backfill_end(self.backfill, self.created_at, live_start_at=self.live_from)

    @cached_property
    def windows(self) -> tuple[Partition, ...]:
        """All windows, newest first; the newest may not be over yet."""
        return backfill_partitions(self.backfill, self.created_at, live_start_at=self.live_from)

    def due(self, now: datetime | None = None) -> tuple[str, ...]:
        """The keys of the windows that are over, newest first.

        Only longer windows than before make one that isn't: its rows until now are partly the live
        stream's already, and it is loaded when it is over.
        """
        moment = now or datetime.now(UTC)
        return tuple(window.key for window in self.windows if window.end <= moment)

    def window(self, key: str) -> Partition:
        """The window of a key. Raises `ValueError` for a key that is none."""
        return partition_of_key(self.backfill.partition, key)

    def span(self, key: str) -> Window:
        """A window in the form of the cursor. Raises `ValueError` for a key that is none."""
        return window_of_partition(self.window(key), _plan_cursor_format(self.resource))


def build_backfill_plans(
    connector: Connector, created_at: datetime, starts: LiveStarts
) -> tuple[BackfillPlan, ...]:
    """The histories of the connector's resources, in the order of the file."""
    return tuple(
        BackfillPlan(
            connector,
            resource,
            resource.backfill,
            created_at,
            starts.get(connector.name, resource, created_at),
        )
        for resource in connector.resources
        if resource.backfill is not None
    )


def read_backfill_plans(connector: Connector, settings: Settings) -> tuple[BackfillPlan, ...]:
    """The same for those who have neither at hand: both are kept in the state folder."""
    created_at = CreationTimes(settings.state_dir).get(connector)
    return build_backfill_plans(connector, created_at, LiveStarts(settings.state_dir))


def read_live_start_values(connector: Connector, settings: Settings) -> Mapping[str, Any]:
    """The cursor value from which a resource with a history is loaded live, by its name.

    It counts as long as no cursor is stored.
    """
    return {
        plan.resource.name: _plan_cursor_format(plan.resource).render(plan.live_from)
        for plan in read_backfill_plans(connector, settings)
    }


def _plan_cursor_format(resource: Resource) -> Any:
    return detect_cursor_format(
        resource.incremental.initial_value if resource.incremental else None
    )
