"""With a Dagster that it wasn't tested with, the local runtime leaves its place to Dagster's own parts."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from restsource_dagster.local_runtime import VERSIONS_VARIABLE
from restsource_dagster.local_runtime.dagster_internals import (
    REQUIRED_ATTRIBUTES,
    find_missing_name,
    has_attribute,
)
from restsource_dagster_tests.telling import ROOT

WARNING = "The run launcher, storage and queue of restsource-dagster are off"
DAGSTERS_OWN = ["DefaultRunLauncher", "QueuedRunCoordinator", "DagsterSqliteStorage"]
OURS = ["WarmRunLauncher", "QuickRunCoordinator", "OpenSqliteStorage"]
SHIPPED = ROOT / ".dagster" / "dagster.yaml"


def run_a_connector(folder: Path, **environment: str) -> tuple[dict[str, Any], str]:
    """Run a connector with the shipped dagster.yaml; what took part, and standard error."""
    (folder / "configs").mkdir()
    (folder / "home").mkdir()
    shutil.copy(SHIPPED, folder / "home")
    done = subprocess.run(
        [sys.executable, "-m", "restsource_dagster_tests.local_runtime.running"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "answer.json").read_text()), done.stderr


def test_a_run_succeeds_on_dagsters_own_parts_and_one_line_says_so(tmp_path: Path) -> None:
    answer, errors = run_a_connector(tmp_path, **{VERSIONS_VARIABLE: "1.0, 1.1"})
    assert answer == {"status": "SUCCESS", "parts": DAGSTERS_OWN}
    assert errors.count(WARNING) == 1
    assert f"they are tested with Dagster 1.0, 1.1, and this is {dg.__version__}" in errors


def test_an_empty_list_of_versions_switches_it_off(tmp_path: Path) -> None:
    code = "from restsource_dagster import local_runtime as l; print(l.WarmRunLauncher.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {VERSIONS_VARIABLE: ""},
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.strip() == "DefaultRunLauncher"
    assert "tested with Dagster none" in done.stderr


@pytest.mark.usefixtures("plugins")
def test_the_shipped_parts_are_used_with_a_tested_dagster_and_nothing_is_said(
    tmp_path: Path,
) -> None:
    answer, errors = run_a_connector(tmp_path)
    assert answer == {"status": "SUCCESS", "parts": OURS}
    assert WARNING not in errors


@pytest.mark.usefixtures("plugins")
def test_all_names_can_be_imported() -> None:
    assert find_missing_name() is None


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    ("owner", "name"),
    [(owner, name) for owner, names in REQUIRED_ATTRIBUTES.items() for name in names],
)
def test_dagster_has(owner: str, name: str) -> None:
    assert has_attribute(owner, name)
