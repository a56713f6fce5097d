"""dlt's resource hints (the form of a table) and write dispositions (how its rows are written).

https://dlthub.com/docs/general-usage/resource#define-schema
https://dlthub.com/docs/general-usage/incremental-loading#choosing-a-write-disposition
"""

import re
import string
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, PlainValidator, Tag, WithJsonSchema, model_validator
from pydantic.json_schema import SkipJsonSchema

from restsource_dagster.connector.env_references import without_references
from restsource_dagster.connector.models.fields import (
    FileModel,
    Flag,
    Text,
    WholeNumber,
    by_kind,
    closest_kind,
    refuse_type,
)
from restsource_dagster.connector.models.incremental_cursor import ColumnNames
from restsource_dagster.connector.validation.diagnostics import (
    FieldPath,
    Finding,
    describe_value,
    json_pointer,
)

__all__ = [
    "MERGE_STRATEGIES",
    "Cdc",
    "Column",
    "DispositionName",
    "NestedHints",
    "PlainDisposition",
    "Scd2",
    "SchemaContract",
    "TableHints",
    "TableReference",
    "WriteDisposition",
    "merge_strategy_findings",
]

DispositionName = Literal["append", "merge", "replace", "skip"]
MergeStrategy = Literal["delete-insert", "scd2", "upsert", "insert-only", "cdc"]
MERGE_STRATEGIES: tuple[str, ...] = get_args(MergeStrategy)


def _check_scd_time(value: Any) -> Any:
    if not isinstance(value, str | int | float | None):
        refuse_type("a time such as 2026-11-23T10:03:00Z, or null")
    return value


ScdTime = Annotated[
    str | float | None,
    PlainValidator(_check_scd_time),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]}),
]


class PlainDisposition(FileModel):
    """The long form of a write disposition, without a strategy."""

    disposition: DispositionName = Field(description="What happens to the rows in the table.")


class InsertOnly(PlainDisposition):
    """Merge that inserts rows with a new primary key and keeps existing rows unchanged."""

    strategy: Literal["insert-only"] = Field(description="Always `insert-only`.")


class DeleteInsert(PlainDisposition):
    """Merge that deletes the rows with the loaded keys, then inserts the loaded rows. The default."""

    strategy: Literal["delete-insert"] = Field(description="Always `delete-insert`.")
    deduplicated: Flag = Field(
        default=False, description="`true` if the loaded rows have unique keys."
    )
    source_filter: Text = Field(default="", description="SQL condition on the loaded rows.")
    destination_scope: Text = Field(
        default="", description="SQL condition on the rows that may be deleted."
    )


class Scd2(PlainDisposition):
    """Merge that keeps each version of a row, with the time during which it was valid."""

    strategy: Literal["scd2"] = Field(description="Always `scd2`.")
    validity_column_names: list[Text] = Field(
        default=["_dlt_valid_from", "_dlt_valid_to"],
        description="The two columns with the start and the end of a version.",
    )
    active_record_timestamp: ScdTime = Field(
        default=None, description="The end time of a version that is still valid; `null` for none."
    )
    boundary_timestamp: ScdTime = Field(
        default=None,
        description="The start time of new versions. If left out, the time of the load.",
    )
    row_version_column_name: Text = Field(
        default="_dlt_id", description="The column that changes when a row changes."
    )
    source_filter: Text = Field(default="", description="SQL condition on the loaded rows.")
    destination_scope: Text = Field(
        default="", description="SQL condition on the rows whose version may be ended."
    )


class Upsert(PlainDisposition):
    """Merge that updates the rows with a known primary key and inserts the others."""

    strategy: Literal["upsert"] = Field(description="Always `upsert`.")
    source_filter: Text = Field(default="", description="SQL condition on the loaded rows.")
    skip_unchanged_rows: Flag = Field(
        default=False, description="`true`: rows that are equal stay unchanged."
    )
    row_version_column_name: Text = Field(
        default="", description="The column that shows whether a row changed."
    )


