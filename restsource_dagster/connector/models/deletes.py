"""How rows that the API no longer has leave the table: what says so, and what becomes of them."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, Tag, WithJsonSchema

from restsource_dagster.connector.models.fields import (
    Duration,
    FileModel,
    Text,
    by_kind,
    count_from_one,
    refuse_value,
)
from restsource_dagster.connector.models.processing_steps import RecordField, check_jq

__all__ = ["DELETED_AT", "DeletedWhen", "DeletesFrom", "DeletesFromSetting", "OnDelete", "Sweep"]

DELETED_AT = "_deleted_at"
"""The column with the start of the run that found a row deleted; null in all others."""

OnDelete = Literal["remove", "mark"]

_BARE_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def _check_condition(value: Any) -> Any:
    # jq would say that a function of this name is not defined
    if isinstance(value, str) and _BARE_NAME.fullmatch(value) and value not in ("true", "false"):
        refuse_value(f"a jq program: `.{value}` for the field")
    return check_jq(value)


class DeletesFrom(FileModel):
    """Another resource whose records name the rows that are deleted."""

    resource: Text = Field(description="The resource with the deleted keys.")
    fields: list[RecordField] | None = Field(
        default=None,
        min_length=1,
        description="The fields of its records that hold the primary key of this resource, in its order. If "
        "left out, they have the same names.",
    )


class Sweep(FileModel):
    """Removes the rows whose keys the API no longer lists."""

    every: Duration = Field(
        description="How often all records are listed, such as `1d`: at the end of the first run after that "
        "time. A run that starts 2% earlier counts, so a daily run sweeps each day."
    )
    at_most_percent: Annotated[int, *count_from_one(100)] = Field(
        default=10,
        description="If more than 10 rows and more than so many percent of them would go, none goes, and the "
        "run says so: the list may not be whole. An empty list removes nothing, unless this is 100.",
    )


def _source_kind(value: Any) -> str | None:
    return "#name" if isinstance(value, str) else "#object" if isinstance(value, dict) else None


DeletesFromSetting = Annotated[
    Annotated[Text, Tag("#name")] | Annotated[DeletesFrom, Tag("#object")],
    by_kind(_source_kind, custom_error_message="the name of a resource, or an object"),
]

DeletedWhen = Annotated[str, PlainValidator(_check_condition), WithJsonSchema({"type": "string"})]
"""A jq condition on a record as it is loaded."""
