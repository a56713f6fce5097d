"""Broken connector files: said where people look when something doesn't run."""

from collections.abc import Sequence

import dagster as dg

from restsource_dagster.connector.loader import LoadedFile

__all__ = ["BROKEN_FILES_SENSOR", "BrokenFilesError", "build_broken_files_sensor"]

BROKEN_FILES_SENSOR = "restsource_broken_configs"

INTERVAL_SECONDS = 60
MAX_PROBLEMS_SHOWN = 100
"""Problems told in full: the text is stored with every failed tick."""


class BrokenFilesError(Exception):
    """Connector files can't be used; the message has every problem, one a line."""


def build_broken_files_sensor(broken: Sequence[LoadedFile]) -> dg.SensorDefinition:
    """A sensor whose tick fails, once a minute, with the problems of all broken files as its text.

    One for all files: a broken file's name may be no legal sensor name. Without broken files it
    skips; a project may as well leave it out then.
    """
    text = _broken_files_text(broken)

    @dg.sensor(
        name=BROKEN_FILES_SENSOR,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Fails while there are connector files that can't be used, and says why.",
    )
    def broken_configs() -> dg.SkipReason:
        if broken:
            raise BrokenFilesError(text)
        return dg.SkipReason("No connector file is broken.")

    return broken_configs


def _broken_files_text(broken: Sequence[LoadedFile]) -> str:
    files = "1 connector file is" if len(broken) == 1 else f"{len(broken)} connector files are"
    lines = [problem.as_text() for file in broken for problem in file.problems]
    more = len(lines) - MAX_PROBLEMS_SHOWN
    shown = lines[:MAX_PROBLEMS_SHOWN] + (
        [f"... and {more} more: see `restsource check`"] if more > 0 else []
    )
    return "\n".join([f"{files} broken; all others work.", *shown])
