"""Moves cursors in dlt's state before a load: set by a person, begun anew, begun after a history.

The state is that in the pipeline's own folder: the destination learns of it with the rows that it
leads to, or not at all.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from dlt.common.jsonpath import compile_path, extract_simple_field_name

from restsource_dagster.config.connector import Family, Resource
from restsource_dagster.config.cursor_values import format_of
from restsource_dagster.engine.cursor_state import FLOOR, FROM, OURS
from restsource_dagster.engine.cursors import read_cursor
from restsource_dagster.engine.ordering import Order
from restsource_dagster.engine.positions import SEEN
from restsource_dagster.engine.ranges import CursorRange, Replacement
from restsource_dagster.engine.starts import Starts, cursor_of, refused, typed

__all__ = ["Moves", "move"]

State = dict[str, Any]


@dataclass
class Moves:
    """What the starts of a family come to."""

    cursors: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """The cursors that were moved: the old value and the new one."""
    replacements: list[Replacement] = field(default_factory=list)
    """The rows that go; tables by the resource's name for them."""
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What has to be made again if the load dies halfway."""
    texts: list[str] = field(default_factory=list)
    begun: set[str] = field(default_factory=set)
    """The tables of live streams that begin now."""


def move(
    starts: Starts,
    family: Family,
    loaded: Collection[str],
    state: State,
    source: str,
    *,
    falling: Collection[str] = (),
) -> Moves:
    """Change the cursors of a family in dlt's state, and tell what that takes.

    `source` is dlt's name of the connector's source, `falling` are the resources whose cursor falls.
    Raises `IngestError` if a change would leave rows twice or lose some.
    """
    moves = Moves()
    members = {member.name: member for member in family.members if member.name in loaded}
    for resource in members.values():
        appended = resource.disposition.value == "append"
        if resource.name in falling and appended and resource.name not in starts.full_refresh:
            raise refused(
                resource.name,
                "its cursor falls, and rows are appended: setting it would leave some twice. Use "
                "full_refresh",
            )
        mover = _Mover(resource, family, loaded, state, source, moves)
        if resource.name in starts.full_refresh:
            mover.refresh(starts)
        elif resource.name in starts.set_cursor:
            mover.set(starts.set_cursor[resource.name])
        elif resource.name in starts.live_from:
            mover.begin(starts.live_from[resource.name])
    return moves


@dataclass(frozen=True)
class _Mover:
    resource: Resource
    family: Family
    loaded: Collection[str]
    state: State
    source: str
    moves: Moves

    def begin(self, value: Any) -> None:
        """Start the live stream here, if it has not begun."""
        if self.resource.incremental is None or self._last() is not None:
            return
        self._begin(value)
        self.moves.texts.append(
            f"{self.resource.name}: the live stream starts at {value}; what is before belongs to "
            "its history"
        )

    def _begin(self, value: Any) -> None:
        self._ours()[FROM] = value
        if self.resource.disposition.value == "append":
            # windows may have been loaded beyond; those rows come again now
            self._replace(value, nulls=True)
            self.moves.begun.add(self.resource.table)

    def set(self, value: Any) -> None:
        """Go on from this value, whatever was stored."""
        incremental = cursor_of(self.resource)
        old = self._last()
        sample = incremental.initial_value if old is None else old
        new = value if sample is None else typed(self.resource.name, value, sample)
        self._check_followers(new)
        appends = self.resource.disposition.value == "append"
        place = self._mine().setdefault("incremental", {}).setdefault(incremental.cursor_path, {})
        # rows without a cursor are known by their hashes alone
        seen = [entry for entry in place.pop(SEEN, ()) if entry[0] is None]
        place.update(initial_value=incremental.initial_value, last_value=new, unique_hashes=[])
        if appends and seen:
            place[SEEN] = seen
        begins = self._ours().get(FROM)
        if begins is not None and Order().is_before(new, begins):
            self._ours()[FROM] = new
        if appends:
            self._ours()[FLOOR] = new
            self._replace(new, nulls=False)
            self.moves.changes[self.resource.name] = {"set": new}
        self._moved(old, new, "set")

    def refresh(self, starts: Starts) -> None:
        """Forget the cursor, and let what is loaded take the place of the table's rows."""
        self._check_parents(starts.full_refresh)
        resource, old = self.resource, self._last()
        begins = self._ours().get(FROM, starts.live_from.get(resource.name))
        self.state.get("sources", {}).get(self.source, {}).get("resources", {}).pop(
            resource.name, None
        )
        if resource.disposition.value in ("append", "merge"):
            if begins is None:
                self.moves.replacements.append(Replacement(resource.table, None))
            else:
                self._ours()[FROM] = begins
                self._replace(begins, nulls=True)
        if resource.disposition.value == "append":
            self.moves.changes[resource.name] = {"refresh": True}
        if resource.incremental is not None:
            initial = resource.incremental.initial_value
            self._moved(old, initial if begins is None else begins, "full refresh")
        rest = "" if begins is None else f" from {begins} on; what is before belongs to its history"
        self.moves.texts.append(
            f"{resource.name}: full refresh, the rows of table {resource.table} are replaced{rest}"
        )

    def _mine(self) -> State:
        sources = self.state.setdefault("sources", {}).setdefault(self.source, {})
        mine: State = sources.setdefault("resources", {}).setdefault(self.resource.name, {})
        return mine

    def _ours(self) -> State:
        ours: State = self._mine().setdefault(OURS, {})
        return ours

    def _last(self) -> Any:
        return read_cursor(self.state, self.source, self.resource)

    def _moved(self, old: Any, new: Any, why: str) -> None:
        self.moves.cursors[self.resource.name] = (old, new)
        self.moves.texts.append(f"{self.resource.name}: cursor {why}: was {old}, now {new}")

    def _replace(self, start: Any, *, nulls: bool) -> None:
        incremental = self.resource.incremental
        name = self.resource.name
        field_name = incremental and extract_simple_field_name(
            compile_path(incremental.cursor_path)
        )
        if not incremental or not field_name:
            raise refused(
                name,
                f"the cursor is no column of the table, so its rows from {start} on can't be told "
                "apart from others. Reset the resource instead",
            )
        rows = CursorRange(field_name, format_of(start), start, nulls=nulls)
        self.moves.replacements.append(Replacement(self.resource.table, rows))

    def _check_followers(self, new: Any) -> None:
        """Let dependents go on from there, too."""
        incremental = cursor_of(self.resource)
        for member in self.family.members[1:]:
            if member.name not in self.loaded:
                continue
            if member.disposition.value == "append":
                raise refused(
                    self.resource.name,
                    f"{member.name} depends on it and is appended to, so its rows could be there "
                    "twice. Use full_refresh for both, or give it a primary_key",
                )
            resources = self.state.get("sources", {}).get(self.source, {}).get("resources", {})
            follows = resources.get(member.name, {}).get(OURS, {}).get("follows", {})
            for entry in (
                follows.get(self.resource.name, {}).get(incremental.cursor_path, {}).values()
            ):
                entry["last_value"] = new
                entry.pop(SEEN, None)

    def _check_parents(self, refreshed: Collection[str]) -> None:
        for above in _above(self.resource, self.family):
            name, others = self.resource.name, f"{self.resource.name} depends on {above.name}"
            ours = self.state.get("sources", {}).get(self.source, {}).get("resources", {})
            if FROM in ours.get(above.name, {}).get(OURS, {}):
                raise refused(
                    name,
                    f"{others}, whose history is loaded in windows, and not all parents would be "
                    "asked for. Load the windows again, or reset the family",
                )
            appended = above.disposition.value == "append" and above.incremental is not None
            if appended and above.name in self.loaded and above.name not in refreshed:
                raise refused(
                    name,
                    f"{others}, whose old rows are not read again, as they would be appended twice. "
                    f"Refresh {above.name}, too, or run {name} alone",
                )


def _above(resource: Resource, family: Family) -> Iterator[Resource]:
    members = {member.name: member for member in family.members}
    parent = resource.parent
    while parent:
        yield members[parent]
        parent = members[parent].parent
