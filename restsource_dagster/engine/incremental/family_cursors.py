"""The cursors of a family: where each is stored in dlt's state, and which depend on which.

- The cursor of a root is where dlt stores it.
- A dependent resource has a cursor per parent record, in a store of bounded size.
- A dependent resource also has a position in the rows of each incremental resource above it. So it
  requests each of these rows once and misses none, whether it is loaded with its parent or without.
- A window whose ends are both in the file is appended once: the state lists the appended windows.

A cursor can tell new rows from loaded ones only if it has seen every row of the table. If the file
changes how a table is loaded, `check_safe_to_append` fails the run.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dlt

from restsource_dagster.connector.cursor_format import moment_of, nanoseconds_since_epoch
from restsource_dagster.engine.errors import ResourceError
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.incremental.cursor_state import (
    LIVE_START_KEY,
    STATE_KEY,
    ParentCursorStates,
    ResourceState,
    StateMapping,
    gone_parents,
    paging_state,
    parent_key,
    read_lower_bound,
    read_token,
    restsource_state,
)
from restsource_dagster.engine.incremental.ordering import CursorOrder
from restsource_dagster.engine.incremental.position import SEEN_KEY, CursorRules, Position
from restsource_dagster.engine.incremental.row_filter import RowFilter
from restsource_dagster.engine.plan.dlt_adapter import DltIncremental
from restsource_dagster.engine.plan.resource_plan import ResourcePlan

if TYPE_CHECKING:
    from restsource_dagster.engine.incremental.open_token import OpenToken

__all__ = [
    "FamilyCursors",
    "OpenRowFilter",
    "check_safe_to_append",
    "was_window_appended",
]


_FAR_FUTURE = timedelta(days=366)
"""Dates that are planned lie nearer; 9999-12-31 and the like stand for "never"."""


def was_window_appended(rules: CursorRules, windows: Sequence[Sequence[Any]]) -> bool:
    """Return True if the rules' window is in `windows`, a list of `[start, end]` appended before.

    Raises `ResourceError` if it overlaps one of them: some of its rows would be stored twice.
    """
    order = CursorOrder(descending=rules.descending)
    for start, end in windows:
        if order.is_same(start, rules.initial_value) and order.is_same(end, rules.end_value):
            return True
        if order.is_before(start, rules.end_value) and order.is_before(rules.initial_value, end):
            raise ResourceError(
                rules.resource,
                f"the rows from {start} to {end} were appended before, and {rules.initial_value} to "
                f"{rules.end_value} overlaps them. Choose a window that does not, another "
                '"table_name", or a "primary_key" so that rows are merged',
            )
    return False


SavePositions = Callable[[], None]


@dataclass(frozen=True)
class OpenRowFilter:
    """The row filter of a call, and the function that saves its positions after the last page."""

    row_filter: RowFilter
    save: SavePositions


class FamilyCursors:
    """Opens the row filters of one run of a family. Make one per run: it caches stores."""

    reads_again = True
    """True if a later run reads the rows from a cursor on that is not saved."""

    def __init__(self, plans: Mapping[str, ResourcePlan], notify: Callable[[str], None]) -> None:
        self._plans = plans
        self._notify = notify
        self._stores: dict[tuple[str, str], ParentCursorStates] = {}
        self._checked_tables: set[str] = set()
        self._far_ahead: set[str] = set()

    def loaded_below(self, name: str) -> frozenset[str]:
        """Return the names of the resource and its dependents, at any depth, that are loaded."""
        return frozenset(
            plan.resource.name
            for plan in self._plans.values()
            if plan.loaded and name in self._above(plan)
        )

    def open(self, plan: ResourcePlan, parent: Sequence[Any] | None) -> OpenRowFilter | None:
        """Return the row filter of a call; None if the resource has no cursor.

        `parent` are the values that the call takes from its parent, None for a root. Call it in the
        thread that extracts: dlt finds the state by thread.
        """
        if plan.incremental is None:
            return None
        saves: list[SavePositions] = []
        name = plan.resource.name
        readers = self.loaded_below(name)
        for reader in readers:
            # a reader's positions in these rows are void if its own table is new and empty
            self._reset_if_renamed(self._plans[reader])
        rules = _rules_from_lower_bound(CursorRules.of(name, plan.incremental), parent)
        own = self._own_position(plan, rules, parent, saves) if plan.loaded else None
        followers = {
            reader: self._follower_position(plan, reader, rules, parent, saves)
            # sorted, so that the stored state has one order
            for reader in sorted(readers - {name})
        }
        if rules.end_value is not None:
            # the file fixes both ends, so there is no position to save
            saves.clear()

        def save() -> None:
            for one in saves:
                one()
            # a descending cursor goes back in time, and never gets stuck ahead
            if own is not None and not rules.descending:
                self._warn_of_far_future(plan, own.last_value)

        row_filter = RowFilter(
            rules, own, followers, self._notify, plan.sends_start, is_root=parent is None
        )
        if parent is None and plan.cursor and plan.cursor.window:
            from restsource_dagster.engine.incremental.live_window import LiveWindow

            window = LiveWindow.of(name, plan.cursor, row_filter.start, plan.started)
            row_filter.ask_for(window, sends_end=plan.sends_end)
        if rules.end_value is not None and own and plan.appends and parent is None:
            self._append_once(name, rules, row_filter, saves)
        return OpenRowFilter(row_filter, save)

    def _warn_of_far_future(self, plan: ResourcePlan, reached: Any) -> None:
        """Say once that rows with a placeholder for "never", such as 9999-12-31, have moved the cursor."""
        name = plan.resource.name
        # a whole number may be a counter as well as an epoch
        moment = None if isinstance(reached, int | float) else moment_of(reached)
        limit = nanoseconds_since_epoch(plan.started + _FAR_FUTURE)
        if moment is not None and moment > limit and name not in self._far_ahead:
            self._far_ahead.add(name)
            self._notify(
                f"{name}: the cursor is at {reached}, more than a year ahead, so the API is asked for nothing "
                'older from now on. If that value stands for "none", leave such rows out with a `filter` in '
                "`processing_steps`, and set the cursor back: `restsource run NAME --set-cursor {name}=VALUE`"
            )

    def forget_outdated(self, plan: ResourcePlan) -> None:
        """Forget a root's cursor, and its dependents' places in its rows, if the API keeps no changes since.

        Call it before `open`. The rows are merged, so none is stored twice.
        """
        cursor, rows = plan.cursor, plan.resource.name
        if cursor is None or cursor.retention is None or plan.incremental is None:
            return
        from restsource_dagster.engine.incremental.live_window import is_outdated

        rules = CursorRules.of(rows, plan.incremental)
        places: ResourceState = dlt.current.resource_state(rows).get("incremental", {})
        last = places.get(rules.path, {}).get("last_value")
        if not is_outdated(rows, cursor, last, plan.started):
            return
        # the cursor only: what else is known of the resource holds for a new start, too
        places.pop(rules.path)
        for reader in self.loaded_below(rows) - {rows}:
            restsource_state(reader).get("follows", {}).get(rows, {}).pop(rules.path, None)
        self._notify(
            f"{rows}: its cursor, {last}, is older than the {cursor.retention} that the API keeps its changes "
            f"(retention), so it starts at its initial_value again: {rules.initial_value}"
        )

    def peek(self, plan: ResourcePlan, parent: Sequence[Any]) -> RowFilter | None:
        """Return a row filter that starts where a call below a parent would start now.

        It is for prefetching the call: it changes no state and must not filter rows. Returns None if
        the start isn't known: before the first call of the resource, or without a cursor.
        """
        if plan.incremental is None:
            return None
        name, rules = plan.resource.name, CursorRules.of(plan.resource.name, plan.incremental)
        positions: dict[str, Position] = {}
        for reader in self.loaded_below(name):
            store, reads = self._stores.get((reader, name)), self._plans[reader]
            # to open the store would change the state, which a prefetch must leave as it is
            if store is None:
                return None
            remembers = reads.appends and (reader == name or reads.incremental is None)
            positions[reader] = Position(
                rules,
                _state_unless_bounded(store.peek(parent_key(parent)), rules),
                remembers=remembers and rules.end_value is None,
            )
        return RowFilter(rules, positions.pop(name, None), positions, self._notify)

    def _append_once(
        self, name: str, rules: CursorRules, row_filter: RowFilter, saves: list[SavePositions]
    ) -> None:
        """Let no row pass if this window was appended before; else store it after the load."""
        windows: list[Any] = self.state_of(name).setdefault("appended_windows", [])
        if was_window_appended(rules, windows):
            self._notify(
                f"{name}: the window from {rules.initial_value} to {rules.end_value} was appended "
                "before, so nothing is new"
            )
            # the file fixes both ends, so each run asks for the same rows, and appended ones would
            # double
            row_filter.has_nothing_new = True
        else:
            saves.append(lambda: windows.append([rules.initial_value, rules.end_value]))

    def open_token(self, plan: ResourcePlan, redactor: Redactor) -> "OpenToken | None":
        """Return the token of a resource; None if it has none. Call it inside an extraction."""
        if plan.token is None:
            return None
        from restsource_dagster.engine.incremental.open_token import OpenToken

        self._reset_if_renamed(plan)
        return OpenToken(plan, plan.token, dlt.current.resource_state(plan.resource.name), redactor)

    def state_of(self, name: str) -> ResourceState:
        """Return our dict in a resource's state. Call it inside an extraction."""
        return restsource_state(name)

    def paging_state_of(self, name: str) -> ResourceState:
        """Return what is known of a resource's paging. Call it inside an extraction."""
        return paging_state(name)

    def gone_parents_of(self, name: str, asked: str) -> dict[str, Any]:
        """Return the keys of the parents that are gone for a resource, oldest first, to add others.

        They hold for calls with the fingerprint `asked`. Call it inside an extraction.
        """
        return gone_parents(name, asked)

    def _reset_if_renamed(self, plan: ResourcePlan) -> None:
        """Drop the cursors of a resource whose `table_name` changed: the new table is empty."""
        name, table = plan.resource.name, plan.resource.table
        if name in self._checked_tables:
            return
        # once in a run: after the first look the state has the new name
        self._checked_tables.add(name)
        state = restsource_state(name)
        if state.get("table", table) != table:
            live_start = state.get(LIVE_START_KEY)
            state.clear()
            if live_start is not None:
                # backfills load the rows before it, into the new table too
                state[LIVE_START_KEY] = live_start
            dlt.current.resource_state(name).pop("incremental", None)
            self._notify(f"{name}: its table is now {table}, so all rows are loaded again")
        state["table"] = table

    def _above(self, plan: ResourcePlan) -> set[str]:
        """Return the names of a resource and of the planned resources above it."""
        names = {plan.resource.name}
        parent = plan.resource.parent
        while parent and parent in self._plans:
            names.add(parent)
            parent = self._plans[parent].resource.parent
        return names

    def _own_position(
        self,
        plan: ResourcePlan,
        rules: CursorRules,
        parent: Sequence[Any] | None,
        saves: list[SavePositions],
    ) -> Position:
        """Return the position of a resource in its own rows, and add how to save it to `saves`."""
        name = plan.resource.name
        # a deletion that is read again would remove the row that came back since, which no later run requests
        names_deleted = bool(plan.resource.deletes_in) and not plan.appends
        remembers = (plan.appends or names_deleted) and rules.end_value is None
        # by all fields: a key may be deleted twice
        key = None if names_deleted else plan.identity
        if parent is None:
            places: ResourceState = dlt.current.resource_state(name).setdefault("incremental", {})
            place: ResourceState = places.setdefault(rules.path, {})
            position = Position(
                rules,
                _state_unless_bounded(place, rules),
                remembers=remembers,
                key=key,
                accepts_older=_merges_older(plan, plan),
                may_forget=names_deleted,
            )
            saves.append(lambda: position.save(place))
            return position
        store = self._store(plan, plan, rules)
        return self._position_below(
            store,
            rules,
            parent,
            saves,
            remembers=remembers,
            key=key,
            accepts_older=_merges_older(plan, plan),
            may_forget=names_deleted,
        )

    def _follower_position(
        self,
        plan: ResourcePlan,
        follower: str,
        rules: CursorRules,
        parent: Sequence[Any] | None,
        saves: list[SavePositions],
    ) -> Position:
        """Return the position of a dependent in the rows of `plan`."""
        follows = self._plans[follower]
        # an incremental dependent may read a parent again: its own cursor drops the old rows
        remembers = follows.appends and follows.incremental is None and rules.end_value is None
        key = parent if parent is not None else ()
        store = self._store(follows, plan, rules)
        return self._position_below(
            store,
            rules,
            key,
            saves,
            remembers=remembers,
            accepts_older=_merges_older(follows, plan),
        )

    def _position_below(
        self,
        store: ParentCursorStates,
        rules: CursorRules,
        parent: Sequence[Any],
        saves: list[SavePositions],
        *,
        remembers: bool,
        key: Any = None,
        accepts_older: bool = False,
        may_forget: bool = False,
    ) -> Position:
        parent_id = parent_key(parent)
        position = Position(
            rules,
            _state_unless_bounded(store.get(parent_id), rules),
            remembers=remembers,
            key=key,
            accepts_older=accepts_older,
            may_forget=may_forget,
        )

        def save() -> None:
            # a call without rows stores nothing: it would evict another parent
            if position.is_changed:
                state: ResourceState = {}
                position.save(state)
                # the same for all parents, or never read: not worth a copy per parent
                for name in ("initial_value", "start_value", "unique_hashes"):
                    del state[name]
                store.put(parent_id, state)

        saves.append(save)
        return position

    def _store(
        self, reader: ResourcePlan, read: ResourcePlan, rules: CursorRules
    ) -> ParentCursorStates:
        """Return the store of `reader`'s positions in the rows of `read`, which may be its own."""
        key = (reader.resource.name, read.resource.name)
        if key not in self._stores:
            state = restsource_state(reader.resource.name)
            kind = "parents" if reader is read else "follows"
            place: ResourceState = state.setdefault(kind, {})
            default = None
            if reader is read:
                # dlt's one cursor for all parents: taken over once, then gone
                stored = dlt.current.resource_state(reader.resource.name).get("incremental", {})
                default = stored.pop(rules.path, None)
            else:
                place = place.setdefault(read.resource.name, {})
            self._stores[key] = ParentCursorStates(
                reader.resource.name,
                place.setdefault(rules.path, {}),
                evicts=not reader.appends,
                default=default if reader.appends else None,
            )
        return self._stores[key]


