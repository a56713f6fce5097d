"""A project to launch runs in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from restsource_dagster_tests.local_runtime.launcher.project import Project, open_project
from restsource_dagster_tests.telling import ROOT


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The current folder as a project; other processes find our modules from there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with open_project(tmp_path) as opened:
        yield opened
