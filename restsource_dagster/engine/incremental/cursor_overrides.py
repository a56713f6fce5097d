"""Changes cursors in dlt's state before a load: set by a person, reset, or started after a backfill.

The state is the copy in the pipeline's folder. The destination gets it together with the rows of
the load, or not at all.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from restsource_dagster.connector.cursor_format import (
    CursorFormat,
    CursorValueError,
    PlainNumber,
    detect_cursor_format,
)
from restsource_dagster.connector.model import Connector, Family, Incremental, Resource
from restsource_dagster.connector.validation.diagnostics import describe_value
from restsource_dagster.engine.dlt_compat import jsonpath
from restsource_dagster.engine.errors import ResourceError, UnknownResourceError
from restsource_dagster.engine.incremental.cursor_state import (
    FLOOR_KEY,
    GONE_KEY,
    LIVE_START_KEY,
    STATE_KEY,
    read_cursor,
    resource_state_in,
)
from restsource_dagster.engine.incremental.ordering import CursorOrder
from restsource_dagster.engine.incremental.position import SEEN_KEY

__all__ = [
    "AppliedOverrides",
    "CursorOverrides",
    "CursorRange",
    "RowDeletion",
    "apply_overrides",
    "check_resources_exist",
    "cursor_column",
    "parse_cursor_value",
    "require_incremental",
]


@dataclass(frozen=True)
class CursorOverrides:
    """The cursors that a run is asked to change, by resource.

    `live_from`: where the live stream starts if no cursor is stored, in the API's form.
    `full_refresh`: resources whose rows are all loaded again and replace those in the table.
    `set_cursor`: the value that replaces the stored one.
    """

    live_from: Mapping[str, Any] = field(default_factory=dict)
    full_refresh: Collection[str] = ()
    set_cursor: Mapping[str, Any] = field(default_factory=dict)
    seams: Mapping[str, Any] = field(default_factory=dict)
    """Where the windows of backfills that were loaded end: a live stream that starts later leaves a gap."""

    def check(self, connector: Connector, wanted: Collection[str]) -> None:
        """Raise `ResourceError`, with a fix, for an override that can't be applied.

        `wanted` are the names of the resources that the run loads.
        """
        check_resources_exist(connector, {*self.live_from, *self.full_refresh, *self.set_cursor})
        known = {resource.name: resource for resource in connector.resources}
        # the change is stored with the rows of a load, so without a load it would be lost without a
        # word
        for name in {*self.full_refresh, *self.set_cursor} - set(wanted):
            raise ResourceError(
                name, "it is not loaded in this run, so its cursor can't change. Select it, too"
            )
        for name in set(self.full_refresh) & set(self.set_cursor):
            raise ResourceError(
                name, "full_refresh and set_cursor contradict each other. Leave one out"
            )
        for name in self.full_refresh:
            if others := connector.sharing_table(name):
                raise ResourceError(
                    name,
                    f"its table has the rows of {', '.join(others)}, too, which a full refresh would remove. "
                    "Reset all of them and run them, or set the cursor back",
                )
        for name in self.set_cursor:
            _check_cursor_settable(known[name])
        for name, value in {**self.live_from, **self.set_cursor}.items():
            incremental = known[name].incremental
            if incremental is not None and incremental.sample is not None:
                # for the error only: the stored cursor may show another format, and is read later
                parse_cursor_value(name, value, incremental.sample)

    @property
    def is_empty(self) -> bool:
        """True if no cursor is changed."""
        return not (self.live_from or self.full_refresh or self.set_cursor)

    def for_family(
        self, pending: Mapping[str, Mapping[str, Any]], loaded: Collection[str]
    ) -> "CursorOverrides":
        """Return the overrides of the resources in `loaded`.

        `pending` are overrides of an earlier run that ended between deleting rows and loading them.
        They are applied again, unless this run overrides the same resource.
        """
        names = set(loaded)
        again = {name: change for name, change in pending.items() if name in names}
        fresh = {name for name, change in again.items() if change.get("refresh")}
        values = {name: change["set"] for name, change in again.items() if "set" in change}
        asked = {name: value for name, value in self.set_cursor.items() if name in names}
        # a new `set_cursor` replaces a pending full refresh
        refresh = (names & set(self.full_refresh)) | (fresh - asked.keys())
        # a full refresh makes a pending `set_cursor` void
        values = {name: value for name, value in values.items() if name not in refresh}
        return CursorOverrides(
            {name: value for name, value in self.live_from.items() if name in names},
            refresh,
            {**values, **asked},
            {name: value for name, value in self.seams.items() if name in names},
        )

    def live_start_of(self, resource: str) -> Any:
        """Return where the live stream of a resource starts if nothing is stored: never after its seam."""
        start, seam = self.live_from.get(resource), self.seams.get(resource)
        if start is None or seam is None or CursorOrder().is_before(start, seam):
            return start
        return seam


def parse_cursor_value(name: str, value: Any, sample: Any) -> Any:
    """Return a value, or a text that a person typed, in the form of the API's cursor.

    `sample` is a cursor value of the API. Raises `ResourceError` if the value has another form.
    """
    cursor_format = detect_cursor_format(sample)
    try:
        parsed = cursor_format.parse(value)
        rendered = _render_cursor_value(parsed, cursor_format)
    except (CursorValueError, ValueError) as error:
        raise ResourceError(
            name,
            f"{describe_value(value)} is no value of its cursor, which is "
            f"{cursor_format.description}, for example {describe_value(sample)}",
        ) from error
    return rendered


def _render_cursor_value(parsed: Any, cursor_format: CursorFormat) -> Any:
    if cursor_format.is_time:
        return cursor_format.render(parsed)
    as_text = isinstance(cursor_format, PlainNumber) and cursor_format.as_text
    return str(parsed) if as_text else parsed


def require_incremental(resource: Resource) -> Incremental:
    """Return the resource's cursor. Raise `ResourceError` if it has none."""
    if resource.incremental is None:
        raise ResourceError(resource.name, "it has no cursor")
    return resource.incremental


