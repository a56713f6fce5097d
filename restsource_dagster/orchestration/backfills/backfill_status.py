"""The status of backfills as Dagster knows it, and the partitions to request next.

Nothing is kept from one look to the next. Whatever was killed in between, the next look reads what is there
and continues.

The order of the queries matters. Runs in progress are read first: a run that ends during the queries then
counts as in progress, and never as neither in progress nor loaded.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import dagster as dg

from restsource_dagster.orchestration.backfills.backfill_plan import BackfillPlan
from restsource_dagster.orchestration.dagster_compat import (
    read_data_versions,
    read_unrequested_partitions,
)
from restsource_dagster.orchestration.names import (
    TAG_CONNECTOR,
    TAG_DEFINITION,
    TAG_HISTORY,
    TAG_TRIGGER,
    TAG_WINDOW,
    TRIGGER_BACKFILL,
    job_name,
)

__all__ = [
    "TAG_PARTITION",
    "BackfillRunsInProgress",
    "BackfillStatus",
    "NextPartitions",
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


# NOT_STARTED is left out: such a run was created, and if its creator was killed, nothing will submit it.
IN_PROGRESS_STATUSES = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.MANAGED,
    dg.DagsterRunStatus.CANCELING,
]
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
    for run in instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS_STATUSES)):
        selected = run.asset_selection or frozenset()
        # Runs of ours have a tag or a job of ours. Runs of the UI only select our assets.
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
    """Return the same from the tags of successful runs, for a Dagster without that query."""
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
