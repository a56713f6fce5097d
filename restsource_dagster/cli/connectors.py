"""The connectors that a command works with."""

import difflib
from collections.abc import Sequence

import typer

from restsource_dagster.cli.output import FAILED, say
from restsource_dagster.config.connector import Connector
from restsource_dagster.config.files import load_folder, load_wanted
from restsource_dagster.config.loaded import Folder
from restsource_dagster.config.problems import printable
from restsource_dagster.settings import Settings

__all__ = ["find_connector", "find_resources", "read_connectors"]


def read_connectors(settings: Settings) -> Folder:
    """All connectors of the folder."""
    return load_folder(settings.configs)


def find_connector(settings: Settings, name: str) -> Connector:
    """The connector of that name. Raises `typer.BadParameter`, or `typer.Exit` for a broken file."""
    folder = load_wanted(settings.configs, {name}, lambda connector: connector.name == name)
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
