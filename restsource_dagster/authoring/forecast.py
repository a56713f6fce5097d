"""Forecasts how many requests a connector makes, from a preview, its schedule and its limits.

A forecast is arithmetic on what a preview has seen: the sizes of pages, the totals that the API states,
the time of a request. What no answer told is named, not guessed.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any

from restsource_dagster.connector.model import Connector, Resource
from restsource_dagster.connector.models.http_settings import RateLimit
from restsource_dagster.connector.models.schedule import IntervalSchedule
from restsource_dagster.engine.preview.previewed import Preview, PreviewedResource

__all__ = ["Forecast", "ForecastLimit", "ForecastResource", "forecast", "forecast_facts"]

_DAY = timedelta(days=1)
_BUDGET_HEADERS = ("ratelimit", "rate-limit", "api-call-limit")
"""Parts of the names of headers in which APIs tell their limits."""


@dataclass(frozen=True)
class ForecastResource:
    """The requests for one resource: in the first load, and in a later run without new rows.

    None stands for a number that the preview could not see; `unknown` says why.
    """

    name: str
    first_load: int | None
    each_run: int | None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class ForecastLimit:
    """A limit of the file, the share of it that a day's runs use, and the seconds of the first load.

    `day_share` is 1.0 if the runs use all of it. None where the number of requests is not known.
    """

    limit: str
    day_share: float | None
    first_load_seconds: float | None


@dataclass(frozen=True)
class Forecast:
    """What a connector will ask of its API."""

    connector: str
    resources: tuple[ForecastResource, ...]
    runs_a_day: float | None
    """None for a connector that only a person starts."""
    milliseconds: int | None
    """The mean time of a request in the preview."""
    limits: tuple[ForecastLimit, ...] = ()
    told_by_api: Mapping[str, str] = field(default_factory=dict)
    """The headers in which the last answer told limits."""

    @property
    def first_load(self) -> int | None:
        """The requests of the first load; None if one resource's are not known."""
        return _sum(resource.first_load for resource in self.resources)

    @property
    def each_run(self) -> int | None:
        """The requests of a later run without new rows."""
        return _sum(resource.each_run for resource in self.resources)

    @property
    def each_day(self) -> int | None:
        """The requests of a day's runs without new rows."""
        return _times(self.each_run, self.runs_a_day)

    @property
    def first_load_seconds(self) -> float | None:
        """The seconds of the first load if its requests go one after the other."""
        if self.first_load is None or self.milliseconds is None:
            return None
        return self.first_load * self.milliseconds / 1000

    def as_dict(self) -> Mapping[str, Any]:
        """Return the forecast as JSON values."""
        return {
            **asdict(self),
            "first_load": self.first_load,
            "each_run": self.each_run,
            "each_day": self.each_day,
            "first_load_seconds": self.first_load_seconds,
        }


def forecast(connector: Connector, preview: Preview) -> Forecast:
    """Return the forecast of a connector from a preview of it."""
    seen = {resource.name: resource for resource in preview.resources}
    resources = {resource.name: resource for resource in connector.resources}
    forecasts = tuple(
        _forecast_resource(resources[name], previewed, seen, resources)
        for name, previewed in seen.items()
    )
    schedule = connector.schedule
    runs = _DAY / schedule.period if isinstance(schedule, IntervalSchedule) else None
    times = [request.milliseconds for one in preview.resources for request in one.requests]
    made = Forecast(
        connector.name,
        forecasts,
        runs,
        round(sum(times) / len(times)) if times else None,
        told_by_api=_told_by_api(preview),
    )
    return replace(
        made, limits=tuple(_forecast_limit(limit, made) for limit in _limits_of(connector))
    )


def _forecast_resource(
    resource: Resource,
    previewed: PreviewedResource,
    seen: Mapping[str, PreviewedResource],
    resources: Mapping[str, Resource],
) -> ForecastResource:
    unknown: list[str] = []
    pages = _pages_of_a_call(previewed)
    if pages is None:
        unknown.append("the API names no total, and the paging did not end in the preview")
    calls = _calls(resource, previewed, seen)
    if calls is None:
        unknown.append(f"the number of rows of `{resource.parent}` is not known")
    first_load = _times(calls, pages)
    asks_for_new = resource.endpoint.cursor is not None and resource.endpoint.sends_start
    parent = resources.get(resource.parent or "")
    each_run = calls if asks_for_new else first_load
    if parent is not None and parent.endpoint.cursor is not None and parent.endpoint.sends_start:
        each_run = 0
        unknown.append(f"a run asks once more for each row of `{parent.name}` that has changed")
    return ForecastResource(resource.name, first_load, each_run, tuple(unknown))


