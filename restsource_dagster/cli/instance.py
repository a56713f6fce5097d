"""Which Dagster instance a command looks at, and opening it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from restsource_dagster.settings import read_environment

if TYPE_CHECKING:  # Dagster takes a second to import; check and schema do without
    import dagster as dg

__all__ = ["PROJECT_HOME", "find_home", "open_instance"]

PROJECT_HOME = ".dagster"
"""The instance's folder inside a project, which `make run` uses."""


def find_home() -> Path | None:
    """The folder of the Dagster instance: `DAGSTER_HOME`, else the project's own, else None.

    `DAGSTER_HOME` may stand in `.env` too. Raises `typer.BadParameter` if it isn't a folder.
    """
    given = read_environment().get("DAGSTER_HOME")
    if given:
        home = Path(given).expanduser().absolute()
        if not home.is_dir():
            raise typer.BadParameter(
                f"DAGSTER_HOME is {home}, which is no folder; make it, or unset the variable",
                param_hint="DAGSTER_HOME",
            )
        return home
    project = Path(PROJECT_HOME).absolute()
    return project if project.is_dir() else None


@contextmanager
def open_instance(home: Path | None) -> "Iterator[dg.DagsterInstance]":
    """The Dagster instance of a folder, or one that is forgotten at the end.

    Raises `typer.BadParameter` if it can't be opened.
    """
    with _instance(home) as instance:
        yield instance


def _instance(home: Path | None) -> "dg.DagsterInstance":
    import dagster as dg

    if home is None:
        return dg.DagsterInstance.ephemeral(settings={"telemetry": {"enabled": False}})
    try:
        return dg.DagsterInstance.from_config(str(home))
    except (dg.DagsterError, OSError) as error:
        raise typer.BadParameter(
            f"the Dagster instance in {home} can't be opened: {error}", param_hint="DAGSTER_HOME"
        ) from error
