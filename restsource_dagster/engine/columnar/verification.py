"""Whether reading a page fast lost anything, told from its columns."""

from collections.abc import Sequence
from typing import Any

from restsource_dagster.engine.columnar.flatten import ColumnValues, FlatTable
from restsource_dagster.engine.http.json_body import INT64_LIMIT, UnverifiedRecords, scan_values

__all__ = ["FlattenedRecords", "is_verified"]

_CONTAINER_TYPES = frozenset({dict, list})
_NUMBER_TYPES = frozenset({int, float})
_DEEP_BRACKETS = 100
"""So many brackets may be levels that are too many for the table; then levels are counted."""


class FlattenedRecords(list[Any]):
    """The records of a page, and the sheets they were spread to."""

    sheets: Sequence[FlatTable]

    @classmethod
    def of(cls, records: Sequence[Any], sheets: Sequence[FlatTable]) -> "FlattenedRecords":
        """The records with their sheets."""
        made = cls(records)
        made.sheets = sheets
        return made


def is_verified(records: UnverifiedRecords, sheets: Sequence[FlatTable]) -> bool:
    """Whether no key of the records stood twice, and no number lost digits or is beyond 64 bits."""
    keys_inside = _count_keys_in_json if records.is_plain_text else _count_keys
    found = 0
    for sheet in sheets:
        found += sheet.keys
        for cells in sheet.columns.values():
            inside = keys_inside(cells)
            if inside is None:
                return False
            found += inside
    return found == records.key_count


def _count_keys_in_json(cells: ColumnValues) -> int | None:
    """The keys in a column that stays JSON, told from how it is written: faster than to look at them,
    and enough if the page's text is plain."""
    if cells.types.isdisjoint(_CONTAINER_TYPES):
        return 0
    if not cells.types <= _CONTAINER_TYPES:
        return _count_keys(cells)
    try:
        present = [text for text in cells.texts if text is not None]
    except TypeError:
        return None
    if any(map(_may_be_deep, present)):
        return _count_keys(cells)
    return b"".join(present).count(b'":')


def _may_be_deep(text: bytes) -> bool:
    return len(text) >= 2 * _DEEP_BRACKETS and text.count(b"[") + text.count(b"{") >= _DEEP_BRACKETS


def _count_keys(cells: ColumnValues) -> int | None:
    """The keys in a column that stays JSON; None if a number in it is too large to be believed."""
    if not cells.types.isdisjoint(_NUMBER_TYPES):
        is_plain = cells.has_no_nulls and cells.types <= _NUMBER_TYPES
        numbers = (
            cells.values if is_plain else [n for n in cells.values if type(n) in _NUMBER_TYPES]
        )
        if max(numbers) >= INT64_LIMIT or min(numbers) <= -INT64_LIMIT:
            return None
    if cells.types.isdisjoint(_CONTAINER_TYPES):
        return 0
    looked = scan_values([one for one in cells.values if type(one) in _CONTAINER_TYPES])
    return None if looked is None else looked.key_count
