"""Settings of dlt's that the engine gives a default, and what changes them."""

from pathlib import Path
from typing import Any

from restsource_dagster_tests.servers.api import ApiServer
from restsource_dagster_tests.telling import told_by

LOAD = """
import json, resource
from pathlib import Path
import dlt
from restsource_dagster_tests.making import load, make_connector, make_settings

def processes_ended():
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt

before = processes_ended()  # imports have started some
outcomes = load(make_connector({url!r}, "things"), make_settings(Path({folder!r})))
print(json.dumps({{
    "rows": outcomes["things"].rows_loaded,
    "starts_processes": processes_ended() > before,
    "workers": dlt.config.get("normalize.workers"),
}}))
"""


def load_with(api: ApiServer, folder: Path, **variables: str) -> Any:
    """Load in a process with these environment variables; what it tells about the load."""
    api.answers["/things"] = [{"id": 1}]
    return told_by(LOAD.format(url=api.url, folder=str(folder)), folder, variables)


def test_a_variable_workers_of_another_program_starts_no_process(
    api: ApiServer, tmp_path: Path
) -> None:
    shown = load_with(api, tmp_path, WORKERS="3")
    assert shown == {"rows": 1, "starts_processes": False, "workers": 1}


def test_the_variable_that_dlt_documents_starts_processes(api: ApiServer, tmp_path: Path) -> None:
    shown = load_with(api, tmp_path, WORKERS="3", NORMALIZE__WORKERS="2")
    assert shown == {"rows": 1, "starts_processes": True, "workers": 2}
