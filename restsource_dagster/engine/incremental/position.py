"""The position of a reader in rows that are ordered by a cursor, and the rows it has read there."""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from dlt.common import json
from dlt.extract import Incremental
from jsonpath_ng.jsonpath import JSONPath, Union

from restsource_dagster.connector.naming import is_key_path
from restsource_dagster.engine.dlt_compat import jsonpath, resolve_column_value
from restsource_dagster.engine.errors import ResourceError
from restsource_dagster.engine.incremental.ordering import CursorOrder, apply_cursor_lag

__all__ = [
    "SEEN_KEY",
    "CursorField",
    "CursorRules",
    "Position",
    "compile_cursor_path",
    "digest_of",
    "find_key_value",
    "first_value",
    "key_value",
]

SEEN_KEY = "restsource_seen"
"""State key beside dlt's `last_value`: the rows already read at or after the next run's start."""
MAX_REMEMBERED_ROWS = 100_000
_DIGEST_BYTES = 9
_DIGEST_LENGTH = 12  # in base64

ResourceState = dict[str, Any]


@dataclass(frozen=True)
class CursorRules:
    """The `incremental` block of a resource, with dlt's defaults filled in."""

    resource: str
    path: str
    initial_value: Any
    end_value: Any
    lag: float | None
    descending: bool
    """True if newer rows have lesser values (`last_value_func` is `min`)."""
    row_order: str | None
    on_missing: str
    """What to do with a row without a cursor: raise, include or exclude."""
    excludes_start: bool
    """True for `range_start: open`: a row at the start value is not read again."""
    excludes_end: bool
    """True for `range_end: open`, dlt's default: a row at the end value is not read."""

    @classmethod
    def of(cls, resource: str, incremental: Incremental[Any]) -> Self:
        """Return the rules in dlt's object for the block."""
        return cls(
            resource=resource,
            path=incremental.cursor_path,
            initial_value=incremental.initial_value,
            end_value=incremental.end_value,
            # as in dlt: a window with both ends has no late rows
            lag=None if incremental.end_value is not None else incremental.lag,
            descending=incremental.last_value_func is min,
            row_order=incremental.row_order,
            on_missing=incremental.on_cursor_value_missing,
            excludes_start=incremental.range_start == "open",
            excludes_end=incremental.range_end == "open",
        )


def key_value(record: Mapping[str, Any], name: str) -> Any:
    """Return the value of a key's field: `account.id` is a field inside of an object.

    Raises `KeyError` and `TypeError` if there is none.
    """
    if name in record or not is_key_path(name):
        return record[name]
    found: Any = record
    for part in name.split("."):
        found = found[part]
    return found


def find_key_value(record: Any, name: str) -> Any:
    """Return the value of a key's field as `key_value` does; None if there is none."""
    try:
        return key_value(record, name)
    except (KeyError, TypeError):
        return None


def _identity(key: Any, row: Mapping[str, Any]) -> Any:
    names = [key] if isinstance(key, str) else key
    if callable(key) or not any(map(is_key_path, names)):
        return resolve_column_value(key, row)
    return [key_value(row, name) for name in names]


