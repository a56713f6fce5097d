"""Read the destination's tables: columns and their changes from dlt's schema; rows and facts for checks by SQL.

The facts are repeated keys, and which columns have values. They are read after a load, while the destination
is still locked for it.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import dlt
from dlt.common.schema import Schema

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.checks import PrimaryKeyCheck
from restsource_dagster.connector.table_checks import checks_of, may_ask_table
from restsource_dagster.engine.dlt_compat import (
    DatabaseUndefinedRelation,
    DestinationException,
    SqlClientBase,
    SqlJobClientWithStagingDataset,
    get_root_table,
    table_identifier,
)
from restsource_dagster.settings import Settings

__all__ = [
    "KeyFacts",
    "LoadedColumn",
    "SortedNames",
    "SqlClient",
    "TableFacts",
    "TableQuestions",
    "TableSnapshot",
    "TableSnapshots",
    "TableTree",
    "describe_schema_changes",
    "end_other_sessions",
    "has_column",
    "has_files",
    "has_sql_tables",
    "read_loaded_columns",
    "read_row_count",
    "read_table_facts",
    "read_table_snapshots",
    "table_questions",
]

SqlClient = SqlClientBase[Any]

_VARIANT_INFIX = "__v_"


def has_files(pipeline: dlt.Pipeline) -> bool:
    """Return True if the destination is a folder of files, on a disk or in a bucket."""
    return pipeline.destination.destination_type == "dlt.destinations.filesystem"


def has_sql_tables(pipeline: dlt.Pipeline) -> bool:
    """Return True if the destination's tables are those of a database, not files."""
    return issubclass(pipeline.destination.client_class, SqlJobClientWithStagingDataset)


def end_other_sessions(client: SqlClient) -> int:
    """End the sessions of earlier runs that load the client's dataset; return how many there were.

    Call it as the only run of the connector. `client` is connected. Only Postgres needs it: see
    postgres_client.py.
    """
    end = getattr(type(client), "end_other_sessions", None)
    return int(end(client)) if end else 0


def has_column(client: SqlClient, table: str, column: str | None = None) -> bool:
    """Return True if the table exists and has the column, which is quoted already.

    Without a column, return True if the table exists. `client` is connected, maybe in a transaction.
    """
    name = client.make_qualified_table_name(table)
    try:
        # not the column itself: each database has its own error for one that is missing
        with client.execute_query(f"SELECT * FROM {name} WHERE 1 = 0") as cursor:  # noqa: S608 - dlt quotes it
            found = [str(one[0]) for one in cursor.description or ()]
    except DatabaseUndefinedRelation:
        return False
    return column is None or column in map(client.escape_column_name, found)


class TableTree:
    """The tables of a schema by parent and by name. Make it once for all resources of a package.

    dlt's `get_nested_tables` reads all tables of the schema for each table that it is asked about.
    """

    def __init__(self, tables: Mapping[str, Any]) -> None:
        self._tables = tables
        self._nested: dict[str, list[str]] = {}
        for name, table in tables.items():
            if parent := table.get("parent"):
                self._nested.setdefault(str(parent), []).append(name)
        self._names = SortedNames(tables)

    def with_nested(self, table: str) -> Iterator[Any]:
        """Yield a table and those nested in it, each after its parent; none if there is no such table."""
        if table in self._tables:
            yield self._tables[table]
            for nested in self._nested.get(table, ()):
                yield from self.with_nested(nested)

    def starting_with(self, prefix: str) -> Iterator[tuple[str, Any]]:
        """Yield the tables whose names start so, with their names."""
        return ((name, self._tables[name]) for name in self._names.starting_with(prefix))


class SortedNames:
    """Names that are found by how they start, without looking at all of them."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = sorted(names)

    def starting_with(self, prefix: str) -> Iterator[str]:
        """Yield the names that start so, in order."""
        places = range(bisect_left(self._names, prefix), len(self._names))
        following = (self._names[place] for place in places)
        return takewhile(lambda name: name.startswith(prefix), following)


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
    table: str, before: TableSnapshots, after: TableSnapshots, tree: TableTree
) -> tuple[str, ...]:
    """Return a sentence for each change of a table and of the tables nested in it.

    `tree` has the tables of the schema after the load.
    """
    # the tables nested in a new table are new too: one sentence says it all
    if table not in before:
        return (f"table {table} is new",) if table in after else ()
    # not by the beginning of the name: another resource may be called `orders__lines`
    names = [name for one in tree.with_nested(table) if (name := str(one["name"])) in after]
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


_SHOWN_KEYS = 10
_MOST_COLUMNS = 500
"""A wider table has its columns left out: its statement would be longer than some databases take."""
_LOAD_ID = "_dlt_load_id"


@dataclass(frozen=True)
class TableQuestions:
    """What the checks of a table ask about it."""

    whole_up_to: int | None
    """The most rows in which keys are searched as a whole; None if keys are not checked."""
    about_columns: bool
    """True if the columns are compared with those of the last run."""


@dataclass(frozen=True)
class KeyFacts:
    """Rows of a table whose primary key is not unique, or null."""

    columns: tuple[str, ...]
    repeated: tuple[tuple[tuple[Any, ...], int], ...]
    """Keys that several rows have, and how many rows; those with the most first, ten at most."""
    repeated_keys: int
    """How many such keys there are."""
    nulls: int
    """The rows in which a column of the key is null."""
    of_whole_table: bool
    """False if only keys of the rows that were just loaded were searched."""


@dataclass(frozen=True)
class TableFacts:
    """What a load has left in a table."""

    key: KeyFacts | None = None
    new_rows: int = 0
    """The rows of this load that are in the table."""
    filled: Mapping[str, int] = field(default_factory=dict)
    """How many of them have a value, by column; dlt's own columns are left out."""