def cursor_column(cursor_path: str) -> str | None:
    """Return the field that a cursor path names, or None if the path is more than a field."""
    name: str | None = jsonpath.extract_simple_field_name(jsonpath.compile_path(cursor_path))
    return name


def _check_cursor_settable(resource: Resource) -> None:
    incremental = require_incremental(resource)
    if resource.parent is not None or resource.endpoint.for_each:
        raise ResourceError(
            resource.name,
            f"it has a cursor for each {resource.parent or 'value of for_each'}. Use full_refresh, or set the cursor of the "
            "resource that it depends on",
        )
    if incremental.end_value is not None:
        raise ResourceError(resource.name, "with `end_value` no cursor is stored")


def check_resources_exist(connector: Connector, names: Collection[str]) -> None:
    """Raise `UnknownResourceError` if the connector lacks one of the resources."""
    known = [resource.name for resource in connector.resources]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise UnknownResourceError(
            f"connector {connector.name} has no resource {', '.join(unknown)}; "
            f"it has {', '.join(known)}"
        )


@dataclass(frozen=True)
class CursorRange:
    """The cursor values from `start` up to, but without, `end`."""

    field: str
    """The name of the cursor in the records."""
    form: CursorFormat
    """How cursor values are written."""
    start: Any
    end: Any = None
    """None for a range without an end."""
    nulls: bool = False
    """True if rows without a cursor value belong to the range."""

    @cached_property
    def _keys(self) -> tuple[Any, Any]:
        end = None if self.end is None else self.form.comparison_key(self.end)
        return self.form.comparison_key(self.start), end

    def holds(self, value: Any) -> bool:
        """Return True if a value is in the range; False for a value that can't be compared."""
        start, end = self._keys
        try:
            key = self.form.comparison_key(value)
        except CursorValueError:
            return False
        return bool(start <= key and (end is None or key < end))


@dataclass(frozen=True)
class RowDeletion:
    """The rows of a root table that a load replaces."""

    table: str
    cursor_range: CursorRange | None
    """None for all rows."""


PipelineState = dict[str, Any]


