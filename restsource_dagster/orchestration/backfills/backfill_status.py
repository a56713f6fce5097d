"""The status of backfills as Dagster knows it, and the sensor that requests the due partitions.

No state is kept between ticks. Each tick reads the instance again, so it continues after any process was
killed.

The order of the queries matters: runs in progress come first. Otherwise a run that ends between the queries
would count as neither in progress nor loaded, and its partition would be requested twice.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from restsource_dagster.orchestration.backfills.backfill_assets import (
    BACKFILL_PRIORITY,
    backfill_run_tags,
)
from restsource_dagster.orchestration.backfills.backfill_plan import BackfillPlan
from restsource_dagster.orchestration.dagster_compat import (
    read_data_versions,
    read_unrequested_partitions,
)
from restsource_dagster.orchestration.instance import TickInstance
from restsource_dagster.orchestration.names import (
    TAG_CONNECTOR,
    TAG_DEFINITION,
    TAG_HISTORY,
    TAG_TRIGGER,
    TAG_WINDOW,
    TRIGGER_BACKFILL,
    job_name,
)
from restsource_dagster.orchestration.sensors.killed_runs import read_unfinished_runs

__all__ = [
    "BACKFILL_SENSOR",
    "MAX_REQUESTS",
    "TAG_PARTITION",
    "BackfillRunsInProgress",
    "BackfillStatus",
    "NextPartitions",
    "build_backfill_sensor",
    "choose_next_partitions",
    "count_ended_runs",
    "read_backfill_statuses",
    "read_loaded_partitions",
    "read_runs_in_progress",
]


@dataclass(frozen=True)
class BackfillStatus:
    """The status of one resource's backfill. Partitions are named by their keys."""

    desired: Sequence[str]
    """The partitions of the file that have ended, newest first."""
    loaded: Set[str]
    """Those loaded under the current definition."""
    in_progress: Set[str]
    """Those queued or running, whatever requested them; also partitions that are not desired."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """The number of failed attempts at a partition under the current definition."""
    max_parallel: int = 1
    max_attempts: int = 3
    has_live_run: bool = False
    """True if a live run of the connector is queued or running."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Desired partitions neither loaded nor in progress, newest first; also those that failed."""
        return tuple(
            key for key in self.desired if key not in self.loaded and key not in self.in_progress
        )

    @property
    def given_up(self) -> tuple[str, ...]:
        """Partitions that failed too often to be requested again automatically, newest first."""
        return tuple(key for key in self.missing if self._failed_attempts(key) >= self.max_attempts)

    def with_failures(self, failures: Mapping[str, int]) -> "BackfillStatus":
        """Return a copy with these failures."""
        return replace(self, failures=failures)

    def _failed_attempts(self, key: str) -> int:
        return self.failures.get(key, 0)


@dataclass(frozen=True)
class NextPartitions:
    """The partitions to request now, newest first, and the status as text."""

    partition_keys: tuple[str, ...]
    text: str


def choose_next_partitions(status: BackfillStatus) -> NextPartitions:
    """Decide which partitions to request now: none while a live run waits or runs."""
    given_up = set(status.given_up)
    # Partitions in progress take their place whether they are desired or not: the API is as busy.
    due = [key for key in status.missing if key not in given_up]
    free = max(0, status.max_parallel - len(status.in_progress))
    chosen = () if status.has_live_run else tuple(due[:free])
    return NextPartitions(chosen, _status_text(status, due, chosen))


def _status_text(status: BackfillStatus, due: Sequence[str], chosen: Sequence[str]) -> str:
    total = len(status.desired)
    loaded = sum(key in status.loaded for key in status.desired)
    parts = [f"{loaded} of {total} partition{'' if total == 1 else 's'} loaded"]
    if status.in_progress:
        parts.append(f"{len(status.in_progress)} in progress")
    if status.given_up:
        parts.append(f"{len(status.given_up)} failed {_times_in_words(status.max_attempts)}")
    if chosen:
        parts.append(f"{len(chosen)} requested")
    elif due and status.has_live_run:
        parts.append("waiting for the live run")
    return ", ".join(parts)