class Position:
    """Decides which rows to accept: each row once with `remembers`, else all rows from the start on.

    `remembers` is for tables that rows are appended to. It stores hashes of the rows at the newest
    value and within `lag`, so that the next run does not accept them again. A row is identified by
    `key`, else by all its fields; equal rows without a key are counted. Without `remembers` every
    row from the start on is accepted again. A merge stores such a row once, and a row that changed
    without a new cursor value arrives.

    With `accepts_older` rows before the start are accepted, too: a system may change a record and leave
    its time of change as it was. A merge stores it once, and the position stays where it is.

    With `may_forget` rows that are too many to remember may come again; without it they are an error.

    `state` is what `save` wrote; a state that dlt wrote works too.
    """

    def __init__(
        self,
        rules: CursorRules,
        state: Mapping[str, Any],
        *,
        remembers: bool,
        key: Any = None,
        accepts_older: bool = False,
        may_forget: bool = False,
    ) -> None:
        self._rules = rules
        self._order = CursorOrder(descending=rules.descending)
        # with an open start and no lag, the API never sends an accepted row again
        self.remembers = remembers and not (rules.excludes_start and not rules.lag)
        """True if rows read before are recognized."""
        self.accepts_older = accepts_older and not remembers and rules.end_value is None
        """True if a row before the start is accepted: the API filters, and has sent it."""
        self.may_forget = may_forget
        self._key = key
        stored = state.get("last_value")
        self._stored = self.last_value = rules.initial_value if stored is None else stored
        self._before_newest: Any = None
        self.start = self._start_after(self.last_value)
        self._seen_before = _read_seen(state) if self.remembers else []
        self._unmatched = Counter(digest for _, digest in self._seen_before)
        self._seen_now: list[tuple[Any, str]] = []
        self.is_changed = False
        self.is_at_window_end = False

    def accept(self, value: Any, row: Mapping[str, Any]) -> bool:
        """Return True if the row is new, and remember it. Call it once per row."""
        self.is_changed = True
        if value is not None and self.start is not None:
            if not self.accepts_older and self._order.is_before(value, self.start):
                return False
            if self._rules.excludes_start and self._order.is_same(value, self.start):
                return False
        if not self.remembers:
            self._advance(value)
            return True
        if value is not None and not self._rules.lag and self._is_between(value):
            return True
        digest = self._digest(row)
        if self._advance(value) and not self._rules.lag:
            # the API can send only these again: rows at the newest value, and rows without a cursor
            self._seen_now = [(other, known) for other, known in self._seen_now if other is None]
        self._seen_now.append((value, digest))
        if self._unmatched[digest] <= 0:
            return True
        if not self._key:
            # n equal rows are in the table, so the first n equal rows that arrive are those
            self._unmatched[digest] -= 1
        return False

    def advance_to(self, newest: Any) -> None:
        """Move to the newest value of a page whose rows are all new and not remembered."""
        self.is_changed = True
        self._advance(newest)

    @property
    def start_after_step_back(self) -> Any:
        """The value where a run would start after `step_back`; None if it would start anew."""
        return self._start_after(self._before_newest)

    @property
    def progress(self) -> Mapping[str, Any]:
        """How far an unfinished load has come, as a JSON value: what `resume` takes.

        The stored position stays where it is until the load is complete, so that the next part asks
        the API the same question.
        """
        missed = Counter(digest for _, digest in self._seen_before)
        missed.subtract(self._unmatched)
        return {
            "last": self.last_value,
            "before": self._before_newest,
            "seen": self._seen_after(self._seen_now) if self.remembers else [],
            "matched": list(missed.elements()),
        }

    def resume(self, progress: Mapping[str, Any]) -> None:
        """Move to where an earlier part of the load ended."""
        self.is_changed = True
        self.last_value, self._before_newest = progress["last"], progress["before"]
        self._seen_now = [(value, digest) for value, digest in progress["seen"]]
        self._unmatched.subtract(progress["matched"])

    def _seen_after(self, seen: Iterable[tuple[Any, str]]) -> list[tuple[Any, str]]:
        """Return those that the next run may receive again. The start only moves on from here."""
        start = self._start_after(self.last_value)
        return [
            (value, digest)
            for value, digest in seen
            if value is None or start is None or not self._order.is_before(value, start)
        ]

    def step_back(self) -> None:
        """Move back to the value before the newest one; to None if all rows had the same value.

        A page that was not read may have more rows with the newest value, and some APIs send only
        rows after the requested value.
        """
        self.last_value = self._before_newest

    def start_from(self, value: Any) -> Any:
        """Return where a call starts if the cursor stands at a value: before it, by the lag."""
        return self._start_after(value)

    def finish_at(self, reached: Any) -> None:
        """Move to a value up to which all rows were read, such as the end of a window; never back.

        A row after it may have come, but others before that row come with the next call.
        """
        self.is_changed = self.is_at_window_end = True
        is_ahead = self._stored is not None and self._order.is_before(reached, self._stored)
        self.last_value = self._stored if is_ahead else reached

    def save(self, state: ResourceState) -> None:
        """Write the position into dlt's state, in dlt's form.

        Raises `ResourceError` if there are too many rows to remember.
        """
        state["initial_value"] = self._rules.initial_value
        state["start_value"] = self._stored
        state["last_value"] = self.last_value
        state["unique_hashes"] = []
        seen = self._seen() if self.remembers else []
        if self.is_at_window_end and self.remembers and not seen:
            # even with no row: it tells that all rows before this value are known
            seen = [[self.last_value, []]]
        if seen:
            state[SEEN_KEY] = seen
        else:
            state.pop(SEEN_KEY, None)

    def _start_after(self, last_value: Any) -> Any:
        rules = self._rules
        return apply_cursor_lag(
            last_value, rules.lag, rules.initial_value, descending=rules.descending
        )

    def _is_between(self, value: Any) -> bool:
        """True if a row is newer than the start and older than the newest row."""
        if self.last_value is None or not self._order.is_before(value, self.last_value):
            return False
        return self.start is None or self._order.is_after(value, self.start)

    def _advance(self, value: Any) -> bool:
        is_newer = value is not None and (
            self.last_value is None or self._order.is_after(value, self.last_value)
        )
        if is_newer:
            self._before_newest, self.last_value = self.last_value, value
        return is_newer

    def _digest(self, row: Mapping[str, Any]) -> str:
        return digest_of(_identity(self._key, row) if self._key else row)

    def _seen(self) -> list[list[Any]]:
        """Return the rows that the next run may receive again, as `[cursor value, digests]`."""
        before, now = Counter(self._seen_before), Counter(self._seen_now)
        seen: dict[Any, list[str]] = {}
        count = 0
        known = {**dict.fromkeys(self._seen_before), **dict.fromkeys(self._seen_now)}
        for value, digest in self._seen_after(known):
            # the greater number: a row of the last run that came again is counted in both
            times = 1 if self._key else max(before[value, digest], now[value, digest])
            seen.setdefault(value, []).extend([digest] * times)
            count += times
        if count > MAX_REMEMBERED_ROWS and self.may_forget:
            return []
        if count > MAX_REMEMBERED_ROWS:
            raise ResourceError(
                self._rules.resource,
                f"more than {MAX_REMEMBERED_ROWS:,} rows have the "
                f"newest value of {self._rules.path}, lie within its lag or have no value. These "
                'are too many to remember, so some would be appended twice. Add a "primary_key", '
                "so that rows are merged",
            )
        return [[value, digests] for value, digests in seen.items()]


