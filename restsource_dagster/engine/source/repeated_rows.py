"""Leave out rows that the API sends twice in one load, as happens if pages shift while they are read."""

import hashlib
import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from operator import itemgetter
from typing import Any, Self

from restsource_dagster.connector.naming import is_key_path
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.incremental.ordering import CursorOrder, IncomparableError
from restsource_dagster.engine.incremental.position import (
    compile_cursor_path,
    digest_of,
    first_value,
    key_value,
)
from restsource_dagster.engine.plan.resource_plan import ResourcePlan

__all__ = ["MAX_KNOWN_ROWS", "RepeatedRows"]

MAX_KNOWN_ROWS = 200_000
"""How many rows are remembered. Pages shift only by the rows that are added or deleted meanwhile."""

_BOUNDARY_ROWS = 1_000
"""How many rows are stored in dlt's state for the next part of a load."""
_DIGEST_BYTES = 12

# None is dlt's default, delete-insert
_REMOVES_REPEATS = (None, "delete-insert")
_REFUSED_VERSIONS = {
    "upsert": 'and an upsert would store both. Use the strategy "delete-insert", which keeps the newer '
    "one by the cursor",
    "scd2": "and scd2 would keep both as valid. If the API sends each version of a row, leave the "
    '"primary_key" out, or append the rows',
}
Identity = tuple[Any, ...]
_Identify = Callable[[list[Any]], list[Identity]]
"""Returns what identifies each row of a page. Raises `KeyError` if a key is missing or null."""


