"""Rows of a table by their cursor: which lie in a range, and what deletes them with all that is nested in them.

The range decides as it does for rows from the API: times are compared as times. Where the database
can do that (a time in a column of times, a number in a column of numbers), it does. Else the
distinct values are read and judged one by one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any

from dlt.common.schema import Schema
from dlt.common.schema.typing import TColumnSchema
from dlt.common.schema.utils import get_nested_tables
from dlt.common.utils import chunks
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.sql_client import SqlClientBase

from restsource_dagster.config.cursor_values import (
    CursorFormat,
    CursorValueError,
    IsoDate,
    IsoTime,
)

__all__ = ["CursorRange", "Replacement", "SqlClient", "Statement", "deletions"]

SqlClient = SqlClientBase[Any]
_AT_ONCE = 1000
_VARIANT = "v_"
_NUMBERS = ("bigint", "double", "decimal", "wei")


@dataclass(frozen=True)
class CursorRange:
    """The cursor values from `start` up to, but without, `end` (None: without an end).

    `field` is the name of the cursor in the records. `nulls`: rows without a cursor, too.
    """

    field: str
    form: CursorFormat
    start: Any
    end: Any = None
    nulls: bool = False

    @cached_property
    def _keys(self) -> tuple[Any, Any]:
        end = None if self.end is None else self.form.key(self.end)
        return self.form.key(self.start), end

    def holds(self, value: Any) -> bool:
        """Whether a value lies in the range; False for one that can't be compared."""
        start, end = self._keys
        try:
            key = self.form.key(value)
        except CursorValueError:
            return False
        return bool(start <= key and (end is None or key < end))


@dataclass(frozen=True)
class Replacement:
    """The rows of a table that a load puts others in the place of; all, if `rows` is None."""

    table: str
    rows: CursorRange | None


@dataclass(frozen=True)
class Statement:
    """SQL and the values for its `%s`."""

    sql: str
    values: tuple[Any, ...] = ()


def deletions(client: SqlClient, schema: Schema, what: Replacement) -> list[Statement]:
    """What deletes these rows and all that is nested in them, to be run in one transaction.

    Looks at the tables, so call it before the transaction; nobody else may write meanwhile. A table
    that isn't there has no rows. `client` is open. Raises dlt's errors of the destination.
    """
    chain = _chain(client, schema, what.table)
    conditions = _conditions(client, schema, what) if chain else ()
    return [
        Statement(
            f"DELETE FROM {_name(client, table)} WHERE "  # noqa: S608 - dlt quotes it
            f"{_below(client, schema, table, condition.sql)}",
            condition.values,
        )
        for condition in conditions
        for table in reversed(chain)
    ]


def _chain(client: SqlClient, schema: Schema, table: str) -> Sequence[str]:
    """The table and those nested in it that are there, each after its parent."""
    if table not in schema.tables:
        return ()
    nested = get_nested_tables(schema.tables, table)
    return [name for one in nested if _is_there(client, name := str(one["name"]))]


def _is_there(client: SqlClient, table: str, column: str = "1") -> bool:
    try:
        client.execute_sql(f"SELECT {column} FROM {_name(client, table)} WHERE 1 = 0")  # noqa: S608 - dlt quotes it
    except DatabaseUndefinedRelation:
        return False
    return True


def _below(client: SqlClient, schema: Schema, table: str, condition: str) -> str:
    """The condition on a root's rows as one on the rows of a table nested in it."""
    parent = schema.tables[table].get("parent")
    if not parent:
        return condition
    key, parent_key = (client.escape_column_name(name) for name in ("_dlt_id", "_dlt_parent_id"))
    return (
        f"{parent_key} IN (SELECT {key} FROM {_name(client, parent)} "  # noqa: S608 - dlt quotes it
        f"WHERE {_below(client, schema, parent, condition)})"
    )


