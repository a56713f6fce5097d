"""A load in parts: which part an attempt is, where it goes on, and what the next part must know.

A long extract is stored in parts, each with the place to go on from. The next part, of this run or of
the next one, goes on there if the file still asks for the same and the rows of all parts are there.
"""

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from restsource_dagster.connector.model import Connector, Family, Resource
from restsource_dagster.connector.models.fields import as_json
from restsource_dagster.engine.destination.pipeline import PipelineManager
from restsource_dagster.engine.destination.recovery import KnownRows
from restsource_dagster.engine.destination.removed_rows import ChildrenOf
from restsource_dagster.engine.destination.replace_parts import Swap
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.incremental.cursor_overrides import AppliedOverrides
from restsource_dagster.engine.incremental.unfinished import (
    Unfinished,
    fingerprint_of,
    read_unfinished,
)
from restsource_dagster.engine.plan.resource_plan import ResourcePlan, build_resource_plans
from restsource_dagster.engine.run_progress import Progress
from restsource_dagster.engine.source.checkpoint import Checkpoint, LoadPart, can_load_in_parts
from restsource_dagster.engine.source.dlt_source import FamilySource
from restsource_dagster.engine.source.repeated_rows import RepeatedRows

if TYPE_CHECKING:
    from restsource_dagster.engine.incremental.window_filter import BackfillWindow

__all__ = [
    "FamilyPlans",
    "LoadAttempt",
    "LoadOptions",
    "LoadParts",
    "SelectedFamily",
    "known_rows_of",
    "swap_of",
]

_NOT_ASKED = {
    *("endpoint", "foreign_endpoint", "incremental", "disposition", "backfill"),
    *("selected", "pointer", "line", "definition_key", "mode", "http", "checks", "asset"),
}
"""Fields of a resource that say nothing about its rows, or that are in its endpoint."""


@dataclass(frozen=True)
class LoadOptions:
    """What a load of a family does beside loading new rows."""

    overrides: AppliedOverrides = field(default_factory=AppliedOverrides)
    window: "BackfillWindow | None" = None
    """The window that is loaded; None for a live run."""

    @property
    def window_ends(self) -> tuple[Any, Any] | None:
        """The ends of the window, in the cursor's own format."""
        window = self.window.requested if self.window else None
        return (window.start, window.end) if window else None


@dataclass(frozen=True)
class SelectedFamily:
    """A family, and the resources of it that are loaded."""

    family: Family
    selected: Sequence[Resource]

    @cached_property
    def root(self) -> str:
        """The name of the family's root resource."""
        return self.family.root.name

    @cached_property
    def names(self) -> list[str]:
        """The names of the resources that are loaded."""
        return [resource.name for resource in self.selected]


@dataclass
class LoadAttempt:
    """A load of some families in one package. `sources` has those that were built so far."""

    families: Sequence[SelectedFamily]
    checkpoint: Checkpoint | None = None
    """Where the extract may end early; None if it may not."""
    is_continued: bool = False
    """True if the families are loaded in parts, and this is not the first one of the run."""
    starts_anew: bool = False
    """True if the unfinished load is not continued."""
    has_started_anew: bool = False
    """True if a load of the run has started anew before."""
    started: float = field(default_factory=time.monotonic)
    sources: list[FamilySource] = field(default_factory=list)
    refreshed: Collection[str] = ()
    """The resources that are loaded in full because the API refuses their token."""
    known_rows: Mapping[str, RepeatedRows] = field(default_factory=dict)
    """The rows that earlier parts of the load have read, by resource."""
    part: LoadPart | None = None
    """Which part of its family's load it is, once that is known."""

    @property
    def has_next_call(self) -> bool:
        """True if it has loaded what a call asked for, and another call follows."""
        return self.part is not None and self.part.has_next_call

    def next_part(self, *, starts_anew: bool = False) -> "LoadAttempt":
        """Return the attempt that follows this one."""
        # without them a row that comes again in a later part is stored twice, or an older version last
        known_rows = {
            name: known
            for source in self.sources
            for name, one in source.tools.items()
            if not (starts_anew or self.has_next_call) and (known := one.repeats.for_next_part())
        }
        return LoadAttempt(
            self.families,
            is_continued=True,
            starts_anew=starts_anew,
            has_started_anew=starts_anew or self.has_started_anew,
            started=self.started,
            known_rows=known_rows,
        )

    def removed_children(self) -> Iterator[ChildrenOf]:
        """Yield the rows to remove, as their parents are gone."""
        for source in self.sources:
            yield from source.removed_children()

    def check_extracted(self) -> None:
        """Raise `IngestError` if what was extracted is not all there is."""
        for source in self.sources:
            source.check_extracted()


