"""How histories stand, as Dagster itself knows: its partitions, its runs and their tags.

The order of the questions matters. What is going on is asked for first: a run that ends in between is
then still counted as going on, and never as neither that nor done.

Which windows to ask for now: what the file wants against what Dagster knows.

Nothing is remembered here from one look to the next. Whatever was killed in between, the next look
sees what is there and goes on.

Which windows are queued or running, whoever asked for them, and where a live run is in the way.
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
    """How the history of one resource stands. Windows go by their partition keys."""

    desired: Sequence[str]
    """The windows that the file asks for and that are over, newest first."""
    done: Set[str]
    """Loaded under the present definition."""
    going_on: Set[str]
    """Queued or running, whoever asked for them; also such that are not desired."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """How often a window was tried in vain under the present definition."""
    max_parallel: int = 1
    max_attempts: int = 3
    live: bool = False
    """Whether a live run of the connector is waiting or going on."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Windows that are neither loaded nor going on, newest first; also those that failed."""
        return tuple(
            key for key in self.desired if key not in self.done and key not in self.going_on
        )

    @property
    def given_up(self) -> tuple[str, ...]:
        """Windows that failed too often to be tried again by themselves, newest first."""
        return tuple(key for key in self.missing if self._failed_attempts(key) >= self.max_attempts)

    def with_failures(self, failures: Mapping[str, int]) -> "BackfillStatus":
        """The same with these failures."""
        return replace(self, failures=failures)

    def _failed_attempts(self, key: str) -> int:
        return self.failures.get(key, 0)


@dataclass(frozen=True)
class NextPartitions:
    """The windows to ask for now, newest first, and how it stands, in words."""

    windows: tuple[str, ...]
    words: str


def choose_next_partitions(standing: BackfillStatus) -> NextPartitions:
    """Decide which windows to ask for now."""
    given_up = set(standing.given_up)
    due = [key for key in standing.missing if key not in given_up]
    free = max(0, standing.max_parallel - len(standing.going_on))
    wanted = () if standing.live else tuple(due[:free])
    return NextPartitions(wanted, _status_text(standing, due, wanted))


def _status_text(standing: BackfillStatus, due: Sequence[str], wanted: Sequence[str]) -> str:
    total = len(standing.desired)
    loaded = sum(key in standing.done for key in standing.desired)
    parts = [f"{loaded} of {total} window{'' if total == 1 else 's'} loaded"]
    if standing.going_on:
        parts.append(f"{len(standing.going_on)} going on")
    if standing.given_up:
        parts.append(f"{len(standing.given_up)} failed {_times_in_words(standing.max_attempts)}")
    if wanted:
        parts.append(f"{len(wanted)} asked for")
    elif due and standing.live:
        parts.append("waiting for the live run")
    return ", ".join(parts)


def _times_in_words(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


IN_PROGRESS_STATUSES = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.MANAGED,
    dg.DagsterRunStatus.CANCELING,
]
"""Not NOT_STARTED: such a run was created and, if its maker was killed, nobody will submit it."""
TAG_PARTITION = "dagster/partition"
_TAGS_PARTITION_RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


@dataclass(frozen=True)
class BackfillRunsInProgress:
    """What is queued or running now."""

    windows: Mapping[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Partition keys by the history's tag."""
    live: set[str] = field(default_factory=set)
    """Connectors of which a live run is waiting or going on."""


def read_runs_in_progress(
    instance: dg.DagsterInstance, plans: Sequence[BackfillPlan]
) -> BackfillRunsInProgress:
    """One query for all runs in progress, and one for all backfills that are not over."""
    by_tag = {plan.tag: plan for plan in plans}
    by_job = {plan.job_name: plan for plan in plans}
    by_key = {plan.asset_key: plan for plan in plans}
    connectors = {job_name(plan.connector.name): plan.connector.name for plan in plans}
    found = BackfillRunsInProgress()
    # First the backfills: what they have requested by now is found among the runs.
    for key, waiting in read_unrequested_partitions(instance, by_key):
        found.windows[by_key[key].tag].update(waiting)
    for run in instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS_STATUSES)):
        selected = run.asset_selection or frozenset()
        mine = [by_key[key] for key in selected if key in by_key]
        told = by_tag.get(run.tags.get(TAG_HISTORY, "")) or by_job.get(run.job_name)
        if told is not None:
            mine = [told]
        for each in mine:
            found.windows[each.tag].update(_partition_keys_of(run, each))
        if mine:
            continue
        if run.tags.get(TAG_TRIGGER) != TRIGGER_BACKFILL:
            found.live.update(key.path[0] for key in selected)
            found.live.add(run.tags.get(TAG_CONNECTOR) or connectors.get(run.job_name, ""))
    return found


