"""`restsource list`: connectors with their schedule, last run and incremental cursors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from restsource_dagster.cli.common import (
    find_dagster_home,
    load_connectors,
    open_instance,
    read_settings,
)
from restsource_dagster.cli.options import ConfigsOption, JsonOption
from restsource_dagster.cli.output import print_json, result_console
from restsource_dagster.connector.loader import LoadedFile, LoadedFolder
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.schedule import IntervalSchedule
from restsource_dagster.connector.validation.diagnostics import printable
from restsource_dagster.orchestration.schedules.slots import (
    format_utc,
    schedule_in_words,
    upcoming_slots,
)
from restsource_dagster.orchestration.state_files import CreationTimes
from restsource_dagster.state.store import StateStore, open_state

if TYPE_CHECKING:  # run_records imports Dagster
    from pathlib import Path

    from restsource_dagster.cli.run_records import LastMaterialization, LastRun

__all__ = ["ConnectorOverview", "list_connectors", "read_overviews"]

_DUE_TIMES_SHOWN = 3


@dataclass(frozen=True)
class ConnectorOverview:
    """A connector with its schedule, its last run and its last materializations."""

    connector: Connector
    created_at: datetime
    schedule: str
    due: tuple[datetime, ...]
    last_run: "LastRun | None"
    last_materializations: "Mapping[str, LastMaterialization]"
    """The latest materialization by resource."""

    @property
    def rows_of_last_run(self) -> int | None:
        """The rows that the last run loaded; None if it materialized no resource."""
        rows = [
            made.rows_loaded
            for made in self.last_materializations.values()
            if self.last_run
            and made.run_id == self.last_run.run_id
            and made.rows_loaded is not None
        ]
        return sum(rows) if rows else None

    def as_dict(self) -> dict[str, Any]:
        """Return the overview as JSON values; times in ISO 8601, UTC."""
        return {
            "name": self.connector.name,
            "path": str(self.connector.path),
            "schedule": self.schedule,
            "created_at": _iso_utc(self.created_at),
            "next_due": [_iso_utc(moment) for moment in self.due],
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
            "started_at": _iso_utc(self.last_run.started_at),
            "ended_at": _iso_utc(self.last_run.ended_at),
            "rows_loaded": self.rows_of_last_run,
        }

    def _resource(self, name: str) -> dict[str, Any]:
        resource, made = self.connector.resource(name), self.last_materializations.get(name)
        path = resource.incremental_path
        return {
            "name": name,
            "table": resource.table,
            "write_disposition": resource.disposition.value,
            "cursor_path": path,
            "last_value": made.last_value if made else None,
            "loaded_at": _iso_utc(made.materialized_at) if made else None,
            "rows_loaded": made.rows_loaded if made else None,
        }


def read_overviews(
    folder: LoadedFolder, state: StateStore, home: "Path | None", now: datetime
) -> Sequence[ConnectorOverview]:
    """Return an overview per valid connector. Without a Dagster instance (`home`) there are no runs."""
    created = CreationTimes(state)
    runs, made = _read_run_records(folder.connectors, home)
    return [
        _connector_overview(connector, created.get(connector), now, runs.get(connector.name), made)
        for connector in folder.connectors
    ]


def _read_run_records(
    connectors: Sequence[Connector], home: "Path | None"
) -> "tuple[Mapping[str, LastRun | None], Mapping[tuple[str, str], LastMaterialization]]":
    if home is None:
        return {}, {}
    # Only if there is an instance: without one the command needs no import of Dagster.
    from restsource_dagster.cli.run_records import read_last_materializations, read_last_run

    with open_instance(home) as instance:
        runs = {connector.name: read_last_run(instance, connector) for connector in connectors}
        return runs, read_last_materializations(instance, connectors)


def _connector_overview(
    connector: Connector,
    created_at: datetime,
    now: datetime,
    last_run: "LastRun | None",
    made: "Mapping[tuple[str, str], LastMaterialization]",
) -> ConnectorOverview:
    words, due = _schedule_and_due_times(connector, created_at, now)
    return ConnectorOverview(
        connector=connector,
        created_at=created_at,
        schedule=words,
        due=due,
        last_run=last_run,
        last_materializations={
            name: one for (owner, name), one in made.items() if owner == connector.name
        },
    )


def _schedule_and_due_times(
    connector: Connector, created_at: datetime, now: datetime
) -> tuple[str, tuple[datetime, ...]]:
    schedule = connector.schedule
    if not isinstance(schedule, IntervalSchedule):
        return "manual", ()
    due = islice(upcoming_slots(schedule, created_at, now), _DUE_TIMES_SHOWN)
    return schedule_in_words(schedule, created_at), tuple(due)


def _iso_utc(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds").replace("+00:00", "Z")


_STATUS_STYLES = {"SUCCESS": "green", "FAILURE": "red", "CANCELED": "yellow"}
_LIST_COLUMNS = ("connector", "schedule", "next due", "last run", "rows", "incremental cursors")


def list_connectors(configs: ConfigsOption = None, as_json: JsonOption = False) -> None:
    """List connectors with schedule, next due times, incremental cursors and last run.

    Runs and cursors come from the Dagster instance: DAGSTER_HOME, or the folder .dagster of the
    project. All times are UTC. Broken files are named; `restsource check` says what is wrong.

    Example: restsource list
    """
    settings = read_settings(configs)
    home = find_dagster_home("No runs to show")
    folder = load_connectors(settings)
    overviews = read_overviews(folder, open_state(settings), home, datetime.now(UTC))
    if as_json:
        broken = [{"path": str(f.path), "problems": len(f.problems)} for f in folder.broken]
        print_json({"connectors": [each.as_dict() for each in overviews], "broken": broken})
    else:
        _print_list(result_console(), overviews, folder.broken)


def _print_list(
    console: Console, overviews: Sequence[ConnectorOverview], broken: Sequence[LoadedFile]
) -> None:
    if overviews:
        table = Table(*_LIST_COLUMNS, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for overview in overviews:
            table.add_row(*_list_row(overview))
        # With the console's own soft wrap, a long cell would break the columns instead of its own
        # text.
        console.print(table, soft_wrap=False)
    else:
        console.print("No connectors.")
    for file in broken:
        console.print(
            Text(
                f"{printable(str(file.path))} is broken ({len(file.problems)} found): "
                "see restsource check",
                "red",
            )
        )


def _list_row(overview: ConnectorOverview) -> tuple[Text, ...]:
    rows = overview.rows_of_last_run
    return (
        Text(overview.connector.name, "bold"),
        Text(overview.schedule),
        Text(format_utc(overview.due[0]) if overview.due else ""),
        _last_run_cell(overview),
        Text("" if rows is None else f"{rows:,}", justify="right"),
        Text("\n".join(_cursor_lines(overview))),
    )


def _last_run_cell(overview: ConnectorOverview) -> Text:
    run = overview.last_run
    if run is None:
        return Text("never", "dim")
    when = run.ended_at or run.started_at
    status = Text(run.status.lower(), _STATUS_STYLES.get(run.status, "cyan"))
    return status + Text(f" {format_utc(when.replace(microsecond=0))}" if when else "")


def _cursor_lines(overview: ConnectorOverview) -> list[str]:
    return [
        printable(f"{name}: {made.cursor_path} {made.last_value}")
        for name, made in overview.last_materializations.items()
        if made.cursor_path and made.last_value is not None
    ]
