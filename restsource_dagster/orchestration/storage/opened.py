"""The whole storage of an instance: runs, their events, and the ticks of schedules and sensors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sqlite import create_db_conn_string
from dagster._core.storage.sqlite_storage import (
    DagsterSqliteStorage,
    _event_logs_directory,
    _runs_directory,
    _schedule_directory,
)
from dagster._serdes import ConfigurableClassData
from sqlalchemy.engine import Connection, Engine

from restsource_dagster.orchestration.storage.connections import is_made, open_engine
from restsource_dagster.orchestration.storage.event_log import OpenEventLog

__all__ = ["OpenSqliteStorage"]


class _Open:
    """What stays open: one engine, in the place of one for each use."""

    _engine: Engine

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def dispose(self) -> None:
        self._engine.dispose()


class _OpenRuns(_Open, SqliteRunStorage):
    def __init__(self, conn_string: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engine = open_engine(conn_string, each_commit_on_disk=True)
        self._has_stats = False
        super().__init__(conn_string, inst_data)

    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> Self:
        if is_made(Path(base_dir) / "runs.db", ["runs", "instance_info"]):
            return cls(create_db_conn_string(base_dir, "runs"), inst_data)
        return super().from_local(base_dir, inst_data)

    def has_run_stats_index_cols(self) -> bool:
        """Dagster looks for columns at each question; those that are there stay."""
        self._has_stats = self._has_stats or super().has_run_stats_index_cols()
        return self._has_stats


class _OpenSchedules(_Open, SqliteScheduleStorage):
    def __init__(self, conn_string: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engine = open_engine(conn_string, each_commit_on_disk=True)
        super().__init__(conn_string, inst_data)

    @classmethod
    def from_local(
        cls, base_dir: str, inst_data: ConfigurableClassData | None = None
    ) -> SqliteScheduleStorage:
        if is_made(Path(base_dir) / "schedules.db", ["job_ticks"]):
            return cls(create_db_conn_string(base_dir, "schedules"), inst_data)
        return super().from_local(base_dir, inst_data)


class OpenSqliteStorage(DagsterSqliteStorage):
    """`DagsterSqliteStorage` on the very same files, kept open between two uses.

    Either reads and writes what the other wrote, also at the same time, so it can be taken into
    `dagster.yaml` and out of it again at any time.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super(DagsterSqliteStorage, self).__init__()  # type: ignore[no-untyped-call]
        self.base_dir = base_dir
        self._run_storage = _OpenRuns.from_local(_runs_directory(base_dir))
        self._event_log_storage = OpenEventLog(_event_logs_directory(base_dir))
        self._schedule_storage = _OpenSchedules.from_local(_schedule_directory(base_dir))
        self._inst_data = inst_data

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> "OpenSqliteStorage":
        """The storage below a `base_dir`."""
        return cls.from_local(inst_data=inst_data, **config_value)
