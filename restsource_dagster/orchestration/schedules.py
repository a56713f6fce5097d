"""The schedule of a connector, in Dagster."""

from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.schedule_definition import ScheduleExecutionData
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from restsource_dagster.config.connector import Connector
from restsource_dagster.orchestration.cron import CronGrid, cron_strings
from restsource_dagster.orchestration.decision import InProgress, Skip, decide
from restsource_dagster.orchestration.instances import TickInstance
from restsource_dagster.orchestration.names import (
    BACKFILL,
    TAG_CONNECTOR,
    TAG_SLOT,
    TAG_TRIGGER,
    job_name,
    schedule_name,
)
from restsource_dagster.orchestration.processes import end_if_dead
from restsource_dagster.orchestration.slots import (
    Interval,
    as_text,
    in_words,
    parse_slot_tag,
    slot_tag,
)

__all__ = ["InstanceHistory", "build_schedule"]

Job = dg.JobDefinition | UnresolvedAssetJobDefinition
"""What `dg.define_asset_job` and `@dg.job` make; Dagster has no public name for the first."""

_IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.MANAGED,
    dg.DagsterRunStatus.CANCELING,
]
_NEWEST = 10
_FEW = 20


class InstanceHistory:
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
        for run in self._instance.get_runs(newest, limit=_NEWEST):
            known = parse_slot_tag(run.tags.get(TAG_SLOT, ""))
            if known and known >= slot and _is_submitted(run):
                return run.run_id
        # The most selective tag comes first: the database takes the first index it can.
        exact = dg.RunsFilter(tags={TAG_SLOT: slot_tag(slot), TAG_CONNECTOR: self._connector})
        runs = self._instance.get_runs(exact, limit=_NEWEST)
        return next((run.run_id for run in runs if _is_submitted(run)), None)

    def in_progress(self) -> InProgress | None:
        """The oldest live run that is not over, whatever asked for it.

        Windows of history don't count: the queue lets a live run go before them.
        """
        records = self._instance.get_run_records(
            dg.RunsFilter(statuses=_IN_PROGRESS), limit=_FEW, ascending=True
        )
        if len(records) == _FEW:
            records = self._instance.get_run_records(
                dg.RunsFilter(statuses=_IN_PROGRESS, tags={TAG_CONNECTOR: self._connector}),
                ascending=True,
            )
        return next(
            (
                _as_in_progress(record)
                for record in records
                if _is_live(record.dagster_run, self._connector)
                and not end_if_dead(self._instance, record.dagster_run)
            ),
            None,
        )


def build_schedule(
    connector: Connector, created_at: datetime, job: Job, opened: TickInstance | None = None
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
    grid = cron_strings(schedule, created_at)

    def evaluate(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        tick = context.scheduled_execution_time.astimezone(UTC)
        history = InstanceHistory(instances.of(context), name)
        decision = decide(schedule, created_at, tick, history)
        if isinstance(decision, Skip):
            return dg.SkipReason(decision.reason)
        return _run_request(name, decision.slot)

    return _SlotSchedule(
        name=schedule_name(connector.name),
        job=job,
        cron_schedule=grid.crons[0] if len(grid.crons) == 1 else list(grid.crons),
        execution_timezone="UTC",
        execution_fn=evaluate,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=_description(schedule, created_at, grid),
        tags={TAG_CONNECTOR: connector.name},
        metadata={"every": in_words(schedule, created_at), "created_at": as_text(created_at)},
    )


class _SlotSchedule(dg.ScheduleDefinition):
    """A schedule whose tick needs no instance of its own.

    After each evaluation Dagster opens one, in case a run request is for a dynamic partition. A slot's never is.
    """

    def evaluate_tick(self, context: dg.ScheduleEvaluationContext) -> ScheduleExecutionData:
        answer = self._execution_fn(context)  # type: ignore[operator, misc]  # `evaluate`
        if isinstance(answer, dg.SkipReason):
            return ScheduleExecutionData(run_requests=[], skip_message=answer.skip_message)
        tags = {**answer.tags, **dg.DagsterRun.tags_for_schedule(self)}
        return ScheduleExecutionData(run_requests=[answer.with_replaced_attrs(tags=tags)])


def _run_request(connector: str, slot: datetime) -> dg.RunRequest:
    tag = slot_tag(slot)
    return dg.RunRequest(
        run_key=tag, tags={TAG_CONNECTOR: connector, TAG_SLOT: tag, TAG_TRIGGER: "schedule"}
    )


def _description(schedule: Interval, created_at: datetime, grid: CronGrid) -> str:
    words = in_words(schedule, created_at)
    text = f"{words[0].upper()}{words[1:]}. Created on {as_text(created_at)}."
    if grid.exact:
        return text
    return (
        f"{text} Cron can't say this, so there are more ticks than runs: a tick at which nothing "
        "is due is skipped, and names the next due time."
    )


def _is_live(run: dg.DagsterRun, connector: str) -> bool:
    return run.tags.get(TAG_CONNECTOR) == connector and run.tags.get(TAG_TRIGGER) != BACKFILL


def _is_submitted(run: dg.DagsterRun) -> bool:
    return run.status != dg.DagsterRunStatus.NOT_STARTED


def _as_in_progress(record: dg.RunRecord) -> InProgress:
    since = record.create_timestamp.replace(tzinfo=UTC)
    if record.start_time is not None:
        since = datetime.fromtimestamp(record.start_time, UTC)
    return InProgress(
        run_id=record.dagster_run.run_id,
        queued=record.dagster_run.status == dg.DagsterRunStatus.QUEUED,
        since=since.replace(microsecond=0),
    )