def _partition_keys_of(run: dg.DagsterRun, plan: BackfillPlan) -> Iterator[str]:
    first, last = (run.tags.get(tag) for tag in _TAGS_PARTITION_RANGE)
    if first and last:  # keys are dates, so that they are in the order of time as text, too
        yield from (window.key for window in plan.windows if first <= window.key <= last)
    else:
        key = run.tags.get(TAG_PARTITION) or run.tags.get(TAG_WINDOW)
        if key:
            yield key


_FAILED_STATUSES = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_ENDED_STATUSES = [*_FAILED_STATUSES, dg.DagsterRunStatus.SUCCESS]
_PLANS_PER_QUERY = 200
"""Histories whose failures are asked for in one query."""


def read_backfill_statuses(
    instance: dg.DagsterInstance, plans: Sequence[BackfillPlan]
) -> Mapping[str, BackfillStatus]:
    """The standing of each history by its tag.

    Queries: two for what is going on, one per history for what is done, and one per 200 histories that
    are not complete for what has failed.
    """
    going_on = read_runs_in_progress(instance, plans)
    standings = {
        plan.tag: BackfillStatus(
            desired=plan.due(),
            done=read_loaded_partitions(instance, plan),
            going_on=frozenset(going_on.windows.get(plan.tag, ())),
            max_parallel=plan.backfill.max_parallel,
            max_attempts=plan.backfill.max_attempts,
            live=plan.connector.name in going_on.live,
        )
        for plan in plans
    }
    incomplete = [plan for plan in plans if standings[plan.tag].missing]
    failures = _read_failures(instance, incomplete)
    return {
        tag: standing.with_failures(failures.get(tag, {})) for tag, standing in standings.items()
    }


def read_loaded_partitions(instance: dg.DagsterInstance, plan: BackfillPlan) -> frozenset[str]:
    """The windows that were last loaded under the present definition."""
    versions = read_data_versions(instance, plan.asset_key)
    if versions is None:
        return _read_loaded_by_runs(instance, plan)
    current = plan.resource.definition_key
    return frozenset(key for key, version in versions.items() if version == current)


def _read_loaded_by_runs(instance: dg.DagsterInstance, plan: BackfillPlan) -> frozenset[str]:
    """The same by public means, for a Dagster that has no such query any more."""
    runs = instance.get_runs(
        dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.SUCCESS],
            tags={TAG_HISTORY: plan.tag, TAG_DEFINITION: plan.resource.definition_key},
        )
    )
    loaded = instance.get_materialized_partitions(plan.asset_key)
    return frozenset(_partition_key_of(run) for run in runs) & frozenset(loaded)


def _read_failures(
    instance: dg.DagsterInstance, plans: Sequence[BackfillPlan]
) -> Mapping[str, Mapping[str, int]]:
    """How often windows failed under the present definition, by the history's tag."""
    definitions = {plan.tag: plan.resource.definition_key for plan in plans}
    found: dict[str, Counter[str]] = defaultdict(Counter)
    tags = list(definitions)
    for start in range(0, len(tags), _PLANS_PER_QUERY):
        batch = tags[start : start + _PLANS_PER_QUERY]
        for run in _read_failed_runs(instance, batch):
            tag = run.tags[TAG_HISTORY]
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
    """How many runs of a window have ended, however they ended and whatever it was loaded under."""
    filters = dg.RunsFilter(statuses=_ENDED_STATUSES, tags={TAG_HISTORY: plan.tag, TAG_WINDOW: key})
    return instance.get_runs_count(filters)
