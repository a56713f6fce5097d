"""What the shipped configuration of the Dagster instance does."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickStatus

from restsource_dagster.local_runtime.sqlite_storage import LightInstance, OpenSqliteStorage

SHIPPED = Path(__file__).resolve().parents[2] / ".dagster" / "dagster.yaml"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    shutil.copy(SHIPPED, tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as opened:
        yield opened


def test_one_connector_never_has_two_runs_at_once(instance: dg.DagsterInstance) -> None:
    queue = instance.get_concurrency_config().run_queue_config
    assert queue is not None
    assert queue.max_concurrent_runs == 4
    assert queue.tag_concurrency_limits == [
        {"key": "restsource/connector", "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
    ]


def test_a_queued_run_is_looked_at_as_often_as_the_daemon_can(instance: dg.DagsterInstance) -> None:
    coordinator = instance.run_coordinator
    assert isinstance(coordinator, dg.QueuedRunCoordinator)
    assert coordinator.dequeue_interval_seconds <= 0.5
    assert coordinator.dequeue_use_threads
    queue = instance.get_concurrency_config().run_queue_config
    assert queue is not None
    assert queue.max_user_code_failure_retries == 3


def test_databases_stay_open_and_events_are_written_in_batches(
    instance: dg.DagsterInstance,
) -> None:
    assert isinstance(instance, LightInstance)
    assert isinstance(instance.get_ref().storage, OpenSqliteStorage)
    assert instance._is_batch_writing_enabled()


def test_runs_are_monitored_and_give_their_place_back(instance: dg.DagsterInstance) -> None:
    assert instance.run_monitoring_enabled
    assert instance.run_monitoring_start_timeout_seconds == 120
    assert instance.run_monitoring_poll_interval_seconds == 10
    assert instance.get_settings("run_monitoring")["free_slots_after_run_end_seconds"] == 10


@pytest.mark.parametrize(
    ("kind", "days"), [(InstigatorType.SCHEDULE, 3), (InstigatorType.SENSOR, 1)]
)
def test_skipped_ticks_are_purged(
    instance: dg.DagsterInstance, kind: InstigatorType, days: int
) -> None:
    assert instance.get_tick_retention_settings(kind)[TickStatus.SKIPPED] == days


@pytest.mark.parametrize("kind", ["schedules", "sensors"])
def test_schedules_and_sensors_are_looked_at_side_by_side(
    instance: dg.DagsterInstance, kind: str
) -> None:
    assert instance.get_settings(kind)["use_threads"] is True


def test_nothing_is_reported_to_anybody(instance: dg.DagsterInstance) -> None:
    assert not instance.telemetry_enabled
    assert not instance.nux_enabled
