"""What a template says of itself, and the inputs that files give to it."""

from datetime import date, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from restsource_dagster.connector.models.fields import (
    FileModel,
    Flag,
    Text,
    refuse_type,
    refuse_value,
)

__all__ = ["TemplateChange", "TemplateHead", "TemplateInput", "version_number"]

InputType = Literal["text", "number", "boolean"]
_WARNED_BEFORE = timedelta(days=90)
"""How long before the end of a value `check` warns: a quarter, in which most APIs publish a new version."""


def _check_day(value: object) -> date:
    expected = "a date, such as 2027-01-01"
    if not isinstance(value, str):
        refuse_type(expected)
    try:
        return date.fromisoformat(value)
    except ValueError:
        return refuse_value(expected)


Day = Annotated[
    date, PlainValidator(_check_day), WithJsonSchema({"type": "string", "format": "date"})
]


class TemplateInput(FileModel):
    """A value that a file gives to a template."""

    description: Text = Field(description="What the value is, and where a person finds it.")
    type: InputType = Field(default="text", description="The type of the value.")
    default: str | bool | int | float | None = Field(
        default=None,
        description="The value of a file that gives none. With `null` the input may be left out, and so "
        "is a field whose whole value it is. Without a default the input is needed.",
    )
    secret: Flag = Field(default=False, description="True if the value belongs into `.env`.")
    pattern: Text | None = Field(
        default=None, description="A regular expression that the whole text has to match."
    )
    ends: dict[str, Day] = Field(
        default={},
        description='When the API no longer takes a value, such as `{"2026-01": "2027-01-01"}` for versions '
        "of an API. `check` warns for 90 days before, and from then on.",
    )

    @property
    def is_needed(self) -> bool:
        """True if each file has to give it."""
        return "default" not in self.model_fields_set

    def warning_of_end(self, value: Any, today: date) -> tuple[str, str | None] | None:
        """Return what to say of a value that ends soon or has ended, and the value to write instead."""
        end = self.ends.get(str(value))
        if end is None or today < end - _WARNED_BEFORE:
            return None
        verb = "ends" if today < end else "has ended"
        latest = max(self.ends, key=lambda name: self.ends[name])
        return f"{verb} on {end.isoformat()}", latest if self.ends[latest] > end else None


def version_number(version: str) -> tuple[int, ...] | None:
    """Return a version such as `2` or `2.1` as numbers, which compare as versions do; None for any other text."""
    parts = version.split(".")
    return tuple(map(int, parts)) if all(map(str.isdecimal, parts)) else None


class TemplateChange(FileModel):
    """What a version of a template changes for tables that an earlier one has loaded."""

    version: Text = Field(description="The version that brings the change, such as `2` or `2.1`.")
    resources: list[Text] = Field(
        default=[], description="The resources whose tables it changes. If left out, all."
    )
    change: Text = Field(description="What is different in the tables from then on.")


class TemplateHead(FileModel):
    """The fields of a template that a connector file doesn't have."""

    title: Text = Field(description="The name of the API, for people.")
    version: Text = Field(description="The version of the template. It is in the assets' metadata.")
    documentation: Text | None = Field(
        default=None, description="The page of the API that the template follows."
    )
    limits: list[Text] = Field(default=[], description="What is known not to work.")
    changes: list[TemplateChange] = Field(
        default=[],
        description="What its versions have changed for tables. `check` tells those that came after the version "
        "of the last load.",
    )
    inputs: dict[str, TemplateInput] = Field(
        default={}, description="The inputs by name, each used as `${input.NAME}`."
    )
