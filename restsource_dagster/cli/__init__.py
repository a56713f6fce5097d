"""The command `restsource`. No other package imports this one. dlt and Dagster are imported when needed."""

from restsource_dagster.cli.app import main

__all__ = ["main"]
