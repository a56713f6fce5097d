"""What a Dagster project that takes in our definitions may add to them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from restsource_dagster.connector.model import Connector, Resource

if TYPE_CHECKING:  # `run_config` refers to this module
    from restsource_dagster.orchestration.run_config import LoadConfig, RunSettings

__all__ = ["HostOptions"]

Execute = Callable[
    [dg.AssetExecutionContext, Connector, "RunSettings", "LoadConfig"],
    Iterator[dg.MaterializeResult[Any]],
]


@dataclass(frozen=True)
class HostOptions:
    """Changes to the definitions of connectors. Without any they are what a project of our own has."""

    prefix: str = ""
    """The beginning of the names that do not contain a connector's, so that several calls fit into one code
    location: those of sensors, and of the group of broken files."""
    translate: Callable[[Connector, Resource, dg.AssetSpec], dg.AssetSpec] | None = None
    """Returns the spec of a resource's asset, given ours."""
    execute: Execute | None = None
    """Called in a run in place of `materialize_connector`."""
    pool: str | None = None
    """The pool of all ops; a pool of its own for each connector if left out."""
    op_tags: Mapping[str, str] = field(default_factory=dict)
    retry_policy: dg.RetryPolicy | None = None

    def prefixed(self, name: str) -> str:
        """Return a name with the prefix."""
        return f"{self.prefix}_{name}" if self.prefix else name

    def asset_spec(
        self, connector: Connector, resource: Resource, spec: dg.AssetSpec
    ) -> dg.AssetSpec:
        """Return the translated spec. Raises `ValueError` if its key is another one."""
        if self.translate is None:
            return spec
        translated = self.translate(connector, resource, spec)
        # Schedules, sensors, backfills and run tags find assets by this key.
        if translated.key != spec.key:
            raise ValueError(
                f"the key of an asset stays {spec.key.to_user_string()}, and the translation makes "
                f"{translated.key.to_user_string()} of it: set `group_name`, `tags` or `kinds` instead"
            )
        return translated
