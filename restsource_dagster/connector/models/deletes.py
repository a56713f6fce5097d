"""How rows that the API no longer has leave the table: what says so, and what becomes of them."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, Tag, WithJsonSchema

from restsource_dagster.connector.models.fields import FileModel, Text, by_kind, refuse_value
from restsource_dagster.connector.models.processing_steps import RecordField, check_jq

__all__ = ["DELETED_AT", "DeletedWhen", "DeletesFrom", "DeletesFromSetting", "OnDelete"]

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


def _source_kind(value: Any) -> str | None:
    return "#name" if isinstance(value, str) else "#object" if isinstance(value, dict) else None


DeletesFromSetting = Annotated[
    Annotated[Text, Tag("#name")] | Annotated[DeletesFrom, Tag("#object")],
    by_kind(_source_kind, custom_error_message="the name of a resource, or an object"),
]

DeletedWhen = Annotated[str, PlainValidator(_check_condition), WithJsonSchema({"type": "string"})]
"""A jq condition on a record as it is loaded."""