class Cdc(PlainDisposition):
    """Merge by primary key that also deletes the rows that a load does not bring.

    With a merge key or `destination_scope` it deletes them within these groups only.
    """

    strategy: Literal["cdc"] = Field(description="Always `cdc`.")
    source_filter: Text = Field(default="", description="SQL condition on the loaded rows.")
    destination_scope: Text = Field(
        default="", description="SQL condition on the rows that may be deleted."
    )
    skip_unchanged_rows: Flag = Field(
        default=False, description="`true`: rows that are equal stay unchanged."
    )
    row_version_column_name: Text = Field(
        default="", description="The column that shows whether a row changed."
    )


class UnknownStrategy(FileModel):
    """An unknown merge strategy. Only its name is checked."""

    model_config = ConfigDict(extra="allow")

    disposition: DispositionName
    strategy: MergeStrategy


def _disposition_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "#name"
    if not isinstance(value, dict):
        return None
    if "strategy" not in value:
        return "#plain"
    return closest_kind(value["strategy"], MERGE_STRATEGIES, {})


WriteDisposition = Annotated[
    Annotated[DispositionName, Tag("#name")]
    | Annotated[PlainDisposition, Tag("#plain")]
    | Annotated[DeleteInsert, Tag("#delete-insert")]
    | Annotated[Upsert, Tag("#upsert")]
    | Annotated[InsertOnly, Tag("#insert-only")]
    | Annotated[Scd2, Tag("#scd2")]
    | Annotated[Cdc, Tag("#cdc")]
    | Annotated[UnknownStrategy, Tag("#unknown")],
    by_kind(
        _disposition_kind, custom_error_message="the name of a write disposition, or an object"
    ),
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


class Column(FileModel):
    """Hints for a column, set before the first row is loaded. Additional fields must start with `x-`."""

    model_config = ConfigDict(json_schema_extra={"patternProperties": {"^x-": {}}})

    @model_validator(mode="before")
    @classmethod
    def _gather_extensions(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not any(key.startswith("x-") for key in value):
            return value
        # pydantic has no fields by prefix, and with `extra="allow"` a misspelt hint would pass.
        extensions = {key: item for key, item in value.items() if key.startswith("x-")}
        return {**{k: v for k, v in value.items() if k not in extensions}, "x-": extensions}

    def as_json(self) -> dict[str, Any]:
        """The column as the file has it."""
        fields = super().as_json()
        extensions = fields.pop("x-", {})
        return {**fields, **extensions}

    def overridden_by(self, own: "Column") -> "Column":
        """This column with the hints of another one in place of its own."""
        # only what is given: a default of `own` must not replace a hint of this column
        given = {**self.given, **own.given}
        if "extensions" in given:
            given["extensions"] = {**self.extensions, **own.extensions}
        return Column.of(given)

    extensions: Annotated[dict[str, Any], SkipJsonSchema()] = Field(default={}, alias="x-")
    """The fields `x-...`, which the file has side by side with the others."""
    name: Text | None = Field(default=None, description="The column's name.")
    data_type: DataType | None = Field(default=None, description="The column's type.")
    nullable: Flag | None = Field(default=None, description="`true` if the column may be empty.")
    precision: WholeNumber | None = Field(
        default=None, description="Number of digits, length of a text, or precision of a time."
    )
    scale: WholeNumber | None = Field(
        default=None, description="Number of digits after the decimal point."
    )
    timezone: Flag | None = Field(
        default=None, description="`true` if a timestamp has a time zone."
    )
    description: Text | None = Field(default=None, description="A description for people.")
    partition: Flag | None = Field(default=None, description="Partition the table by this column.")
    cluster: Flag | None = Field(default=None, description="Cluster the table by this column.")
    unique: Flag | None = Field(default=None, description="The column's values are unique.")
    sort: Flag | None = Field(default=None, description="Sort the table by this column.")
    primary_key: Flag | None = Field(
        default=None, description="The column is part of the primary key."
    )
    merge_key: Flag | None = Field(default=None, description="The column is part of the merge key.")
    row_key: Flag | None = Field(default=None, description="The column identifies a row for dlt.")
    parent_key: Flag | None = Field(
        default=None, description="The column refers to the parent row."
    )
    root_key: Flag | None = Field(default=None, description="The column refers to the root row.")
    variant: Flag | None = Field(
        default=None, description="dlt created the column for values of another type."
    )
    hard_delete: Flag | None = Field(
        default=None, description="A value in this column deletes the row with this key."
    )
    dedup_sort: Literal["asc", "desc"] | None = Field(
        default=None,
        description="Sort order that decides which of several rows with one key stays.",
    )
    incremental: Flag | None = Field(
        default=None, description="The column contains the incremental cursor."
    )


class NamedColumn(Column):
    """A column in a list of columns. Its name is required."""

    name: Text = Field(description="The column's name.")


def _columns_kind(value: Any) -> str | None:
    return "#named" if isinstance(value, dict) else "#list" if isinstance(value, list) else None


Columns = Annotated[
    Annotated[dict[str, Column], Tag("#named")] | Annotated[list[NamedColumn], Tag("#list")],
    by_kind(
        _columns_kind, custom_error_message="an object of columns by name, or a list of columns"
    ),
]


class ContractByEntity(FileModel):
    """Which changes are allowed, set apart for tables, columns and types."""

    tables: Evolution | None = Field(default=None, description="New tables.")
    columns: Evolution | None = Field(default=None, description="New columns.")
    data_type: Evolution | None = Field(default=None, description="Values of another type.")


def _contract_kind(value: Any) -> str | None:
    return "#name" if isinstance(value, str) else "#parts" if isinstance(value, dict) else None


SchemaContract = Annotated[
    Annotated[Evolution, Tag("#name")] | Annotated[ContractByEntity, Tag("#parts")],
    by_kind(_contract_kind, custom_error_message="the name of a mode, or an object"),
]


class TableReference(FileModel):
    """A reference of columns of this table to columns of another table."""

    label: Text | None = Field(default=None, description="A label for the relation.")
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
    ) = Field(default=None, description="Number of rows on each side.")
    columns: list[Text] = Field(default=[], description="The columns of this table.")
    referenced_table: Text = Field(default="", description="The other table.")
    referenced_columns: list[Text] = Field(
        default=[], description="The columns of the other table."
    )
    table: Text | None = Field(default=None, description="This table. Optional.")


class NestedHints(FileModel):
    """Hints for the table of a nested list."""

    parent_table_name: Text | None = Field(default=None, description="The parent table.")
    write_disposition: WriteDisposition | None = Field(
        default=None, description="What happens to the rows in the table."
    )
    primary_key: ColumnNames | None = Field(
        default=None, description="The columns that identify a row."
    )
    merge_key: ColumnNames | None = Field(
        default=None, description="The columns by which rows are replaced as a group."
    )
    columns: Columns | None = Field(default=None, description="Hints for the columns.")
    schema_contract: SchemaContract | None = Field(
        default=None, description="Which changes of tables, columns and types are allowed."
    )
    table_format: TableFormat | None = Field(default=None, description="Format of the table.")
    file_format: FileFormat | None = Field(default=None, description="Format of the load files.")
    references: list[TableReference] | None = Field(
        default=None, description="References to other tables."
    )


class TableHints(FileModel):
    """Hints for the table of a resource."""

    table_name: Text | None = Field(
        default=None, description="The table's name. If left out, the resource's name."
    )
    primary_key: ColumnNames | None = Field(
        default=None,
        description="The column or columns that identify a row; `account.id` is the field `id` of the object "
        "`account`, in the column `account__id`. With a primary key, the write disposition is `merge` "
        "unless another one is set.",
    )
    merge_key: ColumnNames | None = Field(
        default=None,
        description="The column or columns by which rows are replaced as a group, such as a day.",
    )
    write_disposition: WriteDisposition | None = Field(
        default=None,
        description="What happens to the rows in the table. If left out, it is derived; see the "
        "rules below.",
    )
    columns: Columns | None = Field(default=None, description="Hints for the columns.")
    schema_contract: SchemaContract | None = Field(
        default=None, description="Whether new tables, columns and types are allowed."
    )
    table_format: TableFormat | None = Field(
        default=None, description="Format of the table, if the destination supports several."
    )
    file_format: FileFormat | None = Field(default=None, description="Format of the load files.")
    references: list[TableReference] | None = Field(
        default=None, description="References to other tables."
    )
    nested_hints: dict[str, NestedHints] | None = Field(
        default=None, description="Hints for the tables of nested lists, by the list's name."
    )
    max_table_nesting: WholeNumber | None = Field(
        default=None,
        description="Number of levels of nested lists that become tables. Deeper lists stay JSON.",
    )

    @property
    def columns_by_name(self) -> dict[str, Column]:
        """The columns, in the order of the file."""
        columns = self.columns or {}
        if isinstance(columns, dict):
            return columns
        return {column.name: column for column in columns}

    @property
    def has_hard_delete(self) -> bool:
        """True if a column says which rows are tombstones."""
        return any(column.hard_delete for column in self.columns_by_name.values())

    @property
    def json_columns(self) -> tuple[str, ...]:
        """The columns whose objects and lists stay JSON."""
        columns = self.columns_by_name.items()
        return tuple(name for name, column in columns if column.data_type == "json")

    def key_columns(self, hint: Literal["primary_key", "merge_key"]) -> tuple[str, ...]:
        """The columns of a key: the table's hint, else the columns that say they belong to it."""
        given = getattr(self, hint)
        if given is None:
            columns = self.columns_by_name
            return tuple(name for name, column in columns.items() if getattr(column, hint))
        # An empty text or list is given on purpose: no key, whatever the columns say.
        return tuple(given) if isinstance(given, list) else (given,) if given else ()


_SECONDS_TEXT = re.compile(r"-?[0-9]{1,20}(\.[0-9]+)?")
_EARLIEST_SECONDS, _LATEST_SECONDS = -62_135_596_800, 253_402_300_800
"""Seconds from 1970 to the years 1 and 10000."""
# dlt fills in these two names with `str.format` when it writes the SQL of a merge.
_CONDITION_PLACEHOLDERS = {"table", "staging_table"}


def merge_strategy_findings(given: PlainDisposition, at: FieldPath) -> Iterator[Finding]:
    """Yield what is wrong with the options of a merge; nothing for other dispositions."""
    if given.disposition != "merge":
        return
    for name in ("source_filter", "destination_scope"):
        if condition := given.given.get(name):
            yield from _condition_findings(condition, (*at, name))
    if not isinstance(given, Scd2):
        return
    for name in ("active_record_timestamp", "boundary_timestamp"):
        moment = getattr(given, name)
        if not _is_dlt_time(moment):
            yield Finding(
                json_pointer((*at, name)),
                f"`{name}` is no time",
                describe_value(moment),
                "a time such as 2026-11-23T10:03:00Z",
            )
    if len(given.validity_column_names) != 2:
        yield Finding(
            json_pointer((*at, "validity_column_names")),
            "`validity_column_names` are two: the start and the end of a version",
            f"{len(given.validity_column_names)} names",
            fix='Write ["valid_from", "valid_to"]',
            code="deliberate:validity-columns",
        )


def _condition_findings(condition: str, at: FieldPath) -> Iterator[Finding]:
    # A variable may hold braces, which are no placeholders of the file.
    text = without_references(condition)
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    except ValueError:
        names = {"?"}
    if names - _CONDITION_PLACEHOLDERS:
        yield Finding(
            json_pointer(at),
            "The condition has a placeholder or a brace that dlt doesn't know",
            expected="`{table}` and `{staging_table}` only",
            fix="Write a literal brace twice: `{{` or `}}`",
        )


def _is_dlt_time(value: Any) -> bool:
    """True if dlt can read a time: ISO 8601, a month, a day of the year, seconds since 1970."""
    if value is None:
        return True
    if isinstance(value, str) and not _SECONDS_TEXT.fullmatch(value):
        return any(
            _matches_time_format(value, form) for form in (None, "%Y-%m", "%Y/%m/%d", "%Y-%j")
        )
    seconds = float(value) if isinstance(value, str) else value
    return isinstance(seconds, int | float) and _EARLIEST_SECONDS <= seconds < _LATEST_SECONDS


def _matches_time_format(text: str, form: str | None) -> bool:
    if " +" in text or " -" in text:
        return False
    try:
        if form is None:
            datetime.fromisoformat(text)
        else:
            datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        return False
    return True
