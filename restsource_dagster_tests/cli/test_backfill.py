"""`restsource backfill`: a range of a cursor in windows, here or through the daemon's queue."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat

from restsource_dagster.cli.app import main
from restsource_dagster.cli.execution import _HEARTBEAT_SECONDS
from restsource_dagster.orchestration.sensors.killed_runs import RunProcess, process_tag
from restsource_dagster_tests.cli.project import Project
from restsource_dagster_tests.cli.runner import invoke, start
from restsource_dagster_tests.cli.stock import ROWS, answer_orders, ids, write_stock
from restsource_dagster_tests.servers.api import Answer, Seen
from restsource_dagster_tests.zygote import StartedProcess

RANGE = ("--from", "2024-01-02", "--to", "2024-01-04")
QUEUE = "QUEUED_RUN_COORDINATOR"


@pytest.fixture
def stock(shop: Project) -> Project:
    write_stock(shop)
    return shop


@contextmanager
def daemon(project: Project) -> Iterator[dg.DagsterInstance]:
    """An instance that a daemon looks after; it does so only as far as its heart beats."""
    with project.instance() as instance:
        in_an_hour = time.time() + 3600  # a heart that beats on for as long as the test takes
        instance.add_daemon_heartbeat(
            DaemonHeartbeat(timestamp=in_an_hour, daemon_type=QUEUE, daemon_id="x")
        )
        yield instance


def test_dry_run_shows_the_windows_newest_first_and_stops_there(stock: Project) -> None:
    result = invoke("backfill", "shop", "orders", *RANGE, "--dry-run")
    assert result.exit_code == 0
    first, second = [line for line in result.stdout.splitlines() if line.startswith(" 2024")]
    assert first.split()[:3] == ["2024-01-03", "2024-01-03T00:00:00Z", "2024-01-04T00:00:00Z"]
    assert second.split()[0] == "2024-01-02"
    assert "a partition of the backfill" in first
    assert result.stdout.splitlines()[-1] == "2 windows. Nothing was started."
    assert stock.runs() == []


def test_windows_of_the_history_are_loaded_as_its_partitions(stock: Project) -> None:
    result = invoke("backfill", "shop", "orders", *RANGE)
    assert result.exit_code == 0, result.output
    assert "No Dagster daemon is running" in result.stderr
    assert "2024-01-03: loaded, 4 rows" in result.stderr
    assert result.stdout.splitlines()[-1] == "2 windows: 2 loaded; 8 rows"
    assert ids(stock) == list(range(4, 12))
    with stock.instance() as instance:
        key = dg.AssetKey(["shop", "orders_history"])
        assert instance.get_materialized_partitions(key) == {"2024-01-02", "2024-01-03"}
    newest, oldest = reversed(stock.runs())
    assert newest.job_name == oldest.job_name == "shop__orders_history_job"
    assert (newest.tags["restsource/window"], oldest.tags["restsource/window"]) == (
        "2024-01-03",
        "2024-01-02",
    )
    assert newest.remote_job_origin is not None
    assert newest.remote_job_origin.location_name == "restsource"


def test_other_windows_are_runs_of_the_connectors_job_and_leave_its_cursor(stock: Project) -> None:
    result = invoke("backfill", "shop", "orders", *RANGE, "--window", "36h", "--json")
    told = json.loads(result.stdout)
    assert [window["partition"] for window in told["windows"]] == [None, None]
    assert [window["rows_loaded"] for window in told["windows"]] == [2, 6]
    assert ids(stock) == list(range(4, 12))
    run = stock.runs()[0]
    assert run.job_name == "shop_job"
    assert run.tags["restsource/trigger"] == "backfill"
    assert run.tags["restsource/window"] == "2024-01-02T00:00:00Z..2024-01-03T12:00:00Z"
    invoke("run", "shop", "orders")
    assert stock.api.asked("/orders")[-1].query["since"] == "2024-01-05T00:00:00Z"


def test_a_cursor_that_counts_up_needs_no_block(stock: Project) -> None:
    asked = ("--from", "3", "--to", "17", "--window", "5", "--json")
    result = invoke("backfill", "shop", "numbers", *asked)
    told = json.loads(result.stdout)
    assert [(w["from"], w["to"]) for w in told["windows"]] == [(13, 17), (8, 13), (3, 8)]
    assert ids(stock, "numbers") == list(range(3, 17))


def test_a_failed_window_is_told_and_the_others_are_loaded(stock: Project) -> None:
    answer = stock.api.answers["/orders"]

    def broken(seen: Seen) -> object:
        third = seen.query["since"].startswith("2024-01-03")
        return Answer({"error": "gone"}, status=410) if third else answer(seen)

    stock.api.answers["/orders"] = broken
    result = invoke("backfill", "shop", "orders", *RANGE, "--wait")
    assert result.exit_code == 1
    assert "2024-01-03: 1 of 1 resources of shop were not loaded." in result.stdout
    assert "410" in result.stdout
    assert "t0ken" not in result.output
    assert result.stdout.splitlines()[-1] == "2 windows: 1 failed, 1 loaded; 4 rows"
    assert ids(stock) == list(range(4, 8))


def test_without_an_instance_it_works_and_says_that_it_is_not_recorded(stock: Project) -> None:
    shutil.rmtree(stock.folder / ".dagster")
    result = invoke("backfill", "shop", "orders", *RANGE)
    assert result.exit_code == 0, result.output
    assert "Not recorded" in result.stderr
    assert ids(stock) == list(range(4, 12))


def test_with_a_daemon_the_windows_are_put_into_its_queue(stock: Project) -> None:
    with daemon(stock) as instance:
        result = invoke("backfill", "shop", "orders", *RANGE)
        assert result.exit_code == 0, result.output
        assert "2 of 2 windows put into the queue" in result.stdout
        runs = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))
        assert {run.tags["dagster/partition"] for run in runs} == {"2024-01-02", "2024-01-03"}
        assert all(run.tags["dagster/priority"] == "-1" for run in runs)
        assert stock.api.seen == []
        again = invoke("backfill", "shop", "orders", *RANGE)
        assert "2024-01-03 is in progress already" in again.stderr
        assert "0 of 2 windows put into the queue" in again.stdout


def test_windows_canceled_in_the_queue_are_loaded_again_without_a_daemon(stock: Project) -> None:
    with daemon(stock) as instance:
        invoke("backfill", "shop", "orders", *RANGE)
        for run in instance.get_runs():
            instance.report_run_canceled(run)
        instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - 999, QUEUE, "x"))
    result = invoke("backfill", "shop", "orders", *RANGE, "--wait")
    assert "No Dagster daemon is running" in result.stderr
    assert result.stdout.splitlines()[-1] == "2 windows: 2 loaded; 8 rows"


def test_a_terminal_shows_how_many_have_ended(
    stock: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "yes")  # to rich, any output is then a terminal
    assert main(["backfill", "shop", "orders", *RANGE, "--wait"]) == 0
    shown = capfd.readouterr().err
    assert "2/2" in shown
    assert "0 failed  8 rows" in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["shpo", "orders", *RANGE], "did you mean shop?"),
        (["shop", "ordrs", *RANGE], "did you mean orders?"),
        (["shop", "countries", *RANGE], "incremental cursor"),
        (["shop", "lines", *RANGE], "Ask for orders"),
        (["shop", "orders", "--from", "2024-01-02", "--to", "2024-01-01"], "nothing from"),
        (["shop", "orders", "--from", "yesterday", "--to", "2024-01-01"], "the cursor is a time"),
        (["shop", "orders", *RANGE, "--window", "5m"], "Minutes are `min`"),
        (["shop", "orders", "--from", "2024-01-01"], "--to"),
    ],
)
def test_wrong_usage_is_told_and_nothing_is_asked(
    stock: Project, arguments: list[str], says: str
) -> None:
    result = invoke("backfill", *arguments)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())
    assert stock.runs() == []
    assert stock.api.seen == []
    assert ROWS


def test_a_killed_backfill_does_not_block_its_window(stock: Project) -> None:
    answer = answer_orders(ROWS)
    killed: list[StartedProcess] = []

    def kill(seen: Seen) -> dict[str, Any]:
        if killed and len(stock.api.seen) == 2:
            killed.pop().kill()
        return answer(seen)

    stock.api.answers["/orders"] = kill
    process = start("backfill", "shop", "orders", *RANGE, folder=stock.folder)
    killed.append(process)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert ids(stock) == list(range(8, 12))
    history = json.loads(invoke("history", "shop", "--json").stdout)
    assert history["histories"][0]["in_progress"]["windows"] == 0
    again = invoke("backfill", "shop", "orders", *RANGE)
    assert again.exit_code == 0, again.output
    assert "in progress already" not in again.output
    assert ids(stock) == list(range(4, 12))


@contextmanager
def window_in_progress(project: Project, window: str, process: str) -> Iterator[dg.DagsterRun]:
    """A run of a window that another process has begun."""
    with project.instance() as instance:
        tags = {
            "restsource/history": "shop/orders",
            "restsource/window": window,
            "restsource/process": process,
        }
        run = instance.create_run_for_job(nothing, tags=tags)
        began = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, job_name="nothing")
        instance.report_dagster_event(began, run_id=run.run_id)
        yield run


@dg.job
def nothing() -> None: ...


def test_a_window_that_another_process_loads_is_not_counted_as_loaded(stock: Project) -> None:
    with window_in_progress(stock, "2024-01-03", process_tag()) as run:
        result = invoke("backfill", "shop", "orders", *RANGE)
        as_json = invoke("backfill", "shop", "orders", *RANGE, "--json")
    assert result.exit_code == as_json.exit_code == 1
    assert f"2024-01-03: not loaded by this command: run {run.run_id}" in result.stdout
    assert result.stdout.splitlines()[-1] == "2 windows: 1 loaded, 1 in progress; 4 rows"
    newest, oldest = json.loads(as_json.stdout)["windows"]
    assert (newest["status"], newest["run_id"]) == ("in progress", run.run_id)
    assert oldest["status"] == "loaded"


def test_waiting_ends_when_the_daemon_is_gone(stock: Project) -> None:
    with daemon(stock) as instance:
        invoke("backfill", "shop", "orders", *RANGE)
        # old enough for nobody to wait for it once this test has slept for no time at all
        last = time.time() - _HEARTBEAT_SECONDS + 2
        instance.add_daemon_heartbeat(DaemonHeartbeat(last, QUEUE, "x"))
        result = invoke("backfill", "shop", "orders", *RANGE, "--wait")
    assert result.exit_code == 1
    assert "2024-01-03: not loaded by this command" in result.stdout


def test_waiting_ends_when_the_process_of_a_run_is_gone(stock: Project) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    tag = RunProcess.of(process.pid).tag
    day = ("--from", "2024-01-03", "--to", "2024-01-04")
    with daemon(stock), window_in_progress(stock, "2024-01-03", tag):
        Timer(1, lambda: process.communicate(b"end\n")).start()
        result = invoke("backfill", "shop", "orders", *day, "--wait")
    assert result.exit_code == 1
    assert "is gone" in result.stdout


def test_the_list_of_connectors_shows_a_killed_run_as_failed(stock: Project) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    tag = RunProcess.of(process.pid).tag
    process.wait()
    with stock.instance() as instance:
        tags = {"restsource/connector": "shop", "restsource/process": tag}
        run = instance.create_run_for_job(nothing, tags=tags)
        began = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, job_name="nothing")
        instance.report_dagster_event(began, run_id=run.run_id)
    listed = json.loads(invoke("list", "--json").stdout)
    assert listed["connectors"][0]["last_run"]["status"] == "FAILURE"
