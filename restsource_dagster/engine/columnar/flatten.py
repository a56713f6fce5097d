"""Flatten records to columns: objects become columns, lists of objects become nested tables.

1. `flatten_records` collects the values of each column, under the names that dlt gives it.
2. `is_verified` checks by these columns that parsing the page the fast way lost nothing.

Rows that might load differently than with dlt raise `NotColumnarError`. Where possible, the loops run
once per column and page, not once per value: they take most of the time of a load.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from types import NoneType
from typing import Any

from dlt.common import json
from dlt.common.schema import Schema

from restsource_dagster.engine import dlt_compat
from restsource_dagster.engine.http.json_body import INT64_LIMIT, UnverifiedRecords, scan_values

__all__ = [
    "ColumnValues",
    "FlatTable",
    "NotColumnarError",
    "SchemaRules",
    "flatten_records",
    "is_verified",
]


class NotColumnarError(Exception):
    """Written as columns, these rows might give other tables than dlt makes of them."""


_RESERVED_PREFIX = "_dlt_"


class SchemaRules:
    """Names and nesting of a schema, from dlt's own functions, cached by name.

    dlt's normalizer asks for each value, which is most of its time.
    """

    def __init__(self, schema: Schema) -> None:
        """Raises `NotColumnarError` for a normalizer other than dlt's relational one."""
        # a subclass may name columns differently
        if type(schema.data_item_normalizer) is not dlt_compat.DataItemNormalizer:
            raise NotColumnarError("dlt is configured with another normalizer")
        self.schema = schema
        self.normalizer = schema.data_item_normalizer
        self._fragments: dict[str, str] = {}
        self._tables: dict[tuple[str, ...], str] = {}
        self._columns: dict[tuple[str, ...], str] = {}
        self._nested: dict[tuple[str, str, int], bool] = {}

    def clear_nesting_cache(self) -> None:
        """Forget which fields stay JSON: that depends on the tables in the schema. Call it when the
        schema has changed."""
        self._nested.clear()

    def level(self, table: str) -> int:
        """Return how many levels of a root table's objects and lists become columns and tables."""
        default: int = self.normalizer.max_nesting
        return dlt_compat.json_normalizer.get_table_nesting_level(self.schema, table, default) or 0

    def column_fragment(self, key: str) -> str:
        """Return a field's part of a column's name. Raises `NotColumnarError`."""
        known = self._fragments.get(key)
        if known is None:
            known = self._fragments[key] = self._fragment(key)
        return known

    def column(self, path: tuple[str, ...]) -> str:
        """Return the name of a column, from the fragments on its path."""
        known = self._columns.get(path)
        if known is None:
            naming = self.schema.naming
            known = (
                path[0]
                if len(path) == 1
                else dlt_compat.json_normalizer.shorten_fragments(naming, *path)
            )
            self._columns[path] = known
        return known

    def table(self, path: tuple[str, ...]) -> str:
        """Return the name of a nested table, from the fragments on its path."""
        known = self._tables.get(path)
        if known is None:
            known = self._tables[path] = dlt_compat.json_normalizer.shorten_fragments(
                self.schema.naming, *path
            )
        return known

    def table_fragment(self, key: str) -> str:
        """Return a field's part of a nested table's name."""
        return dlt_compat.table_identifier(self.schema, key)

    def stays_json(self, table: str, column: str, level: int) -> bool:
        """Return True if objects and lists in a column are kept as JSON."""
        at = (table, column, level)
        known = self._nested.get(at)
        if known is None:
            known = self._nested[at] = dlt_compat.json_normalizer.is_nested_type(
                self.schema, table, column, level
            )
        return known

    def _fragment(self, key: str) -> str:
        if not key or key.isspace():
            raise NotColumnarError("a field has no name")
        try:
            key.encode()  # half of a surrogate pair, which JSON may escape, is no text in a database
        except UnicodeEncodeError:
            raise NotColumnarError("a field's name has half a character in it") from None
        name = dlt_compat.column_identifier(self.schema, key)
        if name.startswith(_RESERVED_PREFIX):
            raise NotColumnarError(f"the field {key} has a name of dlt's own")
        return name


Record = dict[str, Any]
_EMPTY_RECORD: Record = {}
_MAX_FLATTEN_DEPTH = 40
"""Deeper records are left to dlt, before Python's recursion limit is near."""