@dataclass(frozen=True)
class CursorField:
    """One of the fields that a cursor may be in."""

    path: JSONPath
    name: str | None
    """The field's name if the path is just a field."""


@lru_cache(maxsize=1024)
def compile_cursor_path(path: str) -> tuple[CursorField, ...]:
    """Return the fields of a cursor path: several for a union such as `updated_at|created_at`, in order.

    Cached: compiling takes as long as reading a small page, and each call has its own row filter.
    """
    paths: list[Any] = [jsonpath.compile_path(path)]
    while isinstance(paths[0], Union):
        paths[:1] = [paths[0].left, paths[0].right]
    return tuple(CursorField(one, jsonpath.extract_simple_field_name(one)) for one in paths)


def first_value(fields: Iterable[CursorField], record: dict[str, Any]) -> Any:
    """Return the cursor of a record: the first that is not null; None if all are null or absent.

    Raises `ValueError` if a path matches several values.
    """
    for field in fields:
        if field.name:
            value = record.get(field.name)
        else:
            found = jsonpath.find_values(field.path, record)
            if len(found) > 1:
                # the file can hold the path as a reference, whose value `check` doesn't know
                raise ValueError("the record has several values there")
            value = found[0] if found else None
        if value is not None:
            return value
    return None


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
    # A state that dlt's own rest_api source wrote: its hashes are of rows at the last value. Before
    # dlt 1.31 they are longer, with the same beginning.
    hashes: list[str] = state.get("unique_hashes", [])
    return [(state.get("last_value"), digest[:_DIGEST_LENGTH]) for digest in hashes]
