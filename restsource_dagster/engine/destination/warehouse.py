"""One connection for several steps: opening one takes longer than most of what is done with it.

Where the rows go.

DuckDB lets one process at a time write a file. Whoever loads takes the file for the moments it
needs it, waits for others, and says for whom.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import duckdb
import tenacity
from dlt.common.configuration import configspec
from dlt.common.destination import AnyDestination
from dlt.destinations import duckdb as duckdb_destination

from restsource_dagster.engine.dlt_compat import DuckDbClientConfiguration, SqlClientBase
from restsource_dagster.engine.errors import DatabaseBusyError
from restsource_dagster.settings import Settings

__all__ = [
    "DATABASE_NAME",
    "DuckDBFile",
    "OtherDestination",
    "Warehouse",
    "ensure_connected",
    "warehouse_from_settings",
]

DATABASE_NAME = "warehouse.duckdb"
LOCK_WAIT_SECONDS = 900.0
_FIRST_NOTICE_SECONDS = 1.0
_LOCK_HOLDER = re.compile(r"held in (?P<program>.*?) \(PID (?P<pid>\d+)\)")

LoaderFileFormat = Literal["parquet"]
Notify = Callable[[str], None]


@configspec(init=False)
class _DuckDBConfiguration(DuckDbClientConfiguration):
    def __str__(self) -> str:
        # dlt makes the same text with SQLAlchemy, whose import takes as long as a small load
        return f"duckdb:///{self.credentials.database}"


class _DuckDBDestination(duckdb_destination):
    spec = cast("Any", _DuckDBConfiguration)


# dlt names a destination by its class: what it stores must not change
_DuckDBDestination.__module__ = duckdb_destination.__module__
_DuckDBDestination.__qualname__ = duckdb_destination.__qualname__
_DuckDBDestination.__name__ = duckdb_destination.__name__


class Warehouse(Protocol):
    """A destination, and the way to have it to oneself."""

    @property
    def loader_file_format(self) -> LoaderFileFormat | None:
        """The format of the files between dlt and the destination; None is dlt's choice."""

    def destination(self) -> "str | AnyDestination":
        """What dlt's pipeline takes as its destination."""

    def held(self, say: Notify) -> AbstractContextManager[None]:
        """Have it while a step talks to it; waits for others, telling `say` for whom."""


@dataclass(frozen=True)
class DuckDBFile:
    """A DuckDB database file. Load files are parquet: far cheaper than dlt's default inserts."""

    path: Path
    wait_seconds: float = LOCK_WAIT_SECONDS
    memory: str = ""
    """DuckDB's limit, such as `256MB`: it would keep all it has written. Empty for its own."""
    loader_file_format: LoaderFileFormat | None = "parquet"

    def destination(self) -> AnyDestination:
        """dlt's DuckDB destination on this file."""
        settings: dict[str, Any] = {
            "credentials": {"database": str(self.path)},
            # a replaced table and those nested in it change in one transaction ...
            "replace_strategy": "insert-from-staging",
            # ... which dlt begins only where a destination says that it has them; its DuckDB one
            # forgets to, and a killed run would leave a table emptied
            "supports_transactions": True,
        }
        return cast("AnyDestination", _DuckDBDestination(**settings))

    @contextmanager
    def held(self, say: Notify) -> Iterator[None]:
        """Hold the file's own lock, so that dlt's connections in this process find it free.

        Raises `DatabaseBusyError` if another process does not let go in time.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = self._connect(say)
        try:
            yield
        finally:
            connection.close()

    def _connect(self, say: Notify) -> duckdb.DuckDBPyConnection:
        started = time.monotonic()
        told: set[str] = set()

        def tell(state: tenacity.RetryCallState) -> None:
            holder = _describe_lock_holder(state.outcome.exception() if state.outcome else None)
            if holder not in told and time.monotonic() - started >= _FIRST_NOTICE_SECONDS:
                told.add(holder)
                say(f"waiting for {self.path}: {holder} has it open")

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
            before_sleep=tell,
            retry_error_callback=give_up,
        )
        connection: duckdb.DuckDBPyConnection = retrying(duckdb.connect, str(self.path))
        if self.memory:
            # dlt's connections in this process are to the same open database
            connection.execute("SET memory_limit = ?", [self.memory])
        return connection


@dataclass(frozen=True)
class OtherDestination:
    """Any other destination that dlt knows by name, configured where dlt looks."""

    name: str
    loader_file_format: LoaderFileFormat | None = None

    def destination(self) -> str:
        """dlt's name of it."""
        return self.name

    def held(self, say: Notify) -> AbstractContextManager[None]:  # noqa: ARG002 - nothing to wait for
        """Such a destination serves several writers."""
        return nullcontext()


def warehouse_from_settings(settings: Settings) -> Warehouse:
    """The warehouse that the settings name. Opens nothing yet."""
    if settings.destination == "duckdb":
        path = (settings.data_dir / DATABASE_NAME).absolute()
        return DuckDBFile(path, settings.lock_wait_seconds, settings.duckdb_memory)
    return OtherDestination(settings.destination)


def _is_lock_conflict(error: BaseException) -> bool:
    """Held by another process, or by this one in another way (read-only, say)."""
    if isinstance(error, duckdb.ConnectionException):
        return "different configuration" in str(error)
    return isinstance(error, duckdb.IOException) and "lock" in str(error)


def _describe_lock_holder(error: BaseException | None) -> str:
    if isinstance(error, duckdb.ConnectionException):
        return "this process itself, with other settings,"
    found = _LOCK_HOLDER.search(str(error or ""))
    return f"{Path(found['program']).name} (PID {found['pid']})" if found else "another process"


@contextmanager
def ensure_connected(client: SqlClientBase[Any] | None) -> Iterator[None]:
    """Have a client connected: by the connection that it has, or by one of its own that is closed
    afterwards. Without a client nothing happens."""
    if client is None or client.native_connection:
        yield
        return
    with client:
        yield
