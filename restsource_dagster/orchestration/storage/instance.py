"""A Dagster instance that writes little and rarely: what `instance_class` in `dagster.yaml` names."""

import os
from collections.abc import Mapping
from typing import Any

import dagster as dg
import yaml
from dagster._core.instance import InstanceRef
from dagster._serdes import ConfigurableClassData

from restsource_dagster.orchestration.storage.opened import OpenSqliteStorage

__all__ = ["LightInstance"]

_BATCH = 100
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
        return int(os.getenv("DAGSTER_EVENT_BATCH_SIZE", str(_BATCH)))
