"""`restsource run`: run a connector now."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import typer
from dotenv import load_dotenv

from restsource_dagster.cli.common import (
    find_connector,
    find_dagster_home,
    find_resources,
    open_instance,
    read_settings,
)
from restsource_dagster.cli.interrupts import watch_interrupts
from restsource_dagster.cli.options import (
    ConfigsOption,
    FullRefreshOption,
    JsonOption,
    NameArgument,
    RunResourcesArgument,
    SetCursorOption,
    VerboseOption,
)
from restsource_dagster.cli.output import (
    exit_on_failure,
    print_json,
    result_console,
    stdout_to_stderr,
)
from restsource_dagster.cli.progress_bars import show_progress
from restsource_dagster.cli.run_report import RunReport
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.validation.diagnostics import printable
from restsource_dagster.settings import Settings

__all__ = ["run"]

_SET_CURSOR_OPTION = "--set-cursor"


def run(
    name: NameArgument,
    resources: RunResourcesArgument = None,
    full_refresh: FullRefreshOption = False,
    set_cursor: SetCursorOption = None,
    configs: ConfigsOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Run a connector now and wait until it ends.

    The Dagster instance (DAGSTER_HOME, or the folder .dagster of the project) records the run, and
    the UI shows it like any other. Variables from .env are set for it. If another run of the
    connector is in progress, this one waits.

    Exit code 1 if a resource failed; the others are loaded.

    Example: restsource run shop orders
    """
    settings = read_settings(configs)
    connector = find_connector(settings, name)
    wanted = find_resources(connector, resources or [])
    home = find_dagster_home("This run is not recorded")
    # The file overrides the environment, as in `dagster dev`: both read the same secrets.
    load_dotenv(Path.cwd() / ".env", override=True)
    config = _op_config(connector, wanted, set_cursor or [], full_refresh=full_refresh)
    report, interrupted = _execute_with_progress(
        connector, wanted, settings, home, config, verbose=verbose
    )
    _print_report(report, as_json=as_json)
    exit_on_failure(interrupted=interrupted, failed=not report.succeeded)


def _print_report(report: RunReport, *, as_json: bool) -> None:
    if as_json:
        print_json(report.as_dict())
        return
    console = result_console()
    for line in report.lines():
        console.print(line)


def _execute_with_progress(
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
        stack.enter_context(stdout_to_stderr())
        observer = stack.enter_context(show_progress(connector, bars=not verbose))

        # Here, because importing Dagster takes a second and can print: the arguments are valid by
        # now, and standard output is redirected.
        from restsource_dagster.cli.execution import ConnectorExecution
        from restsource_dagster.orchestration.run_config import RunSettings

        execution = ConnectorExecution(
            connector=connector,
            resources=wanted,
            run_settings=RunSettings(settings, observer),
            instance=stack.enter_context(open_instance(home)),
            # The log and the bars would write over one another.
            log_level="INFO" if verbose else "CRITICAL",
            config=config,
        )
        report = execution.execute(interrupts)
    return report, interrupts.press_count > 0


def _op_config(
    connector: Connector, wanted: Sequence[str], set_cursor: Sequence[str], *, full_refresh: bool
) -> Mapping[str, Any]:
    """Return the run config of the connector's op.

    Raises `typer.BadParameter` for a `--set-cursor` that is not RESOURCE=VALUE, or of another resource.
    """
    cursors: dict[str, str] = {}
    for given in set_cursor:
        # The first `=`: a cursor may have others, as base64 does, and no resource's name has one.
        name, equals, value = given.partition("=")
        if not (name and equals and value):
            raise typer.BadParameter(
                f"{printable(given)} is not RESOURCE=VALUE", param_hint=_SET_CURSOR_OPTION
            )
        [found] = find_resources(connector, [name])
        if found not in wanted:
            raise typer.BadParameter(
                f"{found} is not among the resources to run", param_hint=_SET_CURSOR_OPTION
            )
        cursors[found] = value
    return {
        **({"full_refresh": True} if full_refresh else {}),
        **({"set_cursor": cursors} if cursors else {}),
    }
