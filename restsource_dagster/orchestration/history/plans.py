"""The histories of a connector, as its file and its creation time give them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import dagster as dg

from restsource_dagster.config.connector import Backfill, Connector, Resource
from restsource_dagster.config.cursor_values import format_of
from restsource_dagster.config.spans import Span, span_of
from restsource_dagster.config.windows import Window, desired, history_end, window_of_key
from restsource_dagster.orchestration.created import CreationTimes
from restsource_dagster.orchestration.history.live_starts import LiveStarts
from restsource_dagster.orchestration.names import history_job_name, history_key, history_tag
from restsource_dagster.settings import Settings

__all__ = ["HistoryPlan", "histories_of", "live_from", "plans_of"]


@dataclass(frozen=True)
class HistoryPlan:
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
        return history_key(self.connector.name, self.resource.name)

    @property
    def job_name(self) -> str:
        """The job that loads one window."""
        return history_job_name(self.connector.name, self.resource.name)

    @property
    def tag(self) -> str:
        """What the runs of its windows are found by."""
        return history_tag(self.connector.name, self.resource.name)

    @property
    def end(self) -> datetime:
        """Where the newest window ends."""
        return history_end(self.backfill, self.created_at, live_from=self.live_from)

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """All windows, newest first; the newest may not be over yet."""
        return desired(self.backfill, self.created_at, live_from=self.live_from)

    def due(self, now: datetime | None = None) -> tuple[str, ...]:
        """The keys of the windows that are over, newest first.

        Only longer windows than before make one that isn't: its rows until now are partly the live
        stream's already, and it is loaded when it is over.
        """
        moment = now or datetime.now(UTC)
        return tuple(window.key for window in self.windows if window.end <= moment)

    def window(self, key: str) -> Window:
        """The window of a key. Raises `ValueError` for a key that is none."""
        return window_of_key(self.backfill.partition, key)

    def span(self, key: str) -> Span:
        """A window in the form of the cursor. Raises `ValueError` for a key that is none."""
        return span_of(self.window(key), _form(self.resource))


def histories_of(
    connector: Connector, created_at: datetime, starts: LiveStarts
) -> tuple[HistoryPlan, ...]:
    """The histories of the connector's resources, in the order of the file."""
    return tuple(
        HistoryPlan(
            connector,
            resource,
            resource.backfill,
            created_at,
            starts.get(connector.name, resource, created_at),
        )
        for resource in connector.resources
        if resource.backfill is not None
    )


def plans_of(connector: Connector, settings: Settings) -> tuple[HistoryPlan, ...]:
    """The same for those who have neither at hand: both are kept in the state folder."""
    created_at = CreationTimes(settings.state_dir).get(connector)
    return histories_of(connector, created_at, LiveStarts(settings.state_dir))


def live_from(connector: Connector, settings: Settings) -> Mapping[str, Any]:
    """The cursor value from which a resource with a history is loaded live, by its name.

    It counts as long as no cursor is stored.
    """
    return {
        plan.resource.name: _form(plan.resource).render(plan.live_from)
        for plan in plans_of(connector, settings)
    }


def _form(resource: Resource) -> Any:
    return format_of(resource.incremental.initial_value if resource.incremental else None)
