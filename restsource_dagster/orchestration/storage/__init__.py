"""Dagster's SQLite storage, with its files kept open."""

from restsource_dagster.orchestration.storage.instance import LightInstance
from restsource_dagster.orchestration.storage.opened import OpenSqliteStorage

__all__ = ["LightInstance", "OpenSqliteStorage"]
