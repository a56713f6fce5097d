"""`restsource run`: run a connector now."""

import difflib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from dotenv import load_dotenv

from restsource_dagster.cli.connectors import read_connectors
from restsource_dagster.cli.instance import PROJECT_HOME, find_home, open_instance
from restsource_dagster.cli.interrupts import watch_interrupts
from restsource_dagster.cli.options import Configs, Json, read_settings
from restsource_dagster.cli.output import (
    FAILED,
    INTERRUPTED,
    print_json,
    say,
    standard_output,
    standard_output_kept_clean,
)
from restsource_dagster.cli.progress import show_progress
from restsource_dagster.cli.report import RunReport
from restsource_dagster.config.connector import Connector
from restsource_dagster.config.files import Folder
from restsource_dagster.config.problems import printable
from restsource_dagster.settings import Settings

__all__ = ["find_connector", "find_resources", "run"]

_SET = "--set-cursor"


def run(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The connector, as `restsource list` names it.")
    ],
    resources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RESOURCE",
            help="Only these of its resources. By default all that are selected in the file.",
            show_default=False,
        ),
    ] = None,
    full_refresh: Annotated[
        bool,
        typer.Option(
            "--full-refresh",
            help="Load all rows of these resources again, in place of those in the tables.",
            show_default=False,
        ),
    ] = False,
    set_cursor: Annotated[
        list[str] | None,
        typer.Option(
            "--set-cursor",
            metavar="RESOURCE=VALUE",
            help="Go on from this cursor value, whatever is stored. May be given several times.",
            show_default=False,
        ),
    ] = None,
    configs: Configs = None,
    as_json: Json = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Show the run's log instead of progress bars.",
            show_default=False,
        ),
    ] = False,
) -> None:
    """Run a connector now and wait for its end.

    The run is recorded in the Dagster instance (DAGSTER_HOME, or the folder .dagster of the
    project), where the UI shows it with all others. The variables of .env are set for it, as
    Dagster does. If another run of the connector is going on, this one waits.

    Exit code 1 if a resource failed; the others are loaded all the same.

    Example: restsource run shop orders
    """
    settings = read_settings(configs)
    connector = find_connector(read_connectors(settings), name)
    wanted = find_resources(connector, resources or [])
    home = find_home()
    if home is None:
        say(f"This run is not recorded: DAGSTER_HOME is not set, and there is no {PROJECT_HOME}.")
    load_dotenv(Path.cwd() / ".env", override=True)
    config = _config(connector, wanted, set_cursor or [], full_refresh=full_refresh)
    report, interrupted = _execute(connector, wanted, settings, home, config, verbose=verbose)
    if as_json:
        print_json(report.as_dict())
    else:
        console = standard_output()
        for line in report.lines():
            console.print(line)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if not report.succeeded:
        raise typer.Exit(FAILED)


def _execute(
    connector: Connector,
    wanted: tuple[str, ...],
    settings: Settings,
    home: Path | None,
    config: Mapping[str, Any],
    *,
    verbose: bool,
) -> tuple[RunReport, bool]:
    with ExitStack() as stack:
        interrupts = stack.enter_context(watch_interrupts())
        stack.enter_context(standard_output_kept_clean())
        observer = stack.enter_context(show_progress(connector, bars=not verbose))

        import dagster as dg

        from restsource_dagster.cli.execution import Execution
        from restsource_dagster.orchestration.run_settings import RunSettings

        instance = stack.enter_context(
            open_instance(home)
            if home
            else dg.DagsterInstance.ephemeral(settings={"telemetry": {"enabled": False}})
        )
        execution = Execution(
            connector=connector,
            resources=wanted,
            runs=RunSettings(settings, observer),
            instance=instance,
            log_level="INFO" if verbose else "CRITICAL",
            config=config,
        )
        report = execution.execute(interrupts)
    return report, interrupts.pressed > 0


def _config(
    connector: Connector, wanted: Sequence[str], set_cursor: Sequence[str], *, full_refresh: bool
) -> Mapping[str, Any]:
    """The config of the connector's op. Raises `typer.BadParameter` for what is no cursor."""
    cursors: dict[str, str] = {}
    for given in set_cursor:
        name, equals, value = given.partition("=")
        if not (name and equals and value):
            raise typer.BadParameter(f"{printable(given)} is not RESOURCE=VALUE", param_hint=_SET)
        [found] = find_resources(connector, [name])
        if found not in wanted:
            raise typer.BadParameter(f"{found} is not among the resources to run", param_hint=_SET)
        cursors[found] = value
    return {
        **({"full_refresh": True} if full_refresh else {}),
        **({"set_cursor": cursors} if cursors else {}),
    }


def find_connector(folder: Folder, name: str) -> Connector:
    """The connector of that name. Raises `typer.BadParameter`, or `typer.Exit` for a broken file."""
    for connector in folder.connectors:
        if connector.name == name:
            return connector
    broken = [file for file in folder.broken if file.path.stem == name]
    for file in broken:
        for problem in file.problems:
            say(problem.as_text())
    if broken:
        raise typer.Exit(FAILED)
    known = [connector.name for connector in folder.connectors]
    raise typer.BadParameter(f"there is no connector {_named(name, known)}", param_hint="NAME")


def find_resources(connector: Connector, names: Sequence[str]) -> tuple[str, ...]:
    """The resources of these names, or the selected ones. Raises `typer.BadParameter`."""
    known = [resource.name for resource in connector.resources]
    for name in names:
        if name not in known:
            raise typer.BadParameter(
                f"{connector.name} has no resource {_named(name, known)}", param_hint="RESOURCE"
            )
    if names:
        return tuple(name for name in known if name in names)
    selected = tuple(resource.name for resource in connector.resources if resource.selected)
    return selected or tuple(known)


def _named(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    if close:
        return f"{printable(name)}; did you mean {' or '.join(close)}?"
    listed = f"known are {', '.join(known)}" if known else "there are none"
    return f"{printable(name)}; {listed}"
