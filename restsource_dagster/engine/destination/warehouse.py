"""Where rows are loaded: a DuckDB file, or another destination that dlt knows by name.

Only one process at a time can write to a DuckDB file. A run locks the file only while it talks to
it, and waits for other processes. DuckDB writes a new file in place, in three blocks, and refuses ever
after a file whose process died between them. So a new file is made beside its place and moved there.
"""

import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from threading import Lock
from typing import Literal, Protocol, cast

import dlt
import duckdb
import psutil
import tenacity
from dlt.common.destination import AnyDestination, Destination
from filelock import FileLock

from restsource_dagster.connector.validation.diagnostics import nearest_name
from restsource_dagster.engine.destination.dlt_config import find_destination_secrets
from restsource_dagster.engine.destination.sql_destinations import (
    ONE_TRANSACTION,
    DuckDBDestination,
    PostgresDestination,
    exact_destination,
    takes_columns,
)
from restsource_dagster.engine.dlt_compat import UnknownDestinationModule
from restsource_dagster.engine.errors import DatabaseBusyError, IngestError
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.settings import Settings, destination_type
from restsource_dagster.state.store import make_private_folder

__all__ = [
    "DATABASE_NAME",
    "DuckDBFile",
    "FileState",
    "OtherDestination",
    "Warehouse",
    "connect_once",
    "open_duckdb_file",
    "read_file_state",
    "warehouse_from_settings",
]

DATABASE_NAME = "warehouse.duckdb"
LOCK_WAIT_SECONDS = 900.0
_FIRST_NOTICE_SECONDS = 1.0
_LOCK_HOLDER = re.compile(r"held in (?P<program>.*?) \(PID (?P<pid>\d+)\)")

LoaderFileFormat = Literal["parquet"]
Notify = Callable[[str], None]


class Warehouse(Protocol):
    """A destination, and a lock on it."""

    @property
    def loader_file_format(self) -> LoaderFileFormat | None:
        """The format of load files; None for dlt's choice."""

    def destination(self) -> AnyDestination:
        """Return dlt's destination. Takes no connection."""

    def make(self) -> bool:
        """Make the database if it is a file and there is none. Returns True if it was made just now.

        Then it holds nothing. Raises `IngestError` if the file can't be made or is something else.
        """

    def locked(self, notify: Notify) -> AbstractContextManager[object]:
        """Lock the destination for the block. Calls `notify` with the process it waits for."""


@dataclass(frozen=True)
class DuckDBFile:
    """A DuckDB database file. Load files are parquet: far cheaper than dlt's default inserts."""

    path: Path
    wait_seconds: float = LOCK_WAIT_SECONDS
    """How long to wait for another process that has the file open."""
    memory: str = ""
    """DuckDB's memory limit, such as `256MB`. Without one DuckDB keeps what it has written."""
    loader_file_format: LoaderFileFormat | None = "parquet"

    def destination(self) -> AnyDestination:
        """Return dlt's DuckDB destination on this file."""
        made = DuckDBDestination(credentials={"database": str(self.path)}, **ONE_TRANSACTION)
        return cast("AnyDestination", made)

    def make(self) -> bool:
        """Make the file if there is none; see `Warehouse.make`."""
        with _opening:
            if _is_open_here(self.path):
                return False
            # the log of a file that somebody deleted may hold rows
            return _ensure_database(self.path) and not _has_log(self.path)

    def locked(self, notify: Notify) -> AbstractContextManager[object]:
        """Keep the file open in this process, so that dlt's connections don't have to wait.

        Raises `DatabaseBusyError` if another process keeps the file open for too long, and
        `IngestError` if the file is no DuckDB database.
        """
        started = time.monotonic()
        notified: set[str] = set()

        def notify_once(state: tenacity.RetryCallState) -> None:
            holder = _describe_lock_holder(state.outcome.exception() if state.outcome else None)
            # a load takes moments: say nothing about a short wait
            if holder not in notified and time.monotonic() - started >= _FIRST_NOTICE_SECONDS:
                notified.add(holder)
                notify(f"waiting for {self.path}: {holder} has it open")

        def give_up(state: tenacity.RetryCallState) -> duckdb.DuckDBPyConnection:
            error = state.outcome.exception() if state.outcome else None
            raise DatabaseBusyError(
                f"{self.path} was still held by {_describe_lock_holder(error)} after {self.wait_seconds:.0f} s. "
                "Close it there: DuckDB lets nobody write while another program has the file open, "
                "even to read."
            ) from error

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_lock_conflict),
            stop=tenacity.stop_after_delay(self.wait_seconds),
            wait=tenacity.wait_random_exponential(multiplier=0.02, max=0.5),
            before_sleep=notify_once,
            retry_error_callback=give_up,
        )
        connection: duckdb.DuckDBPyConnection = retrying(open_duckdb_file, self.path)
        if self.memory:
            # dlt's connections in this process share the open database and its limit
            connection.execute("SET memory_limit = ?", [self.memory])
        return connection


