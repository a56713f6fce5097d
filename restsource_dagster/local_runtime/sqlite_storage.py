"""Dagster's SQLite storage with files that stay open, and an instance that uses it.

Dagster opens and closes a file for each event. When it closes one, SQLite moves what was written from the
journal to the file and waits for the disk. A new file is made table by table, and to know the version of
its tables Dagster reads all migrations of its schema. Here files stay open, and a new file is a copy.

The files and tables are Dagster's own: either storage reads and writes what the other wrote, also at the
same time.
"""

import os
import sqlite3
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, Self

import dagster as dg
import sqlalchemy as db
import yaml
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool, QueuePool
from watchdog.events import FileSystemEvent
from watchdog.observers import Observer

from restsource_dagster.local_runtime.dagster_internals import (
    ASSET_EVENTS,
    INDEX_SHARD_NAME,
    ConfigurableClassData,
    DagsterSqliteStorage,
    EventHandlerFn,
    SqliteEventLogStorage,
    SqliteEventLogStorageWatchdog,
    SqliteRunStorage,
    SqliteScheduleStorage,
    StockInstance,
    create_db_conn_string,
    event_logs_directory,
    runs_directory,
    schedules_directory,
)
from restsource_dagster.orchestration.instance import instance_lock
from restsource_dagster.whole_file import create_file_atomically

__all__ = [
    "LightInstance",
    "OpenEventLog",
    "OpenSqliteFiles",
    "OpenSqliteStorage",
    "has_tables",
    "open_engine",
]

_BUSY_TIMEOUT_SECONDS = 30.0
"""How long to wait for another process that writes to the same file; Dagster waits as long."""
_POOL_SIZE = 4
"""Connections to one file that stay open. More threads get more, which are closed after use."""
_MAX_OPEN_FILES = 64
"""Files of runs that stay open: as many as write events at the same time, and some to spare."""
_EVENT_BATCH_SIZE = 100
"""Events written at once, of those that Dagster produces at the same moment."""
_EVENT_TABLE = "event_logs"


