"""From a connector to a dlt source.

It stands where dlt's `rest_api` source stands and shares its reading of the file, but requests
pass our session, pages our page loop, rows our cursors, and each resource has a session of its own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dlt
from dlt.common.schema import Schema
from dlt.extract import DltResource, DltSource

from restsource_dagster.config.connector import Connector
from restsource_dagster.engine.children import Children
from restsource_dagster.engine.columnar.feed import ColumnFeed
from restsource_dagster.engine.columnar.parts import Parts
from restsource_dagster.engine.endpoints import EndpointMaker
from restsource_dagster.engine.family_cursors import FamilyCursors
from restsource_dagster.engine.plans import ResourcePlan
from restsource_dagster.engine.reading import Reading, child_pages, root_pages
from restsource_dagster.engine.tally import Tally
from restsource_dagster.engine.values import Values
from restsource_dagster.engine.window_rows import Window, WindowCursors, bounded

__all__ = ["FamilySource", "build_family_source", "joined"]


@dataclass(frozen=True)
class FamilySource:
    """The dlt source of one family, with what its resources count."""

    source: DltSource
    tallies: Mapping[str, Tally]
    plans: Mapping[str, ResourcePlan]
    values: Mapping[str, Values]
    feeds: Mapping[str, ColumnFeed]
    """What is written as columns; resources that are loaded as rows have none."""


def build_family_source(
    connector: Connector,
    maker: EndpointMaker,
    plans: Mapping[str, ResourcePlan],
    root: str,
    *,
    say: Callable[[str], None],
    schema: Schema | None = None,
    window: Window | None = None,
    parts: Parts | None = None,
) -> FamilySource:
    """A source of a family's resources that are loaded, or that a loaded one depends on.

    `plans` are theirs, `root` is the name of the one above all others. A parent that is not
    loaded is asked for all the same, and its own incremental cursor stays where it is. Raises dlt's
    `ConfigFieldMissingException` for a secret that is neither in the file nor where dlt looks.
    `schema` is what the destination knows of the tables, if dlt's pipeline doesn't. With a `window`
    only its rows are read, and no cursor is known or moved. Rows that can be columns go to `parts`.
    """
    if window is not None:
        plans = {**plans, root: bounded(plans[root], window)}
    tallies = {name: maker.tally(name) for name in plans}
    # names become columns as dlt's configuration says
    normalize = (schema or Schema(connector.name)).naming.normalize_identifier
    cursors = WindowCursors(plans, say, window) if window else FamilyCursors(plans, say)
    feeds = _feeds(plans, parts, say) if parts else {}
    spreads = {name: feed.spread for name, feed in feeds.items()}
    values = {
        name: Values(name, normalize, say, maker.redactor, spreads.get(name)) for name in plans
    }

    def resources() -> Iterator[DltResource]:
        pages: dict[str, DltResource] = {}
        for name, plan in plans.items():
            rule = connector.http.on_child_error
            children = Children(plan, cursors, rule, tallies[name], maker.redactor)
            endpoint = maker.make(plan)
            reading = Reading(plan, endpoint, cursors, children, values[name])
            is_parent = any(other.resource.parent == name for other in plans.values())
            yield from _resources(reading, feeds.get(name), pages, is_parent=is_parent)

    name = connector.name
    named = {"schema": schema} if schema else {"name": name}
    source = dlt.source(resources, section=name, **named)()
    # nested rows know their root row, so that a table can be merged into later on, too
    source.root_key = True
    return FamilySource(source, tallies, plans, values, feeds)


def joined(sources: Sequence[DltSource]) -> DltSource:
    """The first source with the resources of the others added: all of one connector, with different tables."""
    first = sources[0]
    for other in sources[1:]:
        first.resources.add(*other.resources.values())
    return first


def _feeds(
    plans: Mapping[str, ResourcePlan], parts: Parts, say: Callable[[str], None]
) -> Mapping[str, ColumnFeed]:
    return {
        name: ColumnFeed(plan.resource.table, parts, say)
        for name, plan in plans.items()
        if plan.loaded and plan.resource.mode != "rows"
    }


def _resources(
    reading: Reading, feed: ColumnFeed | None, pages: dict[str, DltResource], *, is_parent: bool
) -> Iterator[DltResource]:
    """The resource of a plan; and, before it, the one that reads its pages if both its table and its
    dependents need them. `pages` are those that dependents read from, by the parent's name."""
    plan = reading.plan
    name, parent = plan.resource.name, plan.resource.parent
    above = pages[parent] if parent else None
    if feed is None or not is_parent:
        made = _made(_read(above), above, plan.hints, reading, feed)
        made.selected = plan.loaded
        pages[name] = made
        yield made
        return
    pages[name] = _made(_read(above), above, {"name": f"{name} (pages)"}, reading, None)
    pages[name].selected = False
    yield pages[name]
    yield _made(_fed, pages[name], plan.hints, feed)


def _made(
    function: Callable[..., Any], above: DltResource | None, hints: Mapping[str, Any], *args: Any
) -> DltResource:
    make: Any
    if above is None:
        make = dlt.resource(function, **hints)
    else:
        make = dlt.transformer(function, data_from=above, **hints)
    made: DltResource = make(*args)
    return made


def _read(above: DltResource | None) -> Callable[..., Iterator[Any]]:
    return _root if above is None else _child


def _root(reading: Reading, feed: ColumnFeed | None) -> Iterator[Any]:
    pages = root_pages(reading)
    return feed.through(pages) if feed else pages


def _child(items: Any, reading: Reading, feed: ColumnFeed | None) -> Iterator[Any]:
    pages = child_pages(items, reading)
    return feed.through(pages) if feed else pages


def _fed(items: Any, feed: ColumnFeed) -> Iterator[Any]:
    return feed.through(iter([items]))
