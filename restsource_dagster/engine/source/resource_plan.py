"""A connector file as dlt reads it: defaults merged, parents found, incrementals made."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlt.extract import Incremental

from restsource_dagster.connector.resources import Family, Resource
from restsource_dagster.engine.dlt_compat import (
    ResolvedParam,
    build_resource_dependency_graph,
    setup_incremental_object,
)
from restsource_dagster.engine.http.origins import without_foreign_defaults

__all__ = ["ResourcePlan", "build_resource_plans"]

_NON_HINT_KEYS = {"endpoint", "include_from_parent", "processing_steps", "parallelized"}


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
    incremental: Incremental[Any] | None
    start_param: str | None
    end_param: str | None

    @property
    def appends(self) -> bool:
        """Whether a row that comes again would be there twice."""
        return self.resource.disposition.value == "append"

    @property
    def identity(self) -> Any:
        """The fields that tell rows with the same cursor apart; None is all of them."""
        given = self.incremental.primary_key if self.incremental else None
        return (self.resource.primary_key or None) if given is None else (given or None)


def build_resource_plans(
    family: Family, config: Mapping[str, Any], loaded: Collection[str]
) -> Iterator[ResourcePlan]:
    """The plans of the members that are loaded or needed by one that is, parents first.

    `config` is dlt's `RESTAPIConfig` with all references resolved.
    """
    needed = _needed_names(family, loaded)
    defaults: Any = config.get("resource_defaults") or {}
    _, definitions, parents = build_resource_dependency_graph(defaults, config["resources"])
    given = {item["name"]: item for item in config["resources"] if isinstance(item, Mapping)}
    for resource in family.members:
        if resource.name in needed:
            definition: Any = definitions[resource.name]
            said = given.get(resource.name, {}).get("endpoint")
            endpoint = without_foreign_defaults(
                definition["endpoint"],
                said if isinstance(said, Mapping) else None,
                config["client"]["base_url"],
            )
            yield _build_resource_plan(
                resource,
                {**definition, "endpoint": endpoint},
                tuple(parents[resource.name] or ()),
                loaded=resource.name in loaded,
            )


def _needed_names(family: Family, loaded: Collection[str]) -> set[str]:
    needed: set[str] = set()
    parents = {member.name: member.parent for member in family.members}
    for name in loaded:
        current: str | None = name
        while current:
            needed.add(current)
            current = parents[current]
    return needed


def _build_resource_plan(
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
        hints=_resource_hints(definition, resource),
        endpoint=endpoint,
        parent_params=parent_params,
        include_from_parent=definition.get("include_from_parent") or (),
        incremental=incremental,
        start_param=param.start if param else None,
        end_param=param.end if param else None,
    )


def _resource_hints(definition: Mapping[str, Any], resource: Resource) -> Mapping[str, Any]:
    hints = {key: value for key, value in definition.items() if key not in _NON_HINT_KEYS}
    if resource.disposition.derived:
        hints["write_disposition"] = resource.disposition.value
    if resource.max_table_nesting is not None:
        hints["max_table_nesting"] = resource.max_table_nesting
    return hints