def _rules_from_lower_bound(rules: CursorRules, parent: Sequence[Any] | None) -> CursorRules:
    """Return the rules of a root, starting at the lower bound in its state if it has one."""
    if parent is not None or rules.end_value is not None:
        return rules
    state = dlt.current.resource_state(rules.resource)
    lower_bound = read_lower_bound(state.get(STATE_KEY, {}))
    if lower_bound is None:
        return rules
    last = state.get("incremental", {}).get(rules.path, {}).get("last_value")
    # an open start excludes rows already read, and on the first run there are none
    return replace(
        rules,
        initial_value=lower_bound,
        excludes_start=rules.excludes_start and last is not None,
    )


def _merges_older(reader: ResourcePlan, read: ResourcePlan) -> bool:
    """True if `reader` takes the rows of `read` that the API sends though they are not new."""
    return read.sends_start and reader.resource.disposition.value == "merge"


def _state_unless_bounded(state: Mapping[str, Any], rules: CursorRules) -> Mapping[str, Any]:
    """Return the state; an empty one if the file fixes both ends of the window."""
    return {} if rules.end_value is not None else state


def check_safe_to_append(
    plans: Mapping[str, ResourcePlan],
    state: StateMapping,
    count_rows: Callable[[str], int | None],
    *,
    family: Mapping[str, ResourcePlan] | None = None,
) -> None:
    """Raise `ResourceError` if rows that are in a table already could be appended again.

    `plans` are the resources to check, by name; `family` is all of the family, if it has more.
    `state` is dlt's state of the connector's source. `count_rows` counts a table's rows.
    """
    for plan in plans.values():
        name = plan.resource.name
        known = state.get("resources", {}).get(name, {})
        if not plan.loaded or not plan.appends or _are_rows_known(plan, family or plans, known):
            continue
        if count_rows(plan.resource.table):
            raise ResourceError(
                name,
                f"the table {plan.resource.table} has rows from before it was appended to by this "
                "cursor, so it is unknown which of them the API would send again. Give it another "
                '"table_name", or a "primary_key" so that rows are merged, or empty the table',
            )


