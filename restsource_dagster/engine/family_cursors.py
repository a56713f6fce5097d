"""The cursors of a family: where each is kept in dlt's state, and which follow another.

A resource's own cursor is where dlt keeps it. That of a dependent resource is kept per parent. A
dependent also keeps a position in the rows of each incremental resource above it: whatever was
loaded with or without it, it asks below each row once, and below none too few.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dlt.extract.state import resource_state

from restsource_dagster.engine.cursor_state import FROM, OURS, State, beginning_of, own_state
from restsource_dagster.engine.fixed_windows import was_appended
from restsource_dagster.engine.parent_states import ParentStates, parent_key
from restsource_dagster.engine.plans import ResourcePlan
from restsource_dagster.engine.positions import CursorRules, Position
from restsource_dagster.engine.streams import Stream

__all__ = ["FamilyCursors", "OpenStream"]

Save = Callable[[], None]


@dataclass(frozen=True)
class OpenStream:
    """A stream and the way to save its positions when its call has ended."""

    stream: Stream
    save: Save


class FamilyCursors:
    """Opens the streams of one run of a family. One object per run: it remembers its stores."""

    def __init__(self, plans: Mapping[str, ResourcePlan], say: Callable[[str], None]) -> None:
        self._plans = plans
        self._say = say
        self._stores: dict[tuple[str, str], ParentStates] = {}
        self._settled: set[str] = set()

    def loaded_below(self, name: str) -> frozenset[str]:
        """The resource itself and its dependents, at any depth, that are loaded."""
        found: set[str] = set()
        for plan in self._plans.values():
            if plan.loaded and name in self._above(plan):
                found.add(plan.resource.name)
        return frozenset(found)

    def open(self, plan: ResourcePlan, parent: Sequence[Any] | None) -> OpenStream | None:
        """The stream of a call; None if the resource has no cursor.

        `parent` are the values that the call takes from its parent, None for a root. Call it in the
        thread that extracts.
        """
        if plan.incremental is None:
            return None
        saves: list[Save] = []
        for name in self.loaded_below(plan.resource.name):
            self._settle_table(self._plans[name])
        rules = _begun(CursorRules.of(plan.resource.name, plan.incremental), parent)
        own = self._own(plan, rules, parent, saves) if plan.loaded else None
        followers = {}
        for name in sorted(self.loaded_below(plan.resource.name) - {plan.resource.name}):
            followers[name] = self._follower(plan, name, rules, parent, saves)
        if rules.end is not None:  # a window of its own: nothing is remembered
            saves.clear()

        def save() -> None:
            for one in saves:
                one()

        stream = Stream(rules, own, followers, self._say)
        if rules.end is not None and own and plan.appends and parent is None:
            self._append_once(plan.resource.name, rules, stream, saves)
        return OpenStream(stream, save)

    def peek(self, plan: ResourcePlan, parent: Sequence[Any]) -> Stream | None:
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
                _known(store.peek(parent_key(parent)), rules),
                remembers=remembers and rules.end is None,
            )
        return Stream(rules, positions.pop(name, None), positions, self._say)

    def _append_once(
        self, name: str, rules: CursorRules, stream: Stream, saves: list[Save]
    ) -> None:
        """See to it that a window with both ends in the file is appended once."""
        windows: list[Any] = self.state_of(name).setdefault("appended_windows", [])
        if was_appended(rules, windows):
            self._say(f"{name}: {rules.initial} to {rules.end} was appended before; nothing is new")
            stream.over = True
        else:
            saves.append(lambda: windows.append([rules.initial, rules.end]))

    def state_of(self, name: str) -> State:
        """Our part of a resource's state, inside an extraction."""
        return own_state(name)

    def _settle_table(self, plan: ResourcePlan) -> None:
        """Forget the cursors of a resource whose table has another name now: it is empty."""
        name, table = plan.resource.name, plan.resource.table
        if name in self._settled:
            return
        self._settled.add(name)
        state = own_state(name)
        if state.get("table", table) != table:
            begins = state.get(FROM)
            state.clear()
            if begins is not None:
                state[FROM] = begins
            resource_state(name).pop("incremental", None)
            self._say(f"{name}: its table is {table} now, so all rows are loaded again")
        state["table"] = table

    def _above(self, plan: ResourcePlan) -> set[str]:
        names = {plan.resource.name}
        parent = plan.resource.parent
        while parent and parent in self._plans:
            names.add(parent)
            parent = self._plans[parent].resource.parent
        return names

    def _own(
        self,
        plan: ResourcePlan,
        rules: CursorRules,
        parent: Sequence[Any] | None,
        saves: list[Save],
    ) -> Position:
        name, remembers = plan.resource.name, plan.appends and rules.end is None
        if parent is None:
            places: State = resource_state(name).setdefault("incremental", {})
            place: State = places.setdefault(rules.path, {})
            position = Position(rules, _known(place, rules), remembers=remembers, key=plan.identity)
            saves.append(lambda: position.save(place))
            return position
        store = self._store(plan, plan, rules)
        return self._below(store, rules, parent, saves, remembers=remembers, key=plan.identity)

    def _follower(
        self,
        plan: ResourcePlan,
        follower: str,
        rules: CursorRules,
        parent: Sequence[Any] | None,
        saves: list[Save],
    ) -> Position:
        follows = self._plans[follower]
        remembers = follows.appends and follows.incremental is None and rules.end is None
        key = parent if parent is not None else ()
        store = self._store(follows, plan, rules)
        return self._below(store, rules, key, saves, remembers=remembers)

    def _below(
        self,
        store: ParentStates,
        rules: CursorRules,
        parent: Sequence[Any],
        saves: list[Save],
        *,
        remembers: bool,
        key: Any = None,
    ) -> Position:
        at = parent_key(parent)
        position = Position(rules, _known(store.at(at), rules), remembers=remembers, key=key)

        def save() -> None:
            if position.touched:
                state: State = {}
                position.save(state)
                for name in ("initial_value", "start_value", "unique_hashes"):
                    del state[name]
                store.put(at, state)

        saves.append(save)
        return position

    def _store(self, reader: ResourcePlan, read: ResourcePlan, rules: CursorRules) -> ParentStates:
        """Where `reader` keeps its positions in the rows of `read`; its own rows: per parent."""
        key = (reader.resource.name, read.resource.name)
        if key not in self._stores:
            state = own_state(reader.resource.name)
            kind = "parents" if reader is read else "follows"
            place: State = state.setdefault(kind, {})
            if reader is not read:
                place = place.setdefault(read.resource.name, {})
            single = None
            if reader is read:
                # dlt's one cursor for all parents; gone for good with the first load by parent
                single = (
                    resource_state(reader.resource.name)
                    .get("incremental", {})
                    .pop(rules.path, None)
                )
            self._stores[key] = ParentStates(
                reader.resource.name,
                place.setdefault(rules.path, {}),
                forgets=not reader.appends,
                single=single if reader.appends else None,
            )
        return self._stores[key]


def _begun(rules: CursorRules, parent: Sequence[Any] | None) -> CursorRules:
    """The rules of a root that has a beginning of its own: there, and with that value."""
    state = resource_state(rules.resource) if parent is None and rules.end is None else {}
    begins = beginning_of(state.get(OURS, {}))
    if begins is None:
        return rules
    last = state.get("incremental", {}).get(rules.path, {}).get("last_value")
    return replace(rules, initial=begins, open_start=rules.open_start and last is not None)


def _known(state: Mapping[str, Any], rules: CursorRules) -> Mapping[str, Any]:
    return {} if rules.end is not None else state
