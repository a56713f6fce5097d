"""Moves cursors in dlt's state before a load: set by a person, begun anew, begun after a history.

The state is that in the pipeline's own folder: the destination learns of it with the rows that it
leads to, or not at all.

Where cursors are asked to start: as a person sets them, anew, or where a history ends.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from restsource_dagster.connector.cursor_format import (
    CursorFormat,
    CursorValueError,
    PlainNumber,
    detect_cursor_format,
)
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.resources import Family, Incremental, Resource
from restsource_dagster.connector.validation.diagnostics import describe_value
from restsource_dagster.engine.destination.replace_rows import CursorRange, RowDeletion
from restsource_dagster.engine.dlt_compat import jsonpath
from restsource_dagster.engine.errors import IngestError, UnknownResourceError
from restsource_dagster.engine.incremental.cursor_state import (
    FLOOR_KEY,
    LIVE_START_KEY,
    STATE_KEY,
    read_cursor,
)
from restsource_dagster.engine.incremental.ordering import CursorOrder
from restsource_dagster.engine.incremental.position import SEEN_KEY

__all__ = [
    "AppliedOverrides",
    "CursorOverrides",
    "apply_overrides",
    "parse_cursor_value",
    "require_incremental",
    "resource_error",
]


@dataclass(frozen=True)
class CursorOverrides:
    """What a run is asked to do with cursors, by resource.

    `live_from`: where the live stream starts if there is no stored cursor, in the API's own form.
    `full_refresh`: load all rows again, in place of those in the table. `set_cursor`: the value that
    the stored one becomes.
    """

    live_from: Mapping[str, Any] = field(default_factory=dict)
    full_refresh: Collection[str] = ()
    set_cursor: Mapping[str, Any] = field(default_factory=dict)

    def check(self, connector: Connector, wanted: Collection[str]) -> None:
        """Refuse what makes no sense. Raises `IngestError` naming the resource and the way out."""
        known = {resource.name: resource for resource in connector.resources}
        for name in (*self.live_from, *self.full_refresh, *self.set_cursor):
            if name not in known:
                raise UnknownResourceError(
                    f"connector {connector.name} has no resource {name}; it has {', '.join(known)}"
                )
        for name in {*self.full_refresh, *self.set_cursor} - set(wanted):
            raise resource_error(
                name, "it is not loaded in this run, so its cursor can't change. Select it, too"
            )
        for name in set(self.full_refresh) & set(self.set_cursor):
            raise resource_error(
                name, "full_refresh and set_cursor contradict each other. Leave one out"
            )
        for name in self.set_cursor:
            _check_cursor_settable(known[name])
        for name, value in {**self.live_from, **self.set_cursor}.items():
            incremental = known[name].incremental
            if incremental is not None and incremental.initial_value is not None:
                parse_cursor_value(name, value, incremental.initial_value)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for."""
        return not (self.live_from or self.full_refresh or self.set_cursor)

    def for_family(
        self, unfinished: Mapping[str, Mapping[str, Any]], loaded: Collection[str]
    ) -> "CursorOverrides":
        """What concerns the members that are loaded, with what an earlier run died over."""
        names = set(loaded)
        again = {name: change for name, change in unfinished.items() if name in names}
        fresh = {name for name, change in again.items() if change.get("refresh")}
        values = {name: change["set"] for name, change in again.items() if "set" in change}
        asked = {name: value for name, value in self.set_cursor.items() if name in names}
        refresh = (names & set(self.full_refresh)) | (fresh - asked.keys())
        values = {name: value for name, value in values.items() if name not in refresh}
        return CursorOverrides(
            {name: value for name, value in self.live_from.items() if name in names},
            refresh,
            {**values, **asked},
        )


def parse_cursor_value(name: str, value: Any, sample: Any) -> Any:
    """A value, or a text that a person typed, as the API spells its cursor (see `sample`).

    Raises `IngestError` if it is none of that form.
    """
    form = detect_cursor_format(sample)
    try:
        read = form.parse(value)
        made = _render_cursor_value(read, form)
    except (CursorValueError, ValueError) as error:
        raise resource_error(
            name,
            f"the cursor is {form.words}, such as {describe_value(sample)}, and {describe_value(value)} can't be one",
        ) from error
    return made


