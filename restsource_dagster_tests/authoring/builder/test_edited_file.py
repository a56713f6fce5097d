"""A file while it is edited: its problems, its fixes, and a save that never overwrites another's work."""

import os
from pathlib import Path

import pytest

from restsource_dagster.authoring.builder.edited_file import (
    ChangedOnDiskError,
    EditedFile,
    FileNotOpenedError,
)
from restsource_dagster.authoring.builder.text_edits import TextEditError

TEXT = """{
  "schedule": {"mode": "hour"},
  "client": {"base_url": "https://api.example.com", "auth": {"type": "bearer", "token": "s3cr3t"}},
  "resources": ["countries", {"name": "orders", "endpoint": "v1/orders"}]
}
"""


@pytest.fixture
def file(tmp_path: Path) -> EditedFile:
    path = tmp_path / "shop.json"
    path.write_text(TEXT)
    return EditedFile.open(path)


def test_problems_are_those_of_the_text_as_it_is_typed_and_are_fixed_by_a_replacement(
    file: EditedFile,
) -> None:
    assert [(one.line, file.can_fix(one)) for one in file.problems] == [(2, True), (3, False)]
    file.fix(file.problems[0])
    assert '"mode": "hours"' in file.text
    assert [one.severity for one in file.problems] == ["warning"]
    assert file.path.read_text() == TEXT
    assert file.resources == ["countries", "orders"]


def test_a_save_writes_the_whole_file_and_keeps_its_mode(file: EditedFile) -> None:
    file.path.chmod(0o640)
    file.text = file.text.replace("hour", "hours")
    assert file.is_edited
    file.save()
    assert file.path.read_text() == file.text
    assert file.path.stat().st_mode & 0o777 == 0o640
    assert not file.is_edited
    assert [one.name for one in file.path.parent.iterdir()] == ["shop.json"]


def test_a_save_is_refused_if_the_file_is_not_what_was_opened(file: EditedFile) -> None:
    theirs = TEXT.replace("countries", "cities")
    file.path.write_text(theirs)
    file.text = TEXT.replace("hour", "hours")
    with pytest.raises(ChangedOnDiskError) as refused:
        file.save()
    assert file.path.read_text() == theirs
    assert '-  "resources": ["cities"' in refused.value.diff
    assert '+  "resources": ["countries"' in refused.value.diff

    file.keep_mine()
    file.save()
    assert file.path.read_text() == file.text


def test_a_file_that_is_gone_or_new_is_not_overwritten(file: EditedFile) -> None:
    file.path.unlink()
    file.text += "\n"
    with pytest.raises(ChangedOnDiskError):
        file.save()
    new = EditedFile(file.path.with_name("new.json"), None, "{}\n")
    assert new.is_edited
    new.save()
    assert new.path.read_text() == "{}\n"
    again = EditedFile(new.path, None, "[]\n")
    with pytest.raises(ChangedOnDiskError):
        again.save()


def test_line_ends_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    path.write_bytes(TEXT.replace("\n", "\r\n").encode())
    file = EditedFile.open(path)
    assert file.text == TEXT
    file.text = TEXT.replace("hour", "hours")
    file.save()
    assert path.read_bytes() == file.text.replace("\n", "\r\n").encode()


def test_a_diff_has_no_secret(file: EditedFile) -> None:
    assert file.diff == ""
    file.text = file.text.replace("s3cr3t", "an0ther").replace("hour", "hours")
    assert '+  "schedule": {"mode": "hours"},' in file.diff
    assert "s3cr3t" not in file.diff
    assert "an0ther" not in file.diff
    file.revert()
    assert (file.text, file.diff) == (TEXT, "")


def test_names_and_paths_become_objects_when_something_is_put_into_them(file: EditedFile) -> None:
    file.put("countries", "endpoint.data_selector", "data")
    file.put("orders", "endpoint.data_selector", "rows")
    file.put("orders", "primary_key", "id")
    resources = file.value_at(("resources",))
    assert resources == [
        {"name": "countries", "endpoint": {"path": "countries", "data_selector": "data"}},
        {
            "name": "orders",
            "endpoint": {"path": "v1/orders", "data_selector": "rows"},
            "primary_key": "id",
        },
    ]
    file.put("orders", "endpoint.data_selector", None)
    assert file.in_resource("orders", "endpoint") == {"path": "v1/orders"}
    with pytest.raises(TextEditError, match="template"):
        file.put("users", "primary_key", "id")


def test_a_file_that_can_not_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(FileNotOpenedError, match="there is no"):
        EditedFile.open(tmp_path / "no.json")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(FileNotOpenedError, match="not a file"):
        EditedFile.open(tmp_path / "pipe.json")
