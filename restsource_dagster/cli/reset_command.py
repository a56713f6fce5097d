"""`restsource reset`: drop the tables and cursors of a connector."""

import sys
from collections.abc import Collection
from pathlib import Path

import typer

from restsource_dagster.cli.common import (
    find_connector,
    find_dagster_home,
    find_resources,
    open_instance,
    read_settings,
)
from restsource_dagster.cli.options import (
    ConfigsOption,
    JsonOption,
    NameArgument,
    ResetResourcesArgument,
    YesOption,
)
from restsource_dagster.cli.output import (
    EXIT_FAILED,
    print_json,
    print_notice,
    result_console,
    stdout_to_stderr,
)
from restsource_dagster.cli.progress_bars import show_progress
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.validation.diagnostics import printable
from restsource_dagster.settings import Settings

__all__ = ["reset"]


def reset(
    name: NameArgument,
    resources: ResetResourcesArgument = None,
    yes: YesOption = False,
    configs: ConfigsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Drop the tables and cursors of a connector's resources; the next run loads them from the start.

    Asks before it drops anything; without a terminal to ask at, --yes is required. All partitions of
    their backfills become due again. Runs and their logs stay in Dagster. If a run of the connector
    is in progress, the command waits until it ends.

    Exit code 1 if you answer no, or if something could not be dropped.

    Example: restsource reset shop orders
    """
    settings = read_settings(configs)
    connector = find_connector(settings, name)
    wanted = find_resources(connector, resources or [r.name for r in connector.resources])
    if not yes:
        _confirm(connector, wanted)
    home = find_dagster_home()
    # Wiped before, so that after a kill no partition counts as loaded whose rows are gone; and again
    # after, for partitions that were loaded in between.
    _wipe_backfill_assets(connector, wanted, home)
    # None also drops the tables of resources that the file no longer has.
    dropped = _drop_resources(connector, wanted if resources else None, settings)
    backfills = _wipe_backfill_assets(connector, wanted, home)
    if as_json:
        changed = {"resources": wanted, "tables": dropped, "histories": backfills}
        print_json({"connector": connector.name, **changed})
    else:
        _print_dropped(dropped, backfills)


def _print_dropped(dropped: Collection[str], backfills: Collection[str]) -> None:
    console = result_console()
    tables = ", ".join(dropped) if dropped else "none: nothing was loaded"
    console.print(printable(f"Tables dropped: {tables}."))
    if backfills:
        console.print(printable(f"The partitions of {', '.join(backfills)} are due again."))


def _confirm(connector: Connector, wanted: Collection[str]) -> None:
    """Ask for confirmation.

    Raises `typer.BadParameter` without a terminal, `typer.Exit` if the answer is no.
    """
    what = printable(f"the tables and cursors of {', '.join(wanted)} of {connector.name}")
    if not sys.stdin.isatty():
        raise typer.BadParameter(
            f"this drops {what}, and there is no terminal to ask at; add --yes to drop them",
            param_hint="--yes",
        )
    if not typer.confirm(f"Drop {what}?", err=True):
        print_notice("Nothing was dropped.")
        raise typer.Exit(EXIT_FAILED)


def _drop_resources(
    connector: Connector, wanted: Collection[str] | None, settings: Settings
) -> tuple[str, ...]:
    with stdout_to_stderr(), show_progress(connector, bars=False) as observer:
        from restsource_dagster.engine.errors import IngestError
        from restsource_dagster.engine.run.reset import reset_resources
        from restsource_dagster.settings import read_environment

        try:
            return reset_resources(
                connector, wanted, settings, observer, environment=read_environment()
            )
        except IngestError as error:
            print_notice(printable(str(error)))
            raise typer.Exit(EXIT_FAILED) from error


def _wipe_backfill_assets(
    connector: Connector, wanted: Collection[str], home: Path | None
) -> tuple[str, ...]:
    """Wipe the backfill assets of these resources in Dagster. Return the resources that have one."""
    # A partition loads a whole family, so its root's partitions are due again if a dependent is
    # reset.
    roots = {connector.family_of(name).root for name in wanted}
    wiped = tuple(
        resource.name
        for resource in connector.resources
        if resource in roots and resource.backfill is not None
    )
    if wiped and home is not None:
        from restsource_dagster.orchestration.names import backfill_asset_key

        with open_instance(home) as instance:
            instance.wipe_assets([backfill_asset_key(connector.name, one) for one in wiped])
    return wiped
