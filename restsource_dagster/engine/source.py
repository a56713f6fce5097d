"""From a connector to a dlt source.

It stands where dlt's `rest_api` source stands and shares its reading of the file, but requests
pass our session, pages our page loop, rows our cursors, and each resource has a session of its own.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dlt
from dlt.common.schema import Schema
from dlt.extract import DltResource, DltSource

from restsource_dagster.config.connector import Connector, Family
from restsource_dagster.engine.children import Children
from restsource_dagster.engine.endpoints import EndpointMaker
from restsource_dagster.engine.family_cursors import FamilyCursors
from restsource_dagster.engine.plans import ResourcePlan, read_plans
from restsource_dagster.engine.reading import Reading, child_pages, root_pages
from restsource_dagster.engine.tally import Tally
from restsource_dagster.engine.values import Values
from restsource_dagster.engine.window_rows import Window, WindowCursors, bounded

__all__ = ["FamilySource", "build_family_source"]


@dataclass(frozen=True)
class FamilySource:
    """The dlt source of one family, with what its resources count."""

    source: DltSource
    tallies: Mapping[str, Tally]
    plans: Mapping[str, ResourcePlan]
    values: Mapping[str, Values]


def build_family_source(
    connector: Connector,
    config: Mapping[str, Any],
    maker: EndpointMaker,
    family: Family,
    loaded: Collection[str],
    *,
    say: Callable[[str], None],
    schema: Schema | None = None,
    window: Window | None = None,
) -> FamilySource:
    """A source of the family's resources that are `loaded`, or that a loaded one depends on.

    `config` is `connector.rest_api_config()` with its references resolved. A parent that is not
    loaded is asked for all the same, and its own incremental cursor stays where it is. Raises dlt's
    `ConfigFieldMissingException` for a secret that is neither in the file nor where dlt looks.
    `schema` is what the destination knows of the tables, if dlt's pipeline doesn't. With a `window`
    only its rows are read, and no cursor is known or moved.
    """
    plans = {plan.resource.name: plan for plan in read_plans(family, config, loaded)}
    if window is not None:
        plans[family.root.name] = bounded(plans[family.root.name], window)
    tallies = {name: Tally() for name in plans}
    # names become columns as dlt's configuration says
    normalize = (schema or Schema(connector.name)).naming.normalize_identifier
    values = {name: Values(name, normalize, say) for name in plans}
    cursors = WindowCursors(plans, say, window) if window else FamilyCursors(plans, say)

    def resources() -> Iterator[DltResource]:
        built: dict[str, DltResource] = {}
        for name, plan in plans.items():
            children = Children(plan, cursors, connector.http.on_child_error, tallies[name])
            endpoint = maker.make(plan, tallies[name])
            reading = Reading(plan, endpoint, cursors, children, values[name])
            built[name] = _resource(reading, built)
            built[name].selected = plan.loaded
            yield built[name]

    name = connector.name
    named = {"schema": schema} if schema else {"name": name}
    source = dlt.source(resources, section=name, **named)()
    # nested rows know their root row, so that a table can be merged into later on, too
    source.root_key = True
    return FamilySource(source, tallies, plans, values)


def _resource(reading: Reading, built: Mapping[str, DltResource]) -> DltResource:
    plan = reading.plan
    make: Any
    if plan.resource.parent is None:
        make = dlt.resource(root_pages, **plan.hints)
        resource: DltResource = make(reading)
        return resource.parallelize() if plan.parallelized else resource
    parent = built[plan.resource.parent]
    make = dlt.transformer(child_pages, data_from=parent, **plan.hints)
    dependent: DltResource = make(reading)
    return dependent
