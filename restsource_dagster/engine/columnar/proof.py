"""Whether reading a page fast lost anything, told from its columns."""

from collections.abc import Sequence
from typing import Any

from restsource_dagster.engine.columnar.sheets import Cells, Sheet
from restsource_dagster.engine.parsing import BIG, FreshRecords, look

__all__ = ["SpreadRecords", "is_proved"]

_HOLDERS = frozenset({dict, list})
_NUMBERS = frozenset({int, float})
_DEEP = 100
"""So many brackets may be levels that are too many for the table; then levels are counted."""


class SpreadRecords(list[Any]):
    """The records of a page, and the sheets they were spread to."""

    sheets: Sequence[Sheet]

    @classmethod
    def of(cls, records: Sequence[Any], sheets: Sequence[Sheet]) -> "SpreadRecords":
        """The records with their sheets."""
        made = cls(records)
        made.sheets = sheets
        return made


def is_proved(records: FreshRecords, sheets: Sequence[Sheet]) -> bool:
    """Whether no key of the records stood twice, and no number lost digits or is beyond 64 bits."""
    keys_inside = _keys_in_texts if records.is_plain else _keys_inside
    found = 0
    for sheet in sheets:
        found += sheet.keys
        for cells in sheet.columns.values():
            inside = keys_inside(cells)
            if inside is None:
                return False
            found += inside
    return found == records.keys


def _keys_in_texts(cells: Cells) -> int | None:
    """The keys in a column that stays JSON, told from how it is written: faster than to look at them,
    and enough if the page's text is plain."""
    if cells.types.isdisjoint(_HOLDERS):
        return 0
    if not cells.types <= _HOLDERS:
        return _keys_inside(cells)
    try:
        present = [text for text in cells.texts if text is not None]
    except TypeError:
        return None
    if any(map(_may_be_deep, present)):
        return _keys_inside(cells)
    return b"".join(present).count(b'":')


def _may_be_deep(text: bytes) -> bool:
    return len(text) >= 2 * _DEEP and text.count(b"[") + text.count(b"{") >= _DEEP


def _keys_inside(cells: Cells) -> int | None:
    """The keys in a column that stays JSON; None if a number in it is too large to be believed."""
    if not cells.types.isdisjoint(_NUMBERS):
        is_plain = cells.is_full and cells.types <= _NUMBERS
        numbers = cells.values if is_plain else [n for n in cells.values if type(n) in _NUMBERS]
        if max(numbers) >= BIG or min(numbers) <= -BIG:
            return None
    if cells.types.isdisjoint(_HOLDERS):
        return 0
    looked = look([one for one in cells.values if type(one) in _HOLDERS])
    return None if looked is None else looked.keys
