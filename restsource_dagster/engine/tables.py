"""Reading about the loaded tables: their size from the destination, their columns from the schema."""

from typing import Any

from dlt.common.schema import Schema
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.sql_client import SqlClientBase

from restsource_dagster.engine.connected import connected
from restsource_dagster.engine.outcome import Column

__all__ = ["read_columns", "read_row_count"]

_HINTS = ("primary_key", "merge_key", "unique", "row_key", "parent_key", "sort", "partition")


def read_row_count(client: SqlClientBase[Any] | None, table: str) -> int | None:
    """The rows of a table; 0 if it does not exist; None if the destination has no SQL."""
    if client is None:
        return None
    with connected(client):
        try:
            name = client.make_qualified_table_name(table)
            rows = client.execute_sql(f"SELECT count(*) FROM {name}")  # noqa: S608 - dlt quotes it
        except DatabaseUndefinedRelation:
            return 0
    return int(rows[0][0]) if rows else None


def read_columns(schema: Schema, table: str) -> tuple[Column, ...]:
    """The columns of a table with known types; none if the table has never had a row."""
    if table not in schema.tables:
        return ()
    return tuple(
        Column(
            name=name,
            data_type=column.get("data_type") or "text",
            nullable=bool(column.get("nullable", True)),
            hints=tuple(hint for hint in _HINTS if column.get(hint)),
        )
        for name, column in schema.get_table_columns(table).items()
    )
