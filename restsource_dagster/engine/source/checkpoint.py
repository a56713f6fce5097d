"""Checkpoints: a long extract stops between two pages, its rows are loaded, and the next one continues.

If the run fails or is killed afterwards, the next one continues from the cursor that was stored with
those rows. Only calls that send the oldest rows first (`row_order`) can do that, into merged tables.
"""

import time
from collections.abc import Callable, Collection

from restsource_dagster.connector.resources import Resource
from restsource_dagster.engine.errors import IngestError

__all__ = ["CHECKPOINT_ROWS", "Checkpoint", "can_load_in_parts"]

CHECKPOINT_ROWS = 100_000
"""An extract ends after so many rows, however fast they came: until the load, all are on the disk."""

_STRATEGIES = frozenset((None, "delete-insert", "insert-only", "upsert"))
"""Merges of single rows. The others compare a table with all rows of a load."""


def can_load_in_parts(resources: Collection[Resource]) -> bool:
    """True if a table is the same whether its rows come in one load or in several."""
    return all(
        one.disposition.value == "merge"
        and one.disposition.strategy in _STRATEGIES
        # a load replaces all rows that share a merge key, and another part may have some of them
        and not one.merge_key
        for one in resources
    )


class Checkpoint:
    """Decides when an extract ends before its last page. Make one for each load package."""

    def __init__(
        self,
        seconds: float,
        rows: int = CHECKPOINT_ROWS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The checkpoint is due after `seconds` or after `rows`, whichever comes first."""
        self._clock = clock
        self._due_at = clock() + seconds
        self._rows_left = rows
        self.is_reached = False
        """True if the extract ended early because the checkpoint was due."""
        self.error: IngestError | None = None
        """The error of a page, if that is why the extract ended early."""

    def add_page(self, rows: int) -> None:
        """Count a page with so many rows."""
        self._rows_left -= rows

    @property
    def is_due(self) -> bool:
        """True if the extract should end as soon as it can."""
        return self._rows_left <= 0 or self._clock() >= self._due_at
