"""The schedule of a connector, in Dagster.

What a tick of a schedule does, apart from how Dagster is asked and answered.

The decision goes by slot, not by the time of the tick: a late tick after a downtime then still
starts what was missed, and a tick that comes twice starts nothing the second time.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

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
from restsource_dagster.orchestration.sensors.killed_runs import fail_if_process_gone

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
    """Start a run for this slot."""

    slot: datetime


@dataclass(frozen=True)
class SkipTick:
    """Start nothing, and tell people why."""

    reason: str


@dataclass(frozen=True)
class RunInProgress:
    """A run of the connector that is not over."""

    run_id: str
    queued: bool
    """Whether it still waits for its turn."""
    since: datetime
    """Since when it waits or runs, UTC."""


class ConnectorRuns(Protocol):
    """The runs of one connector, as far as a decision needs them."""

    def run_for(self, slot: datetime) -> str | None:
        """The id of a run that stands for this slot or a later one, however it ended."""

    def in_progress(self) -> RunInProgress | None:
        """The oldest run that is not over, whatever asked for it."""


def decide_tick(
    schedule: RepeatingSchedule, created_at: datetime, tick: datetime, history: ConnectorRuns
) -> StartRun | SkipTick:
    """Decide what the tick of this moment does.

    Asks the history only as far as it has to. Raises `ValueError` if a time has no time zone.
    """
    slot = last_due(schedule, created_at, tick)
    following = format_utc(next_due(schedule, created_at, tick))
    if slot is None:
        return SkipTick(f"Not due yet: the first scheduled run is due at {following}.")
    if run_id := history.run_for(slot):
        if slot == tick:
            return SkipTick(
                f"The run due at {format_utc(slot)} was started already (run {run_id}). "
                f"The next run is due at {following}."
            )
        return SkipTick(
            f"Nothing is due at {format_utc(tick)}. The next run is due at {following}."
        )
    if run := history.in_progress():
        state = "waiting in the queue" if run.queued else "still going"
        return SkipTick(
            f"Run {run.run_id} of this connector is {state}, since {format_utc(run.since)}, so the"
            f" run due at {format_utc(slot)} is not started now. The next run is due at {following}."
        )
    return StartRun(slot)


_LIVE_RUN_STATUSES = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.MANAGED,
    dg.DagsterRunStatus.CANCELING,
]
_NEWEST_RUNS = 10
_OLDEST_RUNS = 20


class InstanceConnectorRuns:
    """The runs of one connector in a Dagster instance.

    A run that is NOT_STARTED counts nowhere: Dagster has created but not submitted it, and after
    a crash between the two nobody will. Counting it would lose its slot and block the schedule.

    The queries are shaped for SQLite, which has no statistics of its tables: a second condition
    beside a selective one makes it 40 times slower at 100,000 runs.
    """

    def __init__(self, instance: dg.DagsterInstance, connector: str) -> None:
        self._instance = instance
        self._connector = connector

    def run_for(self, slot: datetime) -> str | None:
        """The id of a run that stands for this slot or a later one, however it ended.

        Two queries at most. The newest runs of the job know of a later slot, which matters when
        the schedule in the file has changed; the slot's own tag is certain, which matters when
        an older run was executed again by hand.
        """
        newest = dg.RunsFilter(job_name=job_name(self._connector))
        for run in self._instance.get_runs(newest, limit=_NEWEST_RUNS):
            known = parse_slot_tag(run.tags.get(TAG_SLOT, ""))
            if known and known >= slot and _is_submitted(run):
                return run.run_id
        # The most selective tag comes first: the database takes the first index it can.
        exact = dg.RunsFilter(tags={TAG_SLOT: slot_tag(slot), TAG_CONNECTOR: self._connector})
        runs = self._instance.get_runs(exact, limit=_NEWEST_RUNS)
        return next((run.run_id for run in runs if _is_submitted(run)), None)

    def in_progress(self) -> RunInProgress | None:
        """The oldest live run that is not over, whatever asked for it.

        Windows of history don't count: the queue lets a live run go before them.
        """
        records = self._instance.get_run_records(
            dg.RunsFilter(statuses=_LIVE_RUN_STATUSES), limit=_OLDEST_RUNS, ascending=True
        )
        if len(records) == _OLDEST_RUNS:
            records = self._instance.get_run_records(
                dg.RunsFilter(statuses=_LIVE_RUN_STATUSES, tags={TAG_CONNECTOR: self._connector}),
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
    opened: TickInstance | None = None,
) -> dg.ScheduleDefinition:
    """The schedule that runs a connector's job at its slots, switched on.

    `created_at` has a time zone; no slot is due before it. `opened` is shared by the schedules of a
    code location. Raises `ValueError` for a connector that is started by hand only.
    """
    name = connector.name
    instances = opened or TickInstance()
    schedule = connector.schedule
    if schedule.mode == "manual":
        raise ValueError(f"{connector.name} is started by hand only, so it has no schedule.")
    grid = cron_grid_for(schedule, created_at)

    def evaluate(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        tick = context.scheduled_execution_time.astimezone(UTC)
        history = InstanceConnectorRuns(instances.of(context), name)
        decision = decide_tick(schedule, created_at, tick, history)
        if isinstance(decision, SkipTick):
            return dg.SkipReason(decision.reason)
        return _slot_run_request(name, decision.slot)

    return InstanceFreeSchedule(
        evaluate,
        name=schedule_name(connector.name),
        job=job,
        cron_schedule=grid.crons[0] if len(grid.crons) == 1 else list(grid.crons),
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=_schedule_description(schedule, created_at, grid),
        tags={TAG_CONNECTOR: connector.name},
        metadata={
            "every": schedule_in_words(schedule, created_at),
            "created_at": format_utc(created_at),
        },
    )


def _slot_run_request(connector: str, slot: datetime) -> dg.RunRequest:
    tag = slot_tag(slot)
    return dg.RunRequest(
        run_key=tag, tags={TAG_CONNECTOR: connector, TAG_SLOT: tag, TAG_TRIGGER: "schedule"}
    )


def _schedule_description(schedule: RepeatingSchedule, created_at: datetime, grid: CronGrid) -> str:
    words = schedule_in_words(schedule, created_at)
    text = f"{words[0].upper()}{words[1:]}. Created on {format_utc(created_at)}."
    if grid.exact:
        return text
    return (
        f"{text} Cron can't say this, so there are more ticks than runs: a tick at which nothing "
        "is due is skipped, and names the next due time."
    )


def _is_live_run(run: dg.DagsterRun, connector: str) -> bool:
    return (
        run.tags.get(TAG_CONNECTOR) == connector and run.tags.get(TAG_TRIGGER) != TRIGGER_BACKFILL
    )


def _is_submitted(run: dg.DagsterRun) -> bool:
    return run.status != dg.DagsterRunStatus.NOT_STARTED


def _to_run_in_progress(record: dg.RunRecord) -> RunInProgress:
    since = record.create_timestamp.replace(tzinfo=UTC)
    if record.start_time is not None:
        since = datetime.fromtimestamp(record.start_time, UTC)
    return RunInProgress(
        run_id=record.dagster_run.run_id,
        queued=record.dagster_run.status == dg.DagsterRunStatus.QUEUED,
        since=since.replace(microsecond=0),
    )
