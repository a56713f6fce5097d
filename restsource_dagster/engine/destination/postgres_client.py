"""dlt's client of Postgres with bounded sessions, exact merges, and parquet files that come by COPY.

**Sessions.** A process that stands still in a transaction (its machine is suspended, or cut off) keeps its
locks as long as its connection lasts. So the server ends a session that is idle in a transaction. It ends
no COPY whose client sends nothing, so each session of a run has a name by which the run's successor finds
and ends it. A statement that waits too long for a lock fails, and the error names who holds it.

**COPY.** Each value is stored as it is in the file. dlt's own way for parquet needs the ADBC driver and
makes json columns of jsonb ones; its way for csv reads empty texts as nulls. Arrow writes a batch of rows
as csv, in which all texts are in quotes: an empty text is `""`, and null has no quotes.
"""

import hashlib
import io
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from datetime import datetime
from functools import cache
from typing import Any, cast

import psycopg2
import psycopg2.errors
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import tenacity

from restsource_dagster.engine.destination.merge_sql import ExactMergeClient
from restsource_dagster.engine.dlt_compat import (
    DestinationTerminalException,
    DestinationTransientException,
    HasFollowupJobs,
    LoadJob,
    ParsedLoadJobFileName,
    PreparedTableSchema,
    RunnableLoadJob,
    SqlClientBase,
)
from restsource_dagster.engine.errors import DatabaseBusyError

__all__ = ["DatabaseLockedError", "PostgresLoads", "PostgresSession", "bounded_session"]

_MOST_IDLE_SECONDS = 30
"""After so long without a statement the server ends a transaction."""
_SHORTEST_WAIT_SECONDS = 0.001
"""For Postgres a `lock_timeout` of 0 means to wait for ever."""
_END_SECONDS = 10
_MOST_NAME_BYTES = 63
"""Postgres cuts longer names of sessions (`application_name`)."""
_SHOWN_HOLDERS = 3
_SHOWN_STATEMENT_CHARS = 200

_ANY_TOKEN = "0" * 8

_OTHERS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
    "AND usename = session_user AND application_name <> %s "
    "AND overlay(application_name placing '00000000' from 12 for 8) = %s"
)
_HOLDERS = (
    "SELECT DISTINCT s.pid, s.application_name, s.usename, coalesce(host(s.client_addr), 'local'), "
    "s.state, s.xact_start, s.query FROM pg_locks l JOIN pg_stat_activity s ON s.pid = l.pid "
    "JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND n.nspname IN (%s, %s) AND s.application_name <> %s ORDER BY s.xact_start LIMIT %s"
)


class DatabaseLockedError(DatabaseBusyError, DestinationTerminalException):
    """Another session holds a lock, and did not free it in time. dlt does not try again."""


