"""Runs on two machines: each has a disk of its own, and the state is in one database."""

import os
import random
import signal
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from restsource_dagster.connector.partitions import Window
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.engine.run.window_load import ingest_window
from restsource_dagster.orchestration.backfills.backfill_plan import (
    BackfillPlan,
    read_backfill_plans,
    read_live_start_values,
)
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.event_files import EVENTS, file_of
from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.faults.test_concurrent_runs import Gate
from restsource_dagster_tests.making import load, make_connector, make_settings, query
from restsource_dagster_tests.servers.api import ApiServer, Seen
from restsource_dagster_tests.servers.postgres import POSTGRES_PASSWORD
from restsource_dagster_tests.waiting import Background

LEASE_SECONDS = 0.5
"""Of a run that is killed or stopped: so long its successor waits. Others are busy for longer on a slow machine."""
COURSES = int(os.environ.get("HOST_COURSES", "1"))
STEPS = int(os.environ.get("HOST_STEPS", "5"))
DAYS = int(os.environ.get("HOST_DAYS", "2"))
Host = Callable[[str], Settings]


@pytest.fixture
def host(postgres_url: str, tmp_path: Path) -> Host:
    """Makes the settings of a machine whose disk has a name; the warehouse is the same for all."""

    def make(disk: str) -> Settings:
        changes = {
            "state_dir": tmp_path / "disks" / disk,
            "state": SecretStr(postgres_url),
        }
        return make_settings(tmp_path).model_copy(update=changes)

    return make


def as_json(settings: Settings) -> dict[str, Any]:
    """The settings of a run in another process of this machine, which will not come to its end."""
    return {
        "state_dir": str(settings.state_dir),
        "state": settings.state.get_secret_value(),
        "lease_seconds": LEASE_SECONDS,
    }


@pytest.mark.faults(row=5)
def test_two_hosts_load_each_row_once(api: ApiServer, host: Host) -> None:
    connector = make_connector(api.url, EVENTS)
    api.answers["/events"] = lambda _: [{"id": n, "at": n} for n in range(len(api.seen))]
    for run in [Background(load, connector, host(disk)) for disk in "1212"]:
        assert not run.result()["events"].failed
    assert query(host("1"), "SELECT id FROM shop.events ORDER BY id") == [(n,) for n in range(4)]


@pytest.mark.faults(row=5)
@pytest.mark.on_destinations
def test_a_run_that_stood_still_stores_nothing_after_its_successor(
    api: ApiServer, tmp_path: Path, host: Host, nursery: Nursery
) -> None:
    """A machine that is suspended, or cut off, for longer than its lease."""
    gate = Gate(api)
    stopped = nursery.start(file_of(api), tmp_path, settings=as_json(host("1")))
    gate.wait_until_asked()
    os.kill(stopped.pid, signal.SIGSTOP)
    gate.open()
    assert not load(make_connector(api.url, EVENTS), host("2"))["events"].failed
    os.kill(stopped.pid, signal.SIGCONT)
    assert stopped.end()["ended"] != 0
    failures = [event["failure"] for event in stopped.told if event.get("failure")]
    assert "stood still for longer than" in failures[0]
    assert POSTGRES_PASSWORD not in str(stopped.told)
    assert query(host("1"), "SELECT id FROM shop.events ORDER BY id") == [(1,), (2,)]


@pytest.mark.faults(row=5)
def test_a_host_that_is_gone_is_replaced_when_its_lease_ends(
    api: ApiServer, tmp_path: Path, host: Host, nursery: Nursery
) -> None:
    gate = Gate(api)
    killed = nursery.start(file_of(api), tmp_path, settings=as_json(host("1")))
    gate.wait_until_asked()
    killed.kill()
    killed.end()
    gate.open()
    assert not load(make_connector(api.url, EVENTS), host("2"))["events"].failed
    assert query(host("1"), "SELECT id FROM shop.events ORDER BY id") == [(1,), (2,)]


def test_an_empty_disk_finds_the_moments_of_the_first_one(api: ApiServer, host: Host) -> None:
    connector = make_connector(api.url, *Course.resources(datetime(2024, 1, 1, tzinfo=UTC)))
    first, second = (read_backfill_plans(connector, host(disk)) for disk in "12")
    assert first == second
    assert not list(host("2").state_dir.rglob("shop*"))


# --- weeks of runs, kills and new machines --------------------------------------------------------


@pytest.mark.faults(row=5)
@pytest.mark.parametrize("seed", range(COURSES))
def test_weeks_of_kills_redeployments_and_two_hosts_leave_the_apis_rows(
    api: ApiServer, tmp_path: Path, host: Host, nursery: Nursery, seed: int
) -> None:
    course = Course(api, tmp_path, host, nursery, random.Random(seed))
    for _ in range(STEPS):
        course.step()
    course.finish()
    for table in ("appended", "merged"):
        rows = query(host("1"), f"SELECT id FROM shop.{table} ORDER BY id")
        assert [row[0] for row in rows] == list(range(len(course.rows))), (seed, course.told)


