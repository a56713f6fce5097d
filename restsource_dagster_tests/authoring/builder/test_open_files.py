"""What the page keeps: the list of connectors, and what is typed, also when the page is loaded again."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from restsource_dagster.authoring.builder.open_files import (
    NameTakenError,
    OpenFiles,
    RunTimes,
)
from restsource_dagster.connector.loader import LoadedFolder
from restsource_dagster_tests.making import make_settings

VALUE = {
    "schedule": {"mode": "hours"},
    "client": {"base_url": "https://api.example.com"},
    "resources": ["orders"],
}


@pytest.fixture
def open_files(tmp_path: Path) -> OpenFiles:
    settings = make_settings(tmp_path)
    settings.configs.mkdir()
    for name, value in (("shop", VALUE), ("broken", {**VALUE, "schedule": {"mode": "hour"}})):
        (settings.configs / f"{name}.json").write_text(json.dumps(value))

    def read_runs(folder: LoadedFolder) -> Mapping[str, RunTimes]:
        return {one.name: RunTimes("SUCCESS") for one in folder.connectors}

    return OpenFiles(settings, read_runs, dict)


def test_files_are_listed_with_their_problems_and_runs(open_files: OpenFiles) -> None:
    broken, shop = open_files.list_files()
    assert (broken.name, broken.errors, broken.runs) == ("broken", 1, None)
    assert (shop.name, shop.errors, shop.runs) == ("shop", 0, RunTimes("SUCCESS"))


def test_what_is_typed_is_there_after_the_file_is_opened_again(open_files: OpenFiles) -> None:
    path = open_files.paths[1]
    file = open_files.open(path)
    file.text += "\n"
    assert open_files.open(path) is file
    assert open_files.is_unsaved(path)
    assert open_files.preview_of(file) is open_files.preview_of(file)
    open_files.forget(file)
    assert not open_files.open(path).is_edited


def test_a_file_that_was_not_edited_is_read_again(open_files: OpenFiles) -> None:
    path = open_files.paths[1]
    assert "orders" in open_files.open(path).text
    path.write_text("{}")
    assert open_files.open(path).text == "{}"


def test_a_new_file_has_a_name_of_its_own_and_is_not_on_disk_until_it_is_saved(
    open_files: OpenFiles,
) -> None:
    file = open_files.add("crm", "{}\n")
    assert not file.path.exists()
    assert file.path in open_files.paths
    assert open_files.open(file.path) is file
    for name in ("crm", "shop", "Shop", "../x", ""):
        with pytest.raises(NameTakenError):
            open_files.add(name, "{}")
    file.save()
    assert file.path.read_text() == "{}\n"