class RepeatedRows:
    """Remembers the rows of one resource that were read last, by their primary key.

    When two rows are the same depends on the table:

    - In a replaced table, or appended without a cursor: if their keys are equal.
    - Appended with a cursor: if key and cursor are equal. Another cursor value is a new version.
    - Appended with a token, below a parent, and in a merge that doesn't remove repeats itself: if all fields are equal,
      because a key may be unique only below one parent.
    - In an insert-only merge: if their keys are equal; the first row is kept.
    - In a delete-insert with a cursor: if their keys are equal. An older version that comes after a
      newer one is left out, and a newer one that comes after an older one replaces it in the load.

    An upsert stores each row of a load, and scd2 would have two versions that are valid at the same
    time, so two different rows with one key are an error.
    """

    def __init__(self, plan: ResourcePlan) -> None:
        # the rows of a part before are merged with those of this one
        self._is_merged = plan.resource.disposition.value == "merge"
        self._last_rows: deque[Any] = deque(maxlen=_BOUNDARY_ROWS)
        self._boundary: Boundary | None = None
        self.left_out = 0
        """How many rows were left out."""
        # calls below parents may be read by several threads
        self._lock = threading.Lock()
        self._resource = plan.resource.name
        self._identify = _identity_of(plan)
        self._versions = _NewestVersions.of(plan)
        self._refused = _REFUSED_VERSIONS.get(plan.resource.disposition.strategy or "")
        self._keys: set[Identity] = set()
        self._known: set[Identity] = set()
        self._pages: deque[list[Identity]] = deque()

    def filter(self, records: list[Any]) -> list[Any]:
        """Return the records that were not read before; `records` itself if none was.

        Raises `IngestError` for another row with the key of an earlier one, in an upsert or scd2.
        """
        if not records:
            return records
        if self._is_merged:
            return self._filter(records)
        if self._boundary is not None:
            records = self._after_boundary(records)
        new = self._filter(records)
        # pages shift by a few rows: the last ones are those that come again
        self._last_rows.extend(new[-_BOUNDARY_ROWS:])
        return new

    @property
    def is_needed_later(self) -> bool:
        """True if a later part of the load has to know these rows.

        An upsert stores the later of two rows if they come in different parts, as in different runs.
        """
        return self._refused is None and (self._identify or self._versions) is not None

    def as_json(self) -> str:
        """Return the rows that are known, for `recall`."""
        with self._lock:
            # by page, so that the next part forgets them in the same order
            pages = self._versions.pages if self._versions else self._pages
            return json.dumps([*pages], default=_tag, separators=(",", ":"))

    def recall(self, text: str) -> Self:
        """Know the rows that an earlier run knew: `text` is what `as_json` returned there."""
        remember = self._versions.remember if self._versions else self._remember
        for page in json.loads(text, object_hook=_untag):
            remember([*map(tuple, page)])
        return self

    def for_next_part(self) -> Self | None:
        """Return this memory for the next part of the load in the same run; None if it needs none."""
        if not self.is_needed_later:
            return None
        self.left_out = 0
        if self._versions is not None:
            self._versions.left_out = 0
        return self

    def boundary(self) -> tuple[str, ...]:
        """Return digests of the rows that were read last, for `resume`."""
        return tuple(map(self._digest, self._last_rows))

    def resume(self, boundary: Sequence[str]) -> None:
        """Leave out the rows of an earlier part of the load if they come again in the next pages.

        Pages shift by the rows that were added between the two parts.
        """
        self._boundary = Boundary(boundary, has_key=self._identify is not None)

    def _after_boundary(self, records: list[Any]) -> list[Any]:
        boundary = self._boundary
        if boundary is None or boundary.is_passed:
            self._boundary = None
            return records
        kept = boundary.filter([self._digest(record) for record in records])
        if len(kept) == len(records):
            return records
        self.left_out += len(records) - len(kept)
        return [records[number] for number in kept]

    def _digest(self, record: Any) -> str:
        try:
            return digest_of(self._identify([record])[0] if self._identify else record)
        except (AttributeError, KeyError, TypeError):
            return digest_of(record)

    def _filter(self, records: list[Any]) -> list[Any]:
        if self._versions is not None:
            with self._lock:
                return self._versions.filter(records)
        identify = self._identify
        if identify is None:
            return records
        try:
            found = identify(records)
            is_unique = len(set(found)) == len(found)
        except (AttributeError, KeyError, TypeError):
            return records  # no objects, or a key that is missing, null or a list: never equal
        with self._lock:
            return self._without_known(records, found, is_unique=is_unique)

    def _without_known(
        self, records: list[Any], found: list[Identity], *, is_unique: bool
    ) -> list[Any]:
        # the usual page: a look at two sets, and no loop over its rows
        is_new = is_unique and self._known.isdisjoint(found)
        if is_new:
            self._refuse_versions(found)
            self._remember(found)
            return records
        # a dict, which keeps the first of equal ones
        first: dict[Identity, Any] = {}
        for identity, record in zip(found, records, strict=True):
            if identity not in self._known:
                first.setdefault(identity, record)
        self._refuse_versions(list(first))
        self._remember(list(first))
        self.left_out += len(records) - len(first)
        return list(first.values())

    def describe(self) -> str | None:
        """Return a sentence about the rows that were left out; None if none was."""
        if self._versions is not None and self._versions.left_out:
            return (
                f"{self._versions.left_out} rows came after a newer version of the same row, by "
                "primary key and cursor, and are left out"
            )
        if not self.left_out:
            return None
        how = ", by their primary key," if self._identify else ""
        return f"{self.left_out} rows came twice{how} and are stored once"

    def _refuse_versions(self, new: list[Any]) -> None:
        if self._refused is None:
            return
        for *key, _ in new:
            known = tuple(key)
            if known in self._keys:
                error = IngestError(
                    f"resource {self._resource}: the API sent two different rows with the key {key}, "
                    f"{self._refused}; if it was chance, the next run succeeds"
                )
                error.resource = self._resource
                raise error
            self._keys.add(known)

    def _remember(self, found: list[Identity]) -> None:
        self._known.update(found)
        self._pages.append(found)
        # by whole pages, oldest first; the newest page always stays
        while len(self._known) > MAX_KNOWN_ROWS and len(self._pages) > 1:
            oldest = self._pages.popleft()
            self._known.difference_update(oldest)
            if self._refused is not None:
                self._keys.difference_update(identity[:-1] for identity in oldest)