def _conditions(client: SqlClient, schema: Schema, what: Replacement) -> Iterator[Statement]:
    """Conditions that together hold for the rows; no row for two of them."""
    if what.rows is None:
        yield Statement("1 = 1")
        return
    columns = {
        name: column
        for name, column in _columns(client, schema, what.table, what.rows.field)
        if _is_there(client, what.table, name)
    }
    for name, column in columns.items():
        yield from _in_range(client, what.table, what.rows, column, name)
    if what.rows.nulls:
        yield Statement(" AND ".join(f"{name} IS NULL" for name in columns) or "1 = 1")


def _columns(
    client: SqlClient, schema: Schema, table: str, field: str
) -> Iterator[tuple[str, TColumnSchema]]:
    """Where the cursor is, quoted: its column, and those for values of other types."""
    base = schema.naming.normalize_identifier(field)
    for name, column in schema.tables[table]["columns"].items():
        if name == base or name.startswith(f"{base}{schema.naming.PATH_SEPARATOR}{_VARIANT}"):
            yield client.escape_column_name(name), column


def _in_range(
    client: SqlClient, table: str, rows: CursorRange, column: TColumnSchema, name: str
) -> Iterator[Statement]:
    ends = _ends_for(rows, column)
    if ends is not None:
        start, end = ends
        if end is None:
            yield Statement(f"{name} >= %s", (start,))
        else:
            yield Statement(f"{name} >= %s AND {name} < %s", (start, end))
        return
    some = _narrowed(rows, column, name)
    found = client.execute_sql(
        f"SELECT DISTINCT {name} FROM {_name(client, table)} "  # noqa: S608 - dlt quotes it
        f"WHERE {name} IS NOT NULL{some.sql}",
        *some.values,
    )
    held = [row[0] for row in found or () if rows.holds(row[0])]
    for some_held in chunks(held, _AT_ONCE):
        marks = ", ".join(["%s"] * len(some_held))
        yield Statement(f"{name} IN ({marks})", tuple(some_held))


def _ends_for(rows: CursorRange, column: TColumnSchema) -> tuple[Any, ...] | None:
    """The ends as the database compares them with this column, if it does so as we do."""
    kind, ends = column.get("data_type"), (rows.start, rows.end)
    if rows.form.is_time and kind in ("timestamp", "date"):
        start, end = (None if one is None else rows.form.parse(one) for one in ends)
        if kind == "date":
            return _day_from(start), _day_from(end)
        naive = not column.get("timezone", True)
        return tuple(one and one.replace(tzinfo=None if naive else UTC) for one in (start, end))
    if kind in _NUMBERS and all(
        one is None or (isinstance(one, int | float) and not isinstance(one, bool)) for one in ends
    ):
        return ends
    return None


def _day_from(moment: datetime | None) -> date | None:
    """The first day that begins at the moment or later."""
    if moment is None:
        return None
    day = moment.astimezone(UTC)
    begins = day.replace(hour=0, minute=0, second=0, microsecond=0)
    return (begins if begins == day else begins + timedelta(days=1)).date()


def _narrowed(rows: CursorRange, column: TColumnSchema, name: str) -> Statement:
    """A condition that spares reading texts that begin with another date, where texts do."""
    if column.get("data_type") != "text" or not isinstance(rows.form, IsoDate | IsoTime):
        return Statement("")
    try:
        first = (rows.form.parse(rows.start) - timedelta(days=1)).date().isoformat()
        last = (
            ""
            if rows.end is None
            else (rows.form.parse(rows.end) + timedelta(days=2)).date().isoformat()
        )
    except OverflowError:
        return Statement("")
    # what doesn't look like a date is looked at, too
    other = f"substring({name}, 5, 1) <> '-' OR length({name}) < 10"
    if not last:
        return Statement(f" AND ({name} >= %s OR {other})", (first,))
    return Statement(f" AND (({name} >= %s AND {name} < %s) OR {other})", (first, last))


def _name(client: SqlClient, table: str) -> str:
    return client.make_qualified_table_name(table)
