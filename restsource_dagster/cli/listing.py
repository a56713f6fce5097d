"""`restsource list`: the connectors, when they are due and what became of them."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from restsource_dagster.cli.connectors import read_connectors
from restsource_dagster.cli.instance import PROJECT_HOME, find_home
from restsource_dagster.cli.options import Configs, Json, read_settings
from restsource_dagster.cli.output import print_json, say, standard_output
from restsource_dagster.cli.overview import ConnectorOverview, build_overview
from restsource_dagster.config.files import LoadedFile
from restsource_dagster.config.problems import printable
from restsource_dagster.orchestration.slots import as_text

__all__ = ["list_connectors"]

_STATUS_STYLES = {"SUCCESS": "green", "FAILURE": "red", "CANCELED": "yellow"}
_COLUMNS = ("connector", "schedule", "next due", "last run", "rows", "incremental cursors")


def list_connectors(configs: Configs = None, as_json: Json = False) -> None:
    """List the connectors: schedule, next due times, cursors and last run.

    Runs and cursors are those of the Dagster instance: DAGSTER_HOME, or the folder .dagster of the
    project. All times are UTC. Broken files are named; `restsource check` says what is wrong.

    Example: restsource list
    """
    settings = read_settings(configs)
    home = find_home()
    if home is None:
        say(f"No runs to show: DAGSTER_HOME is not set, and there is no folder {PROJECT_HOME}.")
    folder = read_connectors(settings)
    overviews = build_overview(folder, settings.state_dir, home, datetime.now(UTC))
    if as_json:
        broken = [{"path": str(f.path), "problems": len(f.problems)} for f in folder.broken]
        print_json({"connectors": [each.as_dict() for each in overviews], "broken": broken})
    else:
        _print(standard_output(), overviews, folder.broken)


def _print(
    console: Console, overviews: Sequence[ConnectorOverview], broken: Sequence[LoadedFile]
) -> None:
    if overviews:
        table = Table(*_COLUMNS, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for overview in overviews:
            table.add_row(*_cells(overview))
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


def _cells(overview: ConnectorOverview) -> tuple[Text, ...]:
    rows = overview.rows_of_last_run
    return (
        Text(overview.connector.name, "bold"),
        Text(overview.schedule),
        Text(as_text(overview.due[0]) if overview.due else ""),
        _last_run(overview),
        Text("" if rows is None else f"{rows:,}", justify="right"),
        Text("\n".join(_cursors(overview))),
    )


def _last_run(overview: ConnectorOverview) -> Text:
    run = overview.last_run
    if run is None:
        return Text("never", "dim")
    when = run.ended_at or run.started_at
    status = Text(run.status.lower(), _STATUS_STYLES.get(run.status, "cyan"))
    return status + Text(f" {as_text(when.replace(microsecond=0))}" if when else "")


def _cursors(overview: ConnectorOverview) -> list[str]:
    return [
        printable(f"{name}: {made.cursor_path} {made.last_value}")
        for name, made in overview.materialized.items()
        if made.cursor_path and made.last_value is not None
    ]
