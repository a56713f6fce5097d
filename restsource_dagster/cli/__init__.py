"""The command `restsource`. Nothing imports this room; dlt and Dagster come in only when needed."""

from restsource_dagster.cli.app import main

__all__ = ["main"]
