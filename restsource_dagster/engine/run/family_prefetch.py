"""Prefetches the first call of each family while the families before it are loaded.

A call depends on the stored cursor. The cursor is known once the pipeline is open, and no other
family changes it. The call is made here from a copy of the state. When the family is loaded, the call
is made again from the state itself, and the prefetched pages are used only if it is the same call.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dlt
from dlt.common.schema import Schema

from restsource_dagster.engine import dlt_compat
from restsource_dagster.engine.destination.recovery import check_safe_to_append
from restsource_dagster.engine.incremental.cursor_state import resource_state_in
from restsource_dagster.engine.incremental.family_cursors import FamilyCursors
from restsource_dagster.engine.incremental.row_filter import PlaceholderCursor, RowFilter
from restsource_dagster.engine.run.family_load import ConnectorRun, SelectedFamily
from restsource_dagster.engine.source.calls import root_call
from restsource_dagster.engine.source.resource_plan import ResourcePlan

__all__ = ["FamilyPrefetch"]


class FamilyPrefetch:
    """Prefetches the first calls of the next families as the run proceeds.

    `loads_from_cursor` returns True for a family that is loaded from its stored cursor, without an
    override. No error is raised: the family meets the same one when it is loaded, and reports it.
    """

    def __init__(
        self,
        run: ConnectorRun,
        families: Sequence[SelectedFamily],
        loads_from_cursor: Callable[[SelectedFamily], bool],
    ) -> None:
        self._run = run
        self._families = families
        self.loads_from_cursor = loads_from_cursor
        self._roots = [selected.root for selected in families]
        self._families_ahead = run.endpoints.max_prefetched_calls
        # how many of the families, from the first one on, were prefetched or can't be
        self._prefetched = 0

    def start(self) -> None:
        """Request the first page of all, if it depends on no cursor.

        The pipeline is opened meanwhile, which takes about as long as a request.
        """
        for selected in self._families[: min(1, self._families_ahead)]:
            try:
                root = self._run.plans(selected)[selected.root]
                if root.incremental is None:
                    # just one page: if the destination can't be opened, it was requested in vain
                    self._run.endpoints.endpoint(root).prefetch_for_later(
                        root_call(root, None), may_stop_early=True
                    )
                    self._prefetched = 1
            except Exception:  # noqa: BLE001, S112 - the family's load meets the same error
                continue

    def wait_for_first_page(self, selected: SelectedFamily, max_seconds: float) -> None:
        """Wait until the first page of a family is fetched, or is known not to be prefetched."""
        try:
            self.prefetch_from(self._run.pipelines.open(), selected)
        except Exception:  # noqa: BLE001 - the family's load meets the same error
            return
        self._run.endpoints.wait_for_first_page(selected.root, max_seconds)

    def prefetch_from(self, pipeline: dlt.Pipeline, selected: SelectedFamily) -> None:
        """Prefetch a family, which is loaded next, and some families after it."""
        if not self._families_ahead:
            return
        last = self._roots.index(selected.root) + 1 + self._families_ahead
        for upcoming in self._families[self._prefetched : last]:
            try:
                if self.loads_from_cursor(upcoming):
                    _prefetch_family(self._run, pipeline, upcoming)
            except Exception:  # noqa: BLE001, S112 - the family's load meets the same error
                continue
        self._prefetched = max(self._prefetched, last)


def _prefetch_family(run: ConnectorRun, pipeline: dlt.Pipeline, selected: SelectedFamily) -> None:
    """Start fetching the pages of the family's root, as its load would request them now."""
    plans = run.plans(selected)
    root = plans[selected.root]
    endpoint = run.endpoints.endpoint(root)
    stored = {name: resource_state_in(pipeline.state, run.connector.name, name) for name in plans}
    state = {name: _mutable_copy(one) for name, one in stored.items() if one}
    # raises if the load will: then nothing has to be fetched
    check_safe_to_append(plans, {"resources": state}, _schema_row_counter(run), family=plans)
    with _injected_state(run.connector.name, state):
        row_filter = _open_root_filter(plans, root)
    cursor = (
        PlaceholderCursor.of(root.incremental, row_filter.start)
        if row_filter and root.incremental
        else None
    )
    may_stop = row_filter is not None and row_filter.may_finish_early
    endpoint.prefetch_for_later(root_call(root, cursor), may_stop_early=may_stop)


def _open_root_filter(plans: Mapping[str, ResourcePlan], root: ResourcePlan) -> RowFilter | None:
    for name, plan in plans.items():
        if plan.resource.disposition.value == "replace":
            dlt_compat.reset_resource_state(name)  # as dlt does before it extracts
    opened = FamilyCursors(plans, lambda _: None).open(root, None)
    return opened.row_filter if opened else None


def _schema_row_counter(run: ConnectorRun) -> Callable[[str], int]:
    """Return a function that counts a table without rows as 0 and any other as 1.

    It looks the table up in the schema: asking the destination would delay the prefetch.
    """

    def count(table: str) -> int:
        schema = run.pipelines.schema() or Schema(run.connector.name)
        return int(schema.naming.normalize_table_identifier(table) in schema.tables)

    return count


def _mutable_copy(value: Any) -> Any:
    """Copy nested dicts, but not the lists: they may have 100,000 hashes, and are never changed."""
    return (
        {key: _mutable_copy(one) for key, one in value.items()}
        if isinstance(value, dict)
        else value
    )


@contextmanager
def _injected_state(source: str, resources: Mapping[str, Any]) -> Iterator[None]:
    """Have dlt use this state of a source's resources, as it would inside an extraction."""
    state: Any = {dlt_compat.known_sections.SOURCES: {source: {"resources": dict(resources)}}}
    section = dlt_compat.ConfigSectionContext(
        sections=(dlt_compat.known_sections.SOURCES, source, source), source_state_key=source
    )
    with (
        dlt_compat.Container().injectable_context(dlt_compat.StateInjectableContext(state=state)),
        dlt_compat.inject_section(section),
    ):
        yield
