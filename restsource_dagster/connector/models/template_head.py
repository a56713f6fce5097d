"""What a template says of itself, and the inputs that files give to it."""

from collections.abc import Collection, Iterator, Mapping
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
from restsource_dagster.connector.validation.diagnostics import Finding, quoted_list, quoted_name

__all__ = ["TemplateHead", "TemplateInput", "version_number"]

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


class TemplateChange(FileModel):
    """What a version of a template changes for tables that an earlier one has loaded."""

    version: Text = Field(description="The version that brings the change, such as `2` or `2.1`.")
    resources: list[Text] = Field(
        default=[], description="The resources whose tables it changes. If left out, all."
    )
    change: Text = Field(description="What is different in the tables from then on.")

    def is_newer(self, template: str, label: str | None) -> bool:
        """True if the change came after the version in a label, such as `shop 2`, of this template."""
        name, _, version = (label or "").partition(" ")
        if name != template:
            return False  # never loaded, or with another template, whose versions are others
        before = version_number(version)
        return before is None or (version_number(self.version) or ()) > before


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

    def change_findings(
        self, name: str, loaded: Mapping[str, str], resources: Collection[str]
    ) -> Iterator[Finding]:
        """Yield a warning for each change that the next load makes to a table of the template `name`.

        `loaded` has the labels of the last loads by resource.
        """
        for change in self.changes:
            concerned = [
                one
                for one in resources
                if (not change.resources or one in change.resources)
                and change.is_newer(name, loaded.get(one))
            ]
            if concerned:
                before = sorted({loaded[one] for one in concerned})
                yield Finding(
                    "/template",
                    f"Version {change.version} of the template {quoted_name(name)} changes what "
                    f"{quoted_list(before, 'and')} loaded: {change.change}",
                    fix=f"It concerns {quoted_list(concerned, 'and')}. The next load does it; to keep the tables, copy "
                    f"the template of before to templates/{name}.json beside this file",
                    severity="warning",
                )


def version_number(version: str) -> tuple[int, ...] | None:
    """Return a version such as `2` or `2.1` as numbers, which compare as versions do; None for any other text."""
    parts = version.split(".")
    return tuple(map(int, parts)) if all(map(str.isdecimal, parts)) else None
