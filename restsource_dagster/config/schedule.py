"""When a connector runs by itself: the part of a file that dlt doesn't have."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, PlainValidator, Tag, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from restsource_dagster.config.fields import Part, by_kind, closest_kind, not_this, not_valid

__all__ = [
    "MODES",
    "IntervalSchedule",
    "ManualSchedule",
    "Moment",
    "Schedule",
    "moment_of",
]

MODES = ("minutes", "hours", "days", "manual")
_LONGEST = timedelta(days=3650)
_ISO = re.compile(r"\d{4}-\d\d-\d\d([T ].+)?")


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        not_this("a whole number")
    return value


Count = Annotated[int, PlainValidator(_count), WithJsonSchema({"type": "integer", "minimum": 0})]


class ManualSchedule(Part):
    """No schedule and no first run: the connector runs when somebody asks for it."""

    mode: Literal["manual"] = Field(description="Always `manual`.")


class IntervalSchedule(Part):
    """Runs again and again, a fixed time apart, all times in UTC.

    In minutes mode the connector's time of creation sets the beat, so there is no offset.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"mode": {"const": "minutes"}}},
            "then": {"required": ["interval"], "properties": {"offset": False}},
        }
    )

    mode: Literal["minutes", "hours", "days"] = Field(description="The unit of `interval`.")
    interval: Count = Field(
        default=1,
        description="How many minutes, hours or days lie between two runs. Must be given for "
        "`minutes`.",
        json_schema_extra={"minimum": 1},
    )
    offset: Count = Field(
        default=0,
        description="Minutes after midnight UTC at which the first run of the day of creation "
        "falls; less than the interval. Not for `minutes`.",
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
            _refuse("interval", "`interval` must be at least 1")
        if self.interval > _LONGEST // timedelta(**{self.mode: 1}):
            _refuse("interval", "`interval` must not be longer than ten years")
        if self.offset < 0 or self.offset >= self.period // timedelta(minutes=1):
            minutes = self.period // timedelta(minutes=1)
            _refuse("offset", f"`offset` must be at least 0 and less than {minutes} minutes")
        return self

    def _check_minutes(self) -> None:
        if "interval" not in self.model_fields_set:
            _refuse("", "`interval` is missing: every how many minutes?")
        if "offset" in self.model_fields_set:
            _refuse("offset", "`offset` is not for `minutes`: these count from `created_at`")


def _refuse(field: str, message: str) -> None:
    raise PydanticCustomError("rule", "{text}", {"field": field, "text": message})


def _schedule_kind(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    kind = closest_kind(value.get("mode"), MODES, {"once": "manual", "daily": "days"})
    return {"#manual": "#manual"}.get(kind, "#interval")


Schedule = Annotated[
    Annotated[ManualSchedule, Tag("#manual")] | Annotated[IntervalSchedule, Tag("#interval")],
    by_kind(_schedule_kind, 'an object such as {"mode": "hours", "interval": 1}'),
]


def moment_of(value: Any, expected: str) -> datetime:
    """A date or a time of a file in UTC; `expected` says in words what it should be."""
    if not isinstance(value, str):
        not_this(expected)
    if not _ISO.fullmatch(value):
        not_valid(expected)
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        not_valid(expected)


def _moment(value: Any) -> datetime:
    return moment_of(value, "a time such as 2026-11-23T10:03:00Z")


Moment = Annotated[
    datetime, PlainValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})
]
"""A time in UTC; one without a time zone is taken as UTC."""
