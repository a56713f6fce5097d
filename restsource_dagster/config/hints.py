"""What a table is to look like: dlt's resource hints.

https://dlthub.com/docs/general-usage/resource#define-schema
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, Tag, model_validator

from restsource_dagster.config.endpoint import ColumnNames
from restsource_dagster.config.fields import (
    Flag,
    Part,
    Text,
    Whole,
    by_kind,
)
from restsource_dagster.config.write_dispositions import WriteDisposition

__all__ = [
    "Column",
    "Contract",
    "NestedHints",
    "TableHints",
    "TableReference",
]

Evolution = Literal["evolve", "discard_value", "freeze", "discard_row"]
DataType = Literal[
    "text",
    "double",
    "bool",
    "timestamp",
    "bigint",
    "binary",
    "json",
    "decimal",
    "wei",
    "date",
    "time",
]
TableFormat = Literal["iceberg", "delta", "hive", "native"]
FileFormat = Literal[
    "preferred", "jsonl", "typed-jsonl", "insert_values", "parquet", "csv", "reference", "model"
]


class Column(Part):
    """What is known of a column before the first row is seen. Fields `x-...` are free."""

    model_config = ConfigDict(json_schema_extra={"patternProperties": {"^x-": {}}})

    @model_validator(mode="before")
    @classmethod
    def _without_extensions(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: item for key, item in value.items() if not key.startswith("x-")}

    name: Text | None = Field(default=None, description="The column's name.")
    data_type: DataType | None = Field(default=None, description="The column's type.")
    nullable: Flag | None = Field(default=None, description="Whether it may be empty.")
    precision: Whole | None = Field(default=None, description="Digits, length or time precision.")
    scale: Whole | None = Field(default=None, description="Digits after the point.")
    timezone: Flag | None = Field(default=None, description="Whether a timestamp has a time zone.")
    description: Text | None = Field(default=None, description="A text for people.")
    partition: Flag | None = Field(default=None, description="Partition the table by it.")
    cluster: Flag | None = Field(default=None, description="Cluster the table by it.")
    unique: Flag | None = Field(default=None, description="Its values are unique.")
    sort: Flag | None = Field(default=None, description="Sort the table by it.")
    primary_key: Flag | None = Field(default=None, description="It is part of the primary key.")
    merge_key: Flag | None = Field(default=None, description="It is part of the merge key.")
    row_key: Flag | None = Field(default=None, description="It identifies a row for dlt.")
    parent_key: Flag | None = Field(default=None, description="It refers to the parent row.")
    root_key: Flag | None = Field(default=None, description="It refers to the root row.")
    variant: Flag | None = Field(
        default=None, description="dlt made it for values of another type."
    )
    hard_delete: Flag | None = Field(
        default=None, description="A value in it means: delete the row with this key."
    )
    dedup_sort: Literal["asc", "desc"] | None = Field(
        default=None, description="Which of several rows with one key to keep."
    )
    incremental: Flag | None = Field(default=None, description="It holds the incremental cursor.")


class NamedColumn(Column):
    """A column in a list of columns: it needs its name."""

    name: Text = Field(description="The column's name.")


def _columns_kind(value: Any) -> str | None:
    return "#named" if isinstance(value, dict) else "#list" if isinstance(value, list) else None


Columns = Annotated[
    Annotated[dict[str, Column], Tag("#named")] | Annotated[list[NamedColumn], Tag("#list")],
    by_kind(_columns_kind, "an object of columns by name, or a list of columns"),
]


class ContractByEntity(Part):
    """What may change, told apart for tables, columns and types."""

    tables: Evolution | None = Field(default=None, description="New tables.")
    columns: Evolution | None = Field(default=None, description="New columns.")
    data_type: Evolution | None = Field(default=None, description="Values of another type.")


def _contract_kind(value: Any) -> str | None:
    return "#name" if isinstance(value, str) else "#parts" if isinstance(value, dict) else None


Contract = Annotated[
    Annotated[Evolution, Tag("#name")] | Annotated[ContractByEntity, Tag("#parts")],
    by_kind(_contract_kind, "the name of a mode, or an object"),
]


class TableReference(Part):
    """That columns of this table refer to columns of another one."""

    label: Text | None = Field(default=None, description="What the relation means.")
    cardinality: (
        Literal[
            "zero_to_one",
            "one_to_zero",
            "zero_to_many",
            "many_to_zero",
            "one_to_many",
            "many_to_one",
            "one_to_one",
            "many_to_many",
        ]
        | None
    ) = Field(default=None, description="How many rows there are on either side.")
    columns: list[Text] = Field(default=[], description="The columns of this table.")
    referenced_table: Text = Field(default="", description="The other table.")
    referenced_columns: list[Text] = Field(default=[], description="The columns of the other one.")
    table: Text | None = Field(default=None, description="This table; may be left out.")


class NestedHints(Part):
    """Hints for a table that dlt makes of a nested list."""

    parent_table_name: Text | None = Field(default=None, description="The table above it.")
    write_disposition: WriteDisposition | None = Field(
        default=None, description="What happens to the rows that are there already."
    )
    primary_key: ColumnNames | None = Field(
        default=None, description="The columns that identify a row."
    )
    merge_key: ColumnNames | None = Field(
        default=None, description="The columns by which rows are replaced as a group."
    )
    columns: Columns | None = Field(default=None, description="What is known of the columns.")
    schema_contract: Contract | None = Field(default=None, description="What may change.")
    table_format: TableFormat | None = Field(default=None, description="The table's format.")
    file_format: FileFormat | None = Field(default=None, description="The load files' format.")
    references: list[TableReference] | None = Field(
        default=None, description="References to other tables."
    )


class TableHints(Part):
    """What the table of a resource is to look like."""

    table_name: Text | None = Field(
        default=None, description="The table's name; the resource's name if left out."
    )
    primary_key: ColumnNames | None = Field(
        default=None,
        description="The column, or the columns, that identify a row. With a primary key the "
        "write disposition is `merge` unless another one is given.",
    )
    merge_key: ColumnNames | None = Field(
        default=None,
        description="The column, or the columns, by which rows are replaced as a group, such as "
        "a day.",
    )
    write_disposition: WriteDisposition | None = Field(
        default=None,
        description="What happens to the rows that are there already. Left out, it is derived; "
        "see the rules below.",
    )
    columns: Columns | None = Field(default=None, description="What is known of the columns.")
    schema_contract: Contract | None = Field(
        default=None, description="Whether new tables, columns and types may come."
    )
    table_format: TableFormat | None = Field(
        default=None, description="The table's format, where the destination knows several."
    )
    file_format: FileFormat | None = Field(default=None, description="The load files' format.")
    references: list[TableReference] | None = Field(
        default=None, description="References to other tables."
    )
    nested_hints: dict[str, NestedHints] | None = Field(
        default=None, description="Hints for the tables of nested lists, by the list's name."
    )
    max_table_nesting: Whole | None = Field(
        default=None, description="How deep nested lists become tables; deeper ones stay JSON."
    )
