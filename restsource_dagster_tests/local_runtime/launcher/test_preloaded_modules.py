"""What runs import is imported before they are forked."""

import os
import subprocess
import sys

import pytest
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import serialize_value

from restsource_dagster_tests.local_runtime.launcher.project import Project

pytestmark = pytest.mark.usefixtures("plugins")

CODE = """
import sys
from restsource_dagster.local_runtime.fork_server import import_run_modules, count_threads
import_run_modules()
threads, before = count_threads(), set(sys.modules)
from dagster._cli.api import api_cli
api_cli.main(args=["execute_run", sys.argv[1]], standalone_mode=False)
print(threads, *sorted(set(sys.modules) - before))
"""
COSTLY = (
    "alembic",
    "sqlalchemy",
    "duckdb",
    "pyarrow",
    "restsource_dagster",
    "dagster._core.storage",
)


def test_a_run_imports_nothing_costly_of_its_own(project: Project) -> None:
    run = project.create()
    arguments = ExecuteRunArgs(
        job_origin=run.job_code_origin,  # type: ignore[arg-type]  # it has one
        run_id=run.run_id,
        instance_ref=project.instance.get_ref(),
    )
    ended = subprocess.run(
        [sys.executable, "-c", CODE, serialize_value(arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"DAGSTER_RUN_JOB_NAME": run.job_name},
    )
    assert ended.returncode == 0, ended.stderr
    threads, *imported = ended.stdout.splitlines()[-1].split()
    assert threads == "1"
    assert project.run(run.run_id).is_success
    assert [name for name in imported if name.startswith(COSTLY)] == []
