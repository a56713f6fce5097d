"""Files that are written whole: the old content or the new one."""

import stat
from pathlib import Path

import pytest

from restsource_dagster.whole_file import write_file_whole


def test_a_file_is_replaced_and_keeps_its_permissions(tmp_path: Path) -> None:
    file = tmp_path / "shop.json"
    file.write_text("old")
    file.chmod(0o640)
    write_file_whole(file, b"new")
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [file]


def test_a_new_file_has_the_permissions_that_are_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "token.json"
    write_file_whole(file, b"secret", 0o600)
    assert file.read_bytes() == b"secret"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_can_not_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):
        write_file_whole(folder, b"content")
    assert list(tmp_path.iterdir()) == [folder]
