"""What a twin does to a load: each attack changes its truth or its answers at one moment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from restsource_dagster.authoring.grading.twin_rows import LATE_BY

if TYPE_CHECKING:
    from restsource_dagster.authoring.grading.twin_api import TwinTable

__all__ = ["ATTACKS", "WELL_BEHAVED", "Attack", "Fault"]

Fault = Literal["repeat", "stuck", "429", "500", "cut", "hold"]
"""How an answer is wrong: the page before comes again; the same next page is named for ever; a status; an
answer that ends in the middle; an answer that waits until the process that asks for it is killed."""


@dataclass(frozen=True)
class Attack:
    """One thing that goes wrong, between two pages of the first load or between two loads."""

    name: str
    text: str
    while_paging: "Callable[[TwinTable], None] | None" = None
    """Changes the truth when the second page is asked for."""
    fault: Fault | None = None
    """What is wrong with the answer to the second page, or to the only one."""
    between: "Callable[[TwinTable], None] | None" = None
    """Changes the truth after the first load."""
    needs_cursor: bool = False
    needs_pages: bool = False

    @property
    def is_killed(self) -> bool:
        """True if the process of the load is killed."""
        return self.fault == "hold"


def _insert(table: "TwinTable") -> None:
    """A new row, the newest; where rows have no order by time it comes first."""
    table.add(table.newest + 1, first=True)


def _delete(table: "TwinTable") -> None:
    """A row that was sent is deleted, so that the others move up."""
    del table.rows[table.ordered(table.group)[0].id]


def _late(table: "TwinTable") -> None:
    """A row that is older than the newest one that was loaded."""
    table.add(table.newest - LATE_BY)


def _change_newest(table: "TwinTable") -> None:
    """The newest row changes, and its cursor has too few digits to tell."""
    row = max(table.ordered(table.group), key=lambda one: (one.at, one.id))
    table.rows[row.id] = replace(row, version=row.version + 1)


def _tie(table: "TwinTable") -> None:
    """Another row of the moment of the newest one."""
    table.add(table.newest)


_ATTACKS = (
    Attack("none", "the API behaves well"),
    Attack("page_twice", "a page is sent twice", fault="repeat", needs_pages=True),
    Attack("insert", "a row is added while paging", while_paging=_insert, needs_pages=True),
    Attack("delete", "a row is deleted while paging", while_paging=_delete, needs_pages=True),
    Attack("stuck", "the next page never changes", fault="stuck", needs_pages=True),
    Attack("rate_limit", "429 with Retry-After", fault="429"),
    Attack("server_error", "500, once", fault="500"),
    Attack("cut", "an answer is cut off, once", fault="cut"),
    Attack("kill", "the run is killed (kill -9) and the next one goes on", fault="hold"),
    Attack("late", f"a row is {LATE_BY} steps late", between=_late, needs_cursor=True),
    Attack("change", "the newest row changes, its cursor does not", between=_change_newest),
    Attack("tie", "a row has the cursor of the newest one", between=_tie, needs_cursor=True),
)
ATTACKS: Mapping[str, Attack] = {
    attack.name: attack for attack in _ATTACKS if attack.name != "none"
}
WELL_BEHAVED = _ATTACKS[0]