@dataclass(frozen=True)
class OtherDestination:
    """Another destination that dlt knows by name, configured in dlt's own way."""

    name: str
    wait_seconds: float = LOCK_WAIT_SECONDS
    """How long to wait for a lock that another session holds, in Postgres."""

    @property
    def loader_file_format(self) -> LoaderFileFormat | None:
        """Parquet if rows can be written as columns; else None for dlt's choice."""
        return "parquet" if takes_columns(self.destination()) else None

    def destination(self) -> AnyDestination:
        """Return dlt's destination; a database with transactions as one that can replace rows.

        Raises `IngestError` if dlt has none of this name, or if its driver is missing.
        """
        try:
            made = cast("AnyDestination", Destination.from_reference(self.name))
            _ = made.client_class  # imports the driver
            made = exact_destination(made)
            if isinstance(made, PostgresDestination):
                made.wait_seconds = self.wait_seconds
            return made
        except UnknownDestinationModule:
            known = sorted(dlt.destinations.__all__)
            near = nearest_name(self.name, known)
            raise IngestError(
                f"dlt has no destination {self.name!r}"
                + (f"; did you mean {near!r}?" if near else "")
                + " (RESTSOURCE_DESTINATION, or `destination` in a file). It has "
                f"{', '.join(known)}. For another name set its type: "
                f"DESTINATION__{self.name.upper()}__DESTINATION_TYPE=postgres"
            ) from None
        except ImportError as error:
            raise IngestError(
                f"the destination {self.name!r} needs a package that is not installed ({error.name or error}): "
                f"pip install '{_package_of(self.name)}'"
            ) from error

    def make(self) -> bool:
        """Return False: dlt makes what it needs, and finds out what is there."""
        return False

    def locked(self, notify: Notify) -> AbstractContextManager[object]:  # noqa: ARG002 - nothing to wait for
        """Do nothing: such a destination serves several writers."""
        return nullcontext()


_OWN_EXTRAS = ("postgres",)
"""The destinations whose drivers are extras of this package, with the versions that its tests use."""


def _package_of(destination: str) -> str:
    kind = destination_type(destination)
    return f"{'restsource-dagster' if kind in _OWN_EXTRAS else 'dlt'}[{kind}]"


def warehouse_from_settings(settings: Settings) -> Warehouse:
    """Return the warehouse that the settings name. Opens no file and no connection."""
    if settings.destination == "duckdb":
        path = (settings.data_dir / DATABASE_NAME).absolute()
        return DuckDBFile(path, settings.lock_wait_seconds, settings.duckdb_memory)
    return OtherDestination(settings.destination, settings.lock_wait_seconds)


def connect_once(settings: Settings, environment: Mapping[str, str]) -> None:
    """Open a connection to the destination of the settings, and close it. Nothing is written.

    Raises `IngestError` with the driver's reason, in which the credentials in `environment` are redacted.
    """
    warehouse = warehouse_from_settings(settings)
    if isinstance(warehouse, DuckDBFile):
        # a run may have it open, and DuckDB would make one that is missing
        if read_file_state(warehouse.path) is FileState.FOREIGN:
            raise IngestError(f"{warehouse.path} is not a DuckDB database")
        return
    destination = warehouse.destination()
    redactor = Redactor(find_destination_secrets(settings.destination, environment))
    with tempfile.TemporaryDirectory(prefix="restsource-connect-") as folder:
        pipeline = dlt.pipeline("restsource_connect", folder, destination=destination)
        try:
            # for tables a statement, for files a look into the folder
            with pipeline.destination_client() as client:
                client.is_storage_initialized()
        except Exception as error:  # noqa: BLE001 - drivers have errors of their own
            cause = error.__cause__ or error
            text = " ".join(f"{type(cause).__name__}: {cause}".split())
            raise IngestError(redactor(text)) from None


def _is_lock_conflict(error: BaseException) -> bool:
    """Return True if the file is open in another process, or in this one with other settings."""
    if isinstance(error, duckdb.ConnectionException):
        return "different configuration" in str(error)
    return isinstance(error, duckdb.IOException) and "lock" in str(error)


def _describe_lock_holder(error: BaseException | None) -> str:
    if isinstance(error, duckdb.ConnectionException):
        return "this process itself, with other settings,"
    found = _LOCK_HOLDER.search(str(error or ""))
    return f"{Path(found['program']).name} (PID {found['pid']})" if found else "another process"


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


def _ensure_database(path: Path) -> bool:
    """Make the file if there is none or an unfinished one. Returns True if it was made."""
    try:
        if read_file_state(path) is FileState.DATABASE:
            return False
        # DuckDB writes its log and its temporary files beside the database
        make_private_folder(path.parent)
        with FileLock(path.with_name(f".{path.name}.lock")):
            return _make_database(path, read_file_state(path))
    except OSError as error:
        raise IngestError(f"{path} can't be opened: {error.strerror or error}") from error


def _make_database(path: Path, state: FileState) -> bool:
    """Do what `_ensure_database` says. The caller holds the lock."""
    if state is FileState.FOREIGN:
        raise IngestError(
            f"{path} is not a DuckDB database, so it is left as it is. Move it away, or set "
            "RESTSOURCE_DATA_DIR to another folder."
        )
    if state is FileState.UNFINISHED:
        path.replace(path.with_name(f"{path.name}.unfinished"))
    if state is FileState.DATABASE:  # another process was quicker
        return False
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)  # of a process that was killed
    _write_empty_database(new)
    new.chmod(_PRIVATE_FILE_MODE)
    return _move_into_place(new, path)


def _write_empty_database(path: Path) -> None:
    # the module's own database in memory: to start one for the file takes as long as to load a page
    with duckdb.cursor() as memory:
        name = path.as_posix().replace("'", "''")
        try:
            memory.execute(f"ATTACH '{name}' AS made")
        finally:
            memory.execute("DETACH DATABASE IF EXISTS made")


def _move_into_place(new: Path, path: Path) -> bool:
    """Move a file to its name as a whole, and never over another one. Returns True if it was moved."""
    with new.open("rb") as file:
        os.fsync(file.fileno())
    try:
        os.link(new, path)
    except FileExistsError:  # another program was quicker: its file stays
        new.unlink()
        return False
    except OSError:  # a file system without hard links
        new.replace(path)
    else:
        new.unlink()
    return True
