"""The sensor whose tick fails while there are broken connector files: people look there first."""

from collections.abc import Sequence

import dagster as dg

from restsource_dagster.connector.loader import LoadedFile

__all__ = ["BROKEN_FILES_SENSOR", "BrokenFilesError", "build_broken_files_sensor"]

BROKEN_FILES_SENSOR = "restsource_broken_configs"

INTERVAL_SECONDS = 60
MAX_PROBLEMS_SHOWN = 100
"""Problems in the text of a tick, which Dagster stores for every failed tick."""


class BrokenFilesError(Exception):
    """Connector files have errors. The message has a line per problem."""


def build_broken_files_sensor(broken: Sequence[LoadedFile]) -> dg.SensorDefinition:
    """Return a sensor that fails once a minute with the problems of all broken files.

    One sensor for all files, because a broken file's name may be no valid sensor name. Without broken files
    it skips.
    """
    text = _broken_files_text(broken)

    # A tick can show red without a run, an asset can't. So the sensor fails on purpose.
    @dg.sensor(
        name=BROKEN_FILES_SENSOR,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Fails while connector files have errors, and shows them.",
    )
    def broken_configs() -> dg.SkipReason:
        if broken:
            raise BrokenFilesError(text)
        return dg.SkipReason("No connector file has errors.")

    return broken_configs


def _broken_files_text(broken: Sequence[LoadedFile]) -> str:
    one = len(broken) == 1
    files = "1 connector file has errors" if one else f"{len(broken)} connector files have errors"
    loaded = "is not loaded" if one else "are not loaded"
    lines = [problem.as_text() for file in broken for problem in file.problems]
    # A thousand problems would be stored every minute.
    more = len(lines) - MAX_PROBLEMS_SHOWN
    shown = lines[:MAX_PROBLEMS_SHOWN] + (
        [f"... and {more} more: see `restsource check`"] if more > 0 else []
    )
    return "\n".join([f"{files} and {loaded}. Other connectors are unaffected.", *shown])
