"""Loads that put rows in the place of others, in one transaction: nobody ever sees half of it.

dlt replaces whole tables, and rows by their key. What is appended has no key; here its rows are
replaced by their cursor, or all of them. The new rows go into dlt's staging dataset first. Then one
transaction deletes the old ones, with what is nested in them, and takes over the new ones. A run
that dies before it leaves the old rows; one that dies after it, the new ones.

Rows of a table by their cursor: which lie in a range, and what deletes them with all that is nested in them.

The range decides as it does for rows from the API: times are compared as times. Where the database
can do that (a time in a column of times, a number in a column of numbers), it does. Else the
distinct values are read and judged one by one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

import dlt
from dlt.common.destination import AnyDestination, Destination
from dlt.common.schema import Schema
from dlt.common.schema.typing import TColumnSchema

from restsource_dagster.connector.cursor_format import (
    CursorFormat,
    CursorValueError,
    IsoDate,
    IsoTime,
)
from restsource_dagster.engine.destination.warehouse import ensure_connected
from restsource_dagster.engine.dlt_compat import (
    DatabaseUndefinedRelation,
    FollowupJobRequest,
    LoadJob,
    PreparedTableSchema,
    SqlClientBase,
    SqlJobClientWithStagingDataset,
    SqlLoadJob,
    SqlStagingCopyFollowupJob,
    get_nested_tables,
    get_root_table,
)

__all__ = [
    "CursorRange",
    "DeletionsByTable",
    "RowDeletion",
    "SqlClient",
    "SqlStatement",
    "can_replace_rows",
    "delete_replaced_rows",
    "deletion_statements",
    "with_row_replacement",
]

SqlClient = SqlClientBase[Any]
_VALUES_PER_STATEMENT = 1000
_VARIANT_PREFIX = "v_"
_NUMERIC_DATA_TYPES = ("bigint", "double", "decimal", "wei")


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
        end = None if self.end is None else self.form.comparison_key(self.end)
        return self.form.comparison_key(self.start), end

    def holds(self, value: Any) -> bool:
        """Whether a value lies in the range; False for one that can't be compared."""
        start, end = self._keys
        try:
            key = self.form.comparison_key(value)
        except CursorValueError:
            return False
        return bool(start <= key and (end is None or key < end))


@dataclass(frozen=True)
class RowDeletion:
    """The rows of a table that a load puts others in the place of; all, if `rows` is None."""

    table: str
    rows: CursorRange | None


@dataclass(frozen=True)
class SqlStatement:
    """SQL and the values for its `%s`."""

    sql: str
    values: tuple[Any, ...] = ()


def deletion_statements(client: SqlClient, schema: Schema, what: RowDeletion) -> list[SqlStatement]:
    """What deletes these rows and all that is nested in them, to be run in one transaction.

    Looks at the tables, so call it before the transaction; nobody else may write meanwhile. A table
    that isn't there has no rows. `client` is open. Raises dlt's errors of the destination.
    """
    chain = _existing_tables(client, schema, what.table)
    conditions = _row_conditions(client, schema, what) if chain else ()
    return [
        SqlStatement(
            f"DELETE FROM {_qualified_name(client, table)} WHERE "  # noqa: S608 - dlt quotes it
            f"{_nested_condition(client, schema, table, condition.sql)}",
            condition.values,
        )
        for condition in conditions
        for table in reversed(chain)
    ]


def _existing_tables(client: SqlClient, schema: Schema, table: str) -> Sequence[str]:
    """The table and those nested in it that are there, each after its parent."""
    if table not in schema.tables:
        return ()
    nested = get_nested_tables(schema.tables, table)
    return [name for one in nested if _is_in_database(client, name := str(one["name"]))]


def _is_in_database(client: SqlClient, table: str, column: str = "1") -> bool:
    try:
        client.execute_sql(f"SELECT {column} FROM {_qualified_name(client, table)} WHERE 1 = 0")  # noqa: S608 - dlt quotes it
    except DatabaseUndefinedRelation:
        return False
    return True


def _nested_condition(client: SqlClient, schema: Schema, table: str, condition: str) -> str:
    """The condition on a root's rows as one on the rows of a table nested in it."""
    parent = schema.tables[table].get("parent")
    if not parent:
        return condition
    key, parent_key = (client.escape_column_name(name) for name in ("_dlt_id", "_dlt_parent_id"))
    return (
        f"{parent_key} IN (SELECT {key} FROM {_qualified_name(client, parent)} "  # noqa: S608 - dlt quotes it
        f"WHERE {_nested_condition(client, schema, parent, condition)})"
    )


