"""`restsource forecast`: how many requests a connector will make, and how long its first load takes."""

from pathlib import Path

from dotenv import load_dotenv

from restsource_dagster.cli.common import find_resources
from restsource_dagster.cli.options import (
    CallsOption,
    ConfigsOption,
    JsonOption,
    MaxMegabytesOption,
    MaxSecondsOption,
    NameOrFileArgument,
    PagesOption,
)
from restsource_dagster.cli.output import (
    exit_on_failure,
    print_json,
    print_lines,
    print_notice,
)
from restsource_dagster.cli.preview_command import (
    INTERRUPTED,
    find_file_or_connector,
    run_preview,
)
from restsource_dagster.connector.validation.diagnostics import printable

__all__ = ["forecast_command"]


def forecast_command(
    name: NameOrFileArgument,
    pages: PagesOption = 2,
    calls: CallsOption = 3,
    max_mb: MaxMegabytesOption = 20.0,
    max_seconds: MaxSecondsOption = 60.0,
    configs: ConfigsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how many requests a connector will make: in its first load, in each run and each day.

    Makes the requests of a preview, and counts on from there: by the totals that the API states, the size
    of its pages, the schedule and the limits of the file. Nothing is written. What it could not see, it
    names.

    Exit code 1 if the preview finds anything wrong.

    Example: restsource forecast shop
    """
    settings, connector = find_file_or_connector(name, configs)
    # as in `run`: dlt looks secrets up in the environment
    load_dotenv(Path.cwd() / ".env", override=True)
    from restsource_dagster.authoring.forecast import forecast, forecast_facts
    from restsource_dagster.engine.preview.preview_limits import PreviewLimits

    limits = PreviewLimits(pages, 0, calls, max_mb, max_seconds)
    found = run_preview(connector, settings, find_resources(connector, []), limits)
    for problem in (*found.problems, *(text for one in found.resources for text in one.problems)):
        print_notice(printable(problem))
    made = forecast(connector, found)
    if as_json:
        print_json(made.as_dict())
    else:
        print_lines(f"{label:<11} {printable(text)}" for label, text in forecast_facts(made))
    exit_on_failure(interrupted=found.ended == INTERRUPTED, failed=not found.is_fine)
