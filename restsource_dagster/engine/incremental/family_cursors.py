"""The cursors of a family: where each is kept in dlt's state, and which follow another.

A resource's own cursor is where dlt keeps it. That of a dependent resource is kept per parent. A
dependent also keeps a position in the rows of each incremental resource above it: whatever was
loaded with or without it, it asks below each row once, and below none too few.

Windows with both ends in the file, in tables that rows are appended to: each is loaded once.

A cursor per parent: the state of a dependent incremental resource, bounded in size.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import dlt

from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.incremental.cursor_state import (
    LIVE_START_KEY,
    STATE_KEY,
    ResourceState,
    read_lower_bound,
    restsource_state,
)
from restsource_dagster.engine.incremental.ordering import CursorOrder
from restsource_dagster.engine.incremental.position import CursorRules, Position
from restsource_dagster.engine.incremental.row_filter import RowFilter
from restsource_dagster.engine.source.resource_plan import ResourcePlan

__all__ = [
    "FamilyCursors",
    "OpenRowFilter",
    "ParentCursorStates",
    "parent_key",
    "was_window_appended",
]


def was_window_appended(rules: CursorRules, windows: Sequence[Sequence[Any]]) -> bool:
    """Whether the rules' window is one of those that were appended before, each `[start, end]`.

    Raises `IngestError` for one that overlaps another: its rows are there in part.
    """
    order = CursorOrder(falling=rules.falling)
    for start, end in windows:
        if order.is_same(start, rules.initial) and order.is_same(end, rules.end):
            return True
        if order.is_before(start, rules.end) and order.is_before(rules.initial, end):
            error = IngestError(
                f"resource {rules.resource}: the rows from {start} to {end} were appended before, "
                f"and {rules.initial} to {rules.end} overlaps them. Choose a window beside it, give "
                'the resource another "table_name", or a "primary_key" so that rows are merged.'
            )
            error.resource = rules.resource
            raise error
    return False


MAX_MERGED_PARENTS = 10_000
"""Parents whose cursor is kept where forgetting one is harmless: its children are merged again."""
MAX_APPENDED_PARENTS = 100_000
"""Parents whose cursor is kept where forgetting one would append its children twice."""
_MAX_PARENT_KEY_CHARS = 64


def parent_key(values: Sequence[Any]) -> str:
    """The values that a call takes from its parent, as a key of the state."""
    text = json.dumps(list(values), separators=(",", ":"), default=str)
    if len(text) <= _MAX_PARENT_KEY_CHARS:
        return text
    return "#" + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class ParentCursorStates:
    """The states of a cursor below each parent, kept in dlt's state; safe between threads.

    The parents not seen for longest are forgotten first, unless `forgets` is false: then a parent
    too many is an `IngestError`. `single` is the one state that dlt keeps for all parents, found
    in the first run of a table that dlt loaded before; parents of that run start from it.
    """

    def __init__(
        self,
        resource: str,
        states: dict[str, Any],
        *,
        forgets: bool,
        single: Mapping[str, Any] | None = None,
        most: int | None = None,
    ) -> None:
        self._resource = resource
        self._states = states
        self._forgets = forgets
        self._single = single or {}
        self._most = most or (MAX_MERGED_PARENTS if forgets else MAX_APPENDED_PARENTS)
        self._lock = threading.Lock()

    def at(self, parent: str) -> Mapping[str, Any]:
        """The state below a parent; empty for one not seen before. Counts as seeing it."""
        with self._lock:
            state = self._states.pop(parent, None)
            if state is None:
                return self._single
            self._states[parent] = state  # at the end: seen last
            return dict(state)

    def peek(self, parent: str) -> Mapping[str, Any]:
        """The state below a parent, which does not count as seeing it."""
        with self._lock:
            state: Mapping[str, Any] = self._states.get(parent, self._single)
            return state

    def put(self, parent: str, state: Mapping[str, Any]) -> None:
        """Keep the state below a parent."""
        with self._lock:
            self._states.pop(parent, None)
            self._states[parent] = dict(state)
            if len(self._states) <= self._most:
                return
            if not self._forgets:
                raise IngestError(
                    f"resource {self._resource}: more than {self._most:,} parents, too many to "
                    'keep a cursor for each and append nothing twice. Give it a "primary_key", so '
                    "that it is merged."
                )
            del self._states[next(iter(self._states))]


SavePositions = Callable[[], None]


@dataclass(frozen=True)
class OpenRowFilter:
    """A stream and the way to save its positions when its call has ended."""

    stream: RowFilter
    save: SavePositions


class FamilyCursors:
    """Opens the streams of one run of a family. One object per run: it remembers its stores."""

    def __init__(self, plans: Mapping[str, ResourcePlan], say: Callable[[str], None]) -> None:
        self._plans = plans
        self._say = say
        self._stores: dict[tuple[str, str], ParentCursorStates] = {}
        self._settled: set[str] = set()

    def loaded_below(self, name: str) -> frozenset[str]:
        """The resource itself and its dependents, at any depth, that are loaded."""
        found: set[str] = set()
        for plan in self._plans.values():
            if plan.loaded and name in self._above(plan):
                found.add(plan.resource.name)
        return frozenset(found)

    def open(self, plan: ResourcePlan, parent: Sequence[Any] | None) -> OpenRowFilter | None:
        """The stream of a call; None if the resource has no cursor.

        `parent` are the values that the call takes from its parent, None for a root. Call it in the
        thread that extracts.
        """
        if plan.incremental is None:
            return None
        saves: list[SavePositions] = []
        for name in self.loaded_below(plan.resource.name):
            self._reset_if_renamed(self._plans[name])
        rules = _rules_from_lower_bound(
            CursorRules.of(plan.resource.name, plan.incremental), parent
        )
        own = self._own_position(plan, rules, parent, saves) if plan.loaded else None
        followers = {}
        for name in sorted(self.loaded_below(plan.resource.name) - {plan.resource.name}):
            followers[name] = self._follower_position(plan, name, rules, parent, saves)
        if rules.end is not None:  # a window of its own: nothing is remembered
            saves.clear()

        def save() -> None:
            for one in saves:
                one()

        stream = RowFilter(rules, own, followers, self._say)
        if rules.end is not None and own and plan.appends and parent is None:
            self._append_once(plan.resource.name, rules, stream, saves)
        return OpenRowFilter(stream, save)

    def peek(self, plan: ResourcePlan, parent: Sequence[Any]) -> RowFilter | None:
        """A stream that starts where that of a call below a parent would start by now.

        It changes nothing, and is not to be read. None if that can't be told: before the first call
        of the resource, or without a cursor.
        """
        if plan.incremental is None:
            return None
        name, rules = plan.resource.name, CursorRules.of(plan.resource.name, plan.incremental)
        positions: dict[str, Position] = {}
        for reader in self.loaded_below(name):
            store, reads = self._stores.get((reader, name)), self._plans[reader]
            if store is None:
                return None
            remembers = reads.appends and (reader == name or reads.incremental is None)
            positions[reader] = Position(
                rules,
                _state_unless_bounded(store.peek(parent_key(parent)), rules),
                remembers=remembers and rules.end is None,
            )
        return RowFilter(rules, positions.pop(name, None), positions, self._say)

    def _append_once(
        self, name: str, rules: CursorRules, stream: RowFilter, saves: list[SavePositions]
    ) -> None:
        """See to it that a window with both ends in the file is appended once."""
        windows: list[Any] = self.state_of(name).setdefault("appended_windows", [])
        if was_window_appended(rules, windows):
            self._say(f"{name}: {rules.initial} to {rules.end} was appended before; nothing is new")
            stream.over = True
        else:
            saves.append(lambda: windows.append([rules.initial, rules.end]))

    def state_of(self, name: str) -> ResourceState:
        """Our part of a resource's state, inside an extraction."""
        return restsource_state(name)

    def _reset_if_renamed(self, plan: ResourcePlan) -> None:
        """Forget the cursors of a resource whose table has another name now: it is empty."""
        name, table = plan.resource.name, plan.resource.table
        if name in self._settled:
            return
        self._settled.add(name)
        state = restsource_state(name)
        if state.get("table", table) != table:
            begins = state.get(LIVE_START_KEY)
            state.clear()
            if begins is not None:
                state[LIVE_START_KEY] = begins
            dlt.current.resource_state(name).pop("incremental", None)
            self._say(f"{name}: its table is {table} now, so all rows are loaded again")
        state["table"] = table

    def _above(self, plan: ResourcePlan) -> set[str]:
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
        name, remembers = plan.resource.name, plan.appends and rules.end is None
        if parent is None:
            places: ResourceState = dlt.current.resource_state(name).setdefault("incremental", {})
            place: ResourceState = places.setdefault(rules.path, {})
            position = Position(
                rules, _state_unless_bounded(place, rules), remembers=remembers, key=plan.identity
            )
            saves.append(lambda: position.save(place))
            return position
        store = self._store(plan, plan, rules)
        return self._position_below(
            store, rules, parent, saves, remembers=remembers, key=plan.identity
        )

    def _follower_position(
        self,
        plan: ResourcePlan,
        follower: str,
        rules: CursorRules,
        parent: Sequence[Any] | None,
        saves: list[SavePositions],
    ) -> Position:
        follows = self._plans[follower]
        remembers = follows.appends and follows.incremental is None and rules.end is None
        key = parent if parent is not None else ()
        store = self._store(follows, plan, rules)
        return self._position_below(store, rules, key, saves, remembers=remembers)

    def _position_below(
        self,
        store: ParentCursorStates,
        rules: CursorRules,
        parent: Sequence[Any],
        saves: list[SavePositions],
        *,
        remembers: bool,
        key: Any = None,
    ) -> Position:
        at = parent_key(parent)
        position = Position(
            rules, _state_unless_bounded(store.at(at), rules), remembers=remembers, key=key
        )

        def save() -> None:
            if position.touched:
                state: ResourceState = {}
                position.save(state)
                for name in ("initial_value", "start_value", "unique_hashes"):
                    del state[name]
                store.put(at, state)

        saves.append(save)
        return position

    def _store(
        self, reader: ResourcePlan, read: ResourcePlan, rules: CursorRules
    ) -> ParentCursorStates:
        """Where `reader` keeps its positions in the rows of `read`; its own rows: per parent."""
        key = (reader.resource.name, read.resource.name)
        if key not in self._stores:
            state = restsource_state(reader.resource.name)
            kind = "parents" if reader is read else "follows"
            place: ResourceState = state.setdefault(kind, {})
            if reader is not read:
                place = place.setdefault(read.resource.name, {})
            single = None
            if reader is read:
                # dlt's one cursor for all parents; gone for good with the first load by parent
                single = (
                    dlt.current.resource_state(reader.resource.name)
                    .get("incremental", {})
                    .pop(rules.path, None)
                )
            self._stores[key] = ParentCursorStates(
                reader.resource.name,
                place.setdefault(rules.path, {}),
                forgets=not reader.appends,
                single=single if reader.appends else None,
            )
        return self._stores[key]


def _rules_from_lower_bound(rules: CursorRules, parent: Sequence[Any] | None) -> CursorRules:
    """The rules of a root that has a beginning of its own: there, and with that value."""
    state = (
        dlt.current.resource_state(rules.resource) if parent is None and rules.end is None else {}
    )
    begins = read_lower_bound(state.get(STATE_KEY, {}))
    if begins is None:
        return rules
    last = state.get("incremental", {}).get(rules.path, {}).get("last_value")
    return replace(rules, initial=begins, open_start=rules.open_start and last is not None)


def _state_unless_bounded(state: Mapping[str, Any], rules: CursorRules) -> Mapping[str, Any]:
    return {} if rules.end is not None else state