def _pages_of_a_call(previewed: PreviewedResource) -> float | None:
    paging = previewed.paging
    if paging.has_ended:
        return max(1, paging.pages)
    size = max(paging.rows, default=0)
    if paging.total is None or size == 0:
        return None
    return math.ceil(paging.total / size)


def _calls(
    resource: Resource, previewed: PreviewedResource, seen: Mapping[str, PreviewedResource]
) -> int | None:
    made = previewed.calls + previewed.calls_left
    if resource.parent is None:
        return max(1, made)
    parent = seen.get(resource.parent)
    if parent is None:
        return None
    if parent.paging.has_ended and parent.parent is None:
        return made
    return parent.paging.total if parent.parent is None else None


def _limits_of(connector: Connector) -> Iterator[RateLimit]:
    http = connector.http
    yield from http.rate_limits
    if http.requests_per_second:
        # a rate below one a second has no whole number of requests in a second
        yield RateLimit(requests=max(1, round(http.requests_per_second * 60)), per="60s")


def _forecast_limit(limit: RateLimit, made: Forecast) -> ForecastLimit:
    # which requests are expensive is not known, so each counts as the most expensive one
    requests = limit.requests // limit.greatest_cost
    per_second = requests / limit.seconds
    day = made.each_day
    first = made.first_load
    where = "" if limit.match == "*" else f" of {limit.match}"
    return ForecastLimit(
        f"{requests} per {limit.per}{where}",
        None if day is None else day / (per_second * _DAY.total_seconds()),
        # the first ones go at once
        None if first is None else max(0, first - requests) / per_second,
    )


def _told_by_api(preview: Preview) -> Mapping[str, str]:
    for resource in reversed(preview.resources):
        for request in reversed(resource.requests):
            told = {
                name: value
                for name, value in request.answer_headers.items()
                if any(part in name.lower() for part in _BUDGET_HEADERS)
            }
            if told:
                return told
    return {}


def _times(number: float | None, by: float | None) -> int | None:
    return None if number is None or by is None else math.ceil(number * by)


def _sum(numbers: Iterable[int | None]) -> int | None:
    known = list(numbers)
    given = [number for number in known if number is not None]
    return sum(given) if len(given) == len(known) else None


def forecast_facts(made: Forecast) -> Iterator[tuple[str, str]]:
    """Yield what a forecast says, for people: pairs of a label and a sentence."""
    each = ", ".join(f"{one.name} {_number(one.first_load)}" for one in made.resources)
    yield "first load", f"{_requests(made.first_load)}: {each}"
    each = ", ".join(f"{one.name} {_number(one.each_run)}" for one in made.resources)
    yield "each run", f"{_requests(made.each_run)} if nothing is new: {each}"
    if made.runs_a_day is None:
        yield "each day", "a person starts the runs"
    else:
        yield "each day", f"{_requests(made.each_day)} in {made.runs_a_day:,.4g} runs"
    if made.milliseconds is not None:
        seconds = _duration(made.first_load_seconds)
        yield (
            "time",
            f"{made.milliseconds} ms a request: the first load takes {seconds}, one request after the other",
        )
    for limit in made.limits:
        yield "limit", _limit_text(limit)
    if made.told_by_api:
        told = ", ".join(f"{name}: {value}" for name, value in made.told_by_api.items())
        yield "told", told
    for one in made.resources:
        for text in one.unknown:
            yield "not known", f"{one.name}: {text}"


def _limit_text(limit: ForecastLimit) -> str:
    share = "an unknown share" if limit.day_share is None else f"{limit.day_share:.1%}"
    first = _duration(limit.first_load_seconds)
    return f"{limit.limit}: a day's runs use {share}; the first load needs {first}"


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
