"""Runs a connector of the current folder through its Dagster instance, and says which parts took part.

A process of its own, because a process decides once whether the local runtime works with its Dagster.
"""

import json
from pathlib import Path

import dagster as dg
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget

from restsource_dagster_tests.local_runtime.launcher.project import Project
from restsource_dagster_tests.servers.api import ApiServer
from restsource_dagster_tests.telling import ROOT


def main() -> None:
    """Write `answer.json`: Dagster's processes write to standard output, too."""
    target = ModuleTarget(
        module_name="restsource_dagster.definitions",
        attribute=None,
        working_directory=str(ROOT),
        location_name="restsource",
    )
    with (
        ApiServer({"/orders": [{"id": 1}]}) as api,
        dg.DagsterInstance.from_config(str(Path("home"))) as instance,
        WorkspaceProcessContext(instance, target) as workspace,
    ):
        project = Project(instance, api)
        project.write_connector()
        run = project.create()
        instance.launch_run(run.run_id, workspace.create_request_context())
        ended = project.end(run.run_id)
        storage = instance.get_ref().storage
        parts = (instance.run_launcher, instance.run_coordinator, storage)
        answer = {"status": ended.status.value, "parts": [type(part).__name__ for part in parts]}
    Path("answer.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
