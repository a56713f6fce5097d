"""Checkpoints: a long extract stops between two pages, its rows are loaded, and the next one continues.

If the run fails or is killed afterwards, the next one continues in the same way. It goes on

- from the cursor that was stored with those rows, if the call sends the oldest rows first (`row_order`)
  into merged tables;
- else at the place in the paging of each call in progress, with the parents that were read and whose
  calls are still to be made. See `engine.incremental.unfinished` for what is stored.
"""

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime

import dlt

from restsource_dagster.connector.model import Resource
from restsource_dagster.engine.errors import IngestError, PlaceRefusedError
from restsource_dagster.engine.incremental.row_filter import RowFilter
from restsource_dagster.engine.incremental.unfinished import (
    LeftParent,
    Unfinished,
    UnfinishedCall,
    clear_unfinished,
    store_unfinished,
)
from restsource_dagster.engine.paging.place import CallProgress

__all__ = ["CHECKPOINT_ROWS", "Checkpoint", "LoadPart", "can_load_in_parts"]

CHECKPOINT_ROWS = 100_000
"""An extract ends after so many rows, however fast they came: until the load, all are on the disk."""

_STRATEGIES = frozenset((None, "delete-insert", "insert-only", "upsert"))
"""Merges of single rows. The others compare a table with all rows of a load."""


def can_load_in_parts(
    resources: Collection[Resource], *, can_take_back: bool, can_swap: bool
) -> bool:
    """True if a table is the same whether its rows come in one load or in several.

    `can_take_back` is True if the destination can delete the rows that a load has appended: they are
    when a load has to start anew. `can_swap` is True if it can stage the rows of several loads and
    exchange all rows of a table for them.
    """
    # a load that can neither be taken back nor be hidden until it is whole must be one load
    possible = {"append": can_take_back, "replace": can_swap}
    return not any(map(_may_unstage_rows, resources)) and all(
        possible.get(one.disposition.value) or _merges_rows(one) for one in resources
    )


def _may_unstage_rows(resource: Resource) -> bool:
    """True if a parent may be gone after an earlier part has staged the first pages below it."""
    return resource.disposition.value == "replace" and resource.endpoint.has_action("gone")


def _merges_rows(resource: Resource) -> bool:
    disposition = resource.disposition
    # with a merge key a load replaces all rows that share it, and another part may have some of them
    return (
        disposition.value == "merge"
        and disposition.strategy in _STRATEGIES
        and not resource.merge_key
        # dlt sorts the rows of one load only, so that a later part would win
        and not any(one.dedup_sort for one in resource.hints.columns_by_name.values())
    )