def table_questions(connector: Connector, settings: Settings) -> Mapping[str, TableQuestions]:
    """Return what the checks of a connector ask, by the table's name in the file."""
    found, destination = {}, settings.for_destination(connector.destination).destination_type
    for resource in connector.resources:
        checks = checks_of(resource, destination, by_default=settings.default_checks)
        key = checks.get("primary_key")
        asked = TableQuestions(
            key.up_to_rows if isinstance(key, PrimaryKeyCheck) else None,
            "schema_drift" in checks and may_ask_table(resource, "schema_drift", destination),
        )
        if asked != TableQuestions(None, about_columns=False):
            found[resource.table] = asked
    return found


def read_table_facts(
    client: SqlClient,
    schema: Schema,
    questions: Mapping[str, TableQuestions],
    counts: Mapping[str, int | None],
    load_ids: Sequence[str],
    notify: Callable[[str], None],
) -> dict[str, TableFacts]:
    """Return the facts that are asked for, by table. `client` is connected; `counts` are all rows.

    The rows are loaded by now, so a statement that fails, for example over a type that can't be compared,
    is reported to `notify` and leaves the table out.
    """
    found = {}
    for name, asked in questions.items():
        table = table_identifier(schema, name)
        # an empty table has no fact, and a load without a package no rows
        if not counts.get(table) or not load_ids:
            continue
        reader = _FactReader(client, schema, table, tuple(load_ids))
        try:
            new_rows, filled = reader.filled_columns() if asked.about_columns else (0, {})
            key = None
            if asked.whole_up_to is not None:
                key = reader.key_facts(whole=(counts[table] or 0) <= asked.whole_up_to)
            found[table] = TableFacts(key, new_rows, filled)
        except DestinationException as error:
            notify(f"{name}: its checks could not read the table: {error}")
    return found


@dataclass(frozen=True)
class _FactReader:
    client: SqlClient
    schema: Schema
    table: str
    load_ids: tuple[str, ...]

    def filled_columns(self) -> tuple[int, dict[str, int]]:
        """Return the rows of the loads, and how many of them have a value, by column."""
        columns = [
            name
            for name in self.schema.get_table_columns(self.table)
            if not name.startswith("_dlt_")
        ]
        if len(columns) > _MOST_COLUMNS:
            return 0, {}
        counted = ", ".join(f"count({self._quoted(name)})" for name in columns)
        rows = self._select(
            f"SELECT count(*), {counted} FROM {self._name} WHERE {self._is_new()}",  # noqa: S608 - quoted
            *self.load_ids,
        )
        total, *filled = rows[0]
        return int(total), {name: int(n) for name, n in zip(columns, filled, strict=True)}

    def key_facts(self, *, whole: bool) -> KeyFacts | None:
        """Return the rows whose key is not unique or null; None for a table without a key."""
        columns = tuple(
            name
            for name, column in self.schema.get_table_columns(self.table).items()
            if column.get("primary_key")
        )
        if not columns:
            return None
        quoted = [self._quoted(name) for name in columns]
        having, values = ("", ()) if whole else (self._has_new_key(quoted), self.load_ids)
        keys = ", ".join(f"t.{name}" for name in quoted)
        grouped = f"FROM {self._name} AS t {having} GROUP BY {keys} HAVING count(*) > 1"
        repeated = self._select(
            f"SELECT {keys}, count(*) {grouped} ORDER BY count(*) DESC, {keys} LIMIT {_SHOWN_KEYS}",
            *values,
        )
        count = len(repeated)
        # perhaps cut off: they are counted only then, as that reads the table once more
        if count == _SHOWN_KEYS:
            inner = f"SELECT 1 AS one {grouped}"
            count = int(self._select(f"SELECT count(*) FROM ({inner}) AS k", *values)[0][0])  # noqa: S608 - quoted
        is_null = " OR ".join(f"{name} IS NULL" for name in quoted)
        nulls = self._select(f"SELECT count(*) FROM {self._name} WHERE {is_null}")  # noqa: S608 - quoted
        shown = tuple((tuple(key), int(rows)) for *key, rows in repeated)
        return KeyFacts(columns, shown, count, int(nulls[0][0]), whole)

    def _has_new_key(self, quoted: Sequence[str]) -> str:
        """Return the condition that a row has the key of a row that was just loaded."""
        same = " AND ".join(f"n.{name} = t.{name}" for name in quoted)
        return f"WHERE EXISTS (SELECT 1 FROM {self._name} AS n WHERE n.{self._is_new()} AND {same})"  # noqa: S608 - quoted

    def _is_new(self) -> str:
        return f"{self._quoted(_LOAD_ID)} IN ({', '.join(['%s'] * len(self.load_ids))})"

    @property
    def _name(self) -> str:
        return self.client.make_qualified_table_name(self.table)

    def _quoted(self, column: str) -> str:
        return self.client.escape_column_name(column)

    def _select(self, statement: str, *values: str) -> Sequence[Sequence[Any]]:
        return self.client.execute_sql(statement, *values) or ()
