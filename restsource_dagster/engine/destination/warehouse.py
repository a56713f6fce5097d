"""Where rows are loaded: a DuckDB file, or another destination that dlt knows by name.

Only one process at a time can write to a DuckDB file. A run locks the file only while it talks to
it, and waits for other processes.
"""

import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import duckdb
import tenacity
from dlt.common.destination import AnyDestination

from restsource_dagster.engine.destination.duckdb_file import open_duckdb_file
from restsource_dagster.engine.destination.replace_rows import DuckDBDestination
from restsource_dagster.engine.errors import DatabaseBusyError
from restsource_dagster.settings import Settings

__all__ = [
    "DATABASE_NAME",
    "DuckDBFile",
    "OtherDestination",
    "Warehouse",
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

    def destination(self) -> "str | AnyDestination":
        """Return what `dlt.pipeline` takes as its destination."""

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
        settings: dict[str, Any] = {
            "credentials": {"database": str(self.path)},
            # a replaced table and those nested in it change in one transaction ...
            "replace_strategy": "insert-from-staging",
            # ... which dlt begins only for a destination that declares transactions. dlt's DuckDB
            # destination does not, and a killed run would leave a table empty
            "supports_transactions": True,
        }
        return cast("AnyDestination", DuckDBDestination(**settings))

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
    loader_file_format: LoaderFileFormat | None = None

    def destination(self) -> str:
        """Return dlt's name of the destination."""
        return self.name

    def locked(self, notify: Notify) -> AbstractContextManager[object]:  # noqa: ARG002 - nothing to wait for
        """Do nothing: such a destination serves several writers."""
        return nullcontext()


def warehouse_from_settings(settings: Settings) -> Warehouse:
    """Return the warehouse that the settings name. Opens no file and no connection."""
    if settings.destination == "duckdb":
        path = (settings.data_dir / DATABASE_NAME).absolute()
        return DuckDBFile(path, settings.lock_wait_seconds, settings.duckdb_memory)
    return OtherDestination(settings.destination)


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
