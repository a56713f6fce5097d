"""What it takes to read the resources of a family: endpoints bound, parents' fields and cursors found."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.endpoint import Endpoint, bind_path
from restsource_dagster.connector.models.paginators import Paginator
from restsource_dagster.connector.resources import Family, Resource
from restsource_dagster.engine.dlt_compat import ResolvedParam
from restsource_dagster.engine.http.origins import has_foreign_origin
from restsource_dagster.engine.source.dlt_adapter import (
    DltIncremental,
    is_single_entity,
    make_incremental,
    make_resolved_params,
)

__all__ = ["ResourcePlan", "build_resource_plans"]


@dataclass(frozen=True)
class ResourcePlan:
    """One resource, ready to be read: secrets filled in, the path bound, placeholders still in."""

    resource: Resource
    loaded: bool
    """False for a parent that is read only because its dependents need it."""
    endpoint: Endpoint
    is_foreign: bool
    """True if the URL is of another origin than `base_url`: the client's credentials stay here."""
    is_single_entity: bool
    """True if dlt takes the answer for one record, as the path ends in a placeholder."""
    incremental: DltIncremental[Any] | None
    """The cursor as dlt has it; a window puts its own ends in its place."""

    @cached_property
    def parent_params(self) -> tuple[ResolvedParam, ...]:
        """What a call takes from each record of the parent, in the order of the file."""
        return make_resolved_params(self.endpoint.parent_fields)

    @property
    def start_param(self) -> str | None:
        """The query parameter that takes the cursor's start."""
        cursor = self.endpoint.cursor
        return cursor.start_param if cursor else None

    @property
    def end_param(self) -> str | None:
        """The query parameter that takes the cursor's end."""
        cursor = self.endpoint.cursor
        return cursor.end_param if cursor else None

    @property
    def data_selector(self) -> str | None:
        """The selector of the records: the file's, else dlt's choice for a single record."""
        given = self.endpoint.data_selector
        return "$" if given is None and self.is_single_entity else given

    def paginator(self, clients: Paginator | None) -> Paginator | None:
        """The paginator, given that of the client; None means that it is detected."""
        default = "single_page" if self.is_single_entity else clients
        return self.endpoint.paginator or default

    @property
    def appends(self) -> bool:
        """True for `append`: a row read twice is stored twice."""
        return self.resource.disposition.value == "append"

    @property
    def identity(self) -> Any:
        """The fields that tell rows with the same cursor apart; None is all of them."""
        given = self.incremental.primary_key if self.incremental else None
        return (self.resource.primary_key or None) if given is None else (given or None)


def build_resource_plans(
    family: Family, connector: Connector, loaded: Collection[str]
) -> Iterator[ResourcePlan]:
    """Yield the plans of the members that are loaded or needed by one that is, parents first.

    `connector` has its references resolved.
    """
    needed = _needed_names(family, loaded)
    for name in family.names:
        if name in needed:
            yield _build_plan(connector.resource(name), connector, loaded=name in loaded)


def _needed_names(family: Family, loaded: Collection[str]) -> set[str]:
    needed: set[str] = set()
    parents = {member.name: member.parent for member in family.members}
    for name in loaded:
        current: str | None = name
        while current:
            needed.add(current)
            current = parents[current]
    return needed


def _build_plan(resource: Resource, connector: Connector, *, loaded: bool) -> ResourcePlan:
    # only now: the value of a reference may be a whole URL, or have braces of its own
    path = bind_path(resource.path, resource.path_params)
    is_foreign = has_foreign_origin(connector.client.base_url, path)
    endpoint = resource.endpoint
    if is_foreign and resource.foreign_endpoint:
        endpoint = resource.foreign_endpoint
    bound = Endpoint.of({**endpoint.given, "path": path})
    return ResourcePlan(
        resource=resource,
        loaded=loaded,
        endpoint=bound,
        is_foreign=is_foreign,
        # dlt decides before it binds the path: `{id}` at the end counts, whatever is put there
        is_single_entity=is_single_entity(resource.path),
        incremental=make_incremental(bound.cursor),
    )
