"""Facts about a table that its checks need: repeated keys, and which columns have values.

They are read after a load, by SQL, while the destination is still locked for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlt.common.schema import Schema

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.checks import PrimaryKeyCheck
from restsource_dagster.connector.table_checks import checks_of, may_ask_table
from restsource_dagster.engine.destination.tables import SqlClient
from restsource_dagster.engine.dlt_compat import DestinationException, table_identifier
from restsource_dagster.settings import Settings

__all__ = ["KeyFacts", "TableFacts", "TableQuestions", "read_table_facts", "table_questions"]

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
    found, destination = {}, settings.destination
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
