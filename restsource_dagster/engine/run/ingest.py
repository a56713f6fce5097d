"""Loads the resources of a connector from their stored cursors: a live run.

Families that are small and already fetched share a load package, a *load group*. The first call of
each family is prefetched while the families before it are loaded.
"""

import math
import re
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

import dlt
from dlt.common.schema import Schema

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine import dlt_compat
from restsource_dagster.engine.destination.sql_destinations import can_replace_rows
from restsource_dagster.engine.destination.tables import table_questions
from restsource_dagster.engine.http.cancellation import Sleep
from restsource_dagster.engine.incremental.cursor_overrides import (
    AppliedOverrides,
    CursorOverrides,
    apply_overrides,
    check_resources_exist,
)
from restsource_dagster.engine.incremental.cursor_state import (
    read_token,
    resource_state_in,
    seams_in,
)
from restsource_dagster.engine.incremental.family_cursors import FamilyCursors, check_safe_to_append
from restsource_dagster.engine.incremental.row_filter import PlaceholderCursor, RowFilter
from restsource_dagster.engine.paging.endpoint_reader import EndpointReader
from restsource_dagster.engine.plan.resource_plan import ResourcePlan, root_call
from restsource_dagster.engine.run.family_load import ConnectorRun, open_connector_run
from restsource_dagster.engine.run.load_parts import LoadOptions, SelectedFamily
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.engine.run_progress import Observer
from restsource_dagster.settings import Settings
from restsource_dagster.state.store import open_state

__all__ = [
    "FamilyPrefetch",
    "endpoint_of",
    "group_families",
    "ingest",
]


def ingest(
    connector: Connector,
    *,
    settings: Settings,
    environment: Mapping[str, str],
    resources: Collection[str] | None = None,
    observer: Observer | None = None,
    sleep: Sleep | None = None,
    live_from: Mapping[str, Any] | None = None,
    full_refresh: Collection[str] = (),
    set_cursor: Mapping[str, Any] | None = None,
    started: datetime | None = None,
) -> Iterator[Outcome]:
    """Load the connector's resources, or the named ones; yield an outcome for each.

    `live_from` has, by resource, the cursor value at which the live stream starts if no cursor is
    stored; rows before it are loaded by the resource's backfill. A stream starts earlier, or goes back, if
    the windows that were loaded end before it. `full_refresh` names resources whose
    cursor is reset and whose rows are replaced. `set_cursor` replaces stored cursors before the run.
    These changes are stored only if the load succeeds. `started` is the moment of `{now}`, the present if
    left out.

    Outcomes come family by family; a failure is an outcome, not an exception. Raises, before the
    first request, `UnknownResourceError`, `IngestError` for a cursor that can't be changed so,
    `MissingReferencesError` for references of the file that have no value, `ConnectorBusyError`.
    `sleep` replaces the wait, in seconds, before a request is retried.
    """
    wanted = _selected_names(connector, resources)
    overrides = CursorOverrides(live_from or {}, full_refresh, set_cursor or {})
    # before the lock: a wrong argument should not wait for another run
    overrides.check(connector, wanted)
    families = _select_families(connector, wanted)

    def prepare(
        run: ConnectorRun,
        pipeline: dlt.Pipeline,
        selected: SelectedFamily,
        refreshed: Collection[str],
    ) -> LoadOptions:
        # the families after this one are fetched while it is loaded
        prefetch.prefetch_from(pipeline, selected)
        asked = replace(overrides, full_refresh={*overrides.full_refresh, *refreshed})
        return LoadOptions(_override_cursors(asked, run, pipeline, selected))

    with open_connector_run(
        connector,
        settings,
        environment,
        observer,
        sleep,
        pipeline=connector.name,
        prepare=prepare,
        started=started,
        questions=table_questions(connector, settings),
    ) as run:
        # nothing is requested for rows that the destination can't take
        possible = [family for family in families if run.is_supported(family)]
        prefetch = FamilyPrefetch(run, possible, overrides)
        prefetch.start()
        yield from _load_and_sweep(connector, families, run, prefetch, settings)


def _load_and_sweep(
    connector: Connector,
    families: Sequence[SelectedFamily],
    run: ConnectorRun,
    prefetch: "FamilyPrefetch",
    settings: Settings,
) -> Iterator[Outcome]:
    to_sweep: list[Outcome] = []
    for outcome in _load_groups(families, run, prefetch):
        _note_template(connector, settings, outcome)
        if connector.resource(outcome.resource).sweep is None or outcome.failed:
            yield outcome
        else:
            to_sweep.append(outcome)
    # after all loads, which need the budget of requests more
    yield from _sweep(to_sweep, run, settings)


