"""The sensor that runs backfills: it compares the files with the instance and requests what is due."""

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
"""No request so soon after loading: the daemon learns of a new job a moment later, and a new connector's
first run should come before its backfill, because people want the newest rows first.

Correctness doesn't depend on that order. The start of the live stream is recorded when the definitions load,
before either of them. A partition that loads first moves no cursor and is no run of the live asset.
"""
MAX_REQUESTS = 50
"""Run requests of one tick. The daemon creates their runs one by one; the rest follows."""
_MAX_PLANS_SHOWN = 20
"""Backfills whose status a tick shows."""


def build_backfill_sensor(
    plans: Sequence[BackfillPlan],
    jobs: Mapping[str, Any],
    loaded_at: datetime,
    *,
    settle: timedelta = SETTLE,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    tick_instance: TickInstance | None = None,
) -> dg.SensorDefinition:
    """Return a sensor that requests the due partitions of all backfills that are `auto`.

    `jobs` holds the job of each backfill by its name; `loaded_at` is when these definitions were built.

    The sensor cursor is the tag of the backfill that got a request last. It serves fairness only: any other
    value, or none, is as correct.
    """
    automatic = [plan for plan in plans if plan.backfill.auto]
    instances = tick_instance or TickInstance()

    @dg.sensor(
        name=BACKFILL_SENSOR,
        jobs=[jobs[plan.job_name] for plan in automatic],
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Loads the due partitions of backfills, newest first.",
    )
    def request_partitions(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        # A negative age means that the clock was set back: then waiting could take hours.
        if timedelta(0) <= clock() - loaded_at < settle:
            return dg.SkipReason("The definitions were just loaded. The next tick looks at them.")
        return _request_due_partitions(instances.for_tick(context), automatic, context)

    return request_partitions


def _request_due_partitions(
    instance: dg.DagsterInstance,
    plans: Sequence[BackfillPlan],
    context: dg.SensorEvaluationContext,
) -> dg.SensorResult | dg.SkipReason:
    tick = _evaluate_plans(instance, _plans_after(plans, context.cursor))
    # A skip keeps the cursor, so the same backfill is first again.
    if not tick.requests:
        return dg.SkipReason(tick.text)
    context.log.info(tick.text)
    return dg.SensorResult(run_requests=tick.requests, cursor=tick.last_tag)


@dataclass(frozen=True)
class _SensorTick:
    """What one tick requests and reports."""

    requests: list[dg.RunRequest]
    last_tag: str | None
    """The tag of the last backfill that got a request."""
    text: str


def _evaluate_plans(instance: dg.DagsterInstance, plans: Sequence[BackfillPlan]) -> _SensorTick:
    # All statuses first: a few queries for all backfills instead of a few for each.
    statuses = read_backfill_statuses(instance, plans)
    decisions = {plan.tag: choose_next_partitions(statuses[plan.tag]) for plan in plans}
    requests: list[dg.RunRequest] = []
    last_tag: str | None = None
    for plan in plans:
        keys = decisions[plan.tag].partition_keys[: MAX_REQUESTS - len(requests)]
        for rank, key in enumerate(keys):
            requests.append(_partition_run_request(instance, plan, key, rank))
            last_tag = plan.tag
    incomplete = sorted(
        tag for tag, status in statuses.items() if status.missing or status.in_progress
    )
    return _SensorTick(requests, last_tag, _tick_text(decisions, incomplete))


def _partition_run_request(
    instance: dg.DagsterInstance, plan: BackfillPlan, key: str, rank: int
) -> dg.RunRequest:
    """Return the request for a run of a partition; `rank` is 0 for the newest of one tick.

    The run key contains the number of runs that have ended. So an attempt is never made twice (the daemon
    may be killed in the middle of a tick), and a failed one can be followed by another.
    """
    attempt = count_ended_runs(instance, plan, key) + 1
    # Dagster creates the runs of a tick in several threads. Only the queue can keep their order.
    priority = {name: str(int(value) - rank) for name, value in BACKFILL_PRIORITY.items()}
    return dg.RunRequest(
        run_key=f"{plan.tag}:{key}:{plan.resource.definition_key}:{attempt}",
        job_name=plan.job_name,
        partition_key=key,
        tags={**backfill_run_tags(plan), **priority, TAG_WINDOW: key},
    )


def _plans_after(plans: Sequence[BackfillPlan], last_tag: str | None) -> list[BackfillPlan]:
    """Return all plans in the order of their tags, starting after the one that was last."""
    ordered = sorted(plans, key=lambda plan: plan.tag)
    later = [plan for plan in ordered if last_tag is not None and plan.tag > last_tag]
    return [*later, *ordered[: len(ordered) - len(later)]]


def _tick_text(decisions: Mapping[str, NextPartitions], incomplete: Sequence[str]) -> str:
    if not incomplete:
        number = len(decisions)
        return (
            "The backfill is complete." if number == 1 else f"All {number} backfills are complete."
        )
    shown = [f"{tag}: {decisions[tag].text}" for tag in incomplete[:_MAX_PLANS_SHOWN]]
    more = len(incomplete) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "") + "."
