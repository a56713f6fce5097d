"""Which families are loaded in one go.

Each load package costs a few tenths of a second, whatever is in it. Families whose pages are all at
hand need not wait for one another, and share one.
"""

import math
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from restsource_dagster.engine.run.family_load import SelectedFamily

__all__ = ["group_families"]

_MAX_GROUP_WAIT_SECONDS = 0.25
"""How long a family that is there waits for others: about what a load package costs."""
_NESTING_SEPARATOR = re.compile(r"__|[^A-Za-z0-9_-]")
"""What separates the names of a nested table from that of its root, in dlt's naming conventions."""


def group_families(
    turns: Sequence[SelectedFamily],
    is_plain: Callable[[SelectedFamily], bool],
    wait_for_first: Callable[[SelectedFamily, float], object],
    is_read: Callable[[SelectedFamily], bool],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Sequence[SelectedFamily]]:
    """The families in their order, those that are loaded in one go together.

    They are families of one resource each, with tables of their own, that are loaded from where their
    cursors stand (`is_plain`) and whose pages are all at hand (`is_read`). `wait_for_first` is called
    before these two are asked, and waits for the first page of a family, often the only one, for so
    many seconds at most.
    """

    def may_share(turn: SelectedFamily, seconds: float) -> bool:
        if len(turn.family.members) > 1:
            return False
        wait_for_first(turn, seconds)
        return is_plain(turn) and is_read(turn)

    waiting = deque(turns)
    while waiting:
        together = [waiting.popleft()]
        if waiting and may_share(together[0], math.inf):
            ends_at = clock() + _MAX_GROUP_WAIT_SECONDS
            while waiting and not _may_share_table(together, waiting[0]):
                if not may_share(waiting[0], ends_at - clock()):
                    break
                together.append(waiting.popleft())
        yield together


def _may_share_table(turns: Sequence[SelectedFamily], other: SelectedFamily) -> bool:
    """Whether a table of the other may be one of theirs, nested ones included."""
    table = other.family.root.table
    return any(_may_be_same_table(table, turn.family.root.table) for turn in turns)


def _may_be_same_table(one: str, other: str) -> bool:
    shorter, longer = sorted((_folded_table_name(one), _folded_table_name(other)), key=len)
    if shorter == longer:
        return True
    may_nest = _NESTING_SEPARATOR.search(one) or _NESTING_SEPARATOR.search(other)
    return longer.startswith(shorter) and may_nest is not None


def _folded_table_name(table: str) -> str:
    """What is left of a name under any of dlt's naming conventions."""
    return "".join(character for character in table.lower() if character.isalnum())