class _NewestVersions:
    """Leaves out rows that come after a newer version of the same row, by primary key and cursor."""

    def __init__(self, key: Sequence[str], cursor_path: str, order: CursorOrder) -> None:
        self.left_out = 0
        self._has_plain_key = len(key) == 1 and not is_key_path(key[0])
        self._key_of = _key_getter(key)
        self._cursor_of = _value_getter(cursor_path)
        self._order = order
        self._newest: dict[Any, Any] = {}
        self._pages: deque[list[Any]] = deque()

    @classmethod
    def of(cls, plan: ResourcePlan) -> Self | None:
        """Return the filter of a merge that keeps one row for each key; None without a cursor."""
        resource, cursor = plan.resource, plan.incremental
        disposition = resource.disposition
        if not (plan.loaded and resource.primary_key and cursor):
            return None
        if disposition.value != "merge" or disposition.strategy not in _REMOVES_REPEATS:
            return None
        if any(column.dedup_sort for column in resource.hints.columns_by_name.values()):
            return None  # the file has an order of its own
        order = CursorOrder(descending=cursor.last_value_func is min)
        return cls(resource.primary_key, cursor.cursor_path, order)

    @property
    def pages(self) -> Iterable[list[Identity]]:
        """The rows that are known, by page: the values of the key, and the newest cursor value."""
        newest = self._newest
        for keys in self._pages:
            # of a key that has come again, the oldest page is forgotten first
            known = [key for key in keys if key in newest]
            yield [(*self._values_of(key), newest[key]) for key in known]

    def remember(self, page: list[Identity]) -> None:
        """Know the rows of one of the `pages`."""
        keys = [values[0] if self._has_plain_key else values[:-1] for values in page]
        self._newest.update(zip(keys, (values[-1] for values in page), strict=True))
        self._forget_oldest_page(keys)

    def _values_of(self, key: Any) -> Identity:
        return (key,) if self._has_plain_key else key

    def filter(self, records: list[Any]) -> list[Any]:
        """Return the records that are no older than earlier ones with their key."""
        try:
            keys = list(map(self._key_of, records))
            is_new = len(set(keys)) == len(keys) and self._newest.keys().isdisjoint(keys)
            values = list(map(self._cursor_of, records))
        except (AttributeError, KeyError, TypeError):
            return records  # no objects, or a key that is missing or a list: never equal
        if is_new:
            self._newest.update(zip(keys, values, strict=True))
            kept = records
        else:
            found = zip(keys, values, records, strict=True)
            kept = [record for key, value, record in found if self._is_newest(key, value)]
            self.left_out += len(records) - len(kept)
        self._forget_oldest_page(keys)
        return kept

    def _is_newest(self, key: Any, value: Any) -> bool:
        """Return True for a value no older than the newest one of its key, and remember it."""
        newest = self._newest.get(key)
        try:
            is_older = newest is not None and (
                value is None or self._order.is_before(value, newest)
            )
        except IncomparableError:
            is_older = False  # no order, so the last one counts
        if not is_older:
            self._newest[key] = value
        return not is_older

    def _forget_oldest_page(self, keys: list[Any]) -> None:
        self._pages.append(keys)
        while len(self._newest) > MAX_KNOWN_ROWS and len(self._pages) > 1:
            for key in self._pages.popleft():
                self._newest.pop(key, None)


def _key_getter(key: Sequence[str]) -> Callable[[Any], Any]:
    """Return a function that gets the key out of a record."""
    if any(map(is_key_path, key)):
        return lambda record: tuple(key_value(record, name) for name in key)
    return itemgetter(*key)


def _value_getter(path: str) -> Callable[[Any], Any]:
    """Return a function that gets the cursor at a path out of a record; None if there is none."""
    fields = compile_cursor_path(path)
    name = fields[0].name
    if len(fields) == 1 and name is not None:
        return lambda record: record.get(name)
    return partial(first_value, fields)


