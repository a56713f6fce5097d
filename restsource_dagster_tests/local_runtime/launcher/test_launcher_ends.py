"""The fork server and its runs when the process that launched them ends."""

import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest
from dagster._core.launcher.base import LaunchRunContext

from restsource_dagster.local_runtime.run_launcher import WarmRunLauncher
from restsource_dagster_tests.local_runtime.launcher.project import Project
from restsource_dagster_tests.processes import is_running, wait_until_gone

pytestmark = pytest.mark.usefixtures("plugins")


@contextmanager
def launching() -> Iterator[tuple["subprocess.Popen[str]", Any]]:
    """Another process that has launched a run, and what it tells."""
    command = [sys.executable, "-m", "restsource_dagster_tests.local_runtime.launcher.launching"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        yield process, json.loads(process.stdout.readline())
        process.kill()


def test_a_run_goes_on_when_the_launcher_is_killed_and_the_fork_server_ends_with_it(
    project: Project,
) -> None:
    with project.gate() as gate, launching() as (process, told):
        gate.wait_until_reached()
        process.kill()
        process.wait()
        gate.open()
        assert project.end(told["run"]).status == dg.DagsterRunStatus.SUCCESS
        wait_until_gone(told["server"])


def test_nothing_is_left_when_a_launcher_without_runs_comes_to_its_end(project: Project) -> None:
    with launching() as (process, told):
        project.end(told["run"])
        assert is_running(told["server"])
        process.communicate()
        assert process.returncode == 0
        wait_until_gone(told["server"])


def test_a_launcher_that_is_disposed_of_lets_its_run_come_to_an_end(project: Project) -> None:
    with project.gate() as gate:
        run_id = project.launch()
        server = project.server_pid
        gate.wait_until_reached()
        project.launcher.dispose()
        assert is_running(server)
    assert project.end(run_id).status == dg.DagsterRunStatus.SUCCESS
    wait_until_gone(server)


def test_a_launcher_that_nobody_has_any_more_leaves_no_fork_server(project: Project) -> None:
    run = project.create()
    # as two threads get two when they ask the instance for its launcher at the same moment
    launcher = WarmRunLauncher()
    launcher.register_instance(project.instance)
    launcher.launch_run(LaunchRunContext(run, None))
    assert launcher.server is not None
    server = launcher.server.pid
    assert project.end(run.run_id).status == dg.DagsterRunStatus.SUCCESS
    del launcher
    gc.collect()
    wait_until_gone(server)
