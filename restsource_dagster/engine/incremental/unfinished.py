"""Unfinished loads: loads of which some parts are stored, and where the next part or run continues.

An unfinished load is one entry of dlt's state, `unfinished` in our dict of the source's state, by the
root of its family. The state is stored with the rows of the part, so a killed run leaves the entry of
its last complete part. The last part removes the entry.
"""

import hashlib
from datetime import datetime
from typing import Any

import dlt
from pydantic import BaseModel, ConfigDict

from restsource_dagster.engine.incremental.cursor_state import STATE_KEY, StateMapping
from restsource_dagster.engine.paging.place import CallProgress, describe_place
from restsource_dagster.engine.paging.totals import CarriedTotals

__all__ = [
    "ROOT_CALL",
    "LeftParent",
    "Unfinished",
    "UnfinishedCall",
    "clear_unfinished",
    "fingerprint_of",
    "fingerprint_path",
    "read_unfinished",
    "read_unfinished_roots",
    "store_unfinished",
]

ROOT_CALL = ""
"""The key of a call without a parent. All others have the `parent_key` of their parent."""
_UNFINISHED_KEY = "unfinished"


class _Stored(BaseModel):
    # later versions may add fields
    model_config = ConfigDict(frozen=True, extra="ignore")


class UnfinishedCall(_Stored):
    """A call that ended before its last page, or whose last page has rows below it that are missing."""

    key: str
    """`ROOT_CALL`, or the key of its parent."""
    call: str
    """The fingerprint of what the call asks for."""
    place: dict[str, Any] | None
    """Where its paging goes on; None if all pages were read."""
    has_ended: bool
    """True if all pages were read."""
    is_capped: bool = False
    """True if the API had more rows than it returns to one query."""
    pages: int
    cursor: dict[str, Any] | None
    """The progress of its row filter; None without a cursor."""
    boundary: tuple[str, ...]
    """The rows of its last pages, which may come again if the pages shift."""
    totals: CarriedTotals
    shift: str | None
    """A sentence if rows may have been skipped."""
    token: Any = None
    """The last token that an answer had; None without one."""
    has_token_place: bool = False
    """True if an answer had the place of a token, null or not."""

    @property
    def progress(self) -> CallProgress:
        """The progress of the call, to go on with."""
        return CallProgress(
            place=self.place,
            pages=self.pages,
            has_ended=self.has_ended,
            token=self.token,
            has_token_place=self.has_token_place,
            is_capped=self.is_capped,
            carried=self.totals,
        )

    def describe(self) -> str:
        """Return where the call goes on, in words."""
        return f"page {self.pages + 1}, {describe_place(self.place)}"


class LeftParent(_Stored):
    """A parent that was read, and whose call is still to be made."""

    fields: Any
    """Its record, or what the call needs of it."""
    seen_by: tuple[str, ...] = ()
    """The dependents that have read it in an earlier run."""


class Unfinished(_Stored):
    """A load of which some parts are stored."""

    fingerprint: str = ""
    """Changes when the file asks for something else, or when other resources are selected. Empty if a
    resource was reset."""
    calls: dict[str, UnfinishedCall]
    """By resource, the call that was in progress."""
    parents: dict[str, tuple[LeftParent, ...]]
    """By dependent resource, the parents that are left, in order. The call of the first may have begun."""
    requested: dict[str, tuple[str, ...]]
    """By dependent resource, keys of parents that were requested and must not be requested again."""
    load_ids: tuple[str, ...]
    """The load packages that have its rows."""
    parts: int
    known_rows: str | None = None
    """The load package that has noted which rows the next part must know; None if it needs none."""
    started: datetime | None = None
    """The moment of `{now}`, if the calls have relative times: later parts ask the same question."""

    def describe(self) -> str:
        """Return where the load goes on, in words."""
        if not self.calls:
            return "the stored cursor"
        return "; ".join(f"{name}: {call.describe()}" for name, call in self.calls.items())


def read_unfinished(state: StateMapping, source: str, root: str) -> Unfinished | None:
    """Return the unfinished load of a family in a pipeline's state; None if there is none."""
    found = _stored_in(state, source).get(root)
    return None if found is None else Unfinished.model_validate(found)


def read_unfinished_roots(state: StateMapping, source: str) -> frozenset[str]:
    """Return the roots of the families that have an unfinished load."""
    return frozenset(_stored_in(state, source))


def _stored_in(state: StateMapping, source: str) -> StateMapping:
    of_source: StateMapping = state.get("sources", {}).get(source, {})
    found: StateMapping = of_source.get(STATE_KEY, {}).get(_UNFINISHED_KEY, {})
    return found


def store_unfinished(root: str, unfinished: Unfinished) -> None:
    """Write the unfinished load of a family into dlt's state. Call it inside an extraction."""
    state = dlt.current.source_state().setdefault(STATE_KEY, {})
    # dlt's state is JSON, which has no times
    made = unfinished.model_dump(exclude={"started"})
    if unfinished.started:
        made["started"] = unfinished.started.isoformat()
    state.setdefault(_UNFINISHED_KEY, {})[root] = made


def clear_unfinished(state: dict[str, Any], root: str) -> None:
    """Remove the unfinished load of a family from the source's state, if there is one."""
    ours = state.get(STATE_KEY, {})
    unfinished = ours.get(_UNFINISHED_KEY, {})
    if unfinished.pop(root, None) is not None and not unfinished:
        # an empty entry would be a change of the state, which dlt then stores again
        del ours[_UNFINISHED_KEY]


def fingerprint_path(root: str) -> str:
    """Return the JSON path of the fingerprint of a family's unfinished load in the source's state.

    Without its fingerprint a load is not continued: its rows are taken back, and it starts anew.
    """
    return f"{STATE_KEY}.{_UNFINISHED_KEY}.'{root}'.fingerprint"


def fingerprint_of(text: str) -> str:
    """Return a hash of a text without secrets: a stored hash of a secret could be guessed."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