def _sweep(outcomes: Sequence[Outcome], run: ConnectorRun, settings: Settings) -> Iterator[Outcome]:
    """Sweep the tables of loaded resources if their sweeps are due; yield the outcomes."""
    if not outcomes:  # few files have sweeps
        return
    from restsource_dagster.engine.run.table_comparison import swept

    state = open_state(settings)
    for outcome in outcomes:
        yield swept(run, outcome, state)


def _note_template(connector: Connector, settings: Settings, outcome: Outcome) -> None:
    """Note which version of its template has loaded a resource, for `check`."""
    if connector.template is None or outcome.failed:
        return
    # most files have no template
    from restsource_dagster.state.loaded_versions import LoadedVersions

    versions = LoadedVersions(open_state(settings), connector.name)
    versions.note(outcome.resource, connector.template)


def _load_groups(
    families: Sequence[SelectedFamily], run: ConnectorRun, prefetch: "FamilyPrefetch"
) -> Iterator[Outcome]:
    for group in group_families(
        families,
        loads_from_cursor=prefetch.loads_from_cursor,
        wait_for_first_page=prefetch.wait_for_first_page,
        is_prefetched=lambda selected: run.endpoints.is_prefetched(selected.root),
        has_rows=lambda selected: run.endpoints.has_prefetched_rows(selected.root),
    ):
        if len(group) == 1:
            yield from run.load(group[0])
        else:
            yield from run.load_group(group)
        for selected in group:
            # a prefetch that was not used holds memory and connections
            run.endpoints.cancel_family(selected.root)
        prefetch.forget_state()


def _select_families(connector: Connector, wanted: Collection[str]) -> Sequence[SelectedFamily]:
    """Return the families of the wanted resources, in the order in which they are loaded."""
    families = [
        SelectedFamily(family, selected)
        for family in connector.families
        if (selected := [member for member in family.members if member.name in wanted])
    ]
    # a row that is deleted and comes back is read after the list of deleted keys
    families.sort(key=lambda one: not any(member.deletes_in for member in one.family.members))
    return families


def _override_cursors(
    overrides: CursorOverrides,
    run: ConnectorRun,
    pipeline: dlt.Pipeline,
    selected: SelectedFamily,
) -> AppliedOverrides:
    """Apply the overrides of a family to the pipeline's state."""
    ours = _family_overrides(overrides, run, selected)
    if ours.is_empty:
        return AppliedOverrides()
    if ours.live_from:
        # only resources with a backfill have such a start
        from restsource_dagster.engine.run.window_load import (
            backfill_pipeline_name,
            read_stored_state,
        )

        name = run.connector.name
        state = read_stored_state(run, pipeline, backfill_pipeline_name(name))
        # windows that are loaded end there, so a live stream that starts later would leave a gap
        ours = replace(ours, seams=seams_in(state, name))
    plans = run.plans(selected)
    descending = {
        name
        for name in selected.names
        if (incremental := plans[name].incremental) and incremental.last_value_func is min
    }
    with pipeline.managed_state() as state:
        applied = apply_overrides(
            ours,
            selected.family,
            selected.names,
            cast("dict[str, Any]", state),
            run.connector.name,
            descending=descending,
        )
    if not can_replace_rows(pipeline.destination):
        # a live stream that starts has an empty table, unless a person loaded a window before
        applied.deletions[:] = [
            deletion
            for deletion in applied.deletions
            if deletion.table not in applied.started_tables
        ]
    return applied


def _family_overrides(
    overrides: CursorOverrides, run: ConnectorRun, selected: SelectedFamily
) -> CursorOverrides:
    # what an earlier run left pending is known once the pipeline is open
    return overrides.for_family(run.pipelines.pending_overrides, selected.names)


def _selected_names(connector: Connector, resources: Collection[str] | None) -> set[str]:
    if resources is None:
        return {resource.name for resource in connector.resources if resource.selected}
    check_resources_exist(connector, resources)
    return set(resources)


_MAX_GROUP_WAIT_SECONDS = 0.25
"""How long a fetched family waits for others: about what a load package costs."""
_MAX_GROUP_ROW_FAMILIES = 100
"""How many families with rows share a package: dlt looks at all jobs of a package after each job."""
_MAX_GROUP_FAMILIES = 500
"""How many families share one in all. dlt reads, checks and hashes the whole schema some ten times for each
package, so a run with nothing new takes the longer the more packages it has."""
_NESTING_SEPARATOR = re.compile(r"__|[^A-Za-z0-9_-]")
"""Separates a nested table's name from its root's, in all of dlt's naming conventions."""