@dataclass
class AppliedOverrides:
    """What the overrides of a family changed, and what the load has to do for them."""

    moved_cursors: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """By resource, the old and the new value of each changed cursor."""
    deletions: list[RowDeletion] = field(default_factory=list)
    """The rows that the load deletes. The tables have the connector file's names."""
    pending: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By resource, the overrides to apply again if the load ends before its rows are in."""
    messages: list[str] = field(default_factory=list)
    """Sentences for the person who watches the run."""
    started_tables: set[str] = field(default_factory=set)
    """The tables whose live stream starts with this load."""


def apply_overrides(
    overrides: CursorOverrides,
    family: Family,
    loaded: Collection[str],
    state: PipelineState,
    source: str,
    *,
    descending: Collection[str] = (),
) -> AppliedOverrides:
    """Change the cursors of a family in dlt's state, and return what that requires.

    `source` is dlt's name of the connector's source, `descending` are the resources whose newest
    cursor value is the least. Raises `ResourceError` if a change would store rows twice or lose some.
    """
    applied = AppliedOverrides()
    members = {member.name: member for member in family.members if member.name in loaded}
    for resource in members.values():
        appended = resource.disposition.value == "append"
        if resource.name in descending and appended and resource.name not in overrides.full_refresh:
            raise ResourceError(
                resource.name,
                "its cursor descends and its rows are appended, so some would be stored twice. Use "
                "full_refresh",
            )
        override = _ResourceOverride(resource, family, loaded, state, source, applied)
        if resource.name in overrides.full_refresh:
            override.full_refresh(overrides)
        elif resource.name in overrides.set_cursor:
            override.set_cursor(overrides.set_cursor[resource.name])
        elif resource.name in overrides.live_from:
            override.start_live(overrides.live_start_of(resource.name))
            override.close_gap(overrides.seams.get(resource.name))
    return applied


@dataclass(frozen=True)
class _ResourceOverride:
    """Changes the cursor of one resource in `state`; notes the consequences in `applied`."""

    resource: Resource
    family: Family
    loaded: Collection[str]
    state: PipelineState
    source: str
    applied: AppliedOverrides

    @property
    def _appends(self) -> bool:
        return self.resource.disposition.value == "append"

    def start_live(self, value: Any) -> None:
        """Start the live stream at a value, unless it has started before."""
        # a stream that has begun goes on at its cursor, wherever the backfill stands
        if self.resource.incremental is None or self._stored_cursor() is not None:
            return
        self._restsource_state()[LIVE_START_KEY] = value
        if self._appends:
            # a person may have loaded windows beyond the start, and the live stream loads them again
            self._delete_from(value, nulls=True)
            self.applied.started_tables.add(self.resource.table)
        self.applied.messages.append(
            f"{self.resource.name}: the live stream starts at {value}; the rows before it are "
            "loaded by its backfill"
        )

    def close_gap(self, seam: Any) -> None:
        """Go back to the seam if the live stream has started after it: nothing loads the rows between."""
        started = self._restsource_state().get(LIVE_START_KEY)
        if seam is None or started is None or not CursorOrder().is_before(seam, started):
            return
        self.applied.messages.append(
            f"{self.resource.name}: the live stream started at {started}, but its backfill ends at {seam}. "
            "They were run with different states (RESTSOURCE_STATE). The rows from there on are loaded now"
        )
        self.set_cursor(seam)

    def set_cursor(self, value: Any) -> None:
        """Replace the stored cursor by a value."""
        incremental = require_incremental(self.resource)
        old = self._stored_cursor()
        sample = incremental.initial_value if old is None else old
        new = value if sample is None else parse_cursor_value(self.resource.name, value, sample)
        # before anything of the own cursor changes, because it may refuse
        self._move_followers(new)
        place = (
            self._resource_state().setdefault("incremental", {}).setdefault(incremental.path, {})
        )
        # rows without a cursor are known by their hashes alone, wherever the cursor is
        seen = [entry for entry in place.pop(SEEN_KEY, ()) if entry[0] is None]
        place.update(initial_value=incremental.initial_value, last_value=new, unique_hashes=[])
        if self._appends and seen:
            place[SEEN_KEY] = seen
        live_start = self._restsource_state().get(LIVE_START_KEY)
        if live_start is not None and CursorOrder().is_before(new, live_start):
            # the person wants the live stream to load rows that a backfill would load otherwise
            self._restsource_state()[LIVE_START_KEY] = new
        if self._appends:
            self._restsource_state()[FLOOR_KEY] = new
            self._delete_from(new, nulls=False)
            # rows and cursor change in two transactions: see recovery.py
            self.applied.pending[self.resource.name] = {"set": new}
        self._record_change(old, new, "set")

    def full_refresh(self, overrides: CursorOverrides) -> None:
        """Remove the cursor, and have the load replace the table's rows."""
        # before anything changes: it may refuse
        self._check_parents(overrides.full_refresh)
        resource, old = self.resource, self._stored_cursor()
        live_start = self._restsource_state().get(
            LIVE_START_KEY, overrides.live_start_of(resource.name)
        )
        seam = overrides.seams.get(resource.name)
        # no window has loaded the rows from the seam on
        if seam is not None and CursorOrder().is_before(seam, live_start):
            live_start = seam
        # this also removes the remembered rows, the positions of dependents and the appended windows
        sources = self.state.get("sources", {}).get(self.source, {})
        sources.get("resources", {}).pop(resource.name, None)
        sources.get(STATE_KEY, {}).get(GONE_KEY, {}).pop(resource.name, None)
        # `replace` empties the table by itself
        if resource.disposition.value in ("append", "merge"):
            if live_start is None:
                self.applied.deletions.append(RowDeletion(resource.table, None))
            else:
                # the rows before the live start are in finished partitions, which no run loads again
                self._restsource_state()[LIVE_START_KEY] = live_start
                self._delete_from(live_start, nulls=True)
        if self._appends:
            self.applied.pending[resource.name] = {"refresh": True}
        if resource.incremental is not None:
            initial = resource.incremental.initial_value
            new = initial if live_start is None else live_start
            self._record_change(old, new, "full refresh")
        scope = (
            ""
            if live_start is None
            else f" from {live_start} on; the rows before it are loaded by its backfill"
        )
        self.applied.messages.append(
            f"{resource.name}: full refresh, the rows of table {resource.table} are replaced{scope}"
        )

    def _resource_state(self) -> PipelineState:
        """Return the resource's part of the state, created if missing."""
        sources = self.state.setdefault("sources", {}).setdefault(self.source, {})
        mine: PipelineState = sources.setdefault("resources", {}).setdefault(self.resource.name, {})
        return mine

    def _restsource_state(self) -> PipelineState:
        """Return our dict in the resource's state, created if missing."""
        ours: PipelineState = self._resource_state().setdefault(STATE_KEY, {})
        return ours

    def _stored_cursor(self) -> Any:
        return read_cursor(self.state, self.source, self.resource)

    def _record_change(self, old: Any, new: Any, why: str) -> None:
        self.applied.moved_cursors[self.resource.name] = (old, new)
        self.applied.messages.append(f"{self.resource.name}: cursor {why}: was {old}, now {new}")

    def _delete_from(self, start: Any, *, nulls: bool) -> None:
        """Have the load delete the rows from `start` on; with `nulls`, those without a cursor too."""
        incremental = self.resource.incremental
        # the deletion is SQL, so the cursor must be a column
        column = cursor_column(incremental.path) if incremental else None
        if column is None:
            raise ResourceError(
                self.resource.name,
                f"the cursor is no column of the table, so its rows from {start} on can't be "
                "found. Reset the resource instead",
            )
        rows = CursorRange(column, detect_cursor_format(start), start, nulls=nulls)
        self.applied.deletions.append(RowDeletion(self.resource.table, rows))

    def _move_followers(self, new: Any) -> None:
        """Move the positions of dependents in this resource's rows to the new value, too.

        Raises `ResourceError` for a dependent that is appended to: it would read parents again.
        """
        incremental = require_incremental(self.resource)
        for member in self.family.members[1:]:
            if member.name not in self.loaded:
                continue
            if member.disposition.value == "append":
                raise ResourceError(
                    self.resource.name,
                    f"{member.name} depends on it and is appended to, so its rows could be stored "
                    "twice. Use full_refresh for both, or add a primary_key to it",
                )
            ours = resource_state_in(self.state, self.source, member.name).get(STATE_KEY, {})
            follows = ours.get("follows", {}).get(self.resource.name, {})
            for entry in follows.get(incremental.path, {}).values():
                # else the dependents would take the parents that come again for known, and skip
                # their calls
                entry["last_value"] = new
                entry.pop(SEEN_KEY, None)

    def _check_parents(self, refreshed: Collection[str]) -> None:
        """Raise `ResourceError` if a full refresh would not read all records of the parents."""
        for above in _ancestors(self.resource, self.family):
            name, others = self.resource.name, f"{self.resource.name} depends on {above.name}"
            ours = resource_state_in(self.state, self.source, above.name).get(STATE_KEY, {})
            if LIVE_START_KEY in ours:
                raise ResourceError(
                    name,
                    f"{others}, whose older rows are loaded by a backfill, so this run does not "
                    "read all parents. Load the partitions again, or reset the family",
                )
            appended = above.disposition.value == "append" and above.incremental is not None
            if appended and above.name in self.loaded and above.name not in refreshed:
                raise ResourceError(
                    name,
                    f"{others}, whose old rows are not read again, because they would be appended "
                    f"twice. Refresh {above.name}, too, or run {name} alone",
                )


def _ancestors(resource: Resource, family: Family) -> Iterator[Resource]:
    members = {member.name: member for member in family.members}
    parent = resource.parent
    while parent:
        yield members[parent]
        parent = members[parent].parent
