"""What the tests of the commands share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from restsource_dagster_tests.cli.project import Project
from restsource_dagster_tests.servers.api import ApiServer


@pytest.fixture
def shop(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    api: ApiServer,
    make_home: Callable[[Path], Path],
) -> Project:
    """A project whose shop has orders (incremental) and countries; the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("TOKEN", "t0ken")
    api.answers["/orders"] = {
        "data": [
            {"id": number, "updated_at": f"2026-11-0{number}T00:00:00Z"} for number in (1, 2, 3)
        ]
    }
    api.answers["/countries"] = {"data": [{"code": "DE"}, {"code": "FR"}]}
    project = Project(tmp_path, api)
    make_home(tmp_path / ".dagster")
    project.write_connector(
        {
            "name": "orders",
            "primary_key": "id",
            "endpoint": {
                "path": "orders",
                "incremental": {"cursor_path": "updated_at", "initial_value": "2026-01-01"},
            },
        },
        {"name": "countries", "primary_key": "code"},
    )
    return project
