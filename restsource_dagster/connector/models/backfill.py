"""The `backfill` block of a resource: its past, loaded in partitions beside the live stream.

This block is not part of dlt's configuration.
"""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from restsource_dagster.connector.models.fields import FileModel, Flag, count_from_one
from restsource_dagster.connector.models.schedule import parse_file_time
from restsource_dagster.connector.partitions import (
    Partition,
    PartitionGranularity,
    live_start,
    partition_ceiling,
    partition_floor,
    partitions_between,
)

__all__ = ["Backfill", "backfill_end", "backfill_partitions"]

_BOUNDARY_WORDS: dict[PartitionGranularity, str] = {
    "hourly": "at a full hour",
    "daily": "at midnight",
    "weekly": "on a Monday at midnight",
    "monthly": "on the first of a month at midnight",
}
# From 1900 on there are a million hours, and each would be a partition.
_EARLIEST_YEAR_BY_GRANULARITY = {"hourly": 2000}
_EARLIEST_YEAR, _LATEST_YEAR = 1900, 2200
"""Years. A typing error in a year must not create millions of partitions."""


def _parse_boundary(value: Any) -> datetime:
    return parse_file_time(
        value, "a date such as 2024-01-01, or a time such as 2024-01-01T06:00:00Z"
    )


PartitionBoundary = Annotated[
    datetime,
    PlainValidator(_parse_boundary),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "format": form} for form in ("date", "date-time")]}
    ),
]


class Backfill(FileModel):
    """Loads the past of an incremental resource in partitions of time, newest first.

    The live stream starts with the partition in which the connector is created. The backfill
    loads everything from `start` up to there. All times are UTC.
    """

    start: PartitionBoundary = Field(
        description="Start of the backfill: a date or time at which a partition begins."
    )
    partition: PartitionGranularity = Field(
        description="Length of a partition. Weeks start on Monday, months on the first."
    )
    end: PartitionBoundary | None = Field(
        default=None,
        description="End of the backfill (exclusive). If left out, the start of the live stream.",
    )
    max_parallel: Annotated[int, *count_from_one(64)] = Field(
        default=1, description="Maximum number of partitions that load at the same time."
    )
    max_attempts: Annotated[int, *count_from_one(100)] = Field(
        default=3,
        description="Maximum number of attempts per partition. After that, the partition stays "
        "failed.",
    )
    auto: Flag = Field(
        default=True,
        description="`true`: partitions load automatically. `false`: partitions load only when a "
        "person starts them.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._check("start", self.start)
        if self.end is not None:
            self._check("end", self.end)
            if self.end <= self.start:
                _refuse_backfill(
                    "end", "`end` must be later than `start`: it is where the backfill ends"
                )
        return self

    def _check(self, field: str, moment: datetime) -> None:
        earliest = _EARLIEST_YEAR_BY_GRANULARITY.get(self.partition, _EARLIEST_YEAR)
        if not earliest <= moment.year < _LATEST_YEAR:
            years = f"{earliest} and {_LATEST_YEAR}"
            _refuse_backfill(
                field, f"`{field}` of {self.partition} partitions lies between {years}"
            )
        before, after = (
            partition_floor(self.partition, moment),
            partition_ceiling(self.partition, moment),
        )
        if before != moment:
            _refuse_backfill(
                field,
                f"`{field}` is not where a {self.partition} partition begins, "
                f"{_BOUNDARY_WORDS[self.partition]} (UTC): write {self._written(before)} or "
                f"{self._written(after)}",
            )

    def _written(self, moment: datetime) -> str:
        return f'"{moment:%Y-%m-%dT%H:%M:%SZ}"' if moment.hour else f'"{moment:%Y-%m-%d}"'


def _refuse_backfill(field: str, message: str) -> None:
    # pydantic locates an error of a model at the model, so the error itself names the field.
    raise PydanticCustomError("rule", "{text}", {"field": field, "text": message})


def backfill_end(
    backfill: Backfill, created_at: datetime, *, live_start_at: datetime | None = None
) -> datetime:
    """Return the end of a backfill: the live stream's start, or the file's `end` if that is earlier.

    `live_start_at` is where the live stream really started, if known. It is later than the creation
    for a connector that ran before it had a `backfill` block, or had shorter partitions then. The
    backfill extends to the end of its partition, so that no rows are missing between the two.
    """
    end = live_start(backfill.partition, created_at)
    if live_start_at is not None:
        end = max(end, partition_ceiling(backfill.partition, live_start_at))
    return end if backfill.end is None else min(end, backfill.end)


def backfill_partitions(
    backfill: Backfill, created_at: datetime, *, live_start_at: datetime | None = None
) -> tuple[Partition, ...]:
    """Return the partitions of a resource's backfill, newest first.

    For `live_start_at` see `backfill_end`.

    Raises `ValueError` if `created_at` or `live_start_at` has no time zone.
    """
    end = backfill_end(backfill, created_at, live_start_at=live_start_at)
    # recent data is of most use, so a backfill loads it first
    return partitions_between(backfill.partition, backfill.start, end)[::-1]