def group_families(
    families: Sequence[SelectedFamily],
    loads_from_cursor: Callable[[SelectedFamily], bool],
    wait_for_first_page: Callable[[SelectedFamily, float], object],
    is_prefetched: Callable[[SelectedFamily], bool],
    has_rows: Callable[[SelectedFamily], bool],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Sequence[SelectedFamily]]:
    """Yield load groups: families in order, those that share a load package together.

    A package costs some tenths of a second, whatever is in it. Families share one if each has a
    single resource with tables of its own, loads from its cursor (`loads_from_cursor`) and has all
    its pages fetched (`is_prefetched`). A family without rows (`has_rows`) adds little to a package.
    `wait_for_first_page` is called before the other two: it waits for the first page of a family, often the
    only one, for at most so many seconds.
    """

    def may_share(selected: SelectedFamily, seconds: float) -> bool:
        root = selected.family.root
        # windows are loaded one by one
        has_windows = bool(root.incremental and root.incremental.window)
        if len(selected.family.members) > 1 or has_windows:
            return False
        wait_for_first_page(selected, seconds)
        return loads_from_cursor(selected) and is_prefetched(selected)

    waiting = deque(families)
    while waiting:
        group = [waiting.popleft()]
        # the first family is loaded next in any case, so waiting for it costs nothing
        if waiting and may_share(group[0], math.inf):
            ends_at = clock() + _MAX_GROUP_WAIT_SECONDS
            tables = _GroupTables()
            tables.add(group[0])
            with_rows = int(has_rows(group[0]))
            while (
                waiting
                and len(group) < _MAX_GROUP_FAMILIES
                and with_rows < _MAX_GROUP_ROW_FAMILIES
                and not tables.may_share_one(waiting[0])
            ):
                # after the time is up the wait is 0 or less: a fetched family still joins
                if not may_share(waiting[0], ends_at - clock()):
                    break
                tables.add(waiting[0])
                with_rows += has_rows(waiting[0])
                group.append(waiting.popleft())
        yield group


class _GroupTables:
    """The tables of a group, nested ones included, to find out whether another family may write one.

    The naming convention isn't known here, so names that any of them makes equal are equal. A table is
    nested in another only if its name starts so, and has a separator somewhere.
    """

    def __init__(self) -> None:
        # by folded name: True if one of the names may be that of a nested table
        self._names: dict[str, bool] = {}
        # by what folded names start with: the same
        self._starts: dict[str, bool] = {}

    def add(self, selected: SelectedFamily) -> None:
        """Add the tables of a family."""
        for table in selected.family.root.written_tables:
            folded, may_nest = _folded_table_name(table), _may_nest(table)
            self._names[folded] = self._names.get(folded, False) or may_nest
            for start in _starts_of(folded):
                self._starts[start] = self._starts.get(start, False) or may_nest

    def may_share_one(self, other: SelectedFamily) -> bool:
        """Return True if a table of the other family may be one of the group's."""
        return any(map(self._may_be_own, other.family.root.written_tables))

    def _may_be_own(self, table: str) -> bool:
        folded, may_nest = _folded_table_name(table), _may_nest(table)
        if folded in self._names:
            return True
        # a shorter name that this one starts with, or longer ones that start with this one
        shorter = [self._names[one] for one in _starts_of(folded) if one in self._names]
        longer = [self._starts[folded]] if folded in self._starts else []
        return any(may_nest or one for one in (*shorter, *longer))


def _may_nest(table: str) -> bool:
    return _NESTING_SEPARATOR.search(table) is not None


def _starts_of(name: str) -> Iterator[str]:
    return (name[:end] for end in range(len(name)))


def _folded_table_name(table: str) -> str:
    """Return the part of a name that all of dlt's naming conventions keep."""
    return "".join(character for character in table.lower() if character.isalnum())


