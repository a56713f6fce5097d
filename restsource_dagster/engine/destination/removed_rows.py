"""Remove rows of a table by what they hold, with all rows nested in them.

The rows of a parent that is gone are removed, those that the call for a parent no longer returns, and
those whose keys another resource names (`deletes_from`). They are removed before the load, in a transaction of their own. A run that is killed in between leaves
out only what the API doesn't have any more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from dlt.common.schema import Schema
from dlt.common.schema.typing import TColumnSchema

from restsource_dagster.connector.model import Resource
from restsource_dagster.connector.models.deletes import DELETED_AT
from restsource_dagster.connector.naming import key_column
from restsource_dagster.engine.destination.tables import SqlClient, has_column
from restsource_dagster.engine.dlt_compat import (
    column_identifier,
    get_nested_tables,
    table_identifier,
)
from restsource_dagster.engine.errors import IngestError

__all__ = [
    "NUMERIC_DATA_TYPES",
    "ChildrenOf",
    "Key",
    "SqlStatement",
    "TableKeys",
    "columns_of",
    "comparable_key",
    "delete_children",
    "existing_tables",
    "nested_condition",
    "read_keys",
]

NUMERIC_DATA_TYPES = ("bigint", "double", "decimal", "wei")
"""dlt's types of numbers."""
_VARIANT_PREFIX = "v_"
_ROW_ID = "_dlt_id"
# databases limit the parameters of a statement, and the depth of a condition
_PARENTS_PER_STATEMENT = 200
_ROWS_PER_STATEMENT = 1000
_ROWS_PER_FETCH = 10_000
_MOST_DIGITS = 400
"""More than any number of a database has: `1e999999999` would be written out in full."""

Key = tuple[str | None, ...]
"""The values of a row's key, as texts that are equal if the values are."""


@dataclass(frozen=True)
class TableKeys:
    """The keys of a table, and how its columns spell them."""

    keys: frozenset[Key]
    are_numbers: tuple[bool, ...]
    """For each column of the key: True if it holds numbers, False if it holds texts."""

    def spelled(self, values: Sequence[Any]) -> Key:
        """Return the key of a record as the table spells it.

        A number of the API may be a text in the table, and the other way round: the file declares it, or the
        API has changed.
        """
        return tuple(
            _plain_number(value) if is_number else str(value)
            for value, is_number in zip(values, self.are_numbers, strict=True)
        )


@dataclass(frozen=True)
class SqlStatement:
    """An SQL statement and the values of its `%s`."""

    sql: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True)
class ChildrenOf:
    """Rows of a table that were loaded below certain parents, and are to be removed."""

    table: str
    """By its name in the file."""
    fields: tuple[str, ...]
    """The fields that hold the parent's values."""
    parents: tuple[tuple[Any, ...], ...]
    """The values of each parent, in the order of the fields."""
    key: tuple[str, ...] = ()
    """The fields of the primary key; empty if all rows are removed."""
    kept: frozenset[Key] = frozenset()
    """The keys of the rows that stay."""
    marked_at: datetime | None = None
    """If given, the rows stay, and `_deleted_at` has this time."""


def comparable_key(values: Sequence[Any]) -> Key:
    """Return the values of a key in a form in which a record's and a database's are equal.

    A value that a database spells otherwise, such as a time, is equal to nothing. Such a row is removed
    and loaded again.
    """
    return tuple(None if value is None else _comparable(value) for value in values)


def _comparable(value: Any) -> str:
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    return _plain_number(value) if is_number else str(value)


