"""The sensor that fills histories: it compares, asks for what is due, and remembers nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from restsource_dagster.orchestration.history.assets import PRIORITY, history_tags
from restsource_dagster.orchestration.history.plans import HistoryPlan
from restsource_dagster.orchestration.history.reconcile import Next, reconcile
from restsource_dagster.orchestration.history.standings import count_ended, read_standings
from restsource_dagster.orchestration.instances import TickInstance
from restsource_dagster.orchestration.names import TAG_WINDOW

__all__ = ["HISTORY_SENSOR", "INTERVAL_SECONDS", "MAX_REQUESTS", "build_history_sensor"]

HISTORY_SENSOR = "restsource_history"
INTERVAL_SECONDS = 10
SETTLE = timedelta(seconds=10)
"""No request so soon after loading: the daemon needs a moment to learn of a new job, and a new
connector's first run should go before its history, as the newest rows are wanted first.

Nothing depends on that order. Where the live stream begins is noted when the definitions are loaded,
before either of them, and a window that comes first moves no cursor and is no run of the live asset.
"""
MAX_REQUESTS = 50
"""Runs asked for in one tick: the daemon creates them one by one. The rest follows."""
_TOLD = 20
"""Histories of which a tick tells how they stand."""


def build_history_sensor(
    plans: Sequence[HistoryPlan],
    jobs: Mapping[str, Any],
    loaded_at: datetime,
    *,
    settle: timedelta = SETTLE,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    opened: TickInstance | None = None,
) -> dg.SensorDefinition:
    """A sensor that asks for the windows that are due, of all histories that are `auto`.

    `jobs` has the job of each history by its name; `loaded_at` is when these definitions were built.

    The sensor cursor holds whose turn was last, for fairness only: any other, or none, does as well.
    The run key of a window counts its runs that have ended, so that an attempt is never made twice (the
    daemon may stop in the middle of a tick) and a failed one can be followed by another.
    """
    automatic = [plan for plan in plans if plan.backfill.auto]
    instances = opened or TickInstance()

    @dg.sensor(
        name=HISTORY_SENSOR,
        jobs=[jobs[plan.job_name] for plan in automatic],
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Loads the windows of histories that are due, newest first.",
    )
    def history(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        if timedelta(0) <= clock() - loaded_at < settle:
            return dg.SkipReason("The definitions were loaded just now; looking at the next tick.")
        look = _look(instances.of(context), _rotated(automatic, context.cursor))
        words = look.words
        if not look.requests:
            return dg.SkipReason(words)
        context.log.info(words)
        return dg.SensorResult(run_requests=look.requests, cursor=look.last)

    return history


@dataclass(frozen=True)
class _Look:
    """What one look found."""

    requests: list[dg.RunRequest]
    last: str | None
    """The tag of the last history that got a request."""
    words: str


def _look(instance: dg.DagsterInstance, plans: Sequence[HistoryPlan]) -> _Look:
    standings = read_standings(instance, plans)
    decisions = {plan.tag: reconcile(standings[plan.tag]) for plan in plans}
    requests: list[dg.RunRequest] = []
    last: str | None = None
    for plan in plans:
        windows = decisions[plan.tag].windows[: MAX_REQUESTS - len(requests)]
        for rank, key in enumerate(windows):
            requests.append(_request(instance, plan, key, rank))
            last = plan.tag
    unfinished = [tag for tag, standing in standings.items() if standing.missing]
    going_on = [tag for tag, standing in standings.items() if standing.going_on]
    return _Look(requests, last, _words(decisions, sorted({*unfinished, *going_on})))


def _request(instance: dg.DagsterInstance, plan: HistoryPlan, key: str, rank: int) -> dg.RunRequest:
    """The run of a window; `rank` is 0 for the newest of those asked for at once.

    Dagster makes the runs of a tick in several threads, so only the queue can keep their order.
    """
    attempt = count_ended(instance, plan, key) + 1
    priority = {name: str(int(value) - rank) for name, value in PRIORITY.items()}
    return dg.RunRequest(
        run_key=f"{plan.tag}:{key}:{plan.resource.definition_key}:{attempt}",
        job_name=plan.job_name,
        partition_key=key,
        tags={**history_tags(plan), **priority, TAG_WINDOW: key},
    )


def _rotated(plans: Sequence[HistoryPlan], last: str | None) -> list[HistoryPlan]:
    """The histories in turn, beginning after the one that came last."""
    ordered = sorted(plans, key=lambda plan: plan.tag)
    later = [plan for plan in ordered if last is not None and plan.tag > last]
    return [*later, *ordered[: len(ordered) - len(later)]]


def _words(decisions: Mapping[str, Next], unfinished: Sequence[str]) -> str:
    if not unfinished:
        number = len(decisions)
        return (
            "The history is complete." if number == 1 else f"All {number} histories are complete."
        )
    told = [f"{tag}: {decisions[tag].words}" for tag in unfinished[:_TOLD]]
    more = len(unfinished) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "") + "."
