"""The `backfill` block of a resource: the history that is loaded in windows beside the live stream.

dlt doesn't have it: it is taken out of what is handed to dlt.
"""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from restsource_dagster.config.fields import Flag, Part, not_this, not_valid
from restsource_dagster.config.resources import Backfill, Partition
from restsource_dagster.config.schedule import moment_of
from restsource_dagster.config.windows import ceiling, floor

__all__ = ["BackfillBlock"]

_BOUNDARIES: dict[Partition, str] = {
    "hourly": "at a full hour",
    "daily": "at midnight",
    "weekly": "on a Monday at midnight",
    "monthly": "on the first of a month at midnight",
}
_EARLIEST = {"hourly": 2000}
_EARLIEST_OTHERS, _LATEST = 1900, 2200
"""Years: a slip in the year shouldn't make millions of windows."""


def _boundary(value: Any) -> datetime:
    return moment_of(value, "a date such as 2024-01-01, or a time such as 2024-01-01T06:00:00Z")


Boundary = Annotated[
    datetime,
    PlainValidator(_boundary),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "format": form} for form in ("date", "date-time")]}
    ),
]


def _from_one(most: int) -> tuple[PlainValidator, WithJsonSchema]:
    def check(value: Any) -> int:
        expected = f"a whole number from 1 to {most}"
        if isinstance(value, bool) or not isinstance(value, int):
            not_this(expected)
        return value if 1 <= value <= most else not_valid(expected)

    schema = {"type": "integer", "minimum": 1, "maximum": most}
    return PlainValidator(check), WithJsonSchema(schema)


class BackfillBlock(Part):
    """The history of an incremental resource, loaded in windows of its cursor, newest first.

    The live stream starts with the window in which the connector was created; history is what
    lies before, from `start` on. All times are UTC.
    """

    start: Boundary = Field(
        description="Where the history starts: a date or a time at which a window begins."
    )
    partition: Partition = Field(
        description="How long a window is. Weeks start on Monday, months on the first."
    )
    end: Boundary | None = Field(
        default=None,
        description="Where the history ends; this moment itself is not part of it. Where the live "
        "stream starts, if left out.",
    )
    max_parallel: Annotated[int, *_from_one(64)] = Field(
        default=1, description="How many windows may be under way at once."
    )
    max_attempts: Annotated[int, *_from_one(100)] = Field(
        default=3, description="How many times a window is tried before it is left failed."
    )
    auto: Flag = Field(
        default=True,
        description="Whether the windows are loaded by themselves; `false`: only when a person "
        "asks for them.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._check("start", self.start)
        if self.end is not None:
            self._check("end", self.end)
            if self.end <= self.start:
                _refuse("end", "`end` must be later than `start`: it is where the history ends")
        return self

    def _check(self, field: str, moment: datetime) -> None:
        earliest = _EARLIEST.get(self.partition, _EARLIEST_OTHERS)
        if not earliest <= moment.year < _LATEST:
            years = f"{earliest} and {_LATEST}"
            _refuse(field, f"`{field}` of {self.partition} windows lies between {years}")
        before, after = floor(self.partition, moment), ceiling(self.partition, moment)
        if before != moment:
            _refuse(
                field,
                f"`{field}` is not where a {self.partition} window begins, "
                f"{_BOUNDARIES[self.partition]} (UTC): write {self._written(before)} or "
                f"{self._written(after)}",
            )

    def _written(self, moment: datetime) -> str:
        return f'"{moment:%Y-%m-%dT%H:%M:%SZ}"' if moment.hour else f'"{moment:%Y-%m-%d}"'

    def as_backfill(self) -> Backfill:
        """The same for the rest of the project, which needs no models."""
        return Backfill(**dict(self))


def _refuse(field: str, message: str) -> None:
    raise PydanticCustomError("rule", "{text}", {"field": field, "text": message})