class PostgresSession(SqlClientBase[Any]):
    """Mixin for dlt's SQL client of Postgres: its sessions have a name and limits."""

    wait_seconds = 0.0
    """How long a statement waits for a lock."""
    name = ""
    dataset = ""
    """The dataset of its tables; dlt selects the staging dataset for a while."""
    check_lease: Callable[[], None] = staticmethod(lambda: None)
    """Raises `LeaseLostError` if another run may have taken over."""

    def open_connection(self) -> Any:
        """Open a session. Raises `LeaseLostError` if another run may have taken over."""
        theirs: Any = super()
        opened = theirs.open_connection()
        try:
            # once it is open: a successor ends the sessions that it finds, and none may come after that
            self.check_lease()
        except BaseException:
            self.close_connection()
            raise
        return opened

    def end_other_sessions(self) -> int:
        """End the sessions of earlier runs that load this dataset; return how many. Connected.

        Call it as the only run of the connector. What they have not committed is gone then. Raises
        `DatabaseBusyError` if one does not end.
        """
        ended: set[int] = set()
        still_open: list[str] = []

        def end() -> bool:
            values = (self.name, _session_name(_ANY_TOKEN, self.dataset))
            found = {int(row[0]) for row in self.execute_sql(_OTHERS, *values) or ()}
            for pid in found - ended:
                self.execute_sql("SELECT pg_terminate_backend(%s)", pid)
            ended.update(found)
            still_open[:] = map(str, sorted(found))
            return not found

        def give_up(_: tenacity.RetryCallState) -> bool:
            raise DatabaseBusyError(
                f"sessions of an earlier run that load {self.dataset} were told to end, and are still open "
                f"after {_END_SECONDS:g} s: {', '.join(still_open)}. What they store would come "
                "twice. End these processes of the server, or run again when they have ended"
            )

        # a session ends at its next check for interrupts
        tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda is_done: not is_done),
            stop=tenacity.stop_after_delay(_END_SECONDS),
            wait=tenacity.wait_random_exponential(multiplier=0.01, max=0.5),
            retry_error_callback=give_up,
        )(end)
        return len(ended)

    @contextmanager
    def execute_query(self, query: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Run a statement. Raises `DatabaseLockedError` if another session holds a lock too long."""
        try:
            theirs: Any = super()
            with theirs.execute_query(query, *args, **kwargs) as cursor:
                yield cursor
        except DestinationTransientException as error:
            named = self.named(error)
            # raised from itself, an error would be its own cause, and its chain of causes endless
            if named is error:
                raise
            raise named from error

    def named(self, error: Exception) -> Exception:
        """Return the error that names who holds a lock, or the same if it is about no lock."""
        cause = getattr(error, "dbapi_exception", error)
        if not isinstance(cause, psycopg2.errors.LockNotAvailable):
            return error
        return DatabaseLockedError(
            f"a table of {self.dataset} was still locked after {self.wait_seconds:g} s "
            f"(RESTSOURCE_LOCK_WAIT_SECONDS) by {self._holders()}. End that program's transaction"
        )

    def _holders(self) -> str:
        """Return a description of the sessions that hold locks on the dataset's tables now."""
        with self.with_alternative_dataset_name(self.dataset):
            other = bounded_session(self, self.wait_seconds)
        with other:
            found = other.execute_sql(
                _HOLDERS, self.dataset, self.staging_dataset_name, self.name, _SHOWN_HOLDERS
            )
        return "; ".join(_describe(*row) for row in found or ()) or (
            "a session that has freed it since"
        )


def bounded_session(theirs: SqlClientBase[Any], wait_seconds: float) -> PostgresSession:
    """Return a client of the same database and dataset, not connected, with a name and limits."""
    limits = {
        "idle_in_transaction_session_timeout": f"{_MOST_IDLE_SECONDS}s",
        "lock_timeout": f"{max(wait_seconds, _SHORTEST_WAIT_SECONDS) * 1000:.0f}",
    }
    name = _session_name(_run_token(os.getpid()), theirs.dataset_name)
    credentials: Any = copy(theirs.credentials)
    query = {**(credentials.query or {}), "application_name": name}
    # Options of the start stay in force when dlt resets a session. The later of two counts, so those
    # that the address of the database has come last.
    ours = " ".join(f"-c{setting}={value}" for setting, value in limits.items())
    query["options"] = f"{ours} {query.get('options') or ''}".strip()
    credentials.query = query
    made: PostgresSession = _session_class(type(theirs))(
        theirs.dataset_name, theirs.staging_dataset_name, credentials, theirs.capabilities
    )
    made.wait_seconds, made.name, made.dataset = wait_seconds, name, theirs.dataset_name
    return made


@cache
def _session_class(theirs: type[Any]) -> type[Any]:
    if issubclass(theirs, PostgresSession):
        return theirs
    return type(theirs.__name__, (PostgresSession, theirs), {})


def _describe(
    pid: int, name: str, user: str, host: str, state: str, since: datetime | None, statement: str
) -> str:
    session = f"session {pid} ({name or 'without a name'}, user {user}"
    # the server tells whose it is, and its work only to an administrator or the same user
    if since is None:
        return f"{session})"
    shown = " ".join(statement.split())[:_SHOWN_STATEMENT_CHARS]
    return (
        f"{session} from {host}, {state} in a "
        f"transaction since {since:%Y-%m-%d %H:%M:%S %Z}, last statement: {shown})"
    )


@cache
def _run_token(process: int) -> str:  # noqa: ARG001 - runs are forked, and each has a token of its own
    return secrets.token_hex(4)


def _session_name(token: str, dataset: str) -> str:
    """Return the name of a run's sessions. All but the token is the same for runs of a dataset."""
    room = _MOST_NAME_BYTES - len(f"restsource:{token}:")
    if len(dataset.encode()) > room:
        digest = hashlib.sha256(dataset.encode()).hexdigest()[:8]
        dataset = f"{dataset.encode()[: room - 9].decode(errors='ignore')}:{digest}"
    return f"restsource:{token}:{dataset}"


class PostgresLoads(ExactMergeClient):
    """Mixin for dlt's Postgres client: exact merges, and parquet files by COPY."""

    row_order = "ctid"

    def create_load_job(
        self, table: PreparedTableSchema, file_path: str, load_id: str, restore: bool = False
    ) -> LoadJob:
        """Return the job that copies a parquet file, and dlt's job for other files."""
        if ParsedLoadJobFileName.parse(file_path).file_format == "parquet":
            return _CopyJob(file_path)
        return super().create_load_job(table, file_path, load_id, restore)


_BATCH_ROWS = 5_000
_READ_BYTES = 128 * 1024
_CSV = pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed")


class _CopyJob(RunnableLoadJob, HasFollowupJobs):
    """Copies one parquet file into its table, in one transaction."""

    def run(self) -> None:
        """Copy the rows. Raises dlt's errors of the destination."""
        client: Any = cast("Any", self._job_client).sql_client
        with pq.ParquetFile(self._file_path) as file:
            columns = ", ".join(map(client.escape_column_name, file.schema_arrow.names))
            table = client.make_qualified_table_name(self.load_table_name)
            statement = f"COPY {table} ({columns}) FROM STDIN (FORMAT csv, ENCODING 'UTF8')"
            with client.begin_transaction():
                try:
                    with client.native_connection.cursor() as cursor:
                        cursor.copy_expert(statement, _CsvReader(file), size=_READ_BYTES)
                except psycopg2.Error as error:
                    # dlt tries again after errors that may pass, and only after those
                    raise client.named(client._make_database_exception(error)) from error


class _CsvReader:
    """The rows of a parquet file as csv, batch by batch: the file object that psycopg2 reads."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self._batches: Iterator[pa.RecordBatch] = file.iter_batches(_BATCH_ROWS)
        self._csv = io.BytesIO()

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`; none after the last row."""
        while not (found := self._csv.read(size)):
            batch = next(self._batches, None)
            if batch is None:
                return b""
            self._csv = io.BytesIO()
            pyarrow.csv.write_csv(_printable(batch), self._csv, _CSV)
            self._csv.seek(0)
        return found


def _printable(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch with bytes written as Postgres reads them: `\\x` and two digits for each."""
    arrays = [
        pa.array([None if item is None else f"\\x{item.hex()}" for item in array.to_pylist()])
        if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type)
        else array
        for array in batch.columns
    ]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)
