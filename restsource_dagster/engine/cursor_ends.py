"""The least and the greatest of many cursor values at once, where that needs no look at each."""

import re
from collections.abc import Sequence
from typing import Any

__all__ = ["ends_of"]

_TIME = re.compile(r"[0-9]{4}(-[0-9]{2}){2}([T ][0-9]{2}(:[0-9]{2}){2}(\.[0-9]+)?Z?)?")
_SPELLING = bytes(48 if 48 <= code <= 57 else code for code in range(256))
"""Makes a 0 of each digit, so that a spelling shows."""


def ends_of(values: Sequence[Any]) -> tuple[Any, Any] | None:
    """The least and the greatest value; None if they have to be looked at one by one.

    Whole numbers compare as they are. Times do where all are spelt alike, digit by digit in the same
    places and without an offset: then the order of their characters is that of the times.
    """
    kinds = set(map(type, values))
    if kinds == {int} or (kinds == {str} and _are_times_spelt_alike(values)):
        return min(values), max(values)
    return None


def _are_times_spelt_alike(values: Sequence[str]) -> bool:
    length = len(values[0])
    if not _TIME.fullmatch(values[0]) or set(map(len, values)) != {length}:
        return False
    spellings = "".join(values).encode("utf-8", "surrogatepass").translate(_SPELLING)
    return spellings == spellings[:length] * len(values)
