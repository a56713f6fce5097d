"""The sensor that fills histories: it compares, asks for what is due, and remembers nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from restsource_dagster.orchestration.backfills.backfill_assets import (
    BACKFILL_PRIORITY,
    backfill_run_tags,
)
from restsource_dagster.orchestration.backfills.backfill_plan import BackfillPlan
from restsource_dagster.orchestration.backfills.backfill_status import (
    NextPartitions,
    choose_next_partitions,
    count_ended_runs,
    read_backfill_statuses,
)
from restsource_dagster.orchestration.instance import TickInstance
from restsource_dagster.orchestration.names import TAG_WINDOW

__all__ = ["BACKFILL_SENSOR", "INTERVAL_SECONDS", "MAX_REQUESTS", "build_backfill_sensor"]

BACKFILL_SENSOR = "restsource_history"
INTERVAL_SECONDS = 10
SETTLE = timedelta(seconds=10)
"""No request so soon after loading: the daemon needs a moment to learn of a new job, and a new
connector's first run should go before its history, as the newest rows are wanted first.

Nothing depends on that order. Where the live stream begins is noted when the definitions are loaded,
before either of them, and a window that comes first moves no cursor and is no run of the live asset.
"""
MAX_REQUESTS = 50
"""Runs asked for in one tick: the daemon creates them one by one. The rest follows."""
_MAX_PLANS_SHOWN = 20
"""Histories of which a tick tells how they stand."""


def build_backfill_sensor(
    plans: Sequence[BackfillPlan],
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
        name=BACKFILL_SENSOR,
        jobs=[jobs[plan.job_name] for plan in automatic],
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Loads the windows of histories that are due, newest first.",
    )
    def history(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        if timedelta(0) <= clock() - loaded_at < settle:
            return dg.SkipReason("The definitions were loaded just now; looking at the next tick.")
        look = _evaluate_plans(instances.of(context), _plans_in_turn(automatic, context.cursor))
        words = look.words
        if not look.requests:
            return dg.SkipReason(words)
        context.log.info(words)
        return dg.SensorResult(run_requests=look.requests, cursor=look.last)

    return history


@dataclass(frozen=True)
class _SensorTick:
    """What one look found."""

    requests: list[dg.RunRequest]
    last: str | None
    """The tag of the last history that got a request."""
    words: str


def _evaluate_plans(instance: dg.DagsterInstance, plans: Sequence[BackfillPlan]) -> _SensorTick:
    standings = read_backfill_statuses(instance, plans)
    decisions = {plan.tag: choose_next_partitions(standings[plan.tag]) for plan in plans}
    requests: list[dg.RunRequest] = []
    last: str | None = None
    for plan in plans:
        windows = decisions[plan.tag].windows[: MAX_REQUESTS - len(requests)]
        for rank, key in enumerate(windows):
            requests.append(_partition_run_request(instance, plan, key, rank))
            last = plan.tag
    unfinished = [tag for tag, standing in standings.items() if standing.missing]
    going_on = [tag for tag, standing in standings.items() if standing.going_on]
    return _SensorTick(requests, last, _tick_text(decisions, sorted({*unfinished, *going_on})))


def _partition_run_request(
    instance: dg.DagsterInstance, plan: BackfillPlan, key: str, rank: int
) -> dg.RunRequest:
    """The run of a window; `rank` is 0 for the newest of those asked for at once.

    Dagster makes the runs of a tick in several threads, so only the queue can keep their order.
    """
    attempt = count_ended_runs(instance, plan, key) + 1
    priority = {name: str(int(value) - rank) for name, value in BACKFILL_PRIORITY.items()}
    return dg.RunRequest(
        run_key=f"{plan.tag}:{key}:{plan.resource.definition_key}:{attempt}",
        job_name=plan.job_name,
        partition_key=key,
        tags={**backfill_run_tags(plan), **priority, TAG_WINDOW: key},
    )


def _plans_in_turn(plans: Sequence[BackfillPlan], last: str | None) -> list[BackfillPlan]:
    """The histories in turn, beginning after the one that came last."""
    ordered = sorted(plans, key=lambda plan: plan.tag)
    later = [plan for plan in ordered if last is not None and plan.tag > last]
    return [*later, *ordered[: len(ordered) - len(later)]]


def _tick_text(decisions: Mapping[str, NextPartitions], unfinished: Sequence[str]) -> str:
    if not unfinished:
        number = len(decisions)
        return (
            "The history is complete." if number == 1 else f"All {number} histories are complete."
        )
    told = [f"{tag}: {decisions[tag].words}" for tag in unfinished[:_MAX_PLANS_SHOWN]]
    more = len(unfinished) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "") + "."