def _plain_number(value: Any) -> str:
    """Return a number in digits, without an exponent and zeros at the end; the text itself if it is none."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return str(value)
    if not number.is_finite() or abs(number.adjusted()) > _MOST_DIGITS:
        return str(value)
    # not `normalize`, which rounds to 28 digits and writes 100 as 1E+2
    digits = format(number, "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def delete_children(client: SqlClient, schema: Schema, children: ChildrenOf) -> int:
    """Delete the rows and all rows nested in them, or mark them; return how many. `client` is connected.

    Raises `IngestError` if the table lacks a column by which the rows are found, or marked.
    """
    table = table_identifier(schema, children.table)
    chain = existing_tables(client, schema, table)
    if not chain:
        return 0
    columns = [list(columns_of(client, schema, table, field)) for field in children.fields]
    # without a column no row would be found, and these would stay without a word
    if missing := [name for name, found in zip(children.fields, columns, strict=True) if not found]:
        raise IngestError(
            f"the rows of a parent can't be found: the table {table} has no column "
            f"{', '.join(missing)}. Keep it in `processing_steps`, or reset the resource"
        )
    conditions = [_belongs_to(columns, values) for values in dict.fromkeys(children.parents)]
    if children.key:
        conditions = list(_conditions_of_old_rows(client, schema, children, conditions))
    change = _mark if children.marked_at else _delete
    with client.begin_transaction():
        return sum(
            change(client, schema, chain, condition, children.marked_at)
            for condition in _in_groups(conditions)
        )


def read_keys(client: SqlClient, schema: Schema, resource: Resource) -> TableKeys:
    """Return the keys of a table, without those of rows that are marked as deleted. `client` is connected.

    Raises `IngestError` if there is no table, or a key that a database spells otherwise than the API.
    """
    table = table_identifier(schema, resource.table)
    if not existing_tables(client, schema, table):
        raise IngestError(f"there is no table {table}")
    found = [list(columns_of(client, schema, table, key_column(k))) for k in resource.primary_key]
    are_numbers = []
    for name, columns in zip(resource.primary_key, found, strict=True):
        kinds = {str(column.get("data_type")) for _, column in columns}
        are_numbers.append(kinds.issubset(NUMERIC_DATA_TYPES))
        # a time or a float has several spellings, so equal keys could look different, and rows
        # would go
        if not kinds or not (are_numbers[-1] or kinds == {"text"}):
            raise IngestError(
                f"the key {name} is {', '.join(sorted(kinds)) or 'not there'} in the table, and keys are "
                "compared only if all are texts, or all are numbers"
            )
    names = [[name for name, _ in columns] for columns in found]
    shown = ", ".join(name for group in names for name in group)
    marked = client.escape_column_name(column_identifier(schema, DELETED_AT))
    left = f" WHERE {marked} IS NULL" if has_column(client, table, marked) else ""
    select = f"SELECT {shown} FROM {client.make_qualified_table_name(table)}{left}"  # noqa: S608 - dlt quotes it
    keys: set[Key] = set()
    with client.execute_query(select) as cursor:
        # in portions: all rows at once take several times the memory of their keys
        while rows := cursor.fetchmany(_ROWS_PER_FETCH):
            keys.update(_key_of(row, names) for row in rows)
    return TableKeys(frozenset(keys), tuple(are_numbers))


def _in_groups(conditions: Sequence[SqlStatement]) -> Iterator[SqlStatement]:
    """Join conditions by OR: a table is read once for many of them."""
    for at in range(0, len(conditions), _PARENTS_PER_STATEMENT):
        some = conditions[at : at + _PARENTS_PER_STATEMENT]
        yield SqlStatement(
            f"({' OR '.join(one.sql for one in some)})",
            tuple(value for one in some for value in one.values),
        )


def _delete(
    client: SqlClient, schema: Schema, chain: Sequence[str], condition: SqlStatement, _: Any
) -> int:
    """Delete rows and those nested in them; return how many rows of the root table went."""
    # counted before, as drivers differ in what they return of a DELETE
    rows = client.execute_sql(
        f"SELECT count(*) FROM {client.make_qualified_table_name(chain[0])} WHERE {condition.sql}",  # noqa: S608 - dlt quotes it
        *condition.values,
    )
    # a nested row is found by its parent row, so parents go last
    for one in reversed(chain):
        client.execute_sql(
            f"DELETE FROM {client.make_qualified_table_name(one)} WHERE "  # noqa: S608 - dlt quotes it
            f"{nested_condition(client, schema, one, condition.sql)}",
            *condition.values,
        )
    return int(rows[0][0]) if rows else 0


def _mark(
    client: SqlClient, schema: Schema, chain: Sequence[str], condition: SqlStatement, moment: Any
) -> int:
    """Give rows that are not marked yet the time at which they were found deleted; return how many."""
    table, column = chain[0], client.escape_column_name(column_identifier(schema, DELETED_AT))
    if not has_column(client, table, column):
        raise IngestError(
            f"rows of the table {table} are to be marked, and it has no column {DELETED_AT} yet: it was made "
            "without. It gets the column with its next load, and the next run marks the rows"
        )
    # a mark that is there keeps its time: it says when the row was first missing
    where = f"{condition.sql} AND {column} IS NULL"
    name = client.make_qualified_table_name(table)
    rows = client.execute_sql(f"SELECT count(*) FROM {name} WHERE {where}", *condition.values)  # noqa: S608 - dlt quotes it
    client.execute_sql(
        f"UPDATE {name} SET {column} = %s WHERE {where}",  # noqa: S608 - dlt quotes it
        *(moment, *condition.values),
    )
    return int(rows[0][0]) if rows else 0


def _conditions_of_old_rows(
    client: SqlClient, schema: Schema, children: ChildrenOf, parents: Sequence[SqlStatement]
) -> Iterator[SqlStatement]:
    """Yield conditions that together select the rows of these parents that don't stay."""
    table = table_identifier(schema, children.table)
    row_id = client.escape_column_name(_ROW_ID)
    columns = [
        [name for name, _ in columns_of(client, schema, table, field)] for field in children.key
    ]
    shown = [name for names in columns for name in names]
    old: list[str] = []
    for at in range(0, len(parents), _PARENTS_PER_STATEMENT):
        some = parents[at : at + _PARENTS_PER_STATEMENT]
        rows = client.execute_sql(
            f"SELECT {', '.join([row_id, *shown])} FROM {client.make_qualified_table_name(table)} "  # noqa: S608 - dlt quotes it
            f"WHERE {' OR '.join(one.sql for one in some)}",
            *(value for one in some for value in one.values),
        )
        # compared here, not by SQL: dlt may keep the values of one key in several columns
        old += [row[0] for row in rows or () if _key_of(row[1:], columns) not in children.kept]
    for at in range(0, len(old), _ROWS_PER_STATEMENT):
        ids = old[at : at + _ROWS_PER_STATEMENT]
        yield SqlStatement(f"{row_id} IN ({', '.join(['%s'] * len(ids))})", tuple(ids))


