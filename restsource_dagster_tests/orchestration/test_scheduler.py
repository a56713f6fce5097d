"""Schedules played by Dagster's own scheduler, on a real instance, with the clock in our hands."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import dagster as dg
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import instance_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._scheduler.scheduler import launch_scheduled_runs

from restsource_dagster.orchestration.names import TAG_CONNECTOR, TAG_SLOT


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class Daemon:
    """Dagster's scheduler, woken when a test says so. Every wake-up is one after a restart."""

    def __init__(self, workspace: WorkspaceProcessContext) -> None:
        self._workspace = workspace
        (location,) = workspace.create_request_context().get_code_location_entries().values()
        assert location.code_location, location.load_error

    def wake(self, now: str) -> None:
        log = logging.getLogger("scheduler")
        found = list(launch_scheduled_runs(self._workspace, log, at(now), {}))
        assert not any(found), found

    def runs(self, connector: str) -> list[dg.DagsterRun]:
        """The runs, the oldest first."""
        return list(
            self._workspace.instance.get_runs(
                dg.RunsFilter(tags={TAG_CONNECTOR: connector}), ascending=True
            )
        )

    def slots(self, connector: str) -> list[str]:
        return [run.tags[TAG_SLOT] for run in self.runs(connector)]

    def last_skip(self, connector: str) -> str | None:
        """Why the latest tick was skipped."""
        (state,) = (
            state
            for state in self._workspace.instance.all_instigator_state()
            if state.instigator_name == f"{connector}_schedule"
        )
        (tick,) = self._workspace.instance.get_ticks(
            state.instigator_origin_id, state.selector_id, limit=1
        )
        return tick.skip_reason


@contextmanager
def a_daemon(*, queue: bool) -> Iterator[Daemon]:
    """A daemon whose runs are over at once, or wait in the queue for ever."""
    module = "restsource_dagster_tests.orchestration.scheduled_shop"
    origin = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name=module, attribute="defs"))
    with (
        instance_for_test(
            synchronous_run_launcher=True, synchronous_run_coordinator=not queue
        ) as instance,
        WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(origin)) as workspace,
    ):
        yield Daemon(workspace)


def test_runs_each_slot_once_and_a_missed_one_once_after_a_downtime() -> None:
    with a_daemon(queue=False) as daemon:
        for now in ("10:03:30", "11:33:01", "11:34:01", "14:00:01"):
            daemon.wake(f"2026-11-23T{now}")
        assert daemon.slots("by_minutes") == ["2026-11-23T11:33:00Z", "2026-11-23T13:03:00Z"]
        assert daemon.slots("by_hours") == ["2026-11-23T14:00:00Z"]
        # Down over night: 10 slots of one and 2 of the other pass by.
        for now in ("05:30:01", "05:31:01", "07:00:01"):
            daemon.wake(f"2026-11-24T{now}")
        by_minutes = ["2026-11-24T04:03:00Z", "2026-11-24T05:33:00Z"]
        assert daemon.slots("by_minutes")[2:] == by_minutes
        assert daemon.slots("by_hours")[1:] == ["2026-11-24T04:00:00Z"]
        assert all(run.is_success for run in daemon.runs("by_minutes"))


def test_records_why_a_tick_was_skipped() -> None:
    with a_daemon(queue=True) as daemon:
        for now in ("10:03:30", "11:33:01", "13:03:01"):
            daemon.wake(f"2026-11-23T{now}")
        (run,) = daemon.runs("by_minutes")
        reason = daemon.last_skip("by_minutes")
        assert reason
        assert reason.startswith(f"Run {run.run_id} of this connector is waiting in the queue")
        assert daemon.last_skip("by_hours") == (
            "Not due yet: the first scheduled run is due at 2026-11-23 14:00 UTC."
        )