@dataclass(frozen=True)
class FamilyPlans:
    """The plans of a run's families, each for the moment of `{now}` of its load."""

    connector: Connector
    """With its references resolved."""
    resolve_at: Callable[[datetime], Connector]
    """Returns the connector with `{now}` at another moment."""
    _moments: dict[str, datetime] = field(default_factory=dict, init=False, repr=False)
    """By root, the moment of `{now}` of a load that an earlier run has begun."""
    _plans: dict[tuple[str, ...], Mapping[str, ResourcePlan]] = field(
        default_factory=dict, init=False, repr=False
    )

    def of(self, selected: SelectedFamily) -> Mapping[str, ResourcePlan]:
        """Return the plans of the resources that are loaded or have dependents that are.

        By name, parents first.
        """
        # prefetching and loading ask for the same plans
        moment = self._moments.get(selected.root)
        key = (str(moment or ""), selected.root, *sorted(selected.names))
        if key not in self._plans:
            connector = self.resolve_at(moment) if moment else self.connector
            found = build_resource_plans(selected.family, connector, selected.names)
            self._plans[key] = {plan.resource.name: plan for plan in found}
        return self._plans[key]

    def moment_of(self, root: str) -> datetime | None:
        """Return the moment of `{now}` of a family's load."""
        return self._moments.get(root, self.connector.started)

    def set_moment(self, root: str, moment: datetime | None) -> None:
        """Have the calls of a family take `{now}` for this moment; for the run's own with None."""
        if moment is not None:
            self._moments[root] = moment
        else:
            self._moments.pop(root, None)


