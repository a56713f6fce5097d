"""Options that commands share, and the settings they change."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # checking a file needs no settings
    from restsource_dagster.settings import Settings

__all__ = ["Configs", "Json", "Name", "read_settings"]

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The connector, as `restsource list` names it.")
]
Configs = Annotated[
    Path | None,
    typer.Option(
        "--configs",
        metavar="DIR",
        help="The folder of connector files. By default the setting RESTSOURCE_CONFIGS, or "
        "'configs'.",
        show_default=False,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON document on standard output and nothing else there.",
        show_default=False,
    ),
]


def read_settings(configs: Path | None) -> "Settings":
    """The settings, with the folder of `--configs` if it was given.

    Raises `typer.BadParameter` (exit code 2) if the folder or a setting is wrong.
    """
    from pydantic import ValidationError

    from restsource_dagster.settings import Settings

    try:
        settings = Settings() if configs is None else Settings(configs=configs)
    except ValidationError as error:
        names = ", ".join(f"RESTSOURCE_{fault['loc'][0]}".upper() for fault in error.errors())
        raise typer.BadParameter(f"the setting {names} can't be read; see .env") from error
    if not settings.configs.is_dir():
        where = "--configs" if configs is not None else "RESTSOURCE_CONFIGS"
        raise typer.BadParameter(
            f"there is no folder {settings.configs}; say with --configs where the connector files "
            "are",
            param_hint=where,
        )
    return settings
