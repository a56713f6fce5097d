"""A project in a folder of its own: connectors of a real server, and a Dagster instance."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from restsource_dagster_tests.servers.api import ApiServer

__all__ = ["Project"]


@dataclass(frozen=True)
class Project:
    """A folder as `make run` has it, with the shop's connector in it."""

    folder: Path
    api: ApiServer

    def write_connector(self, *resources: Any, name: str = "shop", **changes: Any) -> Path:
        """Write a connector of these resources."""
        value: Mapping[str, Any] = {
            "schedule": {"mode": "hours"},
            "client": {"base_url": self.api.url, "auth": {"type": "bearer", "token": "${TOKEN}"}},
            "resource_defaults": {"endpoint": {"data_selector": "data"}},
            "resources": list(resources),
            **changes,
        }
        path = self.folder / "configs" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(value, indent=1))
        return path

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """The project's Dagster instance, as the UI would open it."""
        with dg.DagsterInstance.from_config(str(self.folder / ".dagster")) as instance:
            yield instance

    def runs(self) -> list[dg.DagsterRun]:
        """The runs that the instance knows, the latest first."""
        with self.instance() as instance:
            return list(instance.get_runs())