class Boundary:
    """The last rows of an earlier part, by their digests, as long as they may come again.

    With a key each of them is left out. Without one, equal rows may be different ones: only a run of
    rows that ends the earlier part and begins this one is left out, and only if a row of it is unlike
    all others.
    """

    def __init__(self, digests: Sequence[str], *, has_key: bool) -> None:
        self._digests = list(digests)
        self._unique = {digest for digest, count in Counter(digests).items() if count == 1}
        self._has_key = has_key
        self._is_running = False
        self._rows_left = len(digests)

    @property
    def is_passed(self) -> bool:
        """True if so many rows have come since that none of the boundary is expected any more."""
        return self._rows_left <= 0 or not self._digests

    def filter(self, digests: Sequence[str]) -> list[int]:
        """Return the numbers of the rows of a page that are new. The pages come in order."""
        self._rows_left -= len(digests)
        if self._has_key:
            # a key is there once, so a row that has it is the same one
            known = set(self._digests)
            return [number for number, digest in enumerate(digests) if digest not in known]
        return list(range(self._run_length(digests), len(digests)))

    def _run_length(self, digests: Sequence[str]) -> int:
        """Return how many rows at the beginning of a page belong to the run that came again."""
        # the longest run first: it leaves out the most rows that are surely the same
        lengths = [len(self._digests)] if self._is_running else range(len(self._digests), 0, -1)
        for length in lengths:
            run = self._digests[-length:]
            rows = min(length, len(digests))
            again = list(digests[:rows])
            if run[:rows] == again and not self._unique.isdisjoint(again):
                # the rest of the run must follow on the next page
                self._digests, self._is_running = run[rows:], True
                return rows
        self._digests = []
        return 0


def _identity_of(plan: ResourcePlan) -> _Identify | None:
    """Return the function that identifies rows; None if repeated rows need no filter."""
    resource, disposition = plan.resource, plan.resource.disposition
    key = resource.primary_key
    if not key or not plan.loaded:
        return None
    keys_of = _key_reader(key)
    if disposition.strategy == "insert-only":
        return keys_of
    if resource.parent or plan.is_repeated or disposition.value == "merge":
        # dlt's delete-insert stores one row for each key
        removes_repeats = disposition.value == "merge" and disposition.strategy in _REMOVES_REPEATS
        return None if removes_repeats else _with_versions(keys_of, _digest)
    if plan.token is not None:
        # the changes of a row come one after the other, and nothing says which one is newer
        return _with_versions(keys_of, _digest)
    if disposition.value == "append" and plan.incremental is not None:
        cursor_of = _value_getter(plan.incremental.cursor_path)
        return _with_versions(keys_of, lambda record: cursor_of(record) or _digest(record))
    return keys_of


def _key_reader(key: Sequence[str]) -> _Identify:
    if any(map(is_key_path, key)):
        return lambda records: [tuple(_values(record, key)) for record in records]

    def read(records: list[Any]) -> list[Identity]:
        # column by column: a function call for each row takes several times as long
        columns = [[record[name] for record in records] for name in key]
        if any(None in column for column in columns):
            raise KeyError
        return list(zip(*columns, strict=True))

    return read


def _with_versions(keys_of: _Identify, version_of: Callable[[Any], Any]) -> _Identify:
    """Return a function that tells the versions of a row apart, too."""
    return lambda records: [
        (*key, version_of(record)) for key, record in zip(keys_of(records), records, strict=True)
    ]


def _digest(record: dict[str, Any]) -> str:
    """Return a hash of all fields, as nested values can't be hashed, and whole records are large."""
    # the texts of two records are equal only if their types are
    text = repr(record).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).hexdigest()


_PARSERS: dict[type, Callable[[str], Any]] = {
    Decimal: Decimal,
    date: date.fromisoformat,
    datetime: datetime.fromisoformat,
    time: time.fromisoformat,
}
"""The types of values that JSON has no form of."""
_TAGS = {f"python {kind.__name__}": parse for kind, parse in _PARSERS.items()}


def _tag(value: Any) -> dict[str, str]:
    if type(value) not in _PARSERS:
        raise TypeError(f"a {type(value).__name__} has no place in a key")
    return {f"python {type(value).__name__}": str(value)}


def _untag(found: dict[str, Any]) -> Any:
    tag = next(iter(found), None)
    return _TAGS[tag](found[tag]) if tag in _TAGS else found


def _values(record: dict[str, Any], key: Any) -> list[Any]:
    values = [key_value(record, name) for name in key]
    if None in values:
        raise KeyError
    return values
