"""From a connector to a dlt source.

It stands where dlt's `rest_api` source stands and shares its reading of the file, but requests
pass our session, pages our page loop, and each resource has a session of its own.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dlt
from dlt.extract import DltResource, DltSource, Incremental
from dlt.sources.rest_api.config_setup import create_auth, create_paginator

from restsource_dagster.config.connector import Connector, Family
from restsource_dagster.engine.calls import call_below, root_call
from restsource_dagster.engine.pages import Endpoint, is_ignored
from restsource_dagster.engine.plans import ResourcePlan, read_plans
from restsource_dagster.engine.progress import Progress
from restsource_dagster.engine.redaction import Redactor
from restsource_dagster.engine.session import ApiSession, Meter

__all__ = ["FamilySource", "SourceContext", "build_family_source"]

Records = list[Any]


@dataclass(frozen=True)
class SourceContext:
    """What the resources of one run share.

    `config` is `connector.rest_api_config()` with its references resolved.
    """

    connector: Connector
    config: Mapping[str, Any]
    redactor: Redactor
    progress: Progress


@dataclass(frozen=True)
class FamilySource:
    """The dlt source of one family, with the meters of its resources."""

    source: DltSource
    meters: Mapping[str, Meter]


def build_family_source(
    context: SourceContext, family: Family, loaded: Collection[str]
) -> FamilySource:
    """A source of the family's resources that are `loaded`, or that a loaded one depends on.

    A parent that is not loaded is asked for all the same, from its initial value on, and its
    incremental cursor stays where it is. Raises dlt's `ConfigFieldMissingException` for a secret
    that is neither in the file nor where dlt looks.
    """
    meters: dict[str, Meter] = {}

    def resources() -> Iterator[DltResource]:
        built: dict[str, DltResource] = {}
        for plan in read_plans(family, context.config, loaded):
            name = plan.resource.name
            meters[name] = Meter()
            endpoint = _endpoint(context, plan, meters[name])
            built[name] = _resource(plan, endpoint, built)
            built[name].selected = plan.loaded
            yield built[name]

    name = context.connector.name
    return FamilySource(dlt.source(resources, name=name, section=name)(), meters)


def _endpoint(context: SourceContext, plan: ResourcePlan, meter: Meter) -> Endpoint:
    client, endpoint, name = context.config["client"], plan.endpoint, plan.resource.name
    actions = tuple(endpoint.get("response_actions") or ())
    session = ApiSession(
        timeout_seconds=context.connector.http.timeout_seconds,
        meter=meter,
        settled=lambda response: is_ignored(response, actions),
        on_wait=lambda text: context.progress.message(f"{name}: {text}"),
    )
    auth = _with_session(endpoint.get("auth", client.get("auth")), session)
    return Endpoint(
        resource=name,
        base_url=client["base_url"],
        session=session,
        redactor=context.redactor,
        headers=client.get("headers"),
        auth=create_auth(auth),
        paginator=create_paginator(endpoint.get("paginator") or client.get("paginator")),
        data_selector=endpoint.get("data_selector"),
        actions=actions,
        on_page=lambda rows: context.progress.page(name, rows),
    )


def _with_session(auth: Any, session: ApiSession) -> Any:
    """Token requests pass our session, too."""
    auth = {"type": auth} if isinstance(auth, str) else auth
    if isinstance(auth, dict) and auth.get("type") == "oauth2_client_credentials":
        return {**auth, "session": session}
    return auth


def _resource(
    plan: ResourcePlan, endpoint: Endpoint, built: Mapping[str, DltResource]
) -> DltResource:
    make: Any
    if plan.resource.parent is None:
        make = dlt.resource(_root_pages, **plan.hints)
    else:
        make = dlt.transformer(_child_pages, data_from=built[plan.resource.parent], **plan.hints)
    resource: DltResource
    if plan.detached is None:
        resource = make(endpoint, plan, plan.incremental)
    else:  # as a step of its own, because dlt would turn an argument into its own class
        resource = make(endpoint, plan).add_step(plan.detached)
    is_root = plan.resource.parent is None
    return resource.parallelize() if plan.parallelized and is_root else resource


def _root_pages(
    endpoint: Endpoint, plan: ResourcePlan, incremental: Incremental[Any] | None = None
) -> Iterator[Records]:
    """The pages of a resource that stands alone."""
    yield from endpoint.pages(root_call(plan, incremental or plan.detached))


def _child_pages(
    items: Any,
    endpoint: Endpoint,
    plan: ResourcePlan,
    incremental: Incremental[Any] | None = None,
) -> Iterator[Records | Callable[[], Records]]:
    """The pages of a dependent resource: one call for each record of its parent's page."""

    def pages_below(parent: Mapping[str, Any]) -> Iterator[Records]:
        call, from_parent = call_below(plan, incremental or plan.detached, parent)
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