def _row_conditions(client: SqlClient, schema: Schema, what: RowDeletion) -> Iterator[SqlStatement]:
    """Conditions that together hold for the rows; no row for two of them."""
    if what.rows is None:
        yield SqlStatement("1 = 1")
        return
    columns = {
        name: column
        for name, column in _cursor_columns(client, schema, what.table, what.rows.field)
        if _is_in_database(client, what.table, name)
    }
    for name, column in columns.items():
        yield from _range_conditions(client, what.table, what.rows, column, name)
    if what.rows.nulls:
        yield SqlStatement(" AND ".join(f"{name} IS NULL" for name in columns) or "1 = 1")


def _cursor_columns(
    client: SqlClient, schema: Schema, table: str, field: str
) -> Iterator[tuple[str, TColumnSchema]]:
    """Where the cursor is, quoted: its column, and those for values of other types."""
    base = schema.naming.normalize_identifier(field)
    for name, column in schema.tables[table]["columns"].items():
        if name == base or name.startswith(
            f"{base}{schema.naming.PATH_SEPARATOR}{_VARIANT_PREFIX}"
        ):
            yield client.escape_column_name(name), column


def _range_conditions(
    client: SqlClient, table: str, rows: CursorRange, column: TColumnSchema, name: str
) -> Iterator[SqlStatement]:
    ends = _database_bounds(rows, column)
    if ends is not None:
        start, end = ends
        if end is None:
            yield SqlStatement(f"{name} >= %s", (start,))
        else:
            yield SqlStatement(f"{name} >= %s AND {name} < %s", (start, end))
        return
    some = _text_prefilter(rows, column, name)
    found = client.execute_sql(
        f"SELECT DISTINCT {name} FROM {_qualified_name(client, table)} "  # noqa: S608 - dlt quotes it
        f"WHERE {name} IS NOT NULL{some.sql}",
        *some.values,
    )
    held = [row[0] for row in found or () if rows.holds(row[0])]
    for at in range(0, len(held), _VALUES_PER_STATEMENT):
        some_held = held[at : at + _VALUES_PER_STATEMENT]
        marks = ", ".join(["%s"] * len(some_held))
        yield SqlStatement(f"{name} IN ({marks})", tuple(some_held))


def _database_bounds(rows: CursorRange, column: TColumnSchema) -> tuple[Any, ...] | None:
    """The ends as the database compares them with this column, if it does so as we do."""
    kind, ends = column.get("data_type"), (rows.start, rows.end)
    if rows.form.is_time and kind in ("timestamp", "date"):
        start, end = (None if one is None else rows.form.parse(one) for one in ends)
        if kind == "date":
            return _first_day_from(start), _first_day_from(end)
        naive = not column.get("timezone", True)
        return tuple(one and one.replace(tzinfo=None if naive else UTC) for one in (start, end))
    if kind in _NUMERIC_DATA_TYPES and all(
        one is None or (isinstance(one, int | float) and not isinstance(one, bool)) for one in ends
    ):
        return ends
    return None


def _first_day_from(moment: datetime | None) -> date | None:
    """The first day that begins at the moment or later."""
    if moment is None:
        return None
    day = moment.astimezone(UTC)
    begins = day.replace(hour=0, minute=0, second=0, microsecond=0)
    return (begins if begins == day else begins + timedelta(days=1)).date()


def _text_prefilter(rows: CursorRange, column: TColumnSchema, name: str) -> SqlStatement:
    """A condition that spares reading texts that begin with another date, where texts do."""
    if column.get("data_type") != "text" or not isinstance(rows.form, IsoDate | IsoTime):
        return SqlStatement("")
    try:
        first = (rows.form.parse(rows.start) - timedelta(days=1)).date().isoformat()
        last = (
            ""
            if rows.end is None
            else (rows.form.parse(rows.end) + timedelta(days=2)).date().isoformat()
        )
    except OverflowError:
        return SqlStatement("")
    # what doesn't look like a date is looked at, too
    other = f"substring({name}, 5, 1) <> '-' OR length({name}) < 10"
    if not last:
        return SqlStatement(f" AND ({name} >= %s OR {other})", (first,))
    return SqlStatement(f" AND (({name} >= %s AND {name} < %s) OR {other})", (first, last))


def _qualified_name(client: SqlClient, table: str) -> str:
    return client.make_qualified_table_name(table)


DeletionsByTable = Mapping[str, RowDeletion]
"""By the name of the root table, as the destination has it."""


