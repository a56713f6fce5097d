"""The Dagster instance that the ticks of a code location share."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import dagster as dg
import pytest

from restsource_dagster.orchestration.instance import TickInstance
from restsource_dagster.orchestration.names import TAG_SLOT
from restsource_dagster.orchestration.schedules.slot_schedule import build_schedule
from restsource_dagster_tests.orchestration.scheduled_shop import CREATED, build_job, build_shop


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as ready:
        yield ready


def test_it_is_opened_once_for_all_ticks_whichever_thread_they_are_in(
    instance: dg.DagsterInstance,
) -> None:
    shared = TickInstance()
    with ThreadPoolExecutor(4) as pool:
        opened = set(
            pool.map(
                lambda _: id(shared.for_tick(dg.build_schedule_context(instance=instance))),
                range(20),
            )
        )
    assert len(opened) == 1


def test_another_instance_takes_the_place_of_the_one_before(instance: dg.DagsterInstance) -> None:
    shared = TickInstance()
    first = shared.for_tick(dg.build_sensor_context(instance))
    with dg.instance_for_test() as other:
        second = shared.for_tick(dg.build_sensor_context(other))
        assert second is not first
        assert second.root_directory == other.root_directory


def test_an_instance_that_is_only_in_memory_is_taken_as_it_is() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert TickInstance().for_tick(dg.build_sensor_context(instance)) is instance


def test_a_tick_sees_what_was_written_after_the_instance_was_opened(
    instance: dg.DagsterInstance,
) -> None:
    job = build_job("shop")
    schedule = build_schedule(build_shop({"mode": "hours"}), CREATED, job, opened := TickInstance())
    moment = datetime(2026, 11, 23, 12, tzinfo=UTC)

    def context() -> dg.ScheduleEvaluationContext:
        return dg.build_schedule_context(instance, scheduled_execution_time=moment)

    [request] = schedule.evaluate_tick(context()).run_requests or []
    assert opened.for_tick(context()) is not instance
    run = instance.create_run_for_job(job, tags=request.tags)
    assert schedule.evaluate_tick(
        context()
    ).run_requests  # it was made, but nobody has submitted it
    instance.report_run_failed(run)
    assert run.tags[TAG_SLOT] == "2026-11-23T12:00:00Z"
    assert "was started already" in (schedule.evaluate_tick(context()).skip_message or "")


class _NeverOpened(dg.ScheduleEvaluationContext):
    @property
    def instance(self) -> dg.DagsterInstance:
        raise AssertionError("the tick has opened an instance of its own")


def test_a_tick_opens_no_instance_of_its_own(instance: dg.DagsterInstance) -> None:
    schedule = build_schedule(
        build_shop({"mode": "hours"}), CREATED, build_job("shop"), TickInstance()
    )
    moment = datetime(2026, 11, 23, 12, tzinfo=UTC)
    [request] = schedule.evaluate_tick(_NeverOpened(instance.get_ref(), moment)).run_requests or []
    assert request.tags[TAG_SLOT] == "2026-11-23T12:00:00Z"
    assert request.tags["dagster/schedule_name"] == "shop_schedule"
