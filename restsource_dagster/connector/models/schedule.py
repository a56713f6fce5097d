"""The schedule of a connector. It is not part of dlt's configuration."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, PlainValidator, Tag, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from restsource_dagster.connector.models.fields import (
    FileModel,
    by_kind,
    closest_kind,
    refuse_type,
    refuse_value,
)

__all__ = [
    "SCHEDULE_MODES",
    "IntervalSchedule",
    "ManualSchedule",
    "Moment",
    "Schedule",
    "parse_file_time",
]

SCHEDULE_MODES = ("minutes", "hours", "days", "manual")
# A longer period is a typing error, for example minutes in place of seconds.
_LONGEST_PERIOD = timedelta(days=3650)
# `datetime.fromisoformat` also takes week dates and dates without hyphens, which people misread.
_ISO_TIME_START = re.compile(r"\d{4}-\d\d-\d\d([T ].+)?")


def _check_count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        refuse_type("a whole number")
    return value


Count = Annotated[
    int, PlainValidator(_check_count), WithJsonSchema({"type": "integer", "minimum": 0})
]


class ManualSchedule(FileModel):
    """No schedule and no first run: the connector runs only when a person starts it."""

    mode: Literal["manual"] = Field(description="Always `manual`.")


class IntervalSchedule(FileModel):
    """Runs at a fixed interval. All times are UTC.

    In minutes mode the interval counts from `created_at`, so there is no offset.
    """

    model_config = ConfigDict(
        json_schema_extra={
            # The rules of `_check_minutes` once more, for editors.
            "if": {"properties": {"mode": {"const": "minutes"}}},
            "then": {"required": ["interval"], "properties": {"offset": False}},
        }
    )

    mode: Literal["minutes", "hours", "days"] = Field(description="The unit of `interval`.")
    interval: Count = Field(
        default=1,
        description="Number of minutes, hours or days between two runs. Required for `minutes`.",
        json_schema_extra={"minimum": 1},
    )
    offset: Count = Field(
        default=0,
        description="Minutes after midnight UTC of the first run on the day of creation. Less than "
        "the interval. Not for `minutes`.",
    )

    @property
    def period(self) -> timedelta:
        """The time between two runs."""
        return timedelta(**{self.mode: self.interval})

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mode == "minutes":
            self._check_minutes()
        if self.interval < 1:
            _refuse_schedule("interval", "`interval` must be at least 1")
        # Compared in units, because a timedelta of a huge interval overflows.
        if self.interval > _LONGEST_PERIOD // timedelta(**{self.mode: 1}):
            _refuse_schedule("interval", "`interval` must not be longer than ten years")
        if self.offset < 0 or self.offset >= self.period // timedelta(minutes=1):
            minutes = self.period // timedelta(minutes=1)
            _refuse_schedule(
                "offset", f"`offset` must be at least 0 and less than {minutes} minutes"
            )
        return self

    def _check_minutes(self) -> None:
        if "interval" not in self.model_fields_set:
            _refuse_schedule("", "`interval` is missing: every how many minutes?")
        if "offset" in self.model_fields_set:
            _refuse_schedule(
                "offset", "`offset` is not for `minutes`: these count from `created_at`"
            )


def _refuse_schedule(field: str, message: str) -> None:
    raise PydanticCustomError("rule", "{text}", {"field": field, "text": message})


def _schedule_kind(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    kind = closest_kind(value.get("mode"), SCHEDULE_MODES, {"once": "manual", "daily": "days"})
    # With any other mode, known or not, the fields are checked as those of an interval.
    return {"#manual": "#manual"}.get(kind, "#interval")


Schedule = Annotated[
    Annotated[ManualSchedule, Tag("#manual")] | Annotated[IntervalSchedule, Tag("#interval")],
    by_kind(
        _schedule_kind, custom_error_message='an object such as {"mode": "hours", "interval": 1}'
    ),
]


def parse_file_time(value: Any, expected: str) -> datetime:
    """Return a date or time of a file in UTC. `expected` describes valid values for the error."""
    if not isinstance(value, str):
        refuse_type(expected)
    if not _ISO_TIME_START.fullmatch(value):
        refuse_value(expected)
    try:
        moment = datetime.fromisoformat(value)
        # A zone can move a moment of the year 1 or 9999 out of the range of `datetime`.
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        refuse_value(expected)


def _check_moment(value: Any) -> datetime:
    return parse_file_time(value, "a time such as 2026-11-23T10:03:00Z")


Moment = Annotated[
    datetime,
    PlainValidator(_check_moment),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A time in UTC. A time without a time zone counts as UTC."""