@dataclass(frozen=True)
class ColumnValues:
    """The values of one column in one page."""

    values: Sequence[Any]
    """One for each row; None where the row has none."""
    types: frozenset[type]
    """The types of the values, without `NoneType`."""
    has_no_nulls: bool
    """True if each row has a value."""

    @cached_property
    def texts(self) -> Sequence[bytes | None]:
        """The objects and lists as JSON, as dlt writes it. Raises `TypeError` if they can't be JSON."""
        dump = json.dumpb
        if self.has_no_nulls:
            return [dump(value) for value in self.values]
        return [None if value is None else dump(value) for value in self.values]


@dataclass(frozen=True)
class FlatTable:
    """The rows of one table in one page, as columns."""

    table: str
    """Its name in the destination."""
    parent: str | None
    """The table in which it is nested; None for the root table."""
    length: int
    """The number of rows."""
    columns: dict[str, ColumnValues]
    root_rows: Sequence[int]
    """For each row, the index of its record in the page."""
    parent_rows: Sequence[int] = ()
    """For each row of a nested table, the index of its row in the parent table."""
    positions: Sequence[int] = ()
    """For each row of a nested table, its index in the parent's list."""
    keys: int = 0
    """The number of keys in all objects that became columns of this table."""


def flatten_records(table: str, records: Sequence[Any], rules: SchemaRules) -> list[FlatTable]:
    """Return the tables of a page, each after its parent.

    Raises `NotColumnarError` if a field is an object in one record and a plain value in another, if
    two fields get one name, or if a record is no object.
    """
    # the types first: a look at each record would take longer than all of the columns
    if not all(issubclass(found, dict) for found in set(map(type, records))):
        raise NotColumnarError("a record is no object")
    level = rules.level(table)
    tables = list(
        _Flattener(rules)._tables(table, None, (table,), records, level, range(len(records)))
    )
    # names are shortened and normalized, so two paths may end in one name
    if len({flat.table for flat in tables}) < len(tables):
        raise NotColumnarError("two lists become one table")
    return tables


@dataclass(frozen=True)
class _Flattener:
    """Flattens rows, and the objects and lists in them, table by table."""

    rules: SchemaRules

    def _tables(
        self,
        table: str,
        parent: str | None,
        path: tuple[str, ...],
        rows: Sequence[Record],
        level: int,
        root_rows: Sequence[int],
        parent_rows: Sequence[int] = (),
        positions: Sequence[int] = (),
    ) -> Iterator[FlatTable]:
        """Yield a table and those nested in it. `path` are the fragments of its name."""
        if len(path) > _MAX_FLATTEN_DEPTH:
            raise NotColumnarError("the records are nested too deeply")
        columns: dict[str, ColumnValues] = {}
        lists: dict[tuple[str, ...], Sequence[Any]] = {}
        keys = self._fields(table, rows, level, columns, lists)
        yield FlatTable(table, parent, len(rows), columns, root_rows, parent_rows, positions, keys)
        # after the table itself: rows of a nested table refer to those of its parent
        for steps, values in lists.items():
            yield from self._nested_tables(table, path + steps, values, level - 1, root_rows)

    def _fields(
        self,
        table: str,
        rows: Sequence[Record],
        level: int,
        columns: dict[str, ColumnValues],
        lists: dict[tuple[str, ...], Sequence[Any]],
    ) -> int:
        """Add the fields of rows to `columns` and `lists`; return the number of their keys."""
        rules, keys = self.rules, 0
        # the rows themselves, then each object field of the rows, as rows with a longer path
        waiting: list[tuple[Sequence[Record], int, tuple[str, ...]]] = [(rows, level, ())]
        while waiting:
            current, depth, steps = waiting.pop()
            if len(steps) > _MAX_FLATTEN_DEPTH:
                raise NotColumnarError("the records are nested too deeply")
            keys += sum(map(len, current))
            for key, values in _values_by_field(current):
                types = set(map(type, values))
                has_no_nulls = NoneType not in types
                types.discard(NoneType)
                column_path = (*steps, rules.column_fragment(key))
                name = rules.column(column_path)
                nests = not types.isdisjoint((dict, list))
                if nests and not rules.stays_json(table, name, depth):
                    # dlt makes a column and a table of such a field, depending on the rows' order
                    if len(types) > 1:
                        raise NotColumnarError(f"{name} is an object or a list here and not there")
                    if dict in types:
                        # a missing object gives nulls, like an object without fields
                        objects = [_EMPTY_RECORD if value is None else value for value in values]
                        waiting.append((objects, depth - 1, column_path))
                    else:
                        _put_once(lists, (*steps, rules.table_fragment(key)), values)
                else:
                    _put_once(columns, name, ColumnValues(values, frozenset(types), has_no_nulls))
        return keys

    def _nested_tables(
        self,
        parent: str,
        path: tuple[str, ...],
        lists: Sequence[list[Any] | None],
        level: int,
        root_rows: Sequence[int],
    ) -> Iterator[FlatTable]:
        """Yield the table of a list field, and those nested in it. `lists` has one for each row."""
        # dlt makes no table for a list that is empty in all rows
        items = list(chain.from_iterable(filter(None, lists)))
        if not items:
            return
        table = self.rules.table(path)
        parent_rows = [row for row, found in enumerate(lists) if found for _ in found]
        positions = list(chain.from_iterable(range(len(found)) for found in lists if found))
        # of any depth: dlt stores the key of the root row in nested rows
        item_roots = [root_rows[row] for row in parent_rows]
        types = set(map(type, items))
        if types == {dict}:
            yield from self._tables(
                table, parent, path, items, level, item_roots, parent_rows, positions
            )
        elif types.isdisjoint((dict, list)):
            name = str(self.rules.normalizer.c_value)
            columns = {
                name: ColumnValues(items, frozenset(types - {NoneType}), NoneType not in types)
            }
            yield FlatTable(table, parent, len(items), columns, item_roots, parent_rows, positions)
        else:
            raise NotColumnarError(f"the items of {table} are of different kinds, or lists")