@dataclass(frozen=True)
class LoadParts:
    """Finds out where the load of a family goes on, and removes what can't be continued."""

    connector: Connector
    pipelines: PipelineManager
    redactor: Redactor
    progress: Progress
    plans: FamilyPlans

    def find(
        self, attempt: LoadAttempt, state: Mapping[str, Any], options: LoadOptions
    ) -> LoadPart:
        """Return which part of a family's load the attempt is. Several families are loaded as a whole."""
        selected = attempt.families[0]
        # families share a load only if all their pages are at hand, so there is nothing to end
        # early
        if len(attempt.families) > 1:
            return LoadPart(selected.root)
        may_end = options == LoadOptions() and self._can_load_in_parts(selected)
        found = read_unfinished(state, self.connector.name, selected.root)
        resumed = None
        # before the fingerprint, which has the times of the calls in it
        self.plans.set_moment(selected.root, found.started if found else None)
        if found and may_end and not attempt.starts_anew:
            # what this run has stored itself is there
            is_valid = attempt.is_continued or self._is_valid(found, selected)
            resumed = found if is_valid else None
        # within one run the memories are handed from part to part; a new run reads what was noted
        if resumed and not attempt.is_continued:
            recalled = self._recall_rows(selected, resumed)
            attempt.known_rows = recalled or {}
            resumed = None if recalled is None else resumed
        # a load that starts anew asks for the present, not for the moment of the one that was given
        # up
        if resumed is None:
            self.plans.set_moment(selected.root, None)
        plans = self.plans.of(selected)
        root = plans[selected.root].cursor
        # the last window ends at the present
        has_times = bool(root and root.window) or any(
            one.endpoint.has_relative_times for one in selected.family.members
        )
        return LoadPart(
            selected.root,
            lambda: self._fingerprint(selected),
            # cursors that are changed and rows that are replaced need one load
            attempt.checkpoint if may_end else None,
            resumed,
            is_outdated=found is not None and resumed is None,
            # a later part that begins at its cursor reads boundary rows again, which only a merge
            # takes twice
            by_cursor=plans[selected.root].sends_start
            and all(one.disposition.value == "merge" for one in selected.selected),
            adds_rows=any(one.disposition.value != "merge" for one in selected.selected),
            notes_rows=bool(self._memories(selected)),
            started=plans[selected.root].started if has_times else None,
        )

    def _can_load_in_parts(self, selected: SelectedFamily) -> bool:
        # the next load requests a skipped parent again; as the next part, that would be at once
        may_skip = len(selected.family.members) > 1 and self.connector.http.on_child_error != "fail"
        return not may_skip and can_load_in_parts(
            selected.selected,
            can_take_back=self.pipelines.can_take_back,
            can_swap=self.pipelines.can_swap,
        )

    def _is_valid(self, unfinished: Unfinished, selected: SelectedFamily) -> bool:
        """Return True if the file still asks for the same, and the rows of all parts are there."""
        return (
            unfinished.fingerprint == self._fingerprint(selected)
            and self.pipelines.are_complete(unfinished.load_ids)
            and self._has_staged_parts(selected, unfinished)
        )

    def _has_staged_parts(self, selected: SelectedFamily, unfinished: Unfinished) -> bool:
        """Return True if the rows are there that earlier parts have staged; also if none is replaced."""
        return not _replaces(selected) or self.pipelines.has_staged_parts(
            selected.root, unfinished.load_ids
        )

    def _memories(self, selected: SelectedFamily) -> Mapping[str, RepeatedRows]:
        """Return an empty memory for each resource whose known rows are noted for later parts."""
        if not self.pipelines.can_note_rows:
            return {}
        memories = {name: RepeatedRows(plan) for name, plan in self.plans.of(selected).items()}
        return {name: memory for name, memory in memories.items() if memory.is_needed_later}

    def _recall_rows(
        self, selected: SelectedFamily, unfinished: Unfinished
    ) -> Mapping[str, RepeatedRows] | None:
        """Return the rows that the parts of an earlier run know; None if their note is gone."""
        memories, load_id = self._memories(selected), unfinished.known_rows
        if not memories:
            return {}
        noted = self.pipelines.read_known_rows(selected.root, load_id) if load_id else {}
        # without them a row that comes again would be stored twice
        if not noted.keys() >= memories.keys():
            return None
        return {name: memory.recall(noted[name]) for name, memory in memories.items()}

    def _fingerprint(self, selected: SelectedFamily) -> str:
        """Return a hash of what the file says of a family; new credentials don't change it."""
        client = self.connector.client
        asked: list[Any] = [client.base_url, as_json(client.paginator), as_json(client.headers)]
        for plan in self.plans.of(selected).values():
            one = plan.resource
            # a renewed token asks for the same rows
            endpoint = {k: value for k, value in plan.endpoint.as_json().items() if k != "auth"}
            others = {
                part.name: as_json(getattr(one, part.name))
                for part in fields(one)
                if part.name not in _NOT_ASKED
            }
            asked += [
                plan.loaded,
                endpoint,
                others,
                one.disposition.value,
                one.disposition.strategy,
            ]
        # redacted: a secret may stand in a path or a param, and is renewed as well
        return fingerprint_of(self.redactor(json.dumps(asked, sort_keys=True, default=str)))

    def take_back(self, state: Mapping[str, Any], root: str, options: LoadOptions) -> bool:
        """Remove what an unfinished load has appended, as it is not continued; return True if it has.

        Merged rows stay: they are merged again.
        """
        found = read_unfinished(state, self.connector.name, root)
        # an override replaces rows itself, and leaves those that a person wants to keep
        if found is None or options != LoadOptions() or not found.load_ids:
            return False
        self.progress.message(
            f"{root}: an earlier load was stored in part and can't be continued, so the rows that it "
            "appended or staged are removed and requested again"
        )
        # the new load requests the same rows, and would append them beside these
        self.pipelines.take_back(found.load_ids)
        return True

    def describe_resumption(self, attempt: LoadAttempt, part: LoadPart) -> str | None:
        """Return where an earlier run's load goes on, and report it; None if it doesn't."""
        if part.resumed is None or attempt.is_continued:
            return None
        text = self.redactor(part.resumed.describe())
        self.progress.message(f"{part.root}: goes on with the load of an earlier run: {text}")
        return text


def _replaces(selected: SelectedFamily) -> bool:
    return any(one.disposition.value == "replace" for one in selected.selected)


def known_rows_of(source: FamilySource, part: LoadPart) -> KnownRows | None:
    """Return what a part of a load notes of the rows it knows; None if nothing is needed."""
    if part.checkpoint is None or not part.notes_rows:
        return None
    earlier = part.resumed.known_rows if part.resumed else None

    # called after the extraction: only then it is known which rows came, and whether a part follows
    def read() -> Mapping[str, str]:
        if not part.has_ended:
            return {}
        repeats = {name: one.repeats for name, one in source.tools.items()}
        return {name: one.as_json() for name, one in repeats.items() if one.is_needed_later}

    return KnownRows(part.root, earlier, read)


def swap_of(selected: SelectedFamily, part: LoadPart) -> Swap | None:
    """Return the exchange that a part of a load prepares or makes; None if no table is replaced."""
    if part.checkpoint is None or not _replaces(selected):
        return None
    return Swap(part.root, part.load_ids, is_last=lambda: not part.has_ended)
