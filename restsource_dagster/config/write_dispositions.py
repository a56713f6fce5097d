"""What happens to the rows that a table holds already: dlt's write dispositions.

https://dlthub.com/docs/general-usage/incremental-loading#choosing-a-write-disposition
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, PlainValidator, Tag, WithJsonSchema

from restsource_dagster.config.fields import Flag, Part, Text, by_kind, closest_kind, not_this

__all__ = ["STRATEGIES", "WriteDisposition"]

Disposition = Literal["append", "merge", "replace", "skip"]
Strategy = Literal["delete-insert", "scd2", "upsert", "insert-only", "cdc"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)


def _time(value: Any) -> Any:
    if not isinstance(value, str | int | float | None):
        not_this("a time such as 2026-11-23T10:03:00Z, or null")
    return value


Time = Annotated[
    str | float | None,
    PlainValidator(_time),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]}),
]


class PlainDisposition(Part):
    """The long form of a write disposition, without a strategy."""

    disposition: Disposition = Field(description="What happens to the rows that are there already.")


class InsertOnly(PlainDisposition):
    """Merge that adds rows with a new primary key and leaves those alone that are there."""

    strategy: Literal["insert-only"] = Field(description="Always `insert-only`.")


class DeleteInsert(PlainDisposition):
    """Merge that deletes the rows with the keys that came in, then inserts: the default."""

    strategy: Literal["delete-insert"] = Field(description="Always `delete-insert`.")
    deduplicated: Flag = Field(default=False, description="The rows that come in have unique keys.")
    source_filter: Text = Field(default="", description="SQL condition on the rows that came in.")
    destination_scope: Text = Field(
        default="", description="SQL condition on the rows that may be deleted."
    )


class Scd2(PlainDisposition):
    """Merge that keeps the history: each version of a row with the time it was valid."""

    strategy: Literal["scd2"] = Field(description="Always `scd2`.")
    validity_column_names: list[Text] = Field(
        default=["_dlt_valid_from", "_dlt_valid_to"],
        description="The two columns with the start and the end of a version.",
    )
    active_record_timestamp: Time = Field(
        default=None, description="The end of a version that is still valid; `null` for none."
    )
    boundary_timestamp: Time = Field(
        default=None, description="The time to stamp on versions; the time of the load if left out."
    )
    row_version_column_name: Text = Field(
        default="_dlt_id", description="The column that changes when a row changes."
    )
    source_filter: Text = Field(default="", description="SQL condition on the rows that came in.")
    destination_scope: Text = Field(
        default="", description="SQL condition on the rows that may be retired."
    )


class Upsert(PlainDisposition):
    """Merge that updates the rows with a known primary key and inserts the others."""

    strategy: Literal["upsert"] = Field(description="Always `upsert`.")
    source_filter: Text = Field(default="", description="SQL condition on the rows that came in.")
    skip_unchanged_rows: Flag = Field(default=False, description="Leave rows alone that are equal.")
    row_version_column_name: Text = Field(
        default="", description="The column that tells whether a row changed."
    )


class Cdc(PlainDisposition):
    """Merge of a stream of changes by primary key."""

    strategy: Literal["cdc"] = Field(description="Always `cdc`.")
    source_filter: Text = Field(default="", description="SQL condition on the rows that came in.")
    destination_scope: Text = Field(
        default="", description="SQL condition on the rows that may be deleted."
    )
    skip_unchanged_rows: Flag = Field(default=False, description="Leave rows alone that are equal.")
    row_version_column_name: Text = Field(
        default="", description="The column that tells whether a row changed."
    )


class UnknownStrategy(Part):
    """A merge strategy that is none of the five: only its name is checked."""

    model_config = ConfigDict(extra="allow")

    disposition: Disposition
    strategy: Strategy


def _disposition_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "#name"
    if not isinstance(value, dict):
        return None
    if "strategy" not in value:
        return "#plain"
    return closest_kind(value["strategy"], STRATEGIES, {})


WriteDisposition = Annotated[
    Annotated[Disposition, Tag("#name")]
    | Annotated[PlainDisposition, Tag("#plain")]
    | Annotated[DeleteInsert, Tag("#delete-insert")]
    | Annotated[Upsert, Tag("#upsert")]
    | Annotated[InsertOnly, Tag("#insert-only")]
    | Annotated[Scd2, Tag("#scd2")]
    | Annotated[Cdc, Tag("#cdc")]
    | Annotated[UnknownStrategy, Tag("#unknown")],
    by_kind(_disposition_kind, "the name of a write disposition, or an object"),
]
