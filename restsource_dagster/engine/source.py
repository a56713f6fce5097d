"""From a connector to a dlt source.

It stands where dlt's `rest_api` source stands and shares its reading of the file, but requests
pass our session, pages our page loop, and each resource has a session of its own.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dlt
from dlt.extract import DltResource, DltSource, Incremental

from restsource_dagster.config.connector import Connector, Family
from restsource_dagster.engine.calls import call_below, root_call
from restsource_dagster.engine.children import ChildErrors
from restsource_dagster.engine.endpoints import EndpointMaker
from restsource_dagster.engine.paging.pages import Endpoint
from restsource_dagster.engine.plans import ResourcePlan, read_plans
from restsource_dagster.engine.tally import Tally

__all__ = ["FamilySource", "build_family_source"]

Records = list[Any]


@dataclass(frozen=True)
class FamilySource:
    """The dlt source of one family, with what its resources count."""

    source: DltSource
    tallies: Mapping[str, Tally]


def build_family_source(
    connector: Connector,
    config: Mapping[str, Any],
    maker: EndpointMaker,
    family: Family,
    loaded: Collection[str],
) -> FamilySource:
    """A source of the family's resources that are `loaded`, or that a loaded one depends on.

    `config` is `connector.rest_api_config()` with its references resolved. A parent that is not
    loaded is asked for all the same, from its initial value on, and its incremental cursor stays
    where it is. Raises dlt's `ConfigFieldMissingException` for a secret that is neither in the file
    nor where dlt looks.
    """
    tallies: dict[str, Tally] = {}

    def resources() -> Iterator[DltResource]:
        built: dict[str, DltResource] = {}
        for plan in read_plans(family, config, loaded):
            name = plan.resource.name
            tallies[name] = Tally()
            endpoint = maker.make(plan, tallies[name])
            errors = ChildErrors(connector.http.on_child_error, tallies[name])
            built[name] = _resource(plan, endpoint, errors, built)
            built[name].selected = plan.loaded
            yield built[name]

    name = connector.name
    return FamilySource(dlt.source(resources, name=name, section=name)(), tallies)


def _resource(
    plan: ResourcePlan,
    endpoint: Endpoint,
    errors: ChildErrors,
    built: Mapping[str, DltResource],
) -> DltResource:
    make: Any
    if plan.resource.parent is None:
        make = dlt.resource(_root_pages, **plan.hints)
    else:
        parent = built[plan.resource.parent]
        make = dlt.transformer(_child_pages, data_from=parent, **plan.hints)
    resource: DltResource
    if plan.detached is None:
        resource = make(endpoint, errors, plan, plan.incremental)
    else:  # as a step of its own, because dlt would turn an argument into its own class
        resource = make(endpoint, errors, plan).add_step(plan.detached)
    is_root = plan.resource.parent is None
    return resource.parallelize() if plan.parallelized and is_root else resource


def _root_pages(
    endpoint: Endpoint,
    errors: ChildErrors,  # noqa: ARG001 - both kinds of resource are made with the same arguments
    plan: ResourcePlan,
    incremental: Incremental[Any] | None = None,
) -> Iterator[Records]:
    """The pages of a resource that stands alone."""
    yield from endpoint.pages(root_call(plan, incremental or plan.detached))


def _child_pages(
    items: Any,
    endpoint: Endpoint,
    errors: ChildErrors,
    plan: ResourcePlan,
    incremental: Incremental[Any] | None = None,
) -> Iterator[Records | Callable[[], Records]]:
    """The pages of a dependent resource: one call for each record of its parent's page."""

    def pages_below(parent: Mapping[str, Any]) -> Iterator[Records]:
        call, from_parent = call_below(plan, incremental or plan.detached, parent)
        with errors.of(call.path):
            for records in endpoint.pages(call):
                for record in records:
                    record.update(from_parent)
                yield records

    def all_below(parent: Mapping[str, Any]) -> Callable[[], Records]:
        return lambda: [record for page in pages_below(parent) for record in page]

    for parent in items if isinstance(items, list) else [items]:
        if plan.parallelized:
            yield all_below(parent)
        else:
            yield from pages_below(parent)
