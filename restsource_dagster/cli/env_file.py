"""Adds variables to the file `.env` in the current folder, and says which are there already."""

from collections.abc import Mapping

from restsource_dagster.authoring.env_variables import add_variables
from restsource_dagster.cli.output import print_notice

__all__ = ["add_to_env"]


def add_to_env(secrets: Mapping[str, str]) -> list[str]:
    """Add variables to `.env`, whose other lines stay; return those without a value.

    A variable that has a line already keeps it, and that is printed.
    """
    added = add_variables(secrets)
    for key in added.kept:
        print_notice(f"{key} is in .env already and keeps its value; the one given is not written.")
    return list(added.missing)
