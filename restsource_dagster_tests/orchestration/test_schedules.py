"""Schedules in Dagster: definition, evaluation and runs, against real instances."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test, instance_for_test

from restsource_dagster.orchestration.names import TAG_CONNECTOR, TAG_SLOT, TAG_TRIGGER
from restsource_dagster.orchestration.schedules.slot_schedule import (
    InstanceConnectorRuns,
    build_schedule,
)
from restsource_dagster_tests.orchestration.scheduled_shop import CREATED, build_job, build_shop

FINISHED = ["SUCCESS", "FAILURE", "CANCELED"]
GOING = ["STARTING", "STARTED", "CANCELING", "MANAGED"]
TEN_MINUTES = {"mode": "minutes", "interval": 10}
SEVEN_HOURS = {"mode": "hours", "interval": 7}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture(scope="module")
def stored() -> Iterator[dg.DagsterInstance]:
    """A schedule's context takes only an instance that is stored somewhere."""
    with instance_for_test(set_dagster_home=False) as persistent:
        yield persistent


@pytest.fixture
def wiped(stored: dg.DagsterInstance) -> dg.DagsterInstance:
    stored.wipe()
    return stored


def a_run(
    instance: dg.DagsterInstance,
    slot: str | None = None,
    *,
    status: str = "SUCCESS",
    connector: str = "shop",
    **tags: str,
) -> str:
    """Record a run; returns its id."""
    every = {TAG_CONNECTOR: connector, TAG_TRIGGER: "schedule" if slot else "manual", **tags}
    run: dg.DagsterRun = create_run_for_test(
        instance,
        job_name=f"{connector}_job",
        tags={**every, TAG_SLOT: slot} if slot else every,
        status=dg.DagsterRunStatus(status),
    )
    return run.run_id


def evaluate(
    instance: dg.DagsterInstance, schedule: dict[str, Any], tick: str
) -> dg.RunRequest | str:
    """What a tick answers: the run that it requests, or the reason why it is skipped."""
    definition = build_schedule(build_shop(schedule), CREATED, build_job("shop"))
    context = dg.build_schedule_context(instance=instance, scheduled_execution_time=at(tick))
    data = definition.evaluate_tick(context)
    if data.run_requests:
        (request,) = data.run_requests
        return request
    assert data.skip_message
    return data.skip_message


class TestDefinition:
    def test_is_switched_on_and_ticks_in_utc(self) -> None:
        schedule = build_schedule(build_shop(TEN_MINUTES), CREATED, build_job("shop"))
        assert schedule.name == "shop_schedule"
        assert schedule.job_name == "shop_job"
        assert schedule.cron_schedule == "3-59/10 * * * *"
        assert schedule.execution_timezone == "UTC"
        assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING

    def test_says_the_schedule_in_words(self) -> None:
        schedule = build_schedule(build_shop(TEN_MINUTES), CREATED, build_job("shop"))
        assert schedule.description == (
            "Every 10 minutes at 10:13, 10:23, ... UTC. Created on 2026-11-23 10:03:20 UTC."
        )

    def test_says_that_a_grid_has_more_ticks_than_runs(self) -> None:
        schedule = build_schedule(build_shop(SEVEN_HOURS), CREATED, build_job("shop"))
        assert schedule.cron_schedule == "0 * * * *"
        assert schedule.description
        assert "there are more ticks than runs" in schedule.description

    def test_takes_an_asset_job(self) -> None:
        job = dg.define_asset_job("shop_job", selection=["shop/orders"])
        assert build_schedule(build_shop(TEN_MINUTES), CREATED, job).job_name == "shop_job"

    def test_is_refused_for_a_connector_that_is_started_by_hand(self) -> None:
        with pytest.raises(ValueError, match="shop is started by hand only"):
            build_schedule(build_shop({"mode": "manual"}), CREATED, build_job("shop"))


