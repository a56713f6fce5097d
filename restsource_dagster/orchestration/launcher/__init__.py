"""Runs that start from a process which has imported all that a run needs."""

from restsource_dagster.orchestration.launcher.warm import WarmRunLauncher

__all__ = ["WarmRunLauncher"]
