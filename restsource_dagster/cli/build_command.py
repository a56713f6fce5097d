"""`restsource build`: the page on which connector files are written."""

import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from dotenv import load_dotenv

from restsource_dagster.builder_note import note_builder
from restsource_dagster.cli.common import find_dagster_home, read_settings
from restsource_dagster.cli.list_command import read_overviews
from restsource_dagster.cli.options import (
    BuilderPortOption,
    ConfigsOption,
    JsonOption,
    StopAfterOption,
)
from restsource_dagster.cli.output import EXIT_FAILED, print_json, print_notice
from restsource_dagster.settings import Settings, read_environment
from restsource_dagster.state.store import make_private_folder, open_state

if TYPE_CHECKING:  # importing dlt takes a second
    from restsource_dagster.authoring.builder.open_files import RunTimes
    from restsource_dagster.connector.loader import LoadedFolder

__all__ = ["build"]

_TOKEN_VARIABLE = "RESTSOURCE_BUILDER_TOKEN"  # noqa: S105 - the variable's name


def build(
    port: BuilderPortOption = None,
    stop_after: StopAfterOption = 60.0,
    configs: ConfigsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open the builder: a page on 127.0.0.1 to write connector files, and to look at what the API answers.

    Prints the address to open. It holds a random token, without which the page answers nobody; set
    RESTSOURCE_BUILDER_TOKEN to have the same one each time. While it runs, assets that Dagster loads link to their
    file in it. Ctrl-C ends it. Nothing is requested but from the
    hosts that the files name, and secrets go into `.env` in the current folder only.

    Needs the extra `builder`. Exit code 1 without it, or if the port is taken.

    Example: restsource build
    """
    settings = read_settings(configs, makes_folder=True)
    home = find_dagster_home("No runs to show")
    # as in `run`: dlt looks secrets up in the environment
    load_dotenv(Path.cwd() / ".env", override=True)
    try:
        import nicegui  # noqa: F401 - the package that the extra brings
    except ImportError:
        from restsource_dagster.engine.errors import MissingExtraError

        print_notice(str(MissingExtraError("the builder", "nicegui", "builder")))
        raise typer.Exit(EXIT_FAILED) from None
    from restsource_dagster.authoring.builder.open_files import OpenFiles
    from restsource_dagster.authoring.builder.web_server import serve_builder

    def show(address: str) -> None:
        make_private_folder(settings.state_dir)
        note_builder(settings.state_dir, address)
        if as_json:
            print_json({"address": address})
            # the command goes on, and a reader of a pipe waits for this
            sys.stdout.flush()
        else:
            print_notice(f"Builder: {address}\nCtrl-C ends it.")

    open_files = OpenFiles(
        settings,
        read_runs=lambda folder: _read_runs(folder, settings, home),
        environment=read_environment,
        dagster=settings.webserver,
    )
    try:
        serve_builder(
            open_files,
            port=port,
            token=os.environ.get(_TOKEN_VARIABLE),
            stop_after=stop_after * 60,
            on_ready=show,
        )
    except OSError as error:
        print_notice(f"Port {port} on 127.0.0.1 can't be opened: {error.strerror}.")
        raise typer.Exit(EXIT_FAILED) from None


def _read_runs(
    folder: "LoadedFolder", settings: Settings, home: Path | None
) -> "Mapping[str, RunTimes]":
    from restsource_dagster.authoring.builder.open_files import RunTimes

    overviews = read_overviews(folder, open_state(settings), home, datetime.now(UTC))
    return {
        one.connector.name: RunTimes(
            None if one.last_run is None else one.last_run.status,
            None if one.last_run is None else one.last_run.ended_at,
            next(iter(one.due), None),
        )
        for one in overviews
    }
