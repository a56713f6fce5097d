"""Undocumented names of Dagster: each is there, and what happens on a Dagster that lacks one."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from restsource_dagster.orchestration.backfills.backfill_status import read_loaded_partitions
from restsource_dagster.orchestration.code_location import build_definitions
from restsource_dagster.orchestration.dagster_compat import (
    UNDOCUMENTED_NAMES,
    UnsupportedDagsterError,
    cancel_run,
    create_run,
    dagster_without,
    execute_run,
    fail_run,
    find_name,
    instance_ref_of,
    job_origin_in_module,
    read_dlt_load_metadata,
    read_queue_heartbeat,
    read_unrequested_partitions,
    resolve_jobs,
)
from restsource_dagster.orchestration.instance import TickInstance
from restsource_dagster.orchestration.schedules.slot_schedule import build_schedule
from restsource_dagster.orchestration.sensors.watch_files import reload_location
from restsource_dagster.settings import Settings
from restsource_dagster_tests.orchestration.backfills.cases import Location, orders
from restsource_dagster_tests.orchestration.scheduled_shop import CREATED, build_job, build_shop


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ready:
        yield ready


@pytest.mark.parametrize("path", UNDOCUMENTED_NAMES)
def test_dagster_has(path: str) -> None:
    name = UNDOCUMENTED_NAMES[path]
    assert find_name(path) is not None, f"without it: {name.without}"
    assert name.reason
    assert name.without


@pytest.mark.parametrize(
    "path",
    [path for path, name in UNDOCUMENTED_NAMES.items() if name.needed_to_load],
)
def test_a_code_location_does_not_load_and_says_why_without(path: str, settings: Settings) -> None:
    with dagster_without(path):
        name = path.replace(":", ".")
        with pytest.raises(
            UnsupportedDagsterError, match=f"Dagster {dg.__version__} has no {name}"
        ):
            build_definitions(settings=settings)


@dg.asset
def _report() -> int:
    return 1


@pytest.mark.parametrize(
    "path",
    [path for path in UNDOCUMENTED_NAMES if "make its jobs" in UNDOCUMENTED_NAMES[path].without],
)
def test_jobs_are_the_same_without(path: str) -> None:
    jobs = [dg.define_asset_job("reports", selection=[_report], tags={"tier": "gold"})]
    [expected] = resolve_jobs([_report], jobs)
    with dagster_without(path):
        [job] = resolve_jobs([_report], jobs)
        assert job.get_job_snapshot_id() == expected.get_job_snapshot_id()
        assert job.execute_in_process().success


def test_a_tick_starts_the_same_run_without_schedule_execution_data() -> None:
    schedule = build_schedule(
        build_shop({"mode": "hours"}), CREATED, build_job("shop"), TickInstance()
    )
    moment = datetime(2026, 11, 23, 12, tzinfo=UTC)
    with (
        dg.instance_for_test() as persistent,
        # Dagster's own evaluation opens an instance, which ends with the context.
        dg.build_schedule_context(persistent, scheduled_execution_time=moment) as context,
    ):
        [quick] = schedule.evaluate_tick(context).run_requests or []
        with dagster_without("dagster._core.definitions.schedule_definition:ScheduleExecutionData"):
            [plain] = schedule.evaluate_tick(context).run_requests or []
    assert (quick.run_key, dict(quick.tags)) == (plain.run_key, dict(plain.tags))


def test_a_tick_asks_the_instance_of_its_context_without_from_ref() -> None:
    with dg.instance_for_test() as persistent:
        context = dg.build_schedule_context(persistent)
        assert instance_ref_of(context) is not None
        with dagster_without("dagster:DagsterInstance.from_ref"):
            assert instance_ref_of(context) is None


def test_a_reload_is_a_click_without_the_location_of_a_sensor() -> None:
    result = reload_location(SimpleNamespace())  # type: ignore[arg-type]
    assert (result.outcome, "Click Reload" in result.detail) == ("unsupported", True)


def test_a_reload_that_dagster_lacks_names_it() -> None:
    with dagster_without("dagster._grpc.client:DagsterGrpcClient.reload_code"):
        origin = SimpleNamespace(location_name="restsource", create_client=SimpleNamespace)
        context = SimpleNamespace(code_location_origin=origin)
        result = reload_location(context)  # type: ignore[arg-type]
        assert result.outcome == "failed"
        assert "has no dagster._grpc.client.DagsterGrpcClient.reload_code" in result.detail
        assert "Click Reload" in result.detail


def test_a_run_is_left_as_it_is_without_report_run_failed(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(build_job("shop"))
    with dagster_without("dagster:DagsterInstance.report_run_failed"):
        assert not fail_run(instance, run, "killed")
        found = instance.get_run_by_id(run.run_id)
        assert found is not None
        assert not found.is_finished


@pytest.mark.parametrize(
    "path",
    [
        "dagster:DagsterInstance.event_log_storage",
        "dagster._core.storage.event_log.base:EventLogStorage.get_latest_tags_by_partition",
    ],
)
def test_runs_tell_the_loaded_partitions_without(
    path: str, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    location = Location.of(tmp_path, orders())
    [request], _, _ = location.tick(instance)
    location.end(instance, location.create(instance, request))
    [plan] = location.plans
    before = read_loaded_partitions(instance, plan)
    with dagster_without(path):
        assert read_loaded_partitions(instance, plan) == before == {"2024-01-05"}


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in UNDOCUMENTED_NAMES
        if "get_backfills" in path or "get_backfills" in UNDOCUMENTED_NAMES[path].without
    ],
)
def test_backfills_of_the_ui_are_not_seen_without(path: str, instance: dg.DagsterInstance) -> None:
    with dagster_without(path):
        assert list(read_unrequested_partitions(instance, {dg.AssetKey("orders")})) == []


@pytest.mark.parametrize("path", [path for path in UNDOCUMENTED_NAMES if "dagster_dlt" in path])
def test_our_own_metadata_is_all_without(path: str) -> None:
    with dagster_without(path):
        nothing: Any = None
        assert read_dlt_load_metadata(nothing, nothing) == {}


def test_a_run_of_the_command_line_names_what_dagster_lacks(instance: dg.DagsterInstance) -> None:
    job = build_job("shop")
    origin = job_origin_in_module("restsource", "restsource_dagster.definitions", "shop_job")
    run = create_run(instance, job, tags={}, run_config={}, assets=None, origin=origin)
    with (
        dagster_without("dagster._core.execution.api:execute_run"),
        pytest.raises(UnsupportedDagsterError, match=r"has no dagster\._core\.execution\.api"),
    ):
        execute_run(instance, job, run)
    with (
        dagster_without("dagster._core.remote_origin:RemoteJobOrigin"),
        pytest.raises(UnsupportedDagsterError, match=r"has no dagster\._core\.remote_origin"),
    ):
        job_origin_in_module("restsource", "restsource_dagster.definitions", "shop_job")


def test_a_cancelled_run_is_not_marked_without_report_run_canceling() -> None:
    with dg.instance_for_test() as persistent:
        run = persistent.create_run_for_job(build_job("shop"))
        with dagster_without("dagster:DagsterInstance.report_run_canceling"):
            cancel_run(persistent, run)
            found = persistent.get_run_by_id(run.run_id)
            assert found is not None
            assert found.status == dg.DagsterRunStatus.NOT_STARTED


@pytest.mark.parametrize(
    "path",
    ["dagster:DagsterInstance.run_coordinator", "dagster:DagsterInstance.get_daemon_heartbeats"],
)
def test_no_daemon_is_taken_to_look_after_a_queue_without(path: str) -> None:
    with dg.instance_for_test() as persistent, dagster_without(path):
        assert read_queue_heartbeat(persistent) is None
