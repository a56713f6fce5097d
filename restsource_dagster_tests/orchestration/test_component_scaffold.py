"""What `dg scaffold defs` writes from a template and from a URL; `test_stranger_project` calls it by `dg`."""

import json
from pathlib import Path

import dagster as dg
import pytest

from restsource_dagster.components import RestSourceComponent
from restsource_dagster.connector.loader import load_folder
from restsource_dagster_tests.servers.api import ApiServer


def scaffold(folder: Path, **params: object) -> dict[str, object]:
    """Scaffold a component in a folder; return the connector file, which `defs.yaml` names."""
    from restsource_dagster.components import _Scaffolder, _ScaffoldParams

    folder.mkdir()
    name = f"restsource_dagster.{RestSourceComponent.__name__}"
    given = _ScaffoldParams.model_validate(params)
    _Scaffolder().scaffold(dg.ScaffoldRequest(name, folder, "yaml", None, given))
    file = folder / f"{folder.name}.json"
    assert f"path: {file.name}" in (folder / "defs.yaml").read_text()
    loaded = next(one for one in load_folder(folder).files if one.path.name == file.name)
    assert [problem for problem in loaded.problems if problem.severity == "error"] == []
    written: dict[str, object] = json.loads(file.read_text())
    return written


def test_a_component_begins_with_a_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = ["owner=dlt-hub", "repo=dlt", "token=${GITHUB_TOKEN}"]
    written = scaffold(tmp_path / "hub", template="github", inputs=inputs)
    assert written["template"] == "github"
    assert written["inputs"] == {"owner": "dlt-hub", "repo": "dlt", "token": "${GITHUB_TOKEN}"}


def test_a_component_begins_with_a_url(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    api.answers["/things"] = [{"id": 1, "a": "x"}, {"id": 2, "a": "y"}]
    written = scaffold(tmp_path / "shop", url=f"{api.url}/things")
    assert written["client"] == {"base_url": api.url}
    assert "things" in str(written["resources"])
