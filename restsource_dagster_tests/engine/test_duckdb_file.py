"""A DuckDB file is made as a whole, only its user reads it, and nothing else in its place is touched."""

import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from restsource_dagster.engine.destination.warehouse import (
    DuckDBFile,
    FileState,
    open_duckdb_file,
    read_file_state,
)
from restsource_dagster.engine.errors import IngestError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "warehouse.duckdb"


@pytest.fixture(scope="module")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The content of a new database."""
    made = tmp_path_factory.mktemp("new") / "new.duckdb"
    duckdb.connect(str(made)).close()
    return made.read_bytes()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("size", [0, 4096, 8192, 12288])
@pytest.mark.parametrize("filled_up", [False, True])
@pytest.mark.parametrize("zeros", [False, True])
def test_a_file_that_was_never_finished_is_put_aside(
    path: Path, new_database: bytes, size: int, *, filled_up: bool, zeros: bool
) -> None:
    content = bytes(size) if zeros else new_database[:size]
    put(path, content.ljust(len(new_database), b"\0") if filled_up else content)
    is_whole = path.read_bytes() == new_database
    with open_duckdb_file(path) as connection:
        connection.execute("CREATE TABLE here (id INTEGER)")
    assert path.with_name("warehouse.duckdb.unfinished").exists() == (not is_whole)
    assert read_file_state(path) is FileState.DATABASE


def test_a_killed_process_leaves_no_half_file(path: Path) -> None:
    """Killed at any of its writes, also of the new file beside."""
    code = f"""
import os, sys, threading
from pathlib import Path
from restsource_dagster.engine.destination.warehouse import open_duckdb_file
threading.Timer(float(sys.argv[1]), os.kill, (os.getpid(), 9)).start()
while True:
    Path({str(path)!r}).unlink(missing_ok=True)
    open_duckdb_file(Path({str(path)!r})).close()
"""
    for seconds in ("0.11", "0.23", "0.37"):
        subprocess.run([sys.executable, "-c", code, seconds], check=False)
        state = read_file_state(path) if path.parent.exists() else FileState.MISSING
        assert state in (FileState.MISSING, FileState.DATABASE)
        open_duckdb_file(path).close()


def test_a_file_that_was_made_just_now_holds_nothing(path: Path) -> None:
    file = DuckDBFile(path)
    assert file.make()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not file.make()
    with open_duckdb_file(path):
        assert not file.make()
    path.unlink()
    # the rows of a database that was deleted without its log
    path.with_name(f"{path.name}.wal").write_bytes(b"rows")
    assert not file.make()


def sqlite_file(path: Path) -> bytes:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE kept (id)")
    connection.close()
    return path.read_bytes()


def test_any_other_file_is_left_as_it_is_and_named(
    path: Path, new_database: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # where DuckDB would keep extensions
    others = {
        "text": b"id,name\n1,not to be lost\n" * 400,
        "short text": b"x",
        "SQLite": sqlite_file(tmp_path / "other.sqlite"),
        "many zeros": bytes(50_000),
        "zeros, then text": bytes(8192) + b"not to be lost",
    }
    for what, content in others.items():
        put(path, content)
        with pytest.raises(IngestError, match=r"warehouse\.duckdb is not a DuckDB database"):
            open_duckdb_file(path)
        assert path.read_bytes() == content, what
    assert not (tmp_path / "home").exists()


def test_a_file_whose_rows_are_in_the_log_is_not_touched(path: Path, new_database: bytes) -> None:
    put(path, new_database[:8192])
    path.with_name("warehouse.duckdb.wal").write_bytes(b"rows")
    with pytest.raises(duckdb.Error):
        open_duckdb_file(path)
    assert path.read_bytes() == new_database[:8192]


def test_extensions_are_never_installed_by_themselves(path: Path) -> None:
    with open_duckdb_file(path) as connection:
        value = connection.execute("SELECT current_setting('autoinstall_known_extensions')")
        assert value.fetchall() == [(False,)]


def test_only_the_user_can_read_the_file_and_its_folder(path: Path) -> None:
    open_duckdb_file(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_with_other_rights_keeps_them(path: Path, new_database: bytes) -> None:
    put(path, new_database).chmod(0o640)
    open_duckdb_file(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_many_threads_make_one_file(path: Path) -> None:
    failed: list[BaseException] = []

    def load(number: int) -> None:
        try:
            with DuckDBFile(path).locked(lambda _: None), duckdb.connect(str(path)) as connection:
                connection.execute(f"CREATE TABLE t{number} (id INTEGER)")
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=load, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    with duckdb.connect(str(path)) as connection:
        assert len(connection.execute("SHOW TABLES").fetchall()) == 8
    assert sorted(file.name for file in path.parent.iterdir()) == [
        ".warehouse.duckdb.lock",
        "warehouse.duckdb",
    ]


def test_a_file_that_this_process_has_open_keeps_its_lock(path: Path) -> None:
    other = f"import duckdb; duckdb.connect({str(path)!r})"
    with open_duckdb_file(path):
        open_duckdb_file(path).close()
        ended = subprocess.run([sys.executable, "-c", other], capture_output=True, check=False)
        assert b"Could not set lock" in ended.stderr
