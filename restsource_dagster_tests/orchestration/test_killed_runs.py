"""Runs whose process is gone are marked as failed."""

import subprocess
import sys
from collections.abc import Iterator

import dagster as dg
import psutil
import pytest

from restsource_dagster.orchestration.names import TAG_CONNECTOR, TAG_PROCESS
from restsource_dagster.orchestration.schedules.slot_schedule import InstanceConnectorRuns
from restsource_dagster.orchestration.sensors.killed_runs import (
    build_killed_runs_sensor,
    fail_if_process_gone,
    process_tag,
    read_unfinished_runs,
)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ready:
        yield ready


@dg.job
def nothing() -> None: ...


def started_run(instance: dg.DagsterInstance, process: str) -> dg.DagsterRun:
    run = instance.create_run_for_job(nothing, tags={TAG_CONNECTOR: "shop", TAG_PROCESS: process})
    instance.handle_new_event(
        dg.EventLogEntry(  # type: ignore[no-untyped-call]
            error_info=None,
            level=10,
            user_message="",
            run_id=run.run_id,
            timestamp=0.0,
            dagster_event=dg.DagsterEvent(
                event_type_value=dg.DagsterEventType.PIPELINE_START.value, job_name="nothing"
            ),
        )
    )
    return run


def status(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


def tag_of(process: subprocess.Popen[bytes]) -> str:
    """The tag that a run in that process would have."""
    host = process_tag().rsplit(":", 2)[0]
    return f"{host}:{process.pid}:{psutil.Process(process.pid).create_time():.0f}"


@pytest.fixture
def gone() -> str:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        return tag_of(process)


def test_a_run_whose_process_is_gone_is_failed_and_does_not_hold_back_the_schedule(
    instance: dg.DagsterInstance, gone: str
) -> None:
    run = started_run(instance, gone)
    assert status(instance, run) is dg.DagsterRunStatus.STARTED
    assert InstanceConnectorRuns(instance, "shop").in_progress() is None
    assert status(instance, run) is dg.DagsterRunStatus.FAILURE


@pytest.mark.parametrize("process", ["{here}", "another-host:1:1", "", "no process", ":::"])
def test_a_run_that_may_be_alive_is_left_alone(instance: dg.DagsterInstance, process: str) -> None:
    run = started_run(instance, process.format(here=process_tag()))
    assert not fail_if_process_gone(instance, run)
    found = InstanceConnectorRuns(instance, "shop").in_progress()
    assert found is not None
    assert found.run_id == run.run_id


def test_a_run_that_succeeded_since_it_was_looked_up_is_not_failed(
    instance: dg.DagsterInstance, gone: str
) -> None:
    looked_up = started_run(instance, gone)
    success = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, job_name="nothing")
    instance.report_dagster_event(success, run_id=looked_up.run_id)
    assert not fail_if_process_gone(instance, looked_up)
    assert status(instance, looked_up) is dg.DagsterRunStatus.SUCCESS


def test_another_process_with_the_same_id_does_not_keep_a_run_alive(
    instance: dg.DagsterInstance,
) -> None:
    host, pid, started = process_tag().rsplit(":", 2)
    run = started_run(instance, f"{host}:{pid}:{int(started) - 1000}")
    assert fail_if_process_gone(instance, run)


def test_the_sensor_fails_dead_runs_and_says_which(instance: dg.DagsterInstance, gone: str) -> None:
    dead, alive = started_run(instance, gone), started_run(instance, process_tag())
    reason = (
        build_killed_runs_sensor().evaluate_tick(dg.build_sensor_context(instance)).skip_message
    )
    assert dead.run_id in (reason or "")
    assert status(instance, dead) is dg.DagsterRunStatus.FAILURE
    assert status(instance, alive) is dg.DagsterRunStatus.STARTED


def test_a_run_that_is_executed_again_is_not_taken_for_the_killed_one(
    instance: dg.DagsterInstance, gone: str
) -> None:
    killed = started_run(instance, gone)
    fail_if_process_gone(instance, killed)
    # Dagster copies the tags, and a queued run has no process yet
    again = instance.create_run_for_job(
        nothing, tags=killed.tags, parent_run_id=killed.run_id, root_run_id=killed.run_id
    )
    instance.report_engine_event("queued", again)
    assert not fail_if_process_gone(instance, again)
    assert status(instance, again) is dg.DagsterRunStatus.NOT_STARTED


def test_unfinished_runs_are_those_whose_process_may_be_alive(
    instance: dg.DagsterInstance, gone: str
) -> None:
    dead, alive = started_run(instance, gone), started_run(instance, process_tag())
    assert [run.run_id for run in read_unfinished_runs(instance)] == [alive.run_id]
    assert status(instance, dead) is dg.DagsterRunStatus.FAILURE
    assert read_unfinished_runs(instance, {TAG_CONNECTOR: "other"}) == []
