"""Make a DuckDB file, and tell one that was never finished from one that holds something.

DuckDB writes a new file in place, in three blocks. A process that dies between them leaves a file that
DuckDB refuses ever after. So a new file is made beside its place and moved there as a whole.
"""

import os
from enum import Enum
from pathlib import Path
from threading import Lock

import duckdb
import psutil
from filelock import FileLock

from restsource_dagster.engine.errors import IngestError
from restsource_dagster.settings import make_private_folder

__all__ = ["FileState", "open_duckdb_file", "read_file_state"]

_BLOCK = 4096
_HEADER_BYTES = 3 * _BLOCK
"""A new file has these three blocks: the main header and two database headers. Data comes after them."""
_MAGIC = slice(8, 12)
_PRIVATE_FILE_MODE = 0o600
_opening = Lock()


class FileState(Enum):
    """What is in the place of a DuckDB file."""

    MISSING = "missing"
    UNFINISHED = "unfinished"
    """A process died while DuckDB made the file: it can't hold a row."""
    DATABASE = "database"
    FOREIGN = "foreign"


def open_duckdb_file(path: Path) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB file, or make one that only this user can read.

    An unfinished file is put aside as `<name>.unfinished`. Any other file is left as it is: raises
    `IngestError` for one that is no DuckDB database, and DuckDB's own errors.
    """
    # with two threads, one would look at a file that the other has just opened
    with _opening:
        if not _is_open_here(path):
            _ensure_database(path)
        connection = duckdb.connect(str(path))
    # a run loads nothing from the internet but what the API sends
    connection.execute("SET GLOBAL autoinstall_known_extensions = false")
    return connection


def read_file_state(path: Path) -> FileState:
    """Return what is in the place of a DuckDB file. Raises `OSError` if it can't be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return FileState.MISSING
    if size <= _HEADER_BYTES and not _has_log(path) and _is_unfinished(head):
        return FileState.UNFINISHED
    return FileState.DATABASE if head[_MAGIC] == b"DUCK" else FileState.FOREIGN


def _is_unfinished(head: bytes) -> bool:
    """Return True if one of the first blocks was not written; after a power failure it may be zeros."""
    if not any(head):
        return True
    blocks = [head[start : start + _BLOCK] for start in range(0, _HEADER_BYTES, _BLOCK)]
    written = [len(block) == _BLOCK and any(block) for block in blocks]
    return head[_MAGIC] == b"DUCK" and not all(written)


def _has_log(path: Path) -> bool:
    """Return True if rows may be in the write-ahead log beside the file."""
    log = path.with_name(f"{path.name}.wal")
    return log.exists() and log.stat().st_size > 0


def _is_open_here(path: Path) -> bool:
    """Return True if this process has the file open.

    To open and close it once more would release DuckDB's lock: POSIX locks belong to the process.
    """
    return any(Path(file.path) == path.resolve() for file in psutil.Process().open_files())


def _ensure_database(path: Path) -> None:
    try:
        if read_file_state(path) is FileState.DATABASE:
            return
        # DuckDB writes its log and its temporary files beside the database
        make_private_folder(path.parent)
        with FileLock(path.with_name(f".{path.name}.lock")):
            _make_database(path, read_file_state(path))
    except OSError as error:
        raise IngestError(f"{path} can't be opened: {error.strerror or error}") from error


def _make_database(path: Path, state: FileState) -> None:
    """Make the file if there is none or an unfinished one. The caller holds the lock."""
    if state is FileState.FOREIGN:
        raise IngestError(
            f"{path} is not a DuckDB database, so it is left as it is. Move it away, or set "
            "RESTSOURCE_DATA_DIR to another folder."
        )
    if state is FileState.UNFINISHED:
        path.replace(path.with_name(f"{path.name}.unfinished"))
    if state is not FileState.DATABASE:
        new = path.with_name(f".{path.name}.new")
        new.unlink(missing_ok=True)  # of a process that was killed
        duckdb.connect(str(new)).close()
        new.chmod(_PRIVATE_FILE_MODE)
        _move_into_place(new, path)


def _move_into_place(new: Path, path: Path) -> None:
    """Move a file to its name as a whole, and never over another one."""
    with new.open("rb") as file:
        os.fsync(file.fileno())
    try:
        os.link(new, path)
    except FileExistsError:  # another program was quicker: its file stays
        new.unlink()
    except OSError:  # a file system without hard links
        new.replace(path)
    else:
        new.unlink()
