"""`restsource forecast`: how many requests a connector will make, and how long its first load takes."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:  # importing dlt takes a second
    from restsource_dagster.authoring.forecast import Forecast, ForecastLimit

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
    from restsource_dagster.authoring.forecast import forecast
    from restsource_dagster.engine.preview.preview_limits import PreviewLimits

    limits = PreviewLimits(pages, 0, calls, max_mb, max_seconds)
    found = run_preview(connector, settings, find_resources(connector, []), limits)
    for problem in (*found.problems, *(text for one in found.resources for text in one.problems)):
        print_notice(printable(problem))
    made = forecast(connector, found)
    if as_json:
        print_json(made.as_dict())
    else:
        print_lines(_lines(made))
    exit_on_failure(interrupted=found.ended == INTERRUPTED, failed=not found.is_fine)


def _lines(made: "Forecast") -> Iterator[str]:
    each = ", ".join(f"{one.name} {_number(one.first_load)}" for one in made.resources)
    yield f"first load  {_requests(made.first_load)}: {printable(each)}"
    each = ", ".join(f"{one.name} {_number(one.each_run)}" for one in made.resources)
    yield f"each run    {_requests(made.each_run)} if nothing is new: {printable(each)}"
    if made.runs_a_day is None:
        yield "each day    a person starts the runs"
    else:
        yield f"each day    {_requests(made.each_day)} in {made.runs_a_day:,.4g} runs"
    if made.milliseconds is not None:
        seconds = _duration(made.first_load_seconds)
        yield f"time        {made.milliseconds} ms a request: the first load takes {seconds}, one request after the other"
    for limit in made.limits:
        yield _limit_line(limit)
    if made.told_by_api:
        told = ", ".join(f"{name}: {value}" for name, value in made.told_by_api.items())
        yield f"told        {printable(told)}"
    for one in made.resources:
        for text in one.unknown:
            yield f"not known   {printable(one.name)}: {printable(text)}"


def _limit_line(limit: "ForecastLimit") -> str:
    share = "an unknown share" if limit.day_share is None else f"{limit.day_share:.1%}"
    first = _duration(limit.first_load_seconds)
    return f"limit       {printable(limit.limit)}: a day's runs use {share}; the first load needs {first}"


def _requests(number: int | None) -> str:
    return f"{_number(number)} request{'' if number == 1 else 's'}"


def _number(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "an unknown time"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
