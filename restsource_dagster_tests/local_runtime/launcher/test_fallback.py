"""Runs that Dagster's own launcher starts in place of the warm one."""

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    CodeLocationOrigin,
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget

from restsource_dagster.local_runtime.run_launcher import is_local_run
from restsource_dagster_tests.local_runtime.launcher.project import Project
from restsource_dagster_tests.telling import ROOT

pytestmark = pytest.mark.usefixtures("plugins")


def test_a_run_takes_place_all_the_same_where_there_can_be_no_fork_server(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = ModuleTarget(
        module_name="restsource_dagster.definitions",
        attribute=None,
        working_directory=str(ROOT),
        location_name="restsource",
    )
    with WorkspaceProcessContext(project.instance, target) as workspace:
        # as in any Python, what is in this module is executed at the start
        (tmp_path / "sitecustomize.py").write_text("import os\nos._exit(1)")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        run = project.create()
        project.instance.launch_run(run.run_id, workspace.create_request_context())
        assert project.end(run.run_id).status == dg.DagsterRunStatus.SUCCESS
        told = project.engine_events(run.run_id)
        assert "Starting this run in a new process, which takes longer" in told
        assert "the fork server has ended" in told


def with_location(run: dg.DagsterRun, location: CodeLocationOrigin) -> dg.DagsterRun:
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), run.job_name)
    return run._replace(remote_job_origin=origin)


def test_only_runs_of_this_python_on_this_machine_are_forked(project: Project) -> None:
    run = project.create()
    assert is_local_run(run)
    here = GrpcServerCodeLocationOrigin(host="localhost", socket="/tmp/a-socket")  # noqa: S108
    assert is_local_run(with_location(run, here))
    elsewhere = GrpcServerCodeLocationOrigin(host="code.example.com", port=4000)
    assert not is_local_run(with_location(run, elsewhere))
    assert not is_local_run(run._replace(job_code_origin=None))
    assert not is_local_run(run._replace(remote_job_origin=None))
    code = run.job_code_origin
    assert code is not None
    place = code.repository_origin
    for other in (
        place._replace(executable_path="/usr/bin/another-python"),
        place._replace(container_image="an-image"),
    ):
        elsewhere_run = run._replace(job_code_origin=code._replace(repository_origin=other))
        assert not is_local_run(elsewhere_run)