def _are_rows_known(
    plan: ResourcePlan, plans: Mapping[str, ResourcePlan], known: StateMapping
) -> bool:
    """Return True if the cursor or token has seen all rows of the table, or if there is none."""
    ours = known.get(STATE_KEY, {})
    if plan.incremental is not None:
        return _has_cursor_seen_rows(plan, plan.incremental, ours, known)
    if plan.token is not None:
        return _is_own_table(plan, ours) and read_token(known, plan.token) is not None
    # a dependent resource without a cursor follows the cursors of its parents
    above = list(_incremental_ancestors(plan, plans))
    follows = ours.get("follows", {})
    return not above or any(_has_seen_rows(state) for state in _follower_states(follows, above))


def _has_cursor_seen_rows(
    plan: ResourcePlan, incremental: DltIncremental[Any], ours: StateMapping, known: StateMapping
) -> bool:
    # a fixed window has no stored cursor: it is read whole in each run
    if incremental.end_value is not None:
        return True
    # the next run reads no row with the stored value again, so no row is remembered
    if incremental.range_start == "open" and not incremental.lag:
        return bool(known.get("incremental", {}).get(incremental.cursor_path))
    if _is_at_lower_bound(ours, known, incremental.cursor_path):
        return True
    if not _is_own_table(plan, ours):
        return False
    single = known.get("incremental", {}).get(incremental.cursor_path, {})
    parents = ours.get("parents", {}).get(incremental.cursor_path, {})
    return any(_has_seen_rows(state) for state in (single, *parents.values()))