class FamilyPrefetch:
    """Prefetches the first calls of the next families as the run proceeds.

    No error is raised: the family meets the same one when it is loaded, and reports it.
    """

    def __init__(
        self,
        run: ConnectorRun,
        families: Sequence[SelectedFamily],
        overrides: CursorOverrides,
    ) -> None:
        self._run = run
        self._families = families
        self._overrides = overrides
        self._roots = [selected.root for selected in families]
        self._families_ahead = run.endpoints.max_prefetched_calls
        # how many of the families, from the first one on, were prefetched or can't be
        self._prefetched = 0
        self._state: Mapping[str, Any] | None = None

    def start(self) -> None:
        """Request the first page of the first family, if its call depends on no cursor.

        Meanwhile the pipeline is opened, which takes about as long as a request.
        """
        for selected in self._families[: min(1, self._families_ahead)]:
            try:
                root = self._run.plans(selected)[selected.root]
                has_state = root.incremental is not None or root.token is not None
                if not has_state and not root.is_repeated:
                    # one page only: if the destination can't be opened, its request is wasted
                    endpoint = endpoint_of(self._run, root)
                    endpoint.prefetch_for_later(root_call(root, None), first_page_only=True)
                    self._prefetched = 1
            except Exception:  # noqa: BLE001, S112 - the family's load meets the same error
                continue

    def loads_from_cursor(self, selected: SelectedFamily) -> bool:
        """Return True if a family is loaded from its stored cursor, without an override.

        An unfinished load goes on at its place instead.
        """
        if selected.root in self._run.pipelines.unfinished_roots:
            return False
        return _family_overrides(self._overrides, self._run, selected).is_empty

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
        if selected.root in self._run.pipelines.unfinished_roots:
            # `start` has asked for its first page, and the load goes on at another one
            self._run.endpoints.cancel_family(selected.root)
        last = self._roots.index(selected.root) + 1 + self._families_ahead
        for at, upcoming in enumerate(self._families[self._prefetched : last], self._prefetched):
            try:
                if self.loads_from_cursor(upcoming) and not self._shares_table(at, selected):
                    _prefetch_family(self._run, self._state_of(pipeline), upcoming)
            except Exception:  # noqa: BLE001, S112 - the family's load meets the same error
                continue
        self._prefetched = max(self._prefetched, last)

    def _shares_table(self, at: int, selected: SelectedFamily) -> bool:
        """Return True if a family between the one that is loaded next and this one writes its table.

        A record may move from one resource to another: what is requested later must be loaded later.
        """
        tables = {one.table for one in self._families[at].family.members}
        between = self._families[self._roots.index(selected.root) : at]
        return any(
            table in tables
            for family in between
            for one in family.family.members
            for table in one.written_tables
        )

    def forget_state(self) -> None:
        """Read the pipeline's state again for the next prefetch. Call it after each load."""
        self._state = None

    def _state_of(self, pipeline: dlt.Pipeline) -> Mapping[str, Any]:
        # kept from family to family: dlt decodes the state of all resources on each access
        if self._state is None:
            self._state = pipeline.state
        return self._state


def _prefetch_family(
    run: ConnectorRun, pipeline_state: Mapping[str, Any], selected: SelectedFamily
) -> None:
    """Start fetching the pages of the family's root, as its load would request them now."""
    plans = run.plans(selected)
    root = plans[selected.root]
    if root.is_repeated:
        return  # its calls are prefetched as those below parents are
    endpoint = endpoint_of(run, root)
    stored = {name: resource_state_in(pipeline_state, run.connector.name, name) for name in plans}
    state = {name: _mutable_copy(one) for name, one in stored.items() if one}
    # raises if the load will: then nothing has to be fetched
    check_safe_to_append(plans, {"resources": state}, _schema_row_counter(run), family=plans)
    # a copy of the state: opening a filter may forget an outdated cursor, which only the load may
    # do
    with _injected_state(run.connector.name, state):
        row_filter = _open_root_filter(plans, root)
    if row_filter and row_filter.asks_nothing:
        return
    cursor = (
        PlaceholderCursor.of(root.incremental, None).of_call(row_filter)
        if row_filter and root.incremental
        else None
    )
    may_stop = row_filter is not None and row_filter.may_finish_early
    token = read_token(state.get(selected.root, {}), root.token) if root.token else None
    endpoint.prefetch_for_later(root_call(root, cursor, token), may_stop_early=may_stop)


def endpoint_of(run: ConnectorRun, root: ResourcePlan) -> EndpointReader:
    """Return the reader of a root's endpoint, outside of an extraction."""
    # dlt looks up secrets that the file leaves out by the source that is extracted: outside of one it
    # would find what is set for all programs
    with _injected_state(run.connector.name, {}):
        return run.endpoints.endpoint(root)


def _open_root_filter(plans: Mapping[str, ResourcePlan], root: ResourcePlan) -> RowFilter | None:
    for name, plan in plans.items():
        if plan.resource.disposition.value == "replace":
            dlt_compat.reset_resource_state(name)  # as dlt does before it extracts
    cursors = FamilyCursors(plans, lambda _: None)
    cursors.forget_outdated(root)
    opened = cursors.open(root, None)
    return opened.row_filter if opened else None


def _schema_row_counter(run: ConnectorRun) -> Callable[[str], int]:
    """Return a function that counts a table without rows as 0 and any other as 1.

    It looks the table up in the schema: asking the destination would delay the prefetch.
    """

    def count(table: str) -> int:
        schema = run.pipelines.schema() or Schema(run.connector.name)
        return int(dlt_compat.table_identifier(schema, table) in schema.tables)

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