def _times_in_words(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


TAG_PARTITION = "dagster/partition"
_TAGS_PARTITION_RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


@dataclass(frozen=True)
class BackfillRunsInProgress:
    """What is queued or running now."""

    partition_keys: Mapping[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Partition keys by the tag of their backfill."""
    live_connectors: set[str] = field(default_factory=set)
    """Connectors with a live run that is queued or running."""


def read_runs_in_progress(
    instance: dg.DagsterInstance, plans: Sequence[BackfillPlan]
) -> BackfillRunsInProgress:
    """Return what is in progress: one query for all runs, one for all backfills of the UI."""
    by_tag = {plan.tag: plan for plan in plans}
    by_job = {plan.job_name: plan for plan in plans}
    by_key = {plan.asset_key: plan for plan in plans}
    connectors = {job_name(plan.connector.name): plan.connector.name for plan in plans}
    found = BackfillRunsInProgress()
    # First the backfills of the UI: what they request during these queries is found among the runs.
    for key, unrequested in read_unrequested_partitions(instance, by_key):
        found.partition_keys[by_key[key].tag].update(unrequested)
    for run in read_unfinished_runs(instance):
        selected = run.asset_selection or frozenset()
        # Runs of the sensor and the command have the tag or the backfill's job. Runs that people start in
        # the UI may have neither and only select its asset.
        plan = by_tag.get(run.tags.get(TAG_HISTORY, "")) or by_job.get(run.job_name)
        run_plans = [plan] if plan else [by_key[key] for key in selected if key in by_key]
        # One run of the UI may select the assets of several backfills.
        for each in run_plans:
            found.partition_keys[each.tag].update(_partition_keys_of(run, each))
        if not run_plans and run.tags.get(TAG_TRIGGER) != TRIGGER_BACKFILL:
            found.live_connectors.update(key.path[0] for key in selected)
            found.live_connectors.add(
                run.tags.get(TAG_CONNECTOR) or connectors.get(run.job_name, "")
            )
    return found


def _partition_keys_of(run: dg.DagsterRun, plan: BackfillPlan) -> Iterator[str]:
    first, last = (run.tags.get(tag) for tag in _TAGS_PARTITION_RANGE)
    if first and last:  # keys are dates, which sort as text in the order of time
        yield from (each.key for each in plan.partitions if first <= each.key <= last)
    elif key := _partition_key_of(run):
        yield key


_FAILED_STATUSES = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_ENDED_STATUSES = [*_FAILED_STATUSES, dg.DagsterRunStatus.SUCCESS]
_PLANS_PER_QUERY = 200
"""Backfills whose failures are read in one query."""


def read_backfill_statuses(
    instance: dg.DagsterInstance, plans: Sequence[BackfillPlan]
) -> Mapping[str, BackfillStatus]:
    """Return the status of each backfill by its tag.

    Queries: two for what is in progress, one per backfill for what is loaded, and one per 200 incomplete
    backfills for what has failed.
    """
    in_progress = read_runs_in_progress(instance, plans)
    statuses = {
        plan.tag: BackfillStatus(
            desired=plan.due_keys(),
            loaded=read_loaded_partitions(instance, plan),
            in_progress=frozenset(in_progress.partition_keys.get(plan.tag, ())),
            max_parallel=plan.backfill.max_parallel,
            max_attempts=plan.backfill.max_attempts,
            has_live_run=plan.connector.name in in_progress.live_connectors,
        )
        for plan in plans
    }
    # Failures matter only where something is missing, so complete backfills cost no query for them.
    incomplete = [plan for plan in plans if statuses[plan.tag].missing]
    failures = _read_failures(instance, incomplete)
    return {tag: status.with_failures(failures.get(tag, {})) for tag, status in statuses.items()}


def read_loaded_partitions(instance: dg.DagsterInstance, plan: BackfillPlan) -> frozenset[str]:
    """Return the partitions that were last loaded under the current definition."""
    versions = read_data_versions(instance, plan.asset_key)
    if versions is None:
        return _read_loaded_by_runs(instance, plan)
    current = plan.resource.definition_key
    return frozenset(key for key, version in versions.items() if version == current)


def _read_loaded_by_runs(instance: dg.DagsterInstance, plan: BackfillPlan) -> frozenset[str]:
    """Return the loaded partitions by the tags of successful runs, for a Dagster without data versions."""
    runs = instance.get_runs(
        dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.SUCCESS],
            tags={TAG_HISTORY: plan.tag, TAG_DEFINITION: plan.resource.definition_key},
        )
    )
    # Runs stay when a person wipes a partition, so the materialized partitions count, too.
    loaded = instance.get_materialized_partitions(plan.asset_key)
    return frozenset(_partition_key_of(run) for run in runs) & frozenset(loaded)


def _read_failures(
    instance: dg.DagsterInstance, plans: Sequence[BackfillPlan]
) -> Mapping[str, Mapping[str, int]]:
    """Return the failed attempts under the current definition, by backfill tag and partition key."""
    definitions = {plan.tag: plan.resource.definition_key for plan in plans}
    found: dict[str, Counter[str]] = defaultdict(Counter)
    tags = list(definitions)
    for start in range(0, len(tags), _PLANS_PER_QUERY):
        batch = tags[start : start + _PLANS_PER_QUERY]
        for run in _read_failed_runs(instance, batch):
            tag = run.tags[TAG_HISTORY]
            # A changed definition starts with no failed attempts.
            if run.tags.get(TAG_DEFINITION) == definitions[tag]:
                found[tag][_partition_key_of(run)] += 1
    return found


def _read_failed_runs(instance: dg.DagsterInstance, tags: Sequence[str]) -> Iterable[dg.DagsterRun]:
    return instance.get_runs(
        dg.RunsFilter(statuses=_FAILED_STATUSES, tags={TAG_HISTORY: list(tags)})
    )


def _partition_key_of(run: dg.DagsterRun) -> str:
    return run.tags.get(TAG_PARTITION) or run.tags.get(TAG_WINDOW, "")


def count_ended_runs(instance: dg.DagsterInstance, plan: BackfillPlan, key: str) -> int:
    """Return the number of ended runs of a partition, under any definition and with any result."""
    filters = dg.RunsFilter(statuses=_ENDED_STATUSES, tags={TAG_HISTORY: plan.tag, TAG_WINDOW: key})
    return instance.get_runs_count(filters)


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
    name: str = BACKFILL_SENSOR,
) -> dg.SensorDefinition:
    """Return a sensor that requests the due partitions of all backfills that are `auto`.

    `jobs` holds the job of each backfill by its name; `loaded_at` is when these definitions were built.

    The sensor cursor is the tag of the backfill that got a request last. It serves fairness only: any other
    value, or none, is as correct.
    """
    automatic = [plan for plan in plans if plan.backfill.auto]
    instances = tick_instance or TickInstance()

    @dg.sensor(
        name=name,
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
