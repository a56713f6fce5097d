"""Runs that are forked from a process which has everything imported."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.launcher.base import WorkerStatus

from restsource_dagster.orchestration.names import TAG_PROCESS
from restsource_dagster.orchestration.sensors.killed_runs import RunProcess, process_tag
from restsource_dagster_tests.local_runtime.launcher.project import Project, open_project
from restsource_dagster_tests.making import make_settings, query
from restsource_dagster_tests.processes import wait_until_gone

pytestmark = pytest.mark.usefixtures("plugins")

Status = dg.DagsterRunStatus


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("warm")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with open_project(folder) as opened:
            yield opened


def process_of(run: dg.DagsterRun) -> RunProcess:
    process = RunProcess.of_run(run)
    assert process is not None
    return process


def test_a_run_loads_its_rows_in_a_process_that_the_fork_server_made(project: Project) -> None:
    with project.gate() as gate:
        run_id = project.launch()
        gate.wait_until_reached()
        process = process_of(project.started(run_id))
        assert psutil.Process(process.pid).ppid() == project.server_pid
    assert project.end(run_id).status == Status.SUCCESS
    wait_until_gone(process.pid)


def test_runs_are_processes_of_their_own_from_one_fork_server(project: Project) -> None:
    first = project.end(project.launch())
    server = project.server_pid
    second = project.end(project.launch())
    assert (first.status, second.status) == (Status.SUCCESS, Status.SUCCESS)
    assert process_of(first).pid != process_of(second).pid
    assert project.server_pid == server


def test_a_run_reads_its_file_and_the_environment_file_anew(project: Project) -> None:
    project.end(project.launch())
    server = project.server_pid
    project.api.answers["/goods"] = [{"id": 1}, {"id": 2}]
    path = project.write_connector()
    goods = {"name": "goods", "endpoint": {"path": "${WHAT}"}}
    path.write_text(json.dumps({**json.loads(path.read_text()), "resources": [goods]}))
    Path(".env").write_text("WHAT=goods\n")
    run = project.end(project.launch())
    project.write_connector()
    assert run.status == Status.SUCCESS
    assert project.server_pid == server
    assert query(make_settings(Path()), "select count(*) from shop.goods") == [(2,)]


def test_a_run_that_is_terminated_is_canceled_and_its_process_ends(project: Project) -> None:
    with project.gate() as gate:
        run_id = project.launch()
        gate.wait_until_reached()
        process = process_of(project.started(run_id))
        # as the webserver does it, which has an instance of its own
        with dg.DagsterInstance.from_config(str(Path("home"))) as webserver:
            assert webserver.run_launcher.terminate(run_id)
        assert project.end(run_id).status == Status.CANCELED
        wait_until_gone(process.pid)
        assert not project.launcher.terminate(run_id)


def test_a_run_whose_process_is_killed_is_failed_at_once_and_says_how(project: Project) -> None:
    with project.gate() as gate:
        run_id = project.launch()
        gate.wait_until_reached()
        os.kill(process_of(project.started(run_id)).pid, signal.SIGKILL)
        assert project.end(run_id).status == Status.FAILURE
    assert "killed by SIGKILL" in project.failure(run_id)
    assert "Nothing is lost" in project.failure(run_id)


def test_a_fork_server_that_was_killed_is_replaced(project: Project) -> None:
    project.end(project.launch())
    killed = project.server_pid
    os.kill(killed, signal.SIGKILL)
    wait_until_gone(killed)
    assert project.end(project.launch()).status == Status.SUCCESS
    assert project.server_pid != killed


def test_run_monitoring_sees_whether_a_process_is_alive(project: Project) -> None:
    with project.gate() as gate:
        run_id = project.launch()
        gate.wait_until_reached()
        alive = project.launcher.check_run_worker_health(project.started(run_id))
    project.end(run_id)
    wait_until_gone(process_of(project.run(run_id)).pid)
    ended = project.launcher.check_run_worker_health(project.run(run_id))
    assert (alive.status, ended.status) == (WorkerStatus.RUNNING, WorkerStatus.FAILED)
    assert "is gone" in str(ended)


@pytest.mark.parametrize("tag", ["elsewhere:1:1", "", "no process"])
def test_a_process_that_cant_be_looked_up_is_taken_to_be_alive(project: Project, tag: str) -> None:
    run = project.create()
    project.instance.add_run_tags(run.run_id, {TAG_PROCESS: tag})
    health = project.launcher.check_run_worker_health(project.run(run.run_id))
    assert health.status == WorkerStatus.RUNNING


def test_no_other_process_is_ever_interrupted_whatever_a_runs_tag_says(project: Project) -> None:
    run = project.create()
    project.instance.add_run_tags(run.run_id, {TAG_PROCESS: process_tag()})
    assert not project.launcher.terminate(run.run_id)


def test_a_run_of_another_host_has_to_be_terminated_there(project: Project) -> None:
    run = project.create()
    project.instance.add_run_tags(run.run_id, {TAG_PROCESS: "elsewhere:1:1"})
    assert not project.launcher.terminate(run.run_id)
    assert "is executed on elsewhere" in project.engine_events(run.run_id)


class JustEnded(RunProcess):
    """A process that ends right after it was looked up."""

    @property
    def os_process(self) -> psutil.Process:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
            return psutil.Process(process.pid)


def test_a_run_whose_process_ends_while_it_is_being_terminated_is_canceled(
    project: Project,
) -> None:
    run = project.create()
    assert project.launcher.interrupt(run, JustEnded.of(os.getpid()))
    assert project.run(run.run_id).status == Status.CANCELED


def test_a_run_whose_process_is_gone_can_be_terminated(project: Project) -> None:
    with project.gate() as gate:
        run_id = project.launch()
        gate.wait_until_reached()
        process = process_of(project.started(run_id))
    project.end(run_id)
    wait_until_gone(process.pid)
    forgotten = project.create()
    project.instance.add_run_tags(forgotten.run_id, {TAG_PROCESS: process.tag})
    assert project.launcher.terminate(forgotten.run_id)
    assert project.run(forgotten.run_id).status == Status.CANCELED