def _key_of(values: Sequence[Any], columns: Sequence[Sequence[str]]) -> Key:
    """Return the key of a row that was read. dlt keeps values of another type in other columns."""
    rest, key = iter(values), []
    for names in columns:
        found = [next(rest) for _ in names]
        key.append(next((value for value in found if value is not None), None))
    return comparable_key(key)


def _belongs_to(
    columns: Sequence[Sequence[tuple[str, TColumnSchema]]], values: Sequence[Any]
) -> SqlStatement:
    """Return the condition that a row belongs to the parent with these values."""
    parts = [_equals(found, value) for found, value in zip(columns, values, strict=True)]
    condition = " AND ".join(part.sql for part in parts)
    return SqlStatement(condition, tuple(value for part in parts for value in part.values))


def columns_of(
    client: SqlClient, schema: Schema, table: str, field: str
) -> Iterator[tuple[str, TColumnSchema]]:
    """Yield the existing columns that hold the values of a field, with quoted names.

    dlt stores values of another type than the column's in variant columns.
    """
    base = column_identifier(schema, field)
    variants = f"{base}{schema.naming.PATH_SEPARATOR}{_VARIANT_PREFIX}"
    for name, column in schema.tables[table]["columns"].items():
        if name == base or name.startswith(variants):
            quoted = client.escape_column_name(name)
            # the schema may know a column that this load is about to add
            if has_column(client, table, quoted):
                yield quoted, column


def _equals(columns: Sequence[tuple[str, TColumnSchema]], value: Any) -> SqlStatement:
    """Return the condition that a field has this value, in whichever of its columns."""
    compared = [
        (name, stored)
        for name, column in columns
        if (stored := _as_stored(value, column.get("data_type"))) is not None
    ]
    condition = " OR ".join(f"{name} = %s" for name, _ in compared) or "1 = 0"
    return SqlStatement(f"({condition})", tuple(stored for _, stored in compared))


def _as_stored(value: Any, data_type: str | None) -> Any:
    """Return a value as dlt stores it in a column of this type; None if it can't be there.

    Databases refuse to compare a number with a text, or compare them otherwise.
    """
    if data_type not in NUMERIC_DATA_TYPES:
        return str(value)
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return None


def existing_tables(client: SqlClient, schema: Schema, table: str) -> Sequence[str]:
    """Return the table and the tables nested in it that exist, each after its parent."""
    if table not in schema.tables:
        return ()
    nested = get_nested_tables(schema.tables, table)
    return [name for one in nested if has_column(client, name := str(one["name"]))]


def nested_condition(client: SqlClient, schema: Schema, table: str, condition: str) -> str:
    """Turn a condition on the root table's rows into one on the rows of a nested table."""
    parent = schema.tables[table].get("parent")
    if not parent:
        return condition
    key, parent_key = (client.escape_column_name(name) for name in ("_dlt_id", "_dlt_parent_id"))
    return (
        f"{parent_key} IN (SELECT {key} FROM {client.make_qualified_table_name(parent)} "  # noqa: S608 - dlt quotes it
        f"WHERE {nested_condition(client, schema, parent, condition)})"
    )
