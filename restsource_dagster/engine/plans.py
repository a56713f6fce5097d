"""A connector file as dlt reads it: defaults merged, parents found, incrementals made."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlt.extract import Incremental
from dlt.sources.rest_api.config_setup import (
    build_resource_dependency_graph,
    setup_incremental_object,
)
from dlt.sources.rest_api.typing import ResolvedParam

from restsource_dagster.config.connector import Family, Resource
from restsource_dagster.engine.cursors import DetachedIncremental

__all__ = ["ResourcePlan", "read_plans"]

_NOT_HINTS = {"endpoint", "include_from_parent", "processing_steps", "parallelized"}


@dataclass(frozen=True)
class ResourcePlan:
    """One resource, ready to be built: placeholders still in, secrets filled in."""

    resource: Resource
    loaded: bool
    """False for a parent that is asked for only because its dependents need it."""
    hints: Mapping[str, Any]
    """dlt's resource hints: name, write_disposition, primary_key, columns, ..."""
    endpoint: Mapping[str, Any]
    """dlt's endpoint: path, method, params, ..."""
    parent_params: tuple[ResolvedParam, ...]
    """What a dependent resource takes from each record of its parent."""
    include_from_parent: Sequence[str]
    parallelized: bool
    incremental: Incremental[Any] | None
    start_param: str | None
    end_param: str | None

    @property
    def detached(self) -> DetachedIncremental | None:
        """The incremental of a resource that is not loaded: it leaves no trace."""
        return self.incremental if isinstance(self.incremental, DetachedIncremental) else None


def read_plans(
    family: Family, config: Mapping[str, Any], loaded: Collection[str]
) -> Iterator[ResourcePlan]:
    """The plans of the members that are loaded or needed by one that is, parents first.

    `config` is dlt's `RESTAPIConfig` with all references resolved.
    """
    needed = _needed(family, loaded)
    defaults: Any = config.get("resource_defaults") or {}
    _, definitions, parents = build_resource_dependency_graph(defaults, config["resources"])
    for resource in family.members:
        if resource.name in needed:
            definition: Any = definitions[resource.name]
            yield _plan(
                resource,
                definition,
                tuple(parents[resource.name] or ()),
                loaded=resource.name in loaded,
            )


def _needed(family: Family, loaded: Collection[str]) -> set[str]:
    needed: set[str] = set()
    parents = {member.name: member.parent for member in family.members}
    for name in loaded:
        current: str | None = name
        while current:
            needed.add(current)
            current = parents[current]
    return needed


def _plan(
    resource: Resource,
    definition: Mapping[str, Any],
    parent_params: tuple[ResolvedParam, ...],
    *,
    loaded: bool,
) -> ResourcePlan:
    endpoint = definition["endpoint"]
    incremental, param, _ = setup_incremental_object(
        endpoint.get("params") or {}, endpoint.get("incremental")
    )
    return ResourcePlan(
        resource=resource,
        loaded=loaded,
        hints=_hints(definition, resource),
        endpoint=endpoint,
        parent_params=parent_params,
        include_from_parent=definition.get("include_from_parent") or (),
        parallelized=bool(definition.get("parallelized")),
        incremental=_settled(incremental, resource, loaded=loaded) if incremental else None,
        start_param=param.start if param else None,
        end_param=param.end if param else None,
    )


def _hints(definition: Mapping[str, Any], resource: Resource) -> Mapping[str, Any]:
    hints = {key: value for key, value in definition.items() if key not in _NOT_HINTS}
    if resource.disposition.derived:
        hints["write_disposition"] = resource.disposition.value
    return hints


def _settled(
    incremental: Incremental[Any], resource: Resource, *, loaded: bool
) -> Incremental[Any]:
    """With merge, boundary rows are always taken again: a row may change and keep its cursor."""
    if not loaded:
        return DetachedIncremental.of(incremental)
    if resource.disposition.value == "merge" and incremental.primary_key is None:
        incremental.set_deduplication_key((), from_hints=False)
    return incremental