def _render_cursor_value(read: Any, form: CursorFormat) -> Any:
    if form.is_time:
        return form.render(read)
    return str(read) if isinstance(form, PlainNumber) and form.as_text else read


def require_incremental(resource: Resource) -> Incremental:
    """The resource's cursor. Raises `IngestError` if it has none."""
    if resource.incremental is None:
        raise resource_error(resource.name, "it has no cursor")
    return resource.incremental


def _check_cursor_settable(resource: Resource) -> None:
    incremental = require_incremental(resource)
    if resource.parent is not None:
        raise resource_error(
            resource.name,
            f"its cursor is kept below each {resource.parent}. Use full_refresh, or set the cursor "
            "of the resource that it depends on",
        )
    if incremental.end_value is not None:
        raise resource_error(resource.name, "with `end_value` no cursor is kept")


def resource_error(name: str, why: str) -> IngestError:
    """An error that names the resource; `why` is a sentence without its full stop."""
    error = IngestError(f"resource {name}: {why}.")
    error.resource = name
    return error


PipelineState = dict[str, Any]


@dataclass
class AppliedOverrides:
    """What the starts of a family come to."""

    cursors: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """The cursors that were moved: the old value and the new one."""
    replacements: list[RowDeletion] = field(default_factory=list)
    """The rows that go; tables by the resource's name for them."""
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What has to be made again if the load dies halfway."""
    texts: list[str] = field(default_factory=list)
    begun: set[str] = field(default_factory=set)
    """The tables of live streams that begin now."""


def apply_overrides(
    starts: CursorOverrides,
    family: Family,
    loaded: Collection[str],
    state: PipelineState,
    source: str,
    *,
    falling: Collection[str] = (),
) -> AppliedOverrides:
    """Change the cursors of a family in dlt's state, and tell what that takes.

    `source` is dlt's name of the connector's source, `falling` are the resources whose cursor falls.
    Raises `IngestError` if a change would leave rows twice or lose some.
    """
    moves = AppliedOverrides()
    members = {member.name: member for member in family.members if member.name in loaded}
    for resource in members.values():
        appended = resource.disposition.value == "append"
        if resource.name in falling and appended and resource.name not in starts.full_refresh:
            raise resource_error(
                resource.name,
                "its cursor falls, and rows are appended: setting it would leave some twice. Use "
                "full_refresh",
            )
        mover = _ResourceOverride(resource, family, loaded, state, source, moves)
        if resource.name in starts.full_refresh:
            mover.full_refresh(starts)
        elif resource.name in starts.set_cursor:
            mover.set(starts.set_cursor[resource.name])
        elif resource.name in starts.live_from:
            mover.begin(starts.live_from[resource.name])
    return moves


@dataclass(frozen=True)
class _ResourceOverride:
    resource: Resource
    family: Family
    loaded: Collection[str]
    state: PipelineState
    source: str
    moves: AppliedOverrides

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
        self._restsource_state()[LIVE_START_KEY] = value
        if self.resource.disposition.value == "append":
            # windows may have been loaded beyond; those rows come again now
            self._replace(value, nulls=True)
            self.moves.begun.add(self.resource.table)

    def set(self, value: Any) -> None:
        """Go on from this value, whatever was stored."""
        incremental = require_incremental(self.resource)
        old = self._last()
        sample = incremental.initial_value if old is None else old
        new = value if sample is None else parse_cursor_value(self.resource.name, value, sample)
        self._move_followers(new)
        appends = self.resource.disposition.value == "append"
        place = (
            self._resource_state()
            .setdefault("incremental", {})
            .setdefault(incremental.cursor_path, {})
        )
        # rows without a cursor are known by their hashes alone
        seen = [entry for entry in place.pop(SEEN_KEY, ()) if entry[0] is None]
        place.update(initial_value=incremental.initial_value, last_value=new, unique_hashes=[])
        if appends and seen:
            place[SEEN_KEY] = seen
        begins = self._restsource_state().get(LIVE_START_KEY)
        if begins is not None and CursorOrder().is_before(new, begins):
            self._restsource_state()[LIVE_START_KEY] = new
        if appends:
            self._restsource_state()[FLOOR_KEY] = new
            self._replace(new, nulls=False)
            self.moves.changes[self.resource.name] = {"set": new}
        self._record_change(old, new, "set")

    def full_refresh(self, starts: CursorOverrides) -> None:
        """Forget the cursor, and let what is loaded take the place of the table's rows."""
        self._check_parents(starts.full_refresh)
        resource, old = self.resource, self._last()
        begins = self._restsource_state().get(LIVE_START_KEY, starts.live_from.get(resource.name))
        self.state.get("sources", {}).get(self.source, {}).get("resources", {}).pop(
            resource.name, None
        )
        if resource.disposition.value in ("append", "merge"):
            if begins is None:
                self.moves.replacements.append(RowDeletion(resource.table, None))
            else:
                self._restsource_state()[LIVE_START_KEY] = begins
                self._replace(begins, nulls=True)
        if resource.disposition.value == "append":
            self.moves.changes[resource.name] = {"refresh": True}
        if resource.incremental is not None:
            initial = resource.incremental.initial_value
            self._record_change(old, initial if begins is None else begins, "full refresh")
        rest = "" if begins is None else f" from {begins} on; what is before belongs to its history"
        self.moves.texts.append(
            f"{resource.name}: full refresh, the rows of table {resource.table} are replaced{rest}"
        )

    def _resource_state(self) -> PipelineState:
        sources = self.state.setdefault("sources", {}).setdefault(self.source, {})
        mine: PipelineState = sources.setdefault("resources", {}).setdefault(self.resource.name, {})
        return mine

    def _restsource_state(self) -> PipelineState:
        ours: PipelineState = self._resource_state().setdefault(STATE_KEY, {})
        return ours

    def _last(self) -> Any:
        return read_cursor(self.state, self.source, self.resource)

    def _record_change(self, old: Any, new: Any, why: str) -> None:
        self.moves.cursors[self.resource.name] = (old, new)
        self.moves.texts.append(f"{self.resource.name}: cursor {why}: was {old}, now {new}")

    def _replace(self, start: Any, *, nulls: bool) -> None:
        incremental = self.resource.incremental
        name = self.resource.name
        field_name = incremental and jsonpath.extract_simple_field_name(
            jsonpath.compile_path(incremental.cursor_path)
        )
        if not incremental or not field_name:
            raise resource_error(
                name,
                f"the cursor is no column of the table, so its rows from {start} on can't be told "
                "apart from others. Reset the resource instead",
            )
        rows = CursorRange(field_name, detect_cursor_format(start), start, nulls=nulls)
        self.moves.replacements.append(RowDeletion(self.resource.table, rows))

    def _move_followers(self, new: Any) -> None:
        """Let dependents go on from there, too."""
        incremental = require_incremental(self.resource)
        for member in self.family.members[1:]:
            if member.name not in self.loaded:
                continue
            if member.disposition.value == "append":
                raise resource_error(
                    self.resource.name,
                    f"{member.name} depends on it and is appended to, so its rows could be there "
                    "twice. Use full_refresh for both, or give it a primary_key",
                )
            resources = self.state.get("sources", {}).get(self.source, {}).get("resources", {})
            follows = resources.get(member.name, {}).get(STATE_KEY, {}).get("follows", {})
            for entry in (
                follows.get(self.resource.name, {}).get(incremental.cursor_path, {}).values()
            ):
                entry["last_value"] = new
                entry.pop(SEEN_KEY, None)

    def _check_parents(self, refreshed: Collection[str]) -> None:
        for above in _ancestors(self.resource, self.family):
            name, others = self.resource.name, f"{self.resource.name} depends on {above.name}"
            ours = self.state.get("sources", {}).get(self.source, {}).get("resources", {})
            if LIVE_START_KEY in ours.get(above.name, {}).get(STATE_KEY, {}):
                raise resource_error(
                    name,
                    f"{others}, whose history is loaded in windows, and not all parents would be "
                    "asked for. Load the windows again, or reset the family",
                )
            appended = above.disposition.value == "append" and above.incremental is not None
            if appended and above.name in self.loaded and above.name not in refreshed:
                raise resource_error(
                    name,
                    f"{others}, whose old rows are not read again, as they would be appended twice. "
                    f"Refresh {above.name}, too, or run {name} alone",
                )


def _ancestors(resource: Resource, family: Family) -> Iterator[Resource]:
    members = {member.name: member for member in family.members}
    parent = resource.parent
    while parent:
        yield members[parent]
        parent = members[parent].parent