class Course:
    """A history of days before today, and live runs from today on, on machines that come and go."""

    def __init__(
        self, api: ApiServer, folder: Path, host: Host, nursery: Nursery, dice: random.Random
    ) -> None:
        self._folder, self._host, self._nursery, self._dice = folder, host, nursery, dice
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self._start, self._now = today - timedelta(days=DAYS), today
        self.rows: list[dict[str, Any]] = []
        self.told: list[str] = []
        for number in range(4 * DAYS):
            self._add(self._start + timedelta(hours=6 * number))
        for table in ("appended", "merged"):
            api.answers[f"/{table}"] = self._answer
        resources = self.resources(self._start)
        self._file = file_of(api, "shop", *resources)
        self._connector = make_connector(api.url, *resources)
        self._disks = 0
        self._partitions = self._find_partitions()
        self._missing = [*self._partitions]

    @staticmethod
    def resources(start: datetime) -> Sequence[dict[str, Any]]:
        """Resources with a backfill: one is appended to, the other is merged."""
        incremental = {
            "cursor_path": "at",
            "initial_value": "2020-01-01T00:00:00Z",
            "start_param": "since",
            "end_param": "until",
        }
        common = {"backfill": {"start": f"{start:%Y-%m-%d}", "partition": "daily"}}
        return [
            {"name": name, **more, **common, "endpoint": {"path": name, "incremental": incremental}}
            for name, more in [("appended", {}), ("merged", {"primary_key": "id"})]
        ]

    def step(self) -> None:
        """Let something happen to rows, machines and runs."""
        for _ in range(self._dice.randrange(4)):
            self._now += timedelta(hours=self._dice.randrange(1, 9))
            self._add(self._now)
        kind = self._dice.choice(["live", "window", "both", "killed live", "killed window", "new"])
        self.told.append(kind)
        if kind == "new":
            self._disks += 2
        elif kind.startswith("killed"):
            self._run_and_kill(window="window" in kind)
        else:
            runs = {"live": [self._live], "window": [self._window]}.get(
                kind, [self._live, self._window]
            )
            for run in [Background(one) for one in runs]:
                run.result()

    def finish(self) -> None:
        """Load what is missing, as the sensor and the schedule do."""
        self._disks += 2
        assert self._find_partitions() == self._partitions
        while self._missing:
            self._window()
        self._live()

    def _add(self, at: datetime) -> None:
        self.rows.append({"id": len(self.rows), "at": f"{at:%Y-%m-%dT%H:%M:%SZ}"})

    def _answer(self, seen: Seen) -> Any:
        since, until = seen.query["since"], seen.query.get("until") or "9999"
        return [row for row in self.rows if since <= row["at"] <= until]

    def _settings(self) -> Settings:
        return self._host(str(self._disks + self._dice.randrange(2)))

    def _plans(self, settings: Settings) -> dict[str, BackfillPlan]:
        return {plan.resource.name: plan for plan in read_backfill_plans(self._connector, settings)}

    def _find_partitions(self) -> list[tuple[str, str]]:
        plans = self._plans(self._settings())
        return [(name, key) for name, plan in plans.items() for key in plan.due_keys()]

    def _live(self) -> None:
        settings = self._settings()
        starts = read_live_start_values(self._connector, settings)
        outcomes = ingest(self._connector, settings=settings, environment={}, live_from=starts)
        _check(outcomes)

    def _next_window(self, settings: Settings) -> tuple[str, Window, Any] | None:
        if not self._missing:
            return None
        name, key = self._dice.choice(self._missing)
        plan = self._plans(settings)[name]
        return name, plan.window(key), plan.live_start_value()

    def _window(self) -> None:
        settings = self._settings()
        found = self._next_window(settings)
        if found is None:
            return
        name, window, live_from = found
        outcomes = ingest_window(
            self._connector, name, window, settings=settings, environment={}, live_from=live_from
        )
        _check(outcomes)
        self._missing.remove((name, window.start[:10]))

    def _run_and_kill(self, *, window: bool) -> None:
        settings = self._settings()
        given: dict[str, Any] = {"asked": {"live_from": dict(self._starts(settings))}}
        if window:
            found = self._next_window(settings)
            if found is None:
                return
            given = {"window": (found[0], found[1].start, found[1].end)}
        run = self._nursery.start(
            self._file,
            self._folder,
            settings=as_json(settings),
            **given,
        )
        run.wait_for("phase", self._dice.choice(["extract", "normalize", "load"]))
        run.kill()
        run.end()

    def _starts(self, settings: Settings) -> Any:
        return read_live_start_values(self._connector, settings)


def _check(outcomes: Any) -> None:
    failures: list[Outcome] = [one for one in outcomes if one.failed]
    assert failures == [], [one.failure for one in failures]
