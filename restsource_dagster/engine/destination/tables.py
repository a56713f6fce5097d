"""Read the destination's tables: row counts by SQL, columns and their changes from dlt's schema."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dlt.common.schema import Schema

from restsource_dagster.engine.dlt_compat import (
    DatabaseUndefinedRelation,
    SqlClientBase,
    get_root_table,
)

__all__ = [
    "LoadedColumn",
    "SqlClient",
    "TableSnapshot",
    "TableSnapshots",
    "describe_schema_changes",
    "has_column",
    "read_loaded_columns",
    "read_row_count",
    "read_table_snapshots",
]

SqlClient = SqlClientBase[Any]

_VARIANT_INFIX = "__v_"


def has_column(client: SqlClient, table: str, column: str = "1") -> bool:
    """Return True if the table exists and has the column, which is quoted already.

    Without a column, return True if the table exists. `client` is connected.
    """
    name = client.make_qualified_table_name(table)
    try:
        client.execute_sql(f"SELECT {column} FROM {name} WHERE 1 = 0")  # noqa: S608 - dlt quotes it
    except DatabaseUndefinedRelation:
        return False
    return True


@dataclass(frozen=True)
class TableSnapshot:
    """A table before or after a load."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """The columns by name, with dlt's data types."""
    key: tuple[str, ...] = ()
    """The columns of the primary key."""
    disposition: str = "append"
    """dlt's write disposition."""
    root: str = ""
    """The table of the resource, in which this one is nested at some depth, or which it is."""


TableSnapshots = Mapping[str, TableSnapshot]
"""Tables by name."""


def read_table_snapshots(schema: Schema | None) -> TableSnapshots:
    """Return the tables that exist according to a schema; none without a schema."""
    if schema is None:
        return {}
    snapshots = {}
    # a table that dlt has seen no data for does not exist in the destination
    for table in schema.data_tables(seen_data_only=True):
        columns = table.get("columns", {})
        snapshots[str(table["name"])] = TableSnapshot(
            columns={
                name: str(column["data_type"])
                for name, column in columns.items()
                if column.get("data_type")
            },
            key=tuple(name for name, column in columns.items() if column.get("primary_key")),
            disposition=str(table.get("write_disposition") or "append"),
            root=str(get_root_table(schema.tables, str(table["name"]))["name"]),
        )
    return snapshots


def describe_schema_changes(
    table: str, before: TableSnapshots, after: TableSnapshots
) -> tuple[str, ...]:
    """Return a sentence for each change of a table and of the tables nested in it."""
    # the tables nested in a new table are new too: one sentence says it all
    if table not in before:
        return (f"table {table} is new",) if table in after else ()
    # not by the beginning of the name: another resource may be called `orders__lines`
    names = [name for name, snapshot in after.items() if snapshot.root == table]
    return tuple(
        change for name in names for change in _describe_table_changes(name, before, after)
    )


def _describe_table_changes(
    name: str, before: TableSnapshots, after: TableSnapshots
) -> Iterator[str]:
    new = after[name]
    if name not in before:
        yield f"table {name} is new"
        return
    old = before[name]
    for column, kind in new.columns.items():
        # dlt adds its own columns, which tell a reader nothing
        if column not in old.columns and not column.startswith("_dlt_"):
            # dlt keeps values of another type than the column's in a variant column
            base = column.split(_VARIANT_INFIX, 1)[0]
            variant = (
                f": values of {base} that are not {new.columns[base]}"
                if (_VARIANT_INFIX in column and base in new.columns)
                else ""
            )
            yield f"column {name}.{column} ({kind}) is new{variant}"
    if new.key != old.key:
        yield f"the primary key of {name} is {_key_names(new.key)} now, was {_key_names(old.key)}"
    if new.disposition != old.disposition:
        yield f"{name} is loaded by {new.disposition} now, was {old.disposition}"


def _key_names(key: tuple[str, ...]) -> str:
    return ", ".join(key) or "none"


def read_row_count(client: SqlClient, table: str) -> int | None:
    """Return the number of rows of a table, 0 if it does not exist. `client` is connected."""
    name = client.make_qualified_table_name(table)
    try:
        rows = client.execute_sql(f"SELECT count(*) FROM {name}")  # noqa: S608 - dlt quotes it
    except DatabaseUndefinedRelation:
        return 0
    return int(rows[0][0]) if rows else None


@dataclass(frozen=True)
class LoadedColumn:
    """A column of a loaded table. `data_type` is dlt's name of the type."""

    name: str
    data_type: str
    nullable: bool
    hints: tuple[str, ...] = ()


_COLUMN_HINTS = ("primary_key", "merge_key", "unique", "row_key", "parent_key", "sort", "partition")


def read_loaded_columns(schema: Schema, table: str) -> tuple[LoadedColumn, ...]:
    """Return the columns of a table; none if the table has never had a row."""
    if table not in schema.tables:
        return ()
    return tuple(
        LoadedColumn(
            name=name,
            data_type=column.get("data_type") or "text",
            nullable=bool(column.get("nullable", True)),
            hints=tuple(hint for hint in _COLUMN_HINTS if column.get(hint)),
        )
        for name, column in schema.get_table_columns(table).items()
    )
