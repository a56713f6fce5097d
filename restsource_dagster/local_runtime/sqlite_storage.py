"""A Dagster instance that writes little and rarely: what `instance_class` in `dagster.yaml` names.

The whole storage of an instance: runs, their events, and the ticks of schedules and sensors.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import dagster as dg
import yaml
from dagster._core.instance import InstanceRef
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

from restsource_dagster.local_runtime.event_log import OpenEventLog
from restsource_dagster.local_runtime.sqlite_connections import has_tables, open_engine

__all__ = ["LightInstance", "OpenSqliteStorage"]


class _OpenEngine:
    """What stays open: one engine, in the place of one for each use."""

    _engine: Engine

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def dispose(self) -> None:
        self._engine.dispose()


class _OpenRunStorage(_OpenEngine, SqliteRunStorage):
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
        """Dagster looks for columns at each question; those that are there stay."""
        self._has_stats = self._has_stats or super().has_run_stats_index_cols()
        return self._has_stats


class _OpenScheduleStorage(_OpenEngine, SqliteScheduleStorage):
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
    """`DagsterSqliteStorage` on the very same files, kept open between two uses.

    Either reads and writes what the other wrote, also at the same time, so it can be taken into
    `dagster.yaml` and out of it again at any time.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super(DagsterSqliteStorage, self).__init__()  # type: ignore[no-untyped-call]
        self.base_dir = base_dir
        self._run_storage = _OpenRunStorage.from_local(_runs_directory(base_dir))
        self._event_log_storage = OpenEventLog(_event_logs_directory(base_dir))
        self._schedule_storage = _OpenScheduleStorage.from_local(_schedule_directory(base_dir))
        self._inst_data = inst_data

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> "OpenSqliteStorage":
        """The storage below a `base_dir`."""
        return cls.from_local(inst_data=inst_data, **config_value)


_EVENT_BATCH_SIZE = 100
"""Events written at once, of those that Dagster has many of at the same moment."""


class LightInstance(dg.DagsterInstance):
    """A `DagsterInstance` whose default storage is `OpenSqliteStorage`, and that writes events in batches.

    A `storage` that is named in `dagster.yaml`, such as Postgres, is used as ever.
    """

    @classmethod
    def config_schema(cls) -> Mapping[str, Any]:
        """It takes no settings of its own."""
        return {}

    @staticmethod
    def config_defaults(base_dir: str) -> Mapping[str, ConfigurableClassData | None]:
        """Dagster's own, but for the storage."""
        place = yaml.safe_dump({"base_dir": base_dir})
        storage = ConfigurableClassData(
            OpenSqliteStorage.__module__, OpenSqliteStorage.__name__, place
        )
        return {**InstanceRef.config_defaults(base_dir), "storage": storage}

    def _get_event_batch_size(self) -> int:
        return int(os.getenv("DAGSTER_EVENT_BATCH_SIZE", str(_EVENT_BATCH_SIZE)))
