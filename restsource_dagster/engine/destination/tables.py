"""Reading about the loaded tables: their size from the destination, their columns from the schema.

What a load changed about its tables, in sentences for people.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dlt.common.schema import Schema

from restsource_dagster.engine.destination.warehouse import ensure_connected
from restsource_dagster.engine.dlt_compat import DatabaseUndefinedRelation, SqlClientBase
from restsource_dagster.engine.run.outcome import LoadedColumn

__all__ = [
    "TableSnapshot",
    "TableSnapshots",
    "describe_schema_changes",
    "read_loaded_columns",
    "read_row_count",
    "read_table_snapshots",
]

_VARIANT_INFIX = "__v_"


@dataclass(frozen=True)
class TableSnapshot:
    """A table at one moment: its columns with their types, its key, what loads do to its rows."""

    columns: Mapping[str, str] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    disposition: str = "append"


TableSnapshots = Mapping[str, TableSnapshot]


def read_table_snapshots(schema: Schema | None) -> TableSnapshots:
    """The tables that a schema knows to be there; none without one."""
    if schema is None:
        return {}
    found = {}
    for table in schema.data_tables(seen_data_only=True):
        columns = table.get("columns", {})
        found[str(table["name"])] = TableSnapshot(
            columns={
                name: str(column["data_type"])
                for name, column in columns.items()
                if column.get("data_type")
            },
            key=tuple(name for name, column in columns.items() if column.get("primary_key")),
            disposition=str(table.get("write_disposition") or "append"),
        )
    return found


def describe_schema_changes(
    table: str, before: TableSnapshots, after: TableSnapshots
) -> tuple[str, ...]:
    """What became different about a table and those nested in it."""
    if table not in before:
        return (f"table {table} is new",) if table in after else ()
    names = [name for name in after if name == table or name.startswith(f"{table}__")]
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
        if column not in old.columns and not column.startswith("_dlt_"):
            base = column.split(_VARIANT_INFIX, 1)[0]
            variant = (
                f": values of {base} that are no {new.columns[base]}"
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


_COLUMN_HINTS = ("primary_key", "merge_key", "unique", "row_key", "parent_key", "sort", "partition")


def read_row_count(client: SqlClientBase[Any] | None, table: str) -> int | None:
    """The rows of a table; 0 if it does not exist; None if the destination has no SQL."""
    if client is None:
        return None
    with ensure_connected(client):
        try:
            name = client.make_qualified_table_name(table)
            rows = client.execute_sql(f"SELECT count(*) FROM {name}")  # noqa: S608 - dlt quotes it
        except DatabaseUndefinedRelation:
            return 0
    return int(rows[0][0]) if rows else None


def read_loaded_columns(schema: Schema, table: str) -> tuple[LoadedColumn, ...]:
    """The columns of a table with known types; none if the table has never had a row."""
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
