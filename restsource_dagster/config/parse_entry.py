"""An entry of the cache of parsed files, and the same as text.

pydantic's JSON of the dataclasses has all of it as it was, but for the schedule, which is written as in
the file, and for time zones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from restsource_dagster.config.known_connector import Known
from restsource_dagster.config.problems import Problem
from restsource_dagster.config.resources import Resource
from restsource_dagster.config.schedule import Schedule

__all__ = ["Entry", "from_text", "to_text"]


@dataclass(frozen=True)
class Entry:
    """A file without an error: what is known of its connector, and its warnings."""

    known: Known
    warnings: tuple[Problem, ...]


@dataclass(frozen=True)
class _Written:
    name: str
    description: str | None
    owners: tuple[str, ...]
    tags: Mapping[str, str]
    created_at: datetime | None
    schedule: dict[str, Any]
    resources: tuple[Resource, ...]
    warnings: tuple[Problem, ...]


@cache
def _entries() -> TypeAdapter[_Written]:
    return TypeAdapter(_Written)


@cache
def _schedules() -> TypeAdapter[Schedule]:
    return TypeAdapter(Schedule)


def to_text(entry: Entry) -> str:
    """The entry as JSON, without the path. Raises `ValueError` for one that JSON can't say."""
    fields = dict(vars(entry.known))
    fields["schedule"] = entry.known.schedule.model_dump(exclude_unset=True)
    warnings = tuple(replace(warning, path=Path()) for warning in entry.warnings)
    return _entries().dump_json(_Written(**fields, warnings=warnings)).decode()


def from_text(text: str, path: Path) -> Entry:
    """The entry of the file at this path. Raises `ValueError` for a text that is none."""
    written = _entries().validate_json(text, strict=True)
    fields = dict(vars(written))
    warnings = fields.pop("warnings")
    fields["created_at"] = _in_utc(written.created_at)
    fields["schedule"] = _schedules().validate_python(written.schedule)
    fields["resources"] = tuple(map(_with_times, written.resources))
    return Entry(Known(**fields), tuple(replace(warning, path=path) for warning in warnings))


def _with_times(resource: Resource) -> Resource:
    backfill = resource.backfill
    if backfill is None:
        return resource
    start = backfill.start.astimezone(UTC)
    return replace(resource, backfill=replace(backfill, start=start, end=_in_utc(backfill.end)))


def _in_utc(moment: datetime | None) -> datetime | None:
    """With Python's own time zone in place of pydantic's."""
    return None if moment is None else moment.astimezone(UTC)
