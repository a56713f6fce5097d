"""Everything that `restsource list` tells of a connector, as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from restsource_dagster.config.connector import Connector
from restsource_dagster.config.files import Folder
from restsource_dagster.config.schedule import IntervalSchedule
from restsource_dagster.orchestration.created import CreationTimes
from restsource_dagster.orchestration.slots import in_words, upcoming

if TYPE_CHECKING:  # it brings Dagster
    from pathlib import Path

    from restsource_dagster.cli.history import LastRun, Materialized

__all__ = ["ConnectorOverview", "build_overview"]

_DUE_TIMES = 3


@dataclass(frozen=True)
class ConnectorOverview:
    """A connector, its schedule and what became of it so far."""

    connector: Connector
    created_at: datetime
    schedule: str
    due: tuple[datetime, ...]
    last_run: "LastRun | None"
    materialized: "Mapping[str, Materialized]"
    """The latest materialization by resource."""

    @property
    def rows_of_last_run(self) -> int | None:
        """The rows that the last run loaded; None if it loaded nothing at all, not even 0 rows."""
        rows = [
            made.rows_loaded
            for made in self.materialized.values()
            if self.last_run
            and made.run_id == self.last_run.run_id
            and made.rows_loaded is not None
        ]
        return sum(rows) if rows else None

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON has it; times in ISO 8601, UTC."""
        return {
            "name": self.connector.name,
            "path": str(self.connector.path),
            "schedule": self.schedule,
            "created_at": _iso(self.created_at),
            "next_due": [_iso(moment) for moment in self.due],
            "last_run": self._last_run(),
            "resources": [self._resource(resource.name) for resource in self.connector.resources],
        }

    def _last_run(self) -> dict[str, Any] | None:
        if self.last_run is None:
            return None
        return {
            "run_id": self.last_run.run_id,
            "status": self.last_run.status,
            "trigger": self.last_run.trigger,
            "started_at": _iso(self.last_run.started_at),
            "ended_at": _iso(self.last_run.ended_at),
            "rows_loaded": self.rows_of_last_run,
        }

    def _resource(self, name: str) -> dict[str, Any]:
        resource, made = self.connector.resource(name), self.materialized.get(name)
        path = resource.incremental.cursor_path if resource.incremental else None
        return {
            "name": name,
            "table": resource.table,
            "write_disposition": resource.disposition.value,
            "cursor_path": path,
            "last_value": made.last_value if made else None,
            "loaded_at": _iso(made.at) if made else None,
            "rows_loaded": made.rows_loaded if made else None,
        }


def build_overview(
    folder: Folder, state_dir: "Path", home: "Path | None", now: datetime
) -> Sequence[ConnectorOverview]:
    """One overview per connector that works. Without an instance (`home`) it knows of no runs."""
    created = CreationTimes(state_dir)
    runs, made = _history(folder.connectors, home)
    return [
        _overview(connector, created.get(connector), now, runs.get(connector.name), made)
        for connector in folder.connectors
    ]


def _history(
    connectors: Sequence[Connector], home: "Path | None"
) -> "tuple[Mapping[str, LastRun | None], Mapping[tuple[str, str], Materialized]]":
    if home is None:
        return {}, {}
    from restsource_dagster.cli.history import read_last_run, read_materialized
    from restsource_dagster.cli.instance import open_instance

    with open_instance(home) as instance:
        runs = {connector.name: read_last_run(instance, connector) for connector in connectors}
        return runs, read_materialized(instance, connectors)


def _overview(
    connector: Connector,
    created_at: datetime,
    now: datetime,
    last_run: "LastRun | None",
    made: "Mapping[tuple[str, str], Materialized]",
) -> ConnectorOverview:
    words, due = _schedule(connector, created_at, now)
    return ConnectorOverview(
        connector=connector,
        created_at=created_at,
        schedule=words,
        due=due,
        last_run=last_run,
        materialized={name: one for (owner, name), one in made.items() if owner == connector.name},
    )


def _schedule(
    connector: Connector, created_at: datetime, now: datetime
) -> tuple[str, tuple[datetime, ...]]:
    schedule = connector.schedule
    if not isinstance(schedule, IntervalSchedule):
        return "by hand only", ()
    due = islice(upcoming(schedule, created_at, now), _DUE_TIMES)
    return in_words(schedule, created_at), tuple(due)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds").replace("+00:00", "Z")
