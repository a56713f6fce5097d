"""The Dagster schedule of a connector: what each of its ticks starts or skips.

A tick decides by slot, not by its own time. So a late tick after a downtime still starts the missed slot, and a
tick that comes twice starts nothing the second time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import dagster as dg

from restsource_dagster.connector.model import Connector
from restsource_dagster.orchestration.dagster_compat import InstanceFreeSchedule, UnresolvedJob
from restsource_dagster.orchestration.instance import TickInstance
from restsource_dagster.orchestration.names import (
    TAG_CONNECTOR,
    TAG_SLOT,
    TAG_TRIGGER,
    TRIGGER_BACKFILL,
    job_name,
    schedule_name,
)
from restsource_dagster.orchestration.schedules.slots import (
    CronGrid,
    RepeatingSchedule,
    cron_grid_for,
    format_utc,
    last_due,
    next_due,
    parse_slot_tag,
    schedule_in_words,
    slot_tag,
)
from restsource_dagster.orchestration.sensors.killed_runs import (
    IN_PROGRESS_STATUSES,
    fail_if_process_gone,
)

__all__ = [
    "ConnectorRuns",
    "InstanceConnectorRuns",
    "RunInProgress",
    "SkipTick",
    "StartRun",
    "build_schedule",
    "decide_tick",
]


@dataclass(frozen=True)
class StartRun:
    """The decision to start a run for this slot."""

    slot: datetime


@dataclass(frozen=True)
class SkipTick:
    """The decision to start nothing, with the reason that the UI shows."""

    reason: str


@dataclass(frozen=True)
class RunInProgress:
    """A run of the connector that has not ended."""

    run_id: str
    is_queued: bool
    """True while it waits in the queue."""
    since: datetime
    """When the run began to wait or to execute, UTC."""


class ConnectorRuns(Protocol):
    """The runs of one connector, as far as a decision needs them."""

    def run_for(self, slot: datetime) -> str | None:
        """Return the id of a run for this slot or a later one, however it ended."""

    def in_progress(self) -> RunInProgress | None:
        """Return the oldest run that has not ended, whatever requested it."""


def decide_tick(
    schedule: RepeatingSchedule, created_at: datetime, tick: datetime, runs: ConnectorRuns
) -> StartRun | SkipTick:
    """Decide what the tick of this moment does.

    Queries the runs only if the decision depends on them. Raises `ValueError` if a time has no time zone.
    """
    # Named in every skip, because people want to know when the next run comes.
    slot = last_due(schedule, created_at, tick)
    following = format_utc(next_due(schedule, created_at, tick))
    if slot is None:
        return SkipTick(f"Not due yet: the first scheduled run is due at {following}.")
    # before the runs in progress: most ticks of an inexact grid end here
    if run_id := runs.run_for(slot):
        # Only a tick at a slot of its own is unusual enough to name the run that was first.
        if slot == tick:
            return SkipTick(
                f"The run due at {format_utc(slot)} was started already (run {run_id}). "
                f"The next run is due at {following}."
            )
        return SkipTick(
            f"Nothing is due at {format_utc(tick)}. The next run is due at {following}."
        )
    if run := runs.in_progress():
        state = "waiting in the queue" if run.is_queued else "still in progress"
        return SkipTick(
            f"Run {run.run_id} of this connector is {state}, since {format_utc(run.since)}, so the"
            f" run due at {format_utc(slot)} is not started now. The next run is due at {following}."
        )
    return StartRun(slot)


_NEWEST_RUNS = 10
_OLDEST_RUNS = 20


class InstanceConnectorRuns:
    """The runs of one connector in a Dagster instance.

    Runs that are NOT_STARTED don't count: Dagster has created them, and submits them a moment later. If it
    is killed between the two, nothing submits them. To count them would lose their slots and block the
    schedule.

    The queries are shaped for SQLite, which keeps no statistics of its tables: a second condition beside a
    selective one makes a query 40 times slower at 100,000 runs.
    """

    def __init__(self, instance: dg.DagsterInstance, connector: str) -> None:
        self._instance = instance
        self._connector = connector

    def run_for(self, slot: datetime) -> str | None:
        """Return the id of a run for this slot or a later one, however it ended.

        At most two queries. The newest runs of the job may be for a later slot, if the schedule in the file
        has changed. The slot's own tag finds the run if an older one was re-executed since.
        """
        newest = dg.RunsFilter(job_name=job_name(self._connector))
        for run in self._instance.get_runs(newest, limit=_NEWEST_RUNS):
            # A person may have edited the tag.
            run_slot = parse_slot_tag(run.tags.get(TAG_SLOT, ""))
            if run_slot and run_slot >= slot and _is_submitted(run):
                return run.run_id
        # The most selective tag comes first: the database uses the first index it can.
        exact = dg.RunsFilter(tags={TAG_SLOT: slot_tag(slot), TAG_CONNECTOR: self._connector})
        runs = self._instance.get_runs(exact, limit=_NEWEST_RUNS)
        return next((run.run_id for run in runs if _is_submitted(run)), None)

    def in_progress(self) -> RunInProgress | None:
        """Return the oldest live run that has not ended, whatever requested it.

        Runs of a backfill don't count: the queue starts a live run before them.
        """
        # Few runs are in progress at a time, so all of them are cheaper to read than those of one tag.
        records = self._instance.get_run_records(
            dg.RunsFilter(statuses=IN_PROGRESS_STATUSES), limit=_OLDEST_RUNS, ascending=True
        )
        # the oldest are of other connectors, so ours may be among the rest
        if len(records) == _OLDEST_RUNS:
            records = self._instance.get_run_records(
                dg.RunsFilter(statuses=IN_PROGRESS_STATUSES, tags={TAG_CONNECTOR: self._connector}),
                ascending=True,
            )
        return next(
            (
                _to_run_in_progress(record)
                for record in records
                if _is_live_run(record.dagster_run, self._connector)
                and not fail_if_process_gone(self._instance, record.dagster_run)
            ),
            None,
        )


def build_schedule(
    connector: Connector,
    created_at: datetime,
    job: dg.JobDefinition | UnresolvedJob,
    tick_instance: TickInstance | None = None,
) -> dg.ScheduleDefinition:
    """Return the schedule that runs a connector's job at its slots, switched on.

    `created_at` has a time zone; no slot is due before it. The schedules of a code location share
    `tick_instance`. Raises `ValueError` for a connector in manual mode.
    """
    name, schedule = connector.name, connector.schedule
    instances = tick_instance or TickInstance()
    if schedule.mode == "manual":
        raise ValueError(f"{name} is started by hand only, so it has no schedule.")
    grid = cron_grid_for(schedule, created_at)

    def evaluate(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        tick = context.scheduled_execution_time.astimezone(UTC)
        runs = InstanceConnectorRuns(instances.for_tick(context), name)
        decision = decide_tick(schedule, created_at, tick, runs)
        if isinstance(decision, SkipTick):
            return dg.SkipReason(decision.reason)
        return _slot_run_request(name, decision.slot)

    return InstanceFreeSchedule(
        evaluate,
        name=schedule_name(name),
        job=job,
        cron_schedule=grid.crons[0] if len(grid.crons) == 1 else list(grid.crons),
        # Slots are counted in UTC. In a zone with daylight saving time, cron would skip or repeat some.
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        tags={TAG_CONNECTOR: name},
        **_schedule_texts(schedule, created_at, grid),
    )


def _slot_run_request(connector: str, slot: datetime) -> dg.RunRequest:
    tag = slot_tag(slot)
    # The slot as run key: if the daemon is killed after it created the run, it creates no second one.
    return dg.RunRequest(
        run_key=tag, tags={TAG_CONNECTOR: connector, TAG_SLOT: tag, TAG_TRIGGER: "schedule"}
    )


def _schedule_texts(
    schedule: RepeatingSchedule, created_at: datetime, grid: CronGrid
) -> Mapping[str, Any]:
    """Return the description and the metadata of a schedule."""
    words = schedule_in_words(schedule, created_at)
    text = f"{words[0].upper()}{words[1:]}. Created on {format_utc(created_at)}."
    if not grid.exact:
        text += (
            " Cron can't express this, so there are more ticks than runs: a tick at which nothing is due is "
            "skipped and names the next due time."
        )
    return {
        "description": text,
        "metadata": {"every": words, "created_at": format_utc(created_at)},
    }


def _is_live_run(run: dg.DagsterRun, connector: str) -> bool:
    return (
        run.tags.get(TAG_CONNECTOR) == connector and run.tags.get(TAG_TRIGGER) != TRIGGER_BACKFILL
    )


def _is_submitted(run: dg.DagsterRun) -> bool:
    return run.status != dg.DagsterRunStatus.NOT_STARTED


def _to_run_in_progress(record: dg.RunRecord) -> RunInProgress:
    # Dagster stores the creation in UTC without a zone, and the start as seconds since the epoch.
    since = record.create_timestamp.replace(tzinfo=UTC)
    if record.start_time is not None:
        since = datetime.fromtimestamp(record.start_time, UTC)
    return RunInProgress(
        run_id=record.dagster_run.run_id,
        is_queued=record.dagster_run.status == dg.DagsterRunStatus.QUEUED,
        since=since.replace(microsecond=0),
    )