def _is_own_table(plan: ResourcePlan, ours: StateMapping) -> bool:
    """False if the state belongs to another table, from before the file named this one."""
    table = plan.resource.table
    return bool(ours.get("table", table) == table)


def _is_at_lower_bound(ours: StateMapping, known: StateMapping, path: str) -> bool:
    """Return True if the cursor stands where its stream begins: no older row is read again."""
    last = known.get("incremental", {}).get(path, {}).get("last_value")
    begins = read_lower_bound(ours)
    return begins is not None and last in (None, begins)


def _incremental_ancestors(
    plan: ResourcePlan, plans: Mapping[str, ResourcePlan]
) -> Iterator[ResourcePlan]:
    """Yield the parents of a dependent resource, at any depth, that have a cursor."""
    parent = plan.resource.parent
    while parent:
        above = plans[parent]
        if above.incremental is not None and above.incremental.end_value is None:
            yield above
        parent = above.resource.parent


def _follower_states(
    follows: StateMapping, above: Iterable[ResourcePlan]
) -> Iterator[StateMapping]:
    """Yield what a dependent resource has stored for each record of these parents."""
    for plan in above:
        for states in follows.get(plan.resource.name, {}).values():
            yield from states.values()


def _has_seen_rows(state: StateMapping) -> bool:
    """Return True if a state remembers rows: the engine's own, or one that stock dlt has stored."""
    return bool(state.get(SEEN_KEY) or state.get("unique_hashes"))