def open_engine(address: str, *, each_commit_on_disk: bool) -> Engine:
    """Return an engine for a file whose connections any thread may use.

    With `each_commit_on_disk`, a power failure loses nothing that was committed. Without, it may lose the
    last half minute, and the file stays intact. Neither loses what a killed process has committed.
    """
    engine = db.create_engine(
        address,
        poolclass=QueuePool,
        pool_size=_POOL_SIZE,
        # Threads beyond the pool must not wait: Dagster opens as many connections as it has threads.
        max_overflow=-1,
        connect_args={"timeout": _BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
    )
    if not each_commit_on_disk:
        db.event.listen(engine, "connect", _sync_at_checkpoints_only)
    return engine


def _sync_at_checkpoints_only(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous=NORMAL")


def has_tables(path: Path, tables: Collection[str]) -> bool:
    """True if a file has these tables and the version of Dagster's schema: nothing need be created."""
    if not path.exists():
        return False
    wanted = {"alembic_version", *tables}
    with closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_SECONDS)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        return wanted <= names and bool(
            connection.execute("SELECT 1 FROM alembic_version").fetchone()
        )


@dataclass
class _OpenFile:
    engine: Engine
    lock: Lock = field(default_factory=Lock)


class OpenSqliteFiles:
    """Files by name, of which the `limit` used last stay open. One thread at a time uses a file."""

    def __init__(
        self, open_file: Callable[[str], Engine], exists: Callable[[str], bool], limit: int
    ) -> None:
        """`open_file` opens a file and creates it if needed; `exists` is False for a removed file."""
        self._open, self._exists, self._limit = open_file, exists, limit
        self._lock = Lock()
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()

    @contextmanager
    def use(self, name: str) -> Iterator[Connection]:
        """A connection in a transaction, which is committed at the end.

        The lock is held by `with` alone: an interrupt between taking it and a `try` would leave it
        locked, and the thread would wait for itself when it reports that it was interrupted.
        """
        while True:
            file = self._find(name)
            with file.lock:
                # While this thread waited for the file, another may have closed it.
                with self._lock:
                    is_current = self._files.get(name) is file
                if is_current and self._exists(name):
                    with file.engine.connect() as connection, connection.begin():
                        yield connection
                    return
            if is_current:  # removed from the disk: what is written to the open file is lost
                self._drop(name, file)

    def close(self) -> None:
        """Close all files. A file opens again at its next use."""
        with self._lock:
            files = list(self._files.values())
            self._files.clear()
        for file in files:
            with file.lock:
                file.engine.dispose()

    def _find(self, name: str) -> _OpenFile:
        """Return the file, open; another thread may use it."""
        with self._lock:
            file = self._files.get(name)
            if file is not None:
                self._files.move_to_end(name)
        return self._add(name) if file is None else file

    def _add(self, name: str) -> _OpenFile:
        # Opened without the lock: creating a file takes long, and other files are used meanwhile.
        engine = self._open(name)
        with self._lock:
            file = self._files.setdefault(name, _OpenFile(engine))
            unused = self._remove_unused()
        if file.engine is not engine:  # another thread was quicker
            engine.dispose()
        for one in unused:
            with one.lock:
                one.engine.dispose()
        return file

    def _drop(self, name: str, file: _OpenFile) -> None:
        with self._lock:
            if self._files.get(name) is file:
                del self._files[name]
        with file.lock:
            file.engine.dispose()

    def _remove_unused(self) -> list[_OpenFile]:
        """Remove and return the files beyond the limit that no thread uses now.

        A thread that takes the lock of one later sees that the file is no longer the current one.
        """
        names = list(self._files)[: max(len(self._files) - self._limit, 0)]
        return [self._files.pop(name) for name in names if not self._files[name].lock.locked()]


class OpenEventLog(SqliteEventLogStorage):
    """Dagster's event log: a file per run, and one (the index) for queries across runs."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._known_columns: set[str] = set()
        self._files = OpenSqliteFiles(self._open, self._exists, _MAX_OPEN_FILES)
        super().__init__(base_dir, inst_data)

    def _connect(self, shard: str) -> AbstractContextManager[Connection]:  # type: ignore[override]
        return self._files.use(shard)

    def _open(self, shard: str) -> Engine:
        path = Path(self.path_for_shard(shard))
        engine = open_engine(self.conn_string_for_shard(shard), each_commit_on_disk=False)
        if shard != INDEX_SHARD_NAME and not path.exists():
            # Where the file system can't do this, `_initdb` below makes the file as Dagster does.
            create_file_atomically(path, self._empty_run_file)
        if not has_tables(path, [_EVENT_TABLE]):
            self._initdb(engine)
        return engine

    def _exists(self, shard: str) -> bool:
        return os.path.exists(self.path_for_shard(shard))  # noqa: PTH110 - for each event

    @cached_property
    def _empty_run_file(self) -> bytes:
        """The content of a run's file without events, as this version of Dagster makes it."""
        with tempfile.TemporaryDirectory(prefix="restsource-") as folder:
            path = Path(folder) / "template.db"
            self._initdb(db.create_engine(f"sqlite:///{path}", poolclass=NullPool))
            return path.read_bytes()

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Store a batch of events. Asset events of one run are stored all or none, in one transaction per file."""
        if not _are_asset_events_of_one_run(events):
            super().store_event_batch(events)
            return
        # The index inside of the run's transaction: if it fails, neither file has the events.
        with self.run_connection(events[0].run_id) as connection:
            connection.execute(self.prepare_insert_event_batch(events))
            with self.index_transaction() as index:
                ids = [_insert_row(index, self.prepare_insert_event(event)) for event in events]
                self._store_asset_event_tags(index, events, ids)
                for event, event_id in zip(events, ids, strict=True):
                    self._store_asset_event(index, event, event_id)

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        # Dagster queries this before each event. A column that exists stays.
        if column_name not in self._known_columns and super()._has_asset_key_col_on_connection(
            conn, column_name
        ):
            self._known_columns.add(column_name)
        return column_name in self._known_columns

    def watch(self, run_id: str, cursor: str | None, callback: EventHandlerFn) -> None:
        """Call back for each new event of a run.

        While a process has the run's file open, new events are in the journal beside it, so both are
        watched.
        """
        observer: Any = self._obs or Observer()
        if not self._obs:
            self._obs = observer
            observer.start()
        watchdog = _JournalWatchdog(self, run_id, callback, cursor)
        watch = observer.schedule(watchdog, self._base_dir, recursive=True)
        self._watchers[run_id][callback] = (watchdog, watch)

    def wipe(self) -> None:
        """Remove all events."""
        self._files.close()
        super().wipe()

    def dispose(self) -> None:
        """Close the files."""
        super().dispose()
        self._files.close()


def _insert_row(connection: Connection, statement: Any) -> int:
    """Insert a row and return its id."""
    key: Any = connection.execute(statement).inserted_primary_key
    return int(key[0])


def _are_asset_events_of_one_run(events: Sequence[dg.EventLogEntry]) -> bool:
    kinds = {event.dagster_event_type for event in events if event.is_dagster_event}
    return (
        len({event.run_id for event in events}) == 1
        and all(event.is_dagster_event for event in events)
        and kinds <= ASSET_EVENTS
    )


class _JournalWatchdog(SqliteEventLogStorageWatchdog):
    def dispatch(self, event: FileSystemEvent) -> None:
        if event.event_type == "modified" and event.src_path in (
            self._log_path,
            f"{self._log_path}-wal",
        ):
            self._process_log()


class _OneEngine:
    """Keeps one engine open, where Dagster's storages make one for each use."""

    _engine: Engine

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def dispose(self) -> None:
        self._engine.dispose()


class _OpenRunStorage(_OneEngine, SqliteRunStorage):
    def __init__(self, conn_string: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engine = open_engine(conn_string, each_commit_on_disk=True)
        self._has_stats = False
        super().__init__(conn_string, inst_data)

    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> Self:
        if has_tables(Path(base_dir) / "runs.db", ["runs", "instance_info"]):
            return cls(create_db_conn_string(base_dir, "runs"), inst_data)
        return super().from_local(base_dir, inst_data)

    def has_run_stats_index_cols(self) -> bool:
        # Dagster queries this before each query of runs. Columns that exist stay.
        self._has_stats = self._has_stats or super().has_run_stats_index_cols()
        return self._has_stats


class _OpenScheduleStorage(_OneEngine, SqliteScheduleStorage):
    def __init__(self, conn_string: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engine = open_engine(conn_string, each_commit_on_disk=True)
        super().__init__(conn_string, inst_data)

    @classmethod
    def from_local(
        cls, base_dir: str, inst_data: ConfigurableClassData | None = None
    ) -> SqliteScheduleStorage:
        if has_tables(Path(base_dir) / "schedules.db", ["job_ticks"]):
            return cls(create_db_conn_string(base_dir, "schedules"), inst_data)
        return super().from_local(base_dir, inst_data)


class OpenSqliteStorage(DagsterSqliteStorage):
    """The whole storage of an instance: runs, events, and the ticks of schedules and sensors."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        # The parent's own `__init__` would open Dagster's storages, so its parent's is called.
        super(DagsterSqliteStorage, self).__init__()  # type: ignore[no-untyped-call]
        self.base_dir = base_dir
        Path(base_dir).mkdir(parents=True, exist_ok=True)
        with instance_lock(Path(base_dir)):
            self._run_storage = _OpenRunStorage.from_local(runs_directory(base_dir))
            self._event_log_storage = OpenEventLog(event_logs_directory(base_dir))
            self._schedule_storage = _OpenScheduleStorage.from_local(schedules_directory(base_dir))
        self._inst_data = inst_data

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> "OpenSqliteStorage":
        """Return the storage in a folder, the `base_dir` of the config."""
        return cls.from_local(inst_data=inst_data, **config_value)


class LightInstance(StockInstance):
    """A Dagster instance with `OpenSqliteStorage` by default, which writes events in batches.

    A `storage` in `dagster.yaml`, such as Postgres, is used as it is.
    """

    @staticmethod
    def config_defaults(base_dir: str) -> Mapping[str, ConfigurableClassData | None]:
        """Return Dagster's own defaults with our storage."""
        config = yaml.safe_dump({"base_dir": base_dir})
        storage = ConfigurableClassData(
            OpenSqliteStorage.__module__, OpenSqliteStorage.__name__, config
        )
        return {**StockInstance.config_defaults(base_dir), "storage": storage}

    def _get_event_batch_size(self) -> int:
        return int(os.getenv("DAGSTER_EVENT_BATCH_SIZE", str(_EVENT_BATCH_SIZE)))