def with_row_replacement(
    destination: "str | AnyDestination", replacements: DeletionsByTable
) -> AnyDestination:
    """The same destination, whose loads obey `replacements`, read at the moment of each load.

    It makes a difference only where `can_replace` says so.
    """
    made = cast("AnyDestination", Destination.from_reference(destination))
    kind = type(made)
    client = _replacing_client_class(made.client_class, replacements)
    # dlt names a destination by its class: what it stores must not change
    like = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    parts = {"client_class": client, "capabilities": _cached_capabilities(kind.capabilities)}
    subclass = type(kind.__name__, (kind,), {**like, **parts})
    changed = copy(made)
    changed.__class__ = subclass
    return changed


def _cached_capabilities(ask: Callable[..., Any]) -> Callable[..., Any]:
    """What a destination is capable of, found out once.

    dlt asks dozens of times in each load, and resolves the whole configuration for each answer.
    """
    known: dict[Any, Any] = {}

    def capabilities(self: Any, config: Any = None, naming: Any = None) -> Any:
        if config is not None:
            return ask(self, config, naming)
        key = naming and (type(naming), naming.max_length)
        if key not in known:
            known[key] = ask(self, None, naming)
        return known[key].copy()  # some who ask change it

    return capabilities


def can_replace_rows(destination: AnyDestination) -> bool:
    """Whether the destination is an SQL database with transactions."""
    capabilities = destination.capabilities()
    return bool(
        issubclass(destination.client_class, _ReplaceRowsClient)
        and capabilities.supports_transactions
    )


class _ReplaceRowsJob(SqlLoadJob):
    """dlt's statements that take over staged rows, after those that make room for them."""

    def __init__(self, file_path: str, replacement: RowDeletion) -> None:
        super().__init__(file_path)
        self._replacement = replacement

    def run(self) -> None:
        client = self._job_client.sql_client
        text = Path(self._file_path).read_text(encoding="utf-8")
        statements = [line for line in text.split("\n") if line.strip()]  # one in each line
        main = self._job_client.config.normalize_dataset_name(self._schema)
        # dlt has switched to the staging dataset here
        with client.with_alternative_dataset_name(main):
            old = deletion_statements(client, self._schema, self._replacement)
        with client.begin_transaction():
            for statement in old:
                client.execute_sql(statement.sql, *statement.values)
            client.execute_many(statements)


class _ReplaceRowsClient(SqlJobClientWithStagingDataset):
    replacements: ClassVar[DeletionsByTable] = {}

    def should_load_data_to_staging_dataset(self, table_name: str) -> bool:
        root = get_root_table(self.schema.tables, table_name)["name"]
        return root in self.replacements or super().should_load_data_to_staging_dataset(table_name)

    def _create_append_followup_jobs(
        self, table_chain: Sequence[PreparedTableSchema]
    ) -> list[FollowupJobRequest]:
        if table_chain[0]["name"] in self.replacements:
            return [SqlStagingCopyFollowupJob.from_table_chain(table_chain, self.sql_client)]
        return super()._create_append_followup_jobs(table_chain)

    def create_load_job(
        self, table: PreparedTableSchema, file_path: str, load_id: str, restore: bool = False
    ) -> LoadJob:
        if SqlLoadJob.is_sql_job(file_path) and table["name"] in self.replacements:
            return _ReplaceRowsJob(file_path, self.replacements[str(table["name"])])
        return super().create_load_job(table, file_path, load_id, restore)


def _replacing_client_class(base: type[Any], replacements: DeletionsByTable) -> type[Any]:
    if not issubclass(base, SqlJobClientWithStagingDataset):
        return base
    parts = {"replacements": replacements, "__module__": base.__module__}
    return type(base.__name__, (_ReplaceRowsClient, base), parts)


def delete_replaced_rows(
    pipeline: dlt.Pipeline, client: SqlClient | None, replacements: DeletionsByTable
) -> None:
    """Delete what the load that comes next replaces with no rows at all: dlt has no job for it."""
    if client is None or not replacements:
        return
    schema = pipeline.default_schema
    jobs = (
        job.job_file_info.table_name
        for load_id in pipeline.list_normalized_load_packages()
        for job in pipeline.get_load_package_info(load_id).jobs["new_jobs"]
    )
    filled = {get_root_table(schema.tables, table)["name"] for table in jobs}
    for table in replacements.keys() - filled:
        with ensure_connected(client):
            old = deletion_statements(client, schema, replacements[table])
            with client.begin_transaction():
                for statement in old:
                    client.execute_sql(statement.sql, *statement.values)
