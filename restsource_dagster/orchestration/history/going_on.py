"""Which windows are queued or running, whoever asked for them, and where a live run is in the way."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from restsource_dagster.orchestration.history.plans import HistoryPlan
from restsource_dagster.orchestration.names import (
    BACKFILL,
    TAG_CONNECTOR,
    TAG_HISTORY,
    TAG_TRIGGER,
    TAG_WINDOW,
    job_name,
)

__all__ = ["PARTITION", "GoingOn", "read_going_on"]

IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.MANAGED,
    dg.DagsterRunStatus.CANCELING,
]
"""Not NOT_STARTED: such a run was created and, if its maker was killed, nobody will submit it."""
PARTITION = "dagster/partition"
_RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


@dataclass(frozen=True)
class GoingOn:
    """What is queued or running now."""

    windows: Mapping[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Partition keys by the history's tag."""
    live: set[str] = field(default_factory=set)
    """Connectors of which a live run is waiting or going on."""


def read_going_on(instance: dg.DagsterInstance, plans: Sequence[HistoryPlan]) -> GoingOn:
    """One query for all runs in progress, and one for all backfills that are not over."""
    by_tag = {plan.tag: plan for plan in plans}
    by_job = {plan.job_name: plan for plan in plans}
    by_key = {plan.asset_key: plan for plan in plans}
    connectors = {job_name(plan.connector.name): plan.connector.name for plan in plans}
    found = GoingOn()
    # First the backfills: what they have requested by now is found among the runs.
    for plan, keys in _backfills(instance, by_key):
        found.windows[plan.tag].update(keys)
    for run in instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS)):
        selected = run.asset_selection or frozenset()
        mine = [by_key[key] for key in selected if key in by_key]
        told = by_tag.get(run.tags.get(TAG_HISTORY, "")) or by_job.get(run.job_name)
        if told is not None:
            mine = [told]
        for each in mine:
            found.windows[each.tag].update(_windows(run, each))
        if mine:
            continue
        if run.tags.get(TAG_TRIGGER) != BACKFILL:
            found.live.update(key.path[0] for key in selected)
            found.live.add(run.tags.get(TAG_CONNECTOR) or connectors.get(run.job_name, ""))
    return found


def _windows(run: dg.DagsterRun, plan: HistoryPlan) -> Iterator[str]:
    first, last = (run.tags.get(tag) for tag in _RANGE)
    if first and last:  # keys are dates, so that they are in the order of time as text, too
        yield from (window.key for window in plan.windows if first <= window.key <= last)
    else:
        key = run.tags.get(PARTITION) or run.tags.get(TAG_WINDOW)
        if key:
            yield key


def _backfills(
    instance: dg.DagsterInstance, by_key: Mapping[dg.AssetKey, HistoryPlan]
) -> Iterator[tuple[HistoryPlan, set[str]]]:
    """The windows of backfills that people launched and that Dagster has not requested so far."""
    # Dagster has no public way to list the backfills that people launch on the Backfills page.
    # Imported here, for it takes its time and only code locations with histories need it.
    from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

    unfinished = BulkActionsFilter(
        statuses=[BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]
    )
    for backfill in instance.get_backfills(filters=unfinished):
        data = backfill.asset_backfill_data
        for key in backfill.asset_selection or ():
            if key in by_key and data is not None:
                waiting = _keys(data.target_subset, key) - _keys(data.requested_subset, key)
                yield by_key[key], waiting


def _keys(subset: Any, key: dg.AssetKey) -> set[str]:
    partitions = subset.partitions_subsets_by_asset_key.get(key)
    return set(partitions.get_partition_keys()) if partitions is not None else set()