class Checkpoint:
    """Decides when an extract ends before its last page. Make one for each load package."""

    def __init__(
        self,
        seconds: float,
        rows: int = CHECKPOINT_ROWS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The checkpoint is due after `seconds` or after `rows`, whichever comes first."""
        self._clock = clock
        self._due_at = clock() + seconds
        self._rows_left = rows
        self.pages = 0
        """The pages that were read."""
        self.is_reached = False
        """True if the extract ended early because the checkpoint was due."""
        self.error: IngestError | None = None
        """The error of a page, if that is why the extract ended early."""

    def add_page(self, rows: int) -> None:
        """Count a page with so many rows."""
        self.pages += 1
        self.add_rows(rows)

    def add_rows(self, rows: int) -> None:
        """Count rows of a page that is not read to its end."""
        self._rows_left -= rows

    @property
    def is_due(self) -> bool:
        """True if the extract should end as soon as it can."""
        return self._rows_left <= 0 or self._clock() >= self._due_at

    @property
    def has_ended(self) -> bool:
        """True if the extract ended early: no further page is requested, and this part is not the last."""
        return self.is_reached or self.error is not None


@dataclass
class LoadPart:
    """One part of a load: where its calls start, and where they end if it is not the last part.

    A load that is not interrupted is one part. Make one for each load package and family; use it in the
    thread that extracts.
    """

    root: str
    fingerprint: Callable[[], str] = field(default=lambda: "")
    """Returns that of the family as the file has it now."""
    checkpoint: Checkpoint | None = None
    """Where the part may end early; None if it may not."""
    resumed: Unfinished | None = None
    """The unfinished load that this part continues; None if it starts a load."""
    is_outdated: bool = False
    """True if the state has an unfinished load that is not continued."""
    by_cursor: bool = False
    """True if the root can go on from its cursor in place of a place in its paging."""
    adds_rows: bool = False
    """True if a row that is loaded twice is stored twice: it is appended, or staged for an exchange. The
    loads are noted, so that their rows can be taken back or counted."""
    notes_rows: bool = False
    """True if each part notes the rows that the next one must know."""
    started: datetime | None = None
    """The moment of `{now}`, if the calls have relative times."""
    has_next_call: bool = field(default=False, init=False)
    """True if all calls of the part are complete, and the root goes on with another one: its next window, or
    what the API did not return to the last query."""
    _ends_at_call: bool = field(default=False, init=False)
    _is_finishing: bool = field(default=False, init=False)
    _calls: dict[str, UnfinishedCall] = field(default_factory=dict, init=False)
    _parents: dict[str, tuple[LeftParent, ...]] = field(default_factory=dict, init=False)
    _trackers: dict[str, Callable[[], tuple[str, ...] | None]] = field(
        default_factory=dict, init=False
    )
    _open: dict[str, CallProgress] = field(default_factory=dict, init=False)

    def begin(self) -> None:
        """Take over the unfinished load: it is removed from the state, unless the part ends early."""
        if self.resumed:
            self._calls, self._parents = dict(self.resumed.calls), dict(self.resumed.parents)
        if self.resumed or self.is_outdated:
            # at the start: dlt stores the state with the rows, so a part that ends well has removed
            # it
            clear_unfinished(dlt.current.source_state(), self.root)

    @property
    def is_later(self) -> bool:
        """True if earlier parts of the load are stored."""
        return self.resumed is not None

    @property
    def load_ids(self) -> tuple[str, ...]:
        """The load packages with the rows of earlier parts."""
        return self.resumed.load_ids if self.resumed else ()

    @property
    def has_ended(self) -> bool:
        """True if the part ended before the last page."""
        return self.checkpoint is not None and self.checkpoint.has_ended

    @property
    def is_followed(self) -> bool:
        """True if the part ended because its checkpoint was due, so that the run goes on with another one."""
        return self.checkpoint is not None and self.checkpoint.is_reached

    def resume_call(
        self, resource: str, key: str, call: Callable[[], str]
    ) -> UnfinishedCall | None:
        """Return how far an earlier part has come with a call; None if it has not begun.

        `call` returns the fingerprint of what the call asks for. Raises `PlaceRefusedError` if that has
        changed.
        """
        found = self._calls.get(resource)
        if found is None or found.key != key:
            return None
        # once: a call of the same key that follows starts at its first page
        del self._calls[resource]
        # the cursor was moved by hand, or another secret asks for other rows
        if found.call != call():
            raise PlaceRefusedError(resource, "it is asked for something else now")
        return found

    def is_interrupted(self, resource: str, key: str) -> bool:
        """True if an earlier part has begun a call, and this one has not gone on with it yet."""
        found = self._calls.get(resource)
        return found is not None and found.key == key

    def resume_parents(
        self, resource: str, requested: Callable[[], tuple[str, ...] | None]
    ) -> tuple[tuple[LeftParent, ...], tuple[str, ...]]:
        """Return the parents that earlier parts have left, and the keys of those they have requested.

        `requested` returns these keys at the end of this part; None if they are too many to store.
        """
        self._trackers[resource] = requested
        known = self.resumed.requested.get(resource, ()) if self.resumed else ()
        return self._parents.pop(resource, ()), known

    def open_call(self, resource: str, progress: CallProgress) -> None:
        """Note that a call is in progress. The calls above it, which it waits for, are open, too."""
        self._open[resource] = progress

    def close_call(self, resource: str) -> None:
        """Note that a call has ended."""
        self._open.pop(resource, None)

    def add_rows(self, rows: int) -> None:
        """Count rows of a page that is not read to its end. The part can't end there."""
        if self.checkpoint is not None:
            self.checkpoint.add_rows(rows)

    def end_call(self, row_filter: RowFilter) -> None:
        """Note that the root's call is complete and its cursor saved: does another one follow?"""
        window = row_filter.live_window
        self._ends_at_call = window is not None and not row_filter.is_capped
        self.has_next_call = row_filter.is_capped or (window is not None and not window.is_last)

    def finish(self) -> None:
        """Note that the root's calls of the part are complete.

        All that is left are the parents of batches that are not full. If the part ended among them, the
        next one would begin the root's calls anew.
        """
        self._is_finishing = True

    def goes_on_within(self, *, has_rows: bool) -> bool:
        """Return True if the root's next call is made in this part; if not, it is that of the next part."""
        goes_on = (
            self.has_next_call and not (has_rows and self._ends_at_call) and not self.has_ended
        )
        if goes_on and (self.checkpoint is None or not self.checkpoint.is_due):
            self.has_next_call = False
            return True
        return False

    def ends_after_page(self, rows: int, *, by_cursor: bool, is_last: bool) -> bool:
        """Count a page of a call in progress; return True if the part ends after it.

        Pass `is_last` for the last page of the root: the load ends with it.
        """
        checkpoint = self.checkpoint
        if checkpoint is None:
            return False
        checkpoint.add_page(rows)
        may_end = not (checkpoint.has_ended or is_last or self._is_finishing)
        if may_end and checkpoint.is_due:
            checkpoint.is_reached = self._can_end(by_cursor=by_cursor)
        return checkpoint.has_ended

    def ends_at_error(self, error: IngestError, *, by_cursor: bool) -> bool:
        """Return True if the part ends at this error: what came before it is stored."""
        checkpoint = self.checkpoint
        # without a page there is nothing to store, and the next part would meet the error at once
        if checkpoint is None or not error.is_wall or not checkpoint.pages or self._is_finishing:
            return False
        if not self._can_end(by_cursor=by_cursor):
            return False
        checkpoint.error = error
        return True

    def _can_end(self, *, by_cursor: bool) -> bool:
        # too many to store: the next part would request parents again
        if any(requested() is None for requested in self._trackers.values()):
            return False
        return by_cursor or all(
            # a call that has not begun starts at its first page
            not progress.pages
            or progress.has_ended
            or (
                not (progress.is_within_page or progress.is_whole)
                and progress.read_place() is not None
            )
            for progress in self._open.values()
        )

    @property
    def has_pending(self) -> bool:
        """True if something below the root is left for the next part."""
        return bool(self._calls or self._parents)

    def interrupt_call(self, resource: str, call: UnfinishedCall) -> None:
        """Store where a call ended."""
        # stored at once, as dlt stores the state with the rows of this part when the extraction
        # ends
        self._calls[resource] = call
        self._store()

    def leave_parents(self, resource: str, parents: Iterable[LeftParent]) -> None:
        """Store the parents whose calls are left for the next part."""
        if left := tuple(parents):
            self._parents[resource] = left
            self._store()

    def continue_from_cursor(self) -> None:
        """Store that the next part goes on from the cursor."""
        self._store()

    def _store(self) -> None:
        before, load_ids = self.resumed, self.load_ids
        # the package that is being extracted: its id tells later whether the rows before this place
        # arrived
        load_id = dlt.current.load_package_state()["load_id"]
        if self.adds_rows:
            load_ids = (*load_ids, load_id)
        store_unfinished(
            self.root,
            Unfinished(
                fingerprint=self.fingerprint(),
                calls=self._calls,
                parents=self._parents,
                requested={name: keys for name, one in self._trackers.items() if (keys := one())},
                load_ids=load_ids,
                parts=(before.parts if before else 0) + 1,
                known_rows=load_id if self.notes_rows else None,
                started=self.started,
            ),
        )