class TestTick:
    def test_at_a_slot_requests_a_run_that_names_it(self, wiped: dg.DagsterInstance) -> None:
        request = evaluate(wiped, TEN_MINUTES, "2026-11-23T10:13")
        assert isinstance(request, dg.RunRequest)
        assert request.run_key == "2026-11-23T10:13:00Z"
        ours = {key: value for key, value in request.tags.items() if key.startswith("restsource/")}
        assert ours == {
            TAG_CONNECTOR: "shop",
            TAG_SLOT: "2026-11-23T10:13:00Z",
            TAG_TRIGGER: "schedule",
        }

    def test_before_the_first_slot_is_skipped(self, wiped: dg.DagsterInstance) -> None:
        assert evaluate(wiped, TEN_MINUTES, "2026-11-23T10:03") == (
            "Not due yet: the first scheduled run is due at 2026-11-23 10:13 UTC."
        )

    def test_between_slots_is_skipped_and_names_the_next(self, wiped: dg.DagsterInstance) -> None:
        a_run(wiped, "2026-11-23T14:00:00Z")
        assert evaluate(wiped, SEVEN_HOURS, "2026-11-23T15:00") == (
            "Nothing is due at 2026-11-23 15:00 UTC. The next run is due at 2026-11-23 21:00 UTC."
        )

    def test_between_slots_catches_up_the_missed_one(self, wiped: dg.DagsterInstance) -> None:
        a_run(wiped, "2026-11-23T14:00:00Z")
        request = evaluate(wiped, SEVEN_HOURS, "2026-11-24T03:00")
        assert isinstance(request, dg.RunRequest)
        assert request.tags[TAG_SLOT] == "2026-11-23T21:00:00Z"

    @pytest.mark.parametrize("status", FINISHED)
    def test_at_a_slot_that_has_had_its_run_is_skipped_however_it_ended(
        self, wiped: dg.DagsterInstance, status: str
    ) -> None:
        run_id = a_run(wiped, "2026-11-23T10:13:00Z", status=status)
        assert evaluate(wiped, TEN_MINUTES, "2026-11-23T10:13") == (
            f"The run due at 2026-11-23 10:13 UTC was started already (run {run_id}). "
            "The next run is due at 2026-11-23 10:23 UTC."
        )

    @pytest.mark.parametrize("status", GOING)
    def test_during_a_run_of_the_connector_is_skipped_and_names_it(
        self, wiped: dg.DagsterInstance, status: str
    ) -> None:
        run_id = a_run(wiped, status=status)
        reason = evaluate(wiped, TEN_MINUTES, "2026-11-23T10:23")
        assert isinstance(reason, str)
        assert reason.startswith(f"Run {run_id} of this connector is still in progress, since 20")
        assert reason.endswith(
            "so the run due at 2026-11-23 10:23 UTC is not started now. "
            "The next run is due at 2026-11-23 10:33 UTC."
        )

    def test_the_first_run_does_not_stand_for_a_slot(self, wiped: dg.DagsterInstance) -> None:
        a_run(wiped, **{TAG_TRIGGER: "first_run"})
        assert isinstance(evaluate(wiped, TEN_MINUTES, "2026-11-23T10:13"), dg.RunRequest)


class TestHistory:
    SLOT = at("2026-11-23T10:13")

    def test_of_another_connector_does_not_count(self, instance: dg.DagsterInstance) -> None:
        a_run(instance, "2026-11-23T10:13:00Z", connector="shop_2")
        a_run(instance, status="STARTED", connector="shop_2")
        history = InstanceConnectorRuns(instance, "shop")
        assert (history.run_for(self.SLOT), history.in_progress()) == (None, None)

    def test_a_run_for_a_later_slot_covers_this_one(self, instance: dg.DagsterInstance) -> None:
        run_id = a_run(instance, "2026-11-23T10:20:00Z")
        assert InstanceConnectorRuns(instance, "shop").run_for(self.SLOT) == run_id

    def test_a_run_for_an_earlier_slot_does_not(self, instance: dg.DagsterInstance) -> None:
        a_run(instance, "2026-11-23T10:12:00Z")
        assert InstanceConnectorRuns(instance, "shop").run_for(self.SLOT) is None

    def test_a_run_is_found_behind_older_slots_executed_again_by_hand(
        self, instance: dg.DagsterInstance
    ) -> None:
        run_id = a_run(instance, "2026-11-23T10:13:00Z")
        for _ in range(30):
            a_run(instance, "2026-11-23T03:00:00Z")
        assert InstanceConnectorRuns(instance, "shop").run_for(self.SLOT) == run_id

    def test_a_run_that_was_created_but_never_submitted_counts_nowhere(
        self, instance: dg.DagsterInstance
    ) -> None:
        a_run(instance, "2026-11-23T10:13:00Z", status="NOT_STARTED")
        history = InstanceConnectorRuns(instance, "shop")
        assert (history.run_for(self.SLOT), history.in_progress()) == (None, None)

    def test_a_slot_tag_that_is_no_time_is_not_a_slot(self, instance: dg.DagsterInstance) -> None:
        a_run(instance, "whenever")
        assert InstanceConnectorRuns(instance, "shop").run_for(self.SLOT) is None

    @pytest.mark.parametrize("others", [0, 3, 25])
    def test_the_run_in_progress_is_found_behind_those_of_other_connectors(
        self, instance: dg.DagsterInstance, others: int
    ) -> None:
        for number in range(others):
            a_run(instance, status="STARTED", connector=f"other_{number}")
        history = InstanceConnectorRuns(instance, "shop")
        assert history.in_progress() is None
        before = datetime.now(UTC) - timedelta(seconds=1)
        run_id = a_run(instance, status="STARTED")
        found = history.in_progress()
        assert found
        assert found.run_id == run_id
        assert before < found.since < datetime.now(UTC) + timedelta(seconds=1)
