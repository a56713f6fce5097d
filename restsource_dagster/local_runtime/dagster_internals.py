"""Every undocumented name of Dagster that the local runtime uses.

The plug-ins replace parts of Dagster from within: the storage overrides methods that start with an
underscore, the launcher executes what Dagster's launchers for containers execute. `find_missing_name` says
whether the installed Dagster has all of it; if not, the plug-ins are off (see the package).
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.instance import InstanceRef

_missing_import: str | None = None
try:
    from dagster._core.event_api import EventHandlerFn
    from dagster._core.events import ASSET_EVENTS
    from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
    from dagster._core.remote_origin import (
        GrpcServerCodeLocationOrigin,
        ManagedGrpcPythonEnvCodeLocationOrigin,
    )
    from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
        INDEX_SHARD_NAME,
        SqliteEventLogStorage,
        SqliteEventLogStorageWatchdog,
    )
    from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
    from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import (
        SqliteScheduleStorage,
    )
    from dagster._core.storage.sqlite import create_db_conn_string
    from dagster._core.storage.sqlite_storage import (
        DagsterSqliteStorage,
        _event_logs_directory,
        _runs_directory,
        _schedule_directory,
    )
    from dagster._core.storage.tags import GRPC_INFO_TAG
    from dagster._grpc.types import ExecuteRunArgs
    from dagster._serdes import ConfigurableClassData
except ImportError as error:
    # The message names it: "cannot import name 'X' from 'dagster._core.y'".
    _missing_import = str(error)

__all__ = [
    "ASSET_EVENTS",
    "GRPC_INFO_TAG",
    "INDEX_SHARD_NAME",
    "REQUIRED_ATTRIBUTES",
    "CheckRunHealthResult",
    "ConfigurableClassData",
    "DagsterSqliteStorage",
    "EventHandlerFn",
    "ExecuteRunArgs",
    "GrpcServerCodeLocationOrigin",
    "LaunchRunContext",
    "ManagedGrpcPythonEnvCodeLocationOrigin",
    "SqliteEventLogStorage",
    "SqliteEventLogStorageWatchdog",
    "SqliteRunStorage",
    "SqliteScheduleStorage",
    "StockInstance",
    "WorkerStatus",
    "create_db_conn_string",
    "event_logs_directory",
    "execute_run_command",
    "find_missing_name",
    "has_attribute",
    "runs_directory",
    "schedules_directory",
]


REQUIRED_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    # storage: opened once per file instead of once per use
    "SqliteEventLogStorage": (
        "_connect",
        "_initdb",
        "_store_asset_event",
        "_store_asset_event_tags",
        "conn_string_for_shard",
        "index_transaction",
        "path_for_shard",
        "prepare_insert_event",
        "prepare_insert_event_batch",
        "run_connection",
        "store_event_batch",
        "watch",
        "wipe",
    ),
    "SqliteEventLogStorageWatchdog": ("_process_log", "dispatch"),
    "SqliteRunStorage": ("connect", "dispose", "from_local"),
    "SqliteScheduleStorage": ("connect", "dispose", "from_local"),
    "DagsterSqliteStorage": ("from_local",),
    "InstanceRef": ("config_defaults",),
    # launcher: a run is tagged with its process, and marked when that is gone
    "DagsterInstance": (
        "_get_event_batch_size",
        "add_run_tags",
        "get_ref",
        "report_engine_event",
        "report_run_canceled",
        "report_run_canceling",
        "report_run_failed",
    ),
    "DefaultRunLauncher": (
        "check_run_worker_health",
        "has_instance",
        "launch_run",
        "supports_check_run_worker_health",
        "terminate",
    ),
    "DagsterRun": ("job_code_origin", "remote_job_origin"),
    # queue: the pause between two looks
    "QueuedRunCoordinator": ("dequeue_interval_seconds",),
}
"""What the plug-ins override or call, by the class of Dagster that has it.

Left out are overrides that only save queries: a Dagster that lacks such a method never calls ours.
"""


def has_attribute(owner: str, name: str) -> bool:
    """True if a class of `REQUIRED_ATTRIBUTES` has an attribute."""
    return hasattr(globals().get(owner) or getattr(dg, owner, None), name)


def find_missing_name() -> str | None:
    """Return the first name that the installed Dagster lacks; None if it has all."""
    if _missing_import is not None:
        return _missing_import
    for owner, names in REQUIRED_ATTRIBUTES.items():
        for name in names:
            if not has_attribute(owner, name):
                return f"{owner}.{name}"
    return None


class StockInstance(dg.DagsterInstance):
    """Dagster's own instance, as a class that `instance_class` in `dagster.yaml` may name."""

    @classmethod
    def config_schema(cls) -> Mapping[str, Any]:
        """Return no settings: the class has none of its own."""
        return {}

    @staticmethod
    def config_defaults(base_dir: str) -> "Mapping[str, ConfigurableClassData | None]":
        """Return Dagster's own defaults: storage, launcher and queue below `base_dir`."""
        return InstanceRef.config_defaults(base_dir)


def runs_directory(base_dir: str) -> str:
    """Return the folder of the runs' database below an instance's folder."""
    return _runs_directory(base_dir)


def event_logs_directory(base_dir: str) -> str:
    """Return the folder of the runs' events below an instance's folder."""
    return _event_logs_directory(base_dir)


def schedules_directory(base_dir: str) -> str:
    """Return the folder of the ticks' database below an instance's folder."""
    return _schedule_directory(base_dir)


def execute_run_command(arguments: str) -> None:
    """Do what `dagster api execute_run` does with these arguments. Raises `SystemExit` at the end."""
    # A fork server imports this after its preparations, the other processes never.
    from dagster._cli.api import api_cli

    api_cli.main(args=["execute_run", arguments], standalone_mode=False)
