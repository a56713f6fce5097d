"""Launches a run of the current folder's project, writes its id and the fork server's, and waits."""

import json
import sys
from pathlib import Path

import dagster as dg

from restsource_dagster_tests.local_runtime.launcher.project import Project
from restsource_dagster_tests.servers.api import ApiServer


def main() -> None:
    """Write one line of JSON to standard output; end with standard input."""
    with dg.DagsterInstance.from_config(str(Path("home"))) as instance:
        project = Project(instance, ApiServer())
        run_id = project.launch()
        sys.stdout.write(json.dumps({"run": run_id, "server": project.server_pid}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
