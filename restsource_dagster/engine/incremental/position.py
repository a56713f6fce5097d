"""Where a reader stands in rows that are ordered by a cursor, and what it has had there."""

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from dlt.common import json
from dlt.extract import Incremental

from restsource_dagster.engine.dlt_compat import resolve_column_value
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.incremental.ordering import CursorOrder, apply_cursor_lag

__all__ = ["SEEN_KEY", "CursorRules", "Position", "digest_of"]

SEEN_KEY = "restsource_seen"
"""Beside dlt's `last_value`: the rows that were had at and after the start of the next run."""
MAX_REMEMBERED_ROWS = 100_000
_DIGEST_BYTES = 9
_DIGEST_LENGTH = 12  # in base64

ResourceState = dict[str, Any]


@dataclass(frozen=True)
class CursorRules:
    """What the connector file says about a cursor."""

    resource: str
    path: str
    initial: Any
    end: Any
    lag: float | None
    falling: bool
    row_order: str | None
    on_missing: str
    open_start: bool
    open_end: bool

    @classmethod
    def of(cls, resource: str, incremental: Incremental[Any]) -> Self:
        """The rules that dlt reads from the file."""
        return cls(
            resource=resource,
            path=incremental.cursor_path,
            initial=incremental.initial_value,
            end=incremental.end_value,
            lag=None if incremental.end_value is not None else incremental.lag,
            falling=incremental.last_value_func is min,
            row_order=incremental.row_order,
            on_missing=incremental.on_cursor_value_missing,
            open_start=incremental.range_start == "open",
            open_end=incremental.range_end == "open",
        )


class Position:
    """Takes each row once, or each row from the start on again.

    `remembers` is for tables that rows are appended to: rows at the newest value, and within `lag`,
    are kept as hashes, so that they are not taken again. A row is known by `key` if there is one,
    else by all it holds; equal rows without a key are counted. Without `remembers` every row from
    the start on is taken again, which a merge makes right, and a row that changed and kept its
    cursor arrives.

    `state` is what `save` gave before (dlt's own state will do).
    """

    def __init__(
        self,
        rules: CursorRules,
        state: Mapping[str, Any],
        *,
        remembers: bool,
        key: Any = None,
    ) -> None:
        self._rules = rules
        self._order = CursorOrder(falling=rules.falling)
        self.remembers = remembers and not (rules.open_start and not rules.lag)
        """Whether rows that were had are known again."""
        self._key = key
        stored = state.get("last_value")
        self._stored = self.last = rules.initial if stored is None else stored
        self.start = apply_cursor_lag(self.last, rules.lag, rules.initial, falling=rules.falling)
        self._seen_before = _read_seen(state) if self.remembers else []
        self._unmatched = Counter(digest for _, digest in self._seen_before)
        self._seen_now: list[tuple[Any, str]] = []
        self.touched = False

    def accept(self, value: Any, row: Mapping[str, Any]) -> bool:
        """Whether a row is new here. Asked once per row: it is remembered."""
        self.touched = True
        if value is not None and self.start is not None:
            if self._order.is_before(value, self.start):
                return False
            if self._rules.open_start and self._order.is_same(value, self.start):
                return False
        if not self.remembers:
            self._advance(value)
            return True
        if value is not None and not self._rules.lag and self._is_between(value):
            return True
        digest = self._digest(row)
        if self._advance(value) and not self._rules.lag:
            self._seen_now = [(kept, known) for kept, known in self._seen_now if kept is None]
        self._seen_now.append((value, digest))
        if self._unmatched[digest] <= 0:
            return True
        if not self._key:
            self._unmatched[digest] -= 1
        return False

    def advance_to(self, newest: Any) -> None:
        """Move to the newest value of rows that all were taken, where none is remembered."""
        self.touched = True
        self._advance(newest)

    def save(self, state: ResourceState) -> None:
        """Write the position into dlt's state, in dlt's own form. Raises `IngestError` if large."""
        state["initial_value"] = self._rules.initial
        state["start_value"] = self._stored
        state["last_value"] = self.last
        state["unique_hashes"] = []
        seen = self._seen() if self.remembers else []
        if seen:
            state[SEEN_KEY] = seen
        else:
            state.pop(SEEN_KEY, None)

    def _is_between(self, value: Any) -> bool:
        """Whether a row is newer than all that was had before and no longer the newest."""
        if self.last is None or not self._order.is_before(value, self.last):
            return False
        return self.start is None or self._order.is_after(value, self.start)

    def _advance(self, value: Any) -> bool:
        moves = value is not None and (self.last is None or self._order.is_after(value, self.last))
        if moves:
            self.last = value
        return moves

    def _digest(self, row: Mapping[str, Any]) -> str:
        return digest_of(resolve_column_value(self._key, row) if self._key else row)

    def _seen(self) -> list[list[Any]]:
        """The rows that the next run may bring again, by cursor value."""
        rules = self._rules
        start = apply_cursor_lag(self.last, rules.lag, rules.initial, falling=rules.falling)
        had, now = Counter(self._seen_before), Counter(self._seen_now)
        kept: dict[Any, list[str]] = {}
        count = 0
        for value, digest in {**dict.fromkeys(self._seen_before), **dict.fromkeys(self._seen_now)}:
            if value is None or start is None or not self._order.is_before(value, start):
                times = max(had[value, digest], now[value, digest])
                times = 1 if self._key else times
                kept.setdefault(value, []).extend([digest] * times)
                count += times
        if count > MAX_REMEMBERED_ROWS:
            raise IngestError(
                f"resource {rules.resource}: more than {MAX_REMEMBERED_ROWS:,} rows share the newest "
                f"value of {rules.path}, lie within its lag or have none, too many to remember so "
                'that none is appended twice. Give it a "primary_key", so that it is merged.'
            )
        return [[value, digests] for value, digests in kept.items()]


def digest_of(value: Any) -> str:
    """Return a hash of a JSON value, the same as dlt 1.31 stores in `unique_hashes`.

    It is computed here so that stored hashes stay valid with every version of dlt.
    """
    text = json.dumps(value, sort_keys=True)
    digest = hashlib.shake_128(text.encode()).digest(_DIGEST_BYTES)
    return base64.b64encode(digest).decode("ascii")


def _read_seen(state: Mapping[str, Any]) -> list[tuple[Any, str]]:
    if SEEN_KEY in state:
        return [(value, digest) for value, digests in state[SEEN_KEY] for digest in digests]
    # What stock dlt left behind. Before 1.31 its hashes are longer, with the same beginning.
    hashes: list[str] = state.get("unique_hashes", [])
    return [(state.get("last_value"), digest[:_DIGEST_LENGTH]) for digest in hashes]
