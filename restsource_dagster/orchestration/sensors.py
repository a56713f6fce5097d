"""The sensors of a code location, in one place to import them from."""

from restsource_dagster.orchestration.broken import build_broken_sensor
from restsource_dagster.orchestration.first_run import build_first_run_sensor
from restsource_dagster.orchestration.watch import build_watch_sensor

__all__ = ["build_broken_sensor", "build_first_run_sensor", "build_watch_sensor"]
