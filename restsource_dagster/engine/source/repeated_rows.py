"""Leave out rows that the API sends twice in one run, as happens if pages shift while they are read."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.plan.resource_plan import ResourcePlan

__all__ = ["MAX_KNOWN_ROWS", "RepeatedRows"]

MAX_KNOWN_ROWS = 200_000
"""How many rows are remembered. Pages shift only by the rows that are added or deleted meanwhile."""

# None is dlt's default, delete-insert
_REMOVES_REPEATS = (None, "delete-insert")
Identity = tuple[Any, ...]
_Identify = Callable[[dict[str, Any]], Identity]


class RepeatedRows:
    """Remembers the rows of one resource that were read last, by their primary key.

    When two rows are the same depends on the table:

    - In a replaced table, or appended without a cursor: if their keys are equal.
    - Appended with a cursor: if key and cursor are equal. Another cursor value is a new version.
    - Below a parent, and in a merge that doesn't remove repeats itself: if all fields are equal,
      because a key may be unique only below one parent.
    - In an insert-only merge: if their keys are equal; the first row is kept.

    An upsert stores each row of a load, so two different rows with one key are an error.
    """

    def __init__(self, plan: ResourcePlan) -> None:
        self.left_out = 0
        """How many rows were left out."""
        # calls below parents may be read by several threads
        self._lock = threading.Lock()
        self._resource = plan.resource.name
        self._identify = _identity_of(plan)
        self._refuses_versions = plan.resource.disposition.strategy == "upsert"
        self._keys: set[Identity] = set()
        self._known: set[Identity] = set()
        self._pages: deque[list[Identity]] = deque()

    def filter(self, records: list[Any]) -> list[Any]:
        """Return the records that were not read before; `records` itself if none was.

        Raises `IngestError` for another row with the key of an earlier one, in an upsert.
        """
        identify = self._identify
        if identify is None or not records:
            return records
        try:
            found = [identify(record) for record in records]
            is_unique = len(set(found)) == len(found)
        except (AttributeError, KeyError, TypeError):
            return records  # no objects, or a key that is missing, null or a list: never equal
        with self._lock:
            return self._without_known(records, found, is_unique=is_unique)

    def _without_known(
        self, records: list[Any], found: list[Identity], *, is_unique: bool
    ) -> list[Any]:
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
        if not self.left_out:
            return None
        return f"{self.left_out} rows came twice, by their primary key, and are stored once"

    def _refuse_versions(self, new: list[Any]) -> None:
        if not self._refuses_versions:
            return
        for *key, _ in new:
            known = tuple(key)
            if known in self._keys:
                error = IngestError(
                    f"resource {self._resource}: the API sent two different rows with the key {key}, "
                    'and an upsert would store both. Use the strategy "delete-insert", which keeps the '
                    "newer one by the cursor; if it was chance, the next run succeeds"
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
            if self._refuses_versions:
                self._keys.difference_update(identity[:-1] for identity in oldest)


def _identity_of(plan: ResourcePlan) -> _Identify | None:
    """Return the function that identifies a row; None if repeated rows need no filter."""
    resource, disposition = plan.resource, plan.resource.disposition
    key = resource.primary_key
    if not key or not plan.loaded:
        return None
    if disposition.strategy == "insert-only":
        return lambda record: tuple(_values(record, key))
    if resource.parent or disposition.value == "merge":
        # dlt's delete-insert stores one row for each key
        removes_repeats = disposition.value == "merge" and disposition.strategy in _REMOVES_REPEATS
        # as text, because nested values can't be hashed
        return None if removes_repeats else lambda record: (*_values(record, key), repr(record))
    if disposition.value == "append" and plan.incremental is not None:
        path = plan.incremental.cursor_path
        return lambda record: (*_values(record, key), record.get(path) or repr(record))
    return lambda record: tuple(_values(record, key))


def _values(record: dict[str, Any], key: Any) -> list[Any]:
    values = [record[name] for name in key]
    if None in values:
        raise KeyError
    return values
