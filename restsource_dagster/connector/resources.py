"""Resources as they are once defaults are merged in: what the rest of the project works with."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

__all__ = [
    "Backfill",
    "Disposition",
    "Family",
    "Incremental",
    "PartitionGranularity",
    "Resource",
    "WriteMode",
    "families_of",
]

PartitionGranularity = Literal["hourly", "daily", "weekly", "monthly"]
"""How long the windows of a history are. Weeks start on Monday."""

WriteMode = Literal["auto", "columnar", "rows"]
"""How rows are written: by dlt one by one, or as columns where that leads to the same tables."""


@dataclass(frozen=True)
class Incremental:
    """The cursor of a resource. `lag` is in seconds for times, in days for dates."""

    cursor_path: str
    initial_value: Any
    end_value: Any
    lag: float | None
    row_order: str | None
    start_param: str | None
    server_side: bool
    """The API filters by the cursor; else everything is fetched and dlt filters."""


@dataclass(frozen=True)
class Disposition:
    """What happens to the rows that are there already, and why (a sentence for people)."""

    value: Literal["append", "merge", "replace", "skip"]
    strategy: str | None
    derived: bool
    """Not in the file, but concluded from keys and cursors."""
    reason: str


@dataclass(frozen=True)
class Backfill:
    """The history of a resource, loaded in windows beside the live stream. Times are UTC."""

    start: datetime
    """Where the oldest window starts."""
    end: datetime | None
    """Where the newest window ends, if before the live stream's start; None for up to there."""
    partition: PartitionGranularity
    max_parallel: int = 1
    """Windows that may be under way at once."""
    max_attempts: int = 3
    """Times that a window is tried before it is left failed."""
    auto: bool = True
    """Windows are asked for by themselves; else only by a person."""


@dataclass(frozen=True)
class Resource:
    """One resource of a connector; it becomes one table and one asset."""

    name: str
    parent: str | None
    path: str
    """The endpoint's path as the file gives it, after defaults; not yet bound."""
    method: str
    table_name: str | None
    primary_key: tuple[str, ...]
    merge_key: tuple[str, ...]
    incremental: Incremental | None
    disposition: Disposition
    selected: bool
    pointer: str
    """JSON pointer of the resource in its file, such as `/resources/0`."""
    line: int = 1
    """Where it starts in its file, counted from 1."""
    backfill: Backfill | None = None
    """Its history, if the file asks for it."""
    mode: WriteMode = "auto"
    max_table_nesting: int | None = None
    """How deep nested lists become tables; None is dlt's own limit, 0 keeps them as JSON."""
    definition_key: str = ""
    """Changes exactly when a window of its history might hold other rows than before."""

    @property
    def table(self) -> str:
        """The table's name before the destination's naming convention."""
        return self.table_name or self.name


@dataclass(frozen=True)
class Family:
    """A resource without a parent and all that depend on it: they succeed or fail together."""

    root: Resource
    members: tuple[Resource, ...]
    """The root first, then dependents, each after its parent."""

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names, in the same order."""
        return tuple(member.name for member in self.members)


def families_of(resources: Iterable[Resource]) -> tuple[Family, ...]:
    """The families of resources, in the order of their roots. Raises nothing; needs no cycles."""
    children: dict[str | None, list[Resource]] = {}
    for resource in resources:
        children.setdefault(resource.parent, []).append(resource)
    families = []
    for root in children.get(None, []):
        members, position = [root], 0
        while position < len(members):
            members.extend(children.get(members[position].name, []))
            position += 1
        families.append(Family(root=root, members=tuple(members)))
    return tuple(families)