def _values_by_field(rows: Sequence[Record]) -> Iterable[tuple[str, Sequence[Any]]]:
    """Return the fields of rows with the values of each; None where a row lacks the field."""
    shapes = set(map(tuple, rows))
    # most pages have rows of one shape, for which Python transposes all values in one call
    if len(shapes) == 1:
        return zip(shapes.pop(), zip(*map(dict.values, rows), strict=True), strict=True)
    # a dict, not a set: the columns keep the order in which the fields came
    keys = dict.fromkeys(chain.from_iterable(rows))
    return ((key, [row.get(key) for row in rows]) for key in keys)


def _put_once(found: dict[Any, Any], name: Any, value: Any) -> None:
    if name in found:
        raise NotColumnarError(f"two fields become {name}")
    found[name] = value


_CONTAINER_TYPES = frozenset({dict, list})
_NUMBER_TYPES = frozenset({int, float})
_DEEP_BRACKETS = 100
"""A text with more opening brackets may be nested too deeply, so its levels are counted."""


def is_verified(records: UnverifiedRecords, tables: Sequence[FlatTable]) -> bool:
    """Return True if no object has a key twice, no number lost digits, and none exceeds 64 bits.

    The fast parser keeps one of two equal keys. So the keys that arrived in `tables` are compared
    with the number of keys in the page's text.
    """
    count_inside = _count_keys_in_json if records.is_plain_text else _count_keys
    found = 0
    for flat in tables:
        found += flat.keys
        for column in flat.columns.values():
            inside = count_inside(column)
            if inside is None:
                return False
            found += inside
    return found == records.key_count


def _count_keys_in_json(column: ColumnValues) -> int | None:
    """Return the number of keys in a column that stays JSON; None if it can't be told.

    Counts them in the JSON that is stored: faster than in the objects, and right if the page has no
    escaped quotes.
    """
    if column.types.isdisjoint(_CONTAINER_TYPES):
        return 0
    if not column.types <= _CONTAINER_TYPES:
        return _count_keys(column)
    try:
        present = [text for text in column.texts if text is not None]
    except TypeError:
        return None
    # a brace inside a text counts, too, so this may be a false alarm
    if any(map(_may_be_deep, present)):
        return _count_keys(column)
    return b"".join(present).count(b'":')


def _may_be_deep(text: bytes) -> bool:
    return len(text) >= 2 * _DEEP_BRACKETS and text.count(b"[") + text.count(b"{") >= _DEEP_BRACKETS


def _count_keys(column: ColumnValues) -> int | None:
    """Return the number of keys in a column that stays JSON; None for a number beyond 64 bits."""
    if not column.types.isdisjoint(_NUMBER_TYPES):
        is_plain = column.has_no_nulls and column.types <= _NUMBER_TYPES
        # without nulls the values are the numbers, which saves a look at each type
        numbers = (
            column.values if is_plain else [n for n in column.values if type(n) in _NUMBER_TYPES]
        )
        if max(numbers) >= INT64_LIMIT or min(numbers) <= -INT64_LIMIT:
            return None
    if column.types.isdisjoint(_CONTAINER_TYPES):
        return 0
    scanned = scan_values([value for value in column.values if type(value) in _CONTAINER_TYPES])
    return None if scanned is None else scanned.key_count
