"""The first call of each family, known before its turn: its pages are fetched meanwhile.

A call depends on the stored cursor, which is at hand once the pipeline is open, and which no other
family touches. Here it is made of a copy of the state. When the family's turn comes the call is made
of the state itself, and what was fetched counts only if it is the same call.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dlt
from dlt.common.schema import Schema

from restsource_dagster.connector.resources import Family
from restsource_dagster.engine import dlt_compat
from restsource_dagster.engine.destination.recovery import check_safe_to_append
from restsource_dagster.engine.dlt_compat import Container
from restsource_dagster.engine.incremental.family_cursors import FamilyCursors
from restsource_dagster.engine.incremental.row_filter import PlaceholderCursor, RowFilter
from restsource_dagster.engine.run.family_load import ConnectorRun
from restsource_dagster.engine.source.calls import root_call
from restsource_dagster.engine.source.resource_plan import ResourcePlan

__all__ = ["FamilyPrefetch"]

UpcomingFamily = tuple[Family, Collection[str]]
"""A family, and the resources of it that are loaded."""


class FamilyPrefetch:
    """Has the first calls of the families that come next fetched, as the run goes on.

    `is_plain` tells whether a family is loaded from where its cursor stands, and not from somewhere
    else that a person asked for.
    """

    def __init__(
        self, families: Sequence[UpcomingFamily], is_plain: Callable[[Collection[str]], bool]
    ) -> None:
        self._families = families
        self.is_plain = is_plain
        self._looked_at = 0

    def begin(self, run: ConnectorRun) -> None:
        """Ask for the first page of all while the pipeline is opened, if it depends on no cursor."""
        for family, loaded in self._families[: min(1, run.endpoints.looks_ahead)]:
            try:
                root = run.plans(family, loaded)[family.root.name]
                if root.incremental is None:
                    # no more than a page: the destination may turn out not to be there
                    run.endpoints.endpoint(root).prefetch_for_later(
                        root_call(root, None), may_stop_early=True
                    )
                    self._looked_at = 1
            except Exception:  # noqa: BLE001, S112 - the family meets the same error in its turn
                continue

    def wait_for_first(self, run: ConnectorRun, family: Family, most: float) -> None:
        """Wait until the first page of a family is there, or can't be had ahead; `most` in seconds."""
        try:
            self.look(run, run.pipelines.open(), family)
        except Exception:  # noqa: BLE001 - the family meets the same error in its turn
            return
        run.endpoints.wait_for_first(family.root.name, most)

    def look(self, run: ConnectorRun, pipeline: dlt.Pipeline, family: Family) -> None:
        """Foresee a family, whose turn it is, and some after it."""
        names = [one.root.name for one, _ in self._families]
        last = names.index(family.root.name) + 1 + run.endpoints.looks_ahead
        if not run.endpoints.looks_ahead:
            return
        for upcoming in self._families[self._looked_at : last]:
            try:
                _prefetch_family(run, pipeline, *upcoming, is_plain=self.is_plain(upcoming[1]))
            except Exception:  # noqa: BLE001, S112 - the family meets the same error in its turn
                continue
        self._looked_at = max(self._looked_at, last)


def _prefetch_family(
    run: ConnectorRun,
    pipeline: dlt.Pipeline,
    family: Family,
    loaded: Collection[str],
    *,
    is_plain: bool,
) -> None:
    plans = run.plans(family, loaded)
    root = plans[family.root.name]
    endpoint = run.endpoints.endpoint(root)
    if not is_plain:
        return
    sources = pipeline.state.get("sources", {})
    known = sources.get(run.connector.name, {}).get("resources", {})
    state = {name: _mutable_copy(known[name]) for name in plans if name in known}
    check_safe_to_append(plans, {"resources": state}, _schema_row_counter(run), family=plans)
    with _injected_state(run.connector.name, state):
        stream = _open_root_filter(plans, root)
    view = (
        PlaceholderCursor.of(root.incremental, stream.start)
        if stream and root.incremental
        else None
    )
    may_stop = stream is not None and stream.may_finish_early
    endpoint.prefetch_for_later(root_call(root, view), may_stop_early=may_stop)


def _open_root_filter(plans: Mapping[str, ResourcePlan], root: ResourcePlan) -> RowFilter | None:
    for name, plan in plans.items():
        if plan.resource.disposition.value == "replace":
            dlt_compat.reset_resource_state(name)  # as dlt does before it extracts
    opened = FamilyCursors(plans, lambda _: None).open(root, None)
    return opened.stream if opened else None


def _schema_row_counter(run: ConnectorRun) -> Callable[[str], int]:
    """Tells by the schema whether a table may have rows: the destination need not be asked."""

    def count(table: str) -> int:
        schema = run.pipelines.schema() or Schema(run.connector.name)
        return int(schema.naming.normalize_table_identifier(table) in schema.tables)

    return count


def _mutable_copy(value: Any) -> Any:
    """A copy in which dictionaries can be changed."""
    return (
        {key: _mutable_copy(one) for key, one in value.items()}
        if isinstance(value, dict)
        else value
    )


@contextmanager
def _injected_state(source: str, resources: Mapping[str, Any]) -> Iterator[None]:
    """Have dlt find this state of a source's resources, as it does inside an extraction."""
    state: Any = {dlt_compat.known_sections.SOURCES: {source: {"resources": dict(resources)}}}
    section = dlt_compat.ConfigSectionContext(
        sections=(dlt_compat.known_sections.SOURCES, source, source), source_state_key=source
    )
    with (
        Container().injectable_context(dlt_compat.StateInjectableContext(state=state)),
        dlt_compat.inject_section(section),
    ):
        yield
