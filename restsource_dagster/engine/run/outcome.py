"""The result of a run: an outcome for each resource, with rows, cursor, columns or the failure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dlt import Pipeline
from dlt.common.pipeline import LoadInfo
from dlt.common.schema import Schema
from dlt.extract import DltResource

from restsource_dagster.engine.destination.table_facts import TableFacts
from restsource_dagster.engine.destination.tables import LoadedColumn
from restsource_dagster.engine.incremental.cursor_state import CursorProgress
from restsource_dagster.engine.run_progress import Usage

__all__ = [
    "DltLoad",
    "Failure",
    "Outcome",
]


@dataclass(frozen=True)
class Failure:
    """Why a resource was not loaded.

    `resource` is the one that failed. A family fails together, so it may be another than the
    outcome's. `step` is dlt's: prepare, extract, normalize or load.
    """

    resource: str
    step: str
    message: str


@dataclass(frozen=True)
class DltLoad:
    """dlt's objects for a load, for an integration of dlt with something else.

    Read them before you ask for the next outcome: the next family uses the same pipeline.
    """

    pipeline: Pipeline
    schema: Schema
    """The schema after the load. `pipeline.default_schema` reads it from a file each time."""
    resource: DltResource
    info: LoadInfo


@dataclass(frozen=True)
class Outcome:
    """The result of one resource in one run."""

    resource: str
    table: str
    seconds: float
    usage: Usage = field(default_factory=Usage)
    records_received: int = 0
    """The records that the API sent, before the cursor filtered them."""
    stated_total: int | None = None
    """The number of records that the API says there are; None if it states no total."""
    skipped: tuple[str, ...] = ()
    """The paths of calls below a parent that failed and were skipped (`http.on_child_error`)."""
    gone: tuple[str, ...] = ()
    """The paths of calls whose parent is gone (`response_actions`): its rows are removed."""
    left_as_it_is: str | None = None
    """Why the resource was not loaded, and is no failure: `skip` in `response_actions`."""
    rows_loaded: int = 0
    row_count: int | None = None
    """The rows in the table after the load; None if the destination can't count them."""
    dataset: str = ""
    destination: str = ""
    cursor: CursorProgress | None = None
    cursor_set: tuple[Any, Any] | None = None
    """The stored cursor and the value that an override replaced it with before the run."""
    window: tuple[Any, Any] | None = None
    """The ends of the window that was loaded; None for a live run."""
    now: datetime | None = None
    """The moment of `{now}`, if the resource has relative times."""
    columns: tuple[LoadedColumn, ...] = ()
    write_mode: str = ""
    """How the rows were written: "columns", or "rows" and the reason."""
    nested_tables: Mapping[str, int] = field(default_factory=dict)
    """The rows loaded into each nested table, by its name."""
    schema_changes: tuple[str, ...] = ()
    """The changes of its tables' schemas by this load, in sentences."""
    facts: TableFacts | None = None
    """What the checks of the table ask about it; None if they ask nothing, or there is no answer."""
    checkpoints: int = 0
    """How often rows were loaded before all were read."""
    resumed_from: str | None = None
    """Where the load of an earlier run was continued: a place in the paging, or the cursor."""
    failure: Failure | None = None
    # live objects: their text would fill the log, and no two compare equal
    load: DltLoad | None = field(default=None, repr=False, compare=False)

    @property
    def failed(self) -> bool:
        """True if an error kept this resource from being loaded.

        Only rows up to a checkpoint before the error are loaded then.
        """
        return self.failure is not None
