"""How histories stand, as Dagster itself knows: its partitions, its runs and their tags.

The order of the questions matters. What is going on is asked for first: a run that ends in between is
then still counted as going on, and never as neither that nor done.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import dagster as dg
from dagster._check import CheckError

from restsource_dagster.orchestration.history.going_on import PARTITION, read_going_on
from restsource_dagster.orchestration.history.plans import HistoryPlan
from restsource_dagster.orchestration.history.reconcile import Standing
from restsource_dagster.orchestration.names import TAG_DEFINITION, TAG_HISTORY, TAG_WINDOW

__all__ = ["count_ended", "read_done", "read_standings"]

_DATA_VERSION = "dagster/data_version"
_FAILED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_ENDED = [*_FAILED, dg.DagsterRunStatus.SUCCESS]
_AT_ONCE = 200
"""Histories whose failures are asked for in one query."""


def read_standings(
    instance: dg.DagsterInstance, plans: Sequence[HistoryPlan]
) -> Mapping[str, Standing]:
    """The standing of each history by its tag.

    Queries: two for what is going on, one per history for what is done, and one per 200 histories that
    are not complete for what has failed.
    """
    going_on = read_going_on(instance, plans)
    standings = {
        plan.tag: Standing(
            desired=plan.due(),
            done=read_done(instance, plan),
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


def read_done(instance: dg.DagsterInstance, plan: HistoryPlan) -> frozenset[str]:
    """The windows that were last loaded under the present definition."""
    try:
        tags = instance.event_log_storage.get_latest_tags_by_partition(
            plan.asset_key, dg.DagsterEventType.ASSET_MATERIALIZATION, [_DATA_VERSION]
        )
    except (AttributeError, TypeError, NotImplementedError, CheckError):
        return _done_by_runs(instance, plan)
    wanted = plan.resource.definition_key
    return frozenset(key for key, found in tags.items() if found.get(_DATA_VERSION) == wanted)


def _done_by_runs(instance: dg.DagsterInstance, plan: HistoryPlan) -> frozenset[str]:
    """The same by public means, for a Dagster that has no such query any more."""
    runs = instance.get_runs(
        dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.SUCCESS],
            tags={TAG_HISTORY: plan.tag, TAG_DEFINITION: plan.resource.definition_key},
        )
    )
    loaded = instance.get_materialized_partitions(plan.asset_key)
    return frozenset(_window(run) for run in runs) & frozenset(loaded)


def _read_failures(
    instance: dg.DagsterInstance, plans: Sequence[HistoryPlan]
) -> Mapping[str, Mapping[str, int]]:
    """How often windows failed under the present definition, by the history's tag."""
    definitions = {plan.tag: plan.resource.definition_key for plan in plans}
    found: dict[str, Counter[str]] = defaultdict(Counter)
    tags = list(definitions)
    for start in range(0, len(tags), _AT_ONCE):
        batch = tags[start : start + _AT_ONCE]
        for run in _runs(instance, batch):
            tag = run.tags[TAG_HISTORY]
            if run.tags.get(TAG_DEFINITION) == definitions[tag]:
                found[tag][_window(run)] += 1
    return found


def _runs(instance: dg.DagsterInstance, tags: Sequence[str]) -> Iterable[dg.DagsterRun]:
    return instance.get_runs(dg.RunsFilter(statuses=_FAILED, tags={TAG_HISTORY: list(tags)}))


def _window(run: dg.DagsterRun) -> str:
    return run.tags.get(PARTITION) or run.tags.get(TAG_WINDOW, "")


def count_ended(instance: dg.DagsterInstance, plan: HistoryPlan, key: str) -> int:
    """How many runs of a window have ended, however they ended and whatever it was loaded under."""
    filters = dg.RunsFilter(statuses=_ENDED, tags={TAG_HISTORY: plan.tag, TAG_WINDOW: key})
    return instance.get_runs_count(filters)
