"""Dagster's event log in SQLite: a file for each run, and one for what is asked across runs."""

import os
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as db
from dagster._core.event_api import EventHandlerFn
from dagster._core.events import ASSET_EVENTS
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
    INDEX_SHARD_NAME,
    SqliteEventLogStorage,
    SqliteEventLogStorageWatchdog,
)
from dagster._serdes import ConfigurableClassData
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool
from watchdog.events import FileSystemEvent
from watchdog.observers import Observer

from restsource_dagster.local_runtime.sqlite_connections import (
    OpenSqliteFiles,
    has_tables,
    open_engine,
)
from restsource_dagster.orchestration.state_files import create_file_atomically

__all__ = ["OpenEventLog"]

_MAX_OPEN_FILES = 64
"""Runs whose events are written at the same time, with some to spare."""
_EVENT_TABLE = "event_logs"


class OpenEventLog(SqliteEventLogStorage):
    """The same files with the same tables, kept open, and made by copying.

    Dagster opens and closes a file for each event. Closing it, SQLite moves what was written from the
    journal to the file and waits for the disk, and a new file is made table by table, with the whole history of
    Dagster's schema read to know its version.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._columns: set[str] = set()
        self._files = OpenSqliteFiles(self._open, self._is_there, _MAX_OPEN_FILES)
        super().__init__(base_dir, inst_data)

    def _connect(self, shard: str) -> AbstractContextManager[Connection]:  # type: ignore[override]
        return self._files.use(shard)

    def _open(self, shard: str) -> Engine:
        path = Path(self.path_for_shard(shard))
        engine = open_engine(self.conn_string_for_shard(shard), each_commit_on_disk=False)
        if shard != INDEX_SHARD_NAME and not path.exists():
            create_file_atomically(
                path, self._template
            )  # where it can't be, it is made as Dagster makes it
        if not has_tables(path, [_EVENT_TABLE]):
            self._initdb(engine)
        return engine

    def _is_there(self, shard: str) -> bool:
        return os.path.exists(self.path_for_shard(shard))  # noqa: PTH110 - before each event

    @cached_property
    def _template(self) -> bytes:
        """The file of a run without events, as this version of Dagster makes it."""
        with tempfile.TemporaryDirectory(prefix="restsource-") as folder:
            path = Path(folder) / "template.db"
            self._initdb(db.create_engine(f"sqlite:///{path}", poolclass=NullPool))
            return path.read_bytes()

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events of assets, all or none, in one transaction for each of the two files."""
        if not _are_asset_events(events):
            super().store_event_batch(events)
            return
        with self.run_connection(events[0].run_id) as connection:
            connection.execute(self.prepare_insert_event_batch(events))
            with self.index_transaction() as index:
                ids = [_insert_row(index, self.prepare_insert_event(event)) for event in events]
                self._store_asset_event_tags(index, events, ids)
                for event, number in zip(events, ids, strict=True):
                    self._store_asset_event(index, event, number)

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        """Dagster looks for a column before each event; one that is there stays."""
        if column_name not in self._columns and super()._has_asset_key_col_on_connection(
            conn, column_name
        ):
            self._columns.add(column_name)
        return column_name in self._columns

    def watch(self, run_id: str, cursor: str | None, callback: EventHandlerFn) -> None:
        """Tell of new events of a run. While its file is open somewhere, they are in its journal."""
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
    """Insert a row; its number."""
    key: Any = connection.execute(statement).inserted_primary_key
    return int(key[0])


def _are_asset_events(events: Sequence[EventLogEntry]) -> bool:
    """Whether these are events of assets in one run, so that they go into two files and no more."""
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
