"""What the page keeps: the list of connectors, and what is typed, also when the page is loaded again."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from restsource_dagster.authoring.builder.workspace import (
    ConnectorRuns,
    NameTakenError,
    Workspace,
)
from restsource_dagster.connector.loader import LoadedFolder
from restsource_dagster_tests.making import make_settings

VALUE = {
    "schedule": {"mode": "hours"},
    "client": {"base_url": "https://api.example.com"},
    "resources": ["orders"],
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    settings = make_settings(tmp_path)
    settings.configs.mkdir()
    for name, value in (("shop", VALUE), ("broken", {**VALUE, "schedule": {"mode": "hour"}})):
        (settings.configs / f"{name}.json").write_text(json.dumps(value))

    def read_runs(folder: LoadedFolder) -> Mapping[str, ConnectorRuns]:
        return {one.name: ConnectorRuns("SUCCESS") for one in folder.connectors}

    return Workspace(settings, read_runs, dict)


def test_files_are_listed_with_their_problems_and_runs(workspace: Workspace) -> None:
    broken, shop = workspace.list_files()
    assert (broken.name, broken.errors, broken.runs) == ("broken", 1, None)
    assert (shop.name, shop.errors, shop.runs) == ("shop", 0, ConnectorRuns("SUCCESS"))


def test_what_is_typed_is_there_after_the_file_is_opened_again(workspace: Workspace) -> None:
    path = workspace.paths[1]
    file = workspace.open(path)
    file.text += "\n"
    assert workspace.open(path) is file
    assert workspace.is_unsaved(path)
    assert workspace.preview_of(file) is workspace.preview_of(file)
    workspace.forget(file)
    assert not workspace.open(path).is_edited


def test_a_file_that_was_not_edited_is_read_again(workspace: Workspace) -> None:
    path = workspace.paths[1]
    assert "orders" in workspace.open(path).text
    path.write_text("{}")
    assert workspace.open(path).text == "{}"


def test_a_new_file_has_a_name_of_its_own_and_is_not_on_disk_until_it_is_saved(
    workspace: Workspace,
) -> None:
    file = workspace.add("crm", "{}\n")
    assert not file.path.exists()
    assert file.path in workspace.paths
    assert workspace.open(file.path) is file
    for name in ("crm", "shop", "Shop", "../x", ""):
        with pytest.raises(NameTakenError):
            workspace.add(name, "{}")
    file.save()
    assert file.path.read_text() == "{}\n"
