"""What commands share: settings, connectors and the Dagster instance."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from restsource_dagster.cli.output import EXIT_FAILED, print_notice
from restsource_dagster.connector.loader import LoadedFolder, load_folder, load_wanted
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.validation.diagnostics import printable

if TYPE_CHECKING:  # importing Dagster takes a second, which check and schema don't need
    import dagster as dg

    from restsource_dagster.settings import Settings


__all__ = [
    "find_connector",
    "find_dagster_home",
    "find_resources",
    "load_connectors",
    "make_folder",
    "open_instance",
    "read_settings",
]


def read_settings(configs: Path | None, *, makes_folder: bool = False) -> "Settings":
    """Return the settings, with the folder of `--configs` if it is given.

    With `makes_folder` the folder of the settings is made if it is missing, for commands that write the first
    file. One that the command line names is not made, as it may be misspelt. Raises `typer.BadParameter` (exit
    code 2) if the folder or a setting is wrong.
    """
    from pydantic import ValidationError

    from restsource_dagster.settings import Settings

    try:
        settings = Settings() if configs is None else Settings(configs=configs)
    except UnicodeDecodeError as error:
        raise typer.BadParameter(
            f".env is no text in UTF-8 (byte {error.start}). Save it in that encoding"
        ) from error
    except ValidationError as error:
        # Names only: pydantic's message quotes the value, and a destination may contain a password.
        names = ", ".join(f"RESTSOURCE_{fault['loc'][0]}".upper() for fault in error.errors())
        raise typer.BadParameter(f"the setting {names} can't be read; see .env") from error
    if makes_folder and configs is None and not settings.configs.exists():
        make_folder(settings.configs)
    if not settings.configs.is_dir():
        where = "--configs" if configs is not None else "RESTSOURCE_CONFIGS"
        raise typer.BadParameter(
            f"there is no folder {settings.configs}; say with --configs where the connector files "
            "are",
            param_hint=where,
        )
    return settings


def make_folder(path: Path) -> None:
    """Make a folder, and say so. Prints why it can't be made, and raises `typer.Exit`."""
    try:
        path.mkdir()
    except OSError as error:
        print_notice(f"The folder {printable(str(path))} can't be made: {error.strerror}.")
        raise typer.Exit(EXIT_FAILED) from None
    print_notice(f"Made the folder {printable(str(path))}.")


def load_connectors(settings: "Settings") -> LoadedFolder:
    """Load all connectors of the folder."""
    return load_folder(settings.configs)


def find_connector(settings: "Settings", name: str) -> Connector:
    """Return the connector of that name.

    Raises `typer.BadParameter` if there is none. If its file has errors, prints them and raises
    `typer.Exit`.
    """
    # Parses few of the other files: a folder may hold a thousand.
    folder = load_wanted(settings.configs, {name}, lambda connector: connector.name == name)
    for connector in folder.connectors:
        if connector.name == name:
            return connector
    # A broken file has no connector, so no parsed name. A connector is named after its file by
    # default.
    broken = [file for file in folder.broken if file.path.stem == name]
    for file in broken:
        for problem in file.problems:
            print_notice(problem.as_text())
    if broken:
        raise typer.Exit(EXIT_FAILED)
    known = [connector.name for connector in folder.connectors]
    raise typer.BadParameter(
        f"there is no connector {_unknown_name_text(name, known)}", param_hint="NAME"
    )


def find_resources(connector: Connector, names: Sequence[str]) -> tuple[str, ...]:
    """Return the resources of these names, by default the selected ones.

    Raises `typer.BadParameter` for an unknown name.
    """
    known = [resource.name for resource in connector.resources]
    for name in names:
        if name not in known:
            raise typer.BadParameter(
                f"{connector.name} has no resource {_unknown_name_text(name, known)}",
                param_hint="RESOURCE",
            )
    # In the order of the file, and each once.
    if names:
        return tuple(name for name in known if name in names)
    selected = tuple(resource.name for resource in connector.resources if resource.selected)
    return selected or tuple(known)


def _unknown_name_text(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    if close:
        return f"{printable(name)}; did you mean {' or '.join(close)}?"
    listed = f"known are {', '.join(known)}" if known else "there are none"
    return f"{printable(name)}; {listed}"


_PROJECT_DAGSTER_HOME = ".dagster"
"""The folder of the Dagster instance in a project; `make run` uses it."""


def find_dagster_home(without: str = "") -> Path | None:
    """Return the folder of the Dagster instance: `DAGSTER_HOME`, else that of the project, else None.

    Prints `without`, what it means that there is none. `DAGSTER_HOME` may be set in `.env`. Raises
    `typer.BadParameter` if it isn't a folder.
    """
    from restsource_dagster.settings import read_environment

    given = read_environment().get("DAGSTER_HOME")
    if given:
        # Dagster refuses a relative path in DAGSTER_HOME.
        home = Path(given).expanduser().absolute()
        if not home.is_dir():
            raise typer.BadParameter(
                f"DAGSTER_HOME is {home}, which is not a folder; create it, or unset the variable",
                param_hint="DAGSTER_HOME",
            )
        return home
    project = Path(_PROJECT_DAGSTER_HOME).absolute()
    if project.is_dir():
        return project
    if without:
        print_notice(
            f"{without}: DAGSTER_HOME is not set, and there is no folder {_PROJECT_DAGSTER_HOME}."
        )
    return None


@contextmanager
def open_instance(home: Path | None) -> "Iterator[dg.DagsterInstance]":
    """Open the Dagster instance of a folder, or without one an instance in memory.

    Raises `typer.BadParameter` if the instance can't be opened. If the command needs a name that the
    installed Dagster lacks, prints that name and raises `typer.Exit`.
    """
    from restsource_dagster.orchestration.dagster_compat import UnsupportedDagsterError

    with _create_instance(home) as instance:
        try:
            yield instance
        except UnsupportedDagsterError as error:
            print_notice(str(error))
            raise typer.Exit(EXIT_FAILED) from error


def _create_instance(home: Path | None) -> "dg.DagsterInstance":
    import dagster as dg

    if home is None:
        # An instance without a folder has no dagster.yaml in which telemetry could be switched off.
        return dg.DagsterInstance.ephemeral(settings={"telemetry": {"enabled": False}})
    from restsource_dagster.orchestration.instance import instance_lock

    try:
        with instance_lock(home):
            return dg.DagsterInstance.from_config(str(home))
    except (dg.DagsterError, OSError) as error:
        raise typer.BadParameter(
            f"the Dagster instance in {home} can't be opened: {error}", param_hint="DAGSTER_HOME"
        ) from error
