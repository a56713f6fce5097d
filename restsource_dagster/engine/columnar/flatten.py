"""From a column's values to Arrow, only where the result is that of dlt's row by row coercion.

Why rows can't be written as columns.

What dlt's schema says about names and nesting, asked once per name.

The normalizer of dlt asks for each value. The answers come from dlt's own functions, so that both
ways of loading give tables and columns the same names.

From records to columns: objects flattened, lists taken apart, nothing converted yet.
"""

import base64
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from types import NoneType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from dlt.common import json
from dlt.common.schema import Schema
from dlt.common.schema.typing import TColumnSchema

from restsource_dagster.engine import dlt_compat

__all__ = [
    "ColumnValues",
    "FlatTable",
    "NotColumnarError",
    "SchemaRules",
    "flatten_records",
    "random_ids",
    "to_array",
]


class NotColumnarError(Exception):
    """What columns would make of a page is not, or not surely, what dlt makes of its rows."""


_RESERVED_PREFIX = "_dlt_"


class SchemaRules:
    """Names and nesting, by dlt's schema. `forget` when the schema has changed."""

    def __init__(self, schema: Schema) -> None:
        """Raises `NotColumnarError` for a normalizer other than dlt's relational one."""
        if type(schema.data_item_normalizer) is not dlt_compat.DataItemNormalizer:
            raise NotColumnarError("dlt is configured with another normalizer")
        self.schema = schema
        self.normalizer = schema.data_item_normalizer
        self._fragments: dict[str, str] = {}
        self._tables: dict[tuple[str, ...], str] = {}
        self._columns: dict[tuple[str, ...], str] = {}
        self._nested: dict[tuple[str, str, int], bool] = {}

    def clear_nesting_cache(self) -> None:
        """Ask again whether a field is kept as JSON, for that depends on the tables there are."""
        self._nested.clear()

    def level(self, table: str) -> int:
        """How many levels of a root table's objects and lists become columns and tables."""
        most: int = self.normalizer.max_nesting
        return dlt_compat.json_normalizer.get_table_nesting_level(self.schema, table, most) or 0

    def column_fragment(self, key: str) -> str:
        """The part of a column's name that a field stands for. Raises `NotColumnarError`."""
        known = self._fragments.get(key)
        if known is None:
            known = self._fragments[key] = self._fragment(key)
        return known

    def column(self, path: tuple[str, ...]) -> str:
        """The name of a column, from the fragments on its way."""
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
        """The name of a nested table, from the fragments on its way."""
        known = self._tables.get(path)
        if known is None:
            known = self._tables[path] = dlt_compat.json_normalizer.shorten_fragments(
                self.schema.naming, *path
            )
        return known

    def table_fragment(self, key: str) -> str:
        """The part of a nested table's name that a field stands for."""
        return dlt_compat.json_normalizer.normalize_table_identifier(
            self.schema, self.schema.naming, key
        )

    def stays_json(self, table: str, column: str, level: int) -> bool:
        """Whether an object or a list there is a column of its own."""
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
            key.encode()
        except UnicodeEncodeError:
            raise NotColumnarError("a field's name has half a character in it") from None
        name = dlt_compat.json_normalizer.normalize_identifier(self.schema, self.schema.naming, key)
        if name.startswith(_RESERVED_PREFIX):
            raise NotColumnarError(f"the field {key} has a name of dlt's own")
        return name


Record = dict[str, Any]
_EMPTY_RECORD: Record = {}
_MAX_FLATTEN_DEPTH = 40


@dataclass(frozen=True)
class ColumnValues:
    """The values of one column, and the types among them other than `NoneType`."""

    values: Sequence[Any]
    types: frozenset[type]
    has_no_nulls: bool
    """Whether no value is missing."""

    @cached_property
    def texts(self) -> Sequence[bytes | None]:
        """Objects and lists as dlt writes them as JSON. Raises `TypeError` if they can't be."""
        dump = json.dumpb
        if self.has_no_nulls:
            return [dump(value) for value in self.values]
        return [None if value is None else dump(value) for value in self.values]


@dataclass(frozen=True)
class FlatTable:
    """The rows of one table in one page.

    For a nested table `parents` says for each row which row of the parent's sheet it belongs to,
    and `positions` where it stood in that row's list; `roots` leads to the page's records.
    """

    table: str
    parent: str | None
    length: int
    columns: dict[str, ColumnValues]
    root_rows: Sequence[int]
    parents: Sequence[int] = ()
    positions: Sequence[int] = ()
    keys: int = 0
    """The keys of all objects that became its columns."""


def flatten_records(table: str, records: Sequence[Any], rules: SchemaRules) -> list[FlatTable]:
    """The sheets of a page, each after its parent's; names as dlt's normalizer gives them.

    Raises `NotColumnarError` where a column would hold different kinds of things, two fields have
    one name, or a record is no object.
    """
    if not all(issubclass(one, dict) for one in set(map(type, records))):
        raise NotColumnarError("a record is no object")
    level = rules.level(table)
    return list(
        _Flattener(rules)._tables(table, None, (table,), records, level, range(len(records)))
    )


@dataclass(frozen=True)
class _Flattener:
    rules: SchemaRules

    def _tables(
        self,
        table: str,
        parent: str | None,
        path: tuple[str, ...],
        rows: Sequence[Record],
        level: int,
        roots: Sequence[int],
        parents: Sequence[int] = (),
        positions: Sequence[int] = (),
    ) -> Iterator[FlatTable]:
        if len(path) > _MAX_FLATTEN_DEPTH:
            raise NotColumnarError("the records are nested too deeply")
        columns: dict[str, ColumnValues] = {}
        lists: dict[tuple[str, ...], Sequence[Any]] = {}
        keys = self._fields(table, rows, level, columns, lists)
        yield FlatTable(table, parent, len(rows), columns, roots, parents, positions, keys)
        for steps, values in lists.items():
            yield from self._nested(table, path + steps, values, level - 1, roots)

    def _fields(
        self,
        table: str,
        rows: Sequence[Record],
        level: int,
        columns: dict[str, ColumnValues],
        lists: dict[tuple[str, ...], Sequence[Any]],
    ) -> int:
        rules, keys = self.rules, 0
        waiting: list[tuple[Sequence[Record], int, tuple[str, ...]]] = [(rows, level, ())]
        while waiting:
            current, depth, steps = waiting.pop()
            if len(steps) > _MAX_FLATTEN_DEPTH:
                raise NotColumnarError("the records are nested too deeply")
            keys += sum(map(len, current))
            for key, values in _values_by_field(current):
                types = set(map(type, values))
                is_full = NoneType not in types
                types.discard(NoneType)
                way = (*steps, rules.column_fragment(key))
                name = rules.column(way)
                nests = not types.isdisjoint((dict, list))
                if nests and not rules.stays_json(table, name, depth):
                    if len(types) > 1:
                        raise NotColumnarError(f"{name} is an object or a list here and not there")
                    if dict in types:
                        objects = [_EMPTY_RECORD if value is None else value for value in values]
                        waiting.append((objects, depth - 1, way))
                    else:
                        _put_once(lists, (*steps, rules.table_fragment(key)), values)
                else:
                    _put_once(columns, name, ColumnValues(values, frozenset(types), is_full))
        return keys

    def _nested(
        self,
        parent: str,
        path: tuple[str, ...],
        lists: Sequence[list[Any] | None],
        level: int,
        roots: Sequence[int],
    ) -> Iterator[FlatTable]:
        items = list(chain.from_iterable(filter(None, lists)))
        if not items:
            return
        table = self.rules.table(path)
        parents = [row for row, found in enumerate(lists) if found for _ in found]
        positions = list(chain.from_iterable(range(len(found)) for found in lists if found))
        tops = [roots[row] for row in parents]
        types = set(map(type, items))
        if types == {dict}:
            yield from self._tables(table, parent, path, items, level, tops, parents, positions)
        elif types.isdisjoint((dict, list)):
            name = str(self.rules.normalizer.c_value)
            cells = {
                name: ColumnValues(items, frozenset(types - {NoneType}), NoneType not in types)
            }
            yield FlatTable(table, parent, len(items), cells, tops, parents, positions)
        else:
            raise NotColumnarError(f"the items of {table} are of different kinds, or lists")


def _values_by_field(rows: Sequence[Record]) -> Iterable[tuple[str, Sequence[Any]]]:
    """The fields of rows and the values of each; None where a row lacks it."""
    shapes = set(map(tuple, rows))
    if len(shapes) == 1:
        return zip(shapes.pop(), zip(*map(dict.values, rows), strict=True), strict=True)
    keys = dict.fromkeys(chain.from_iterable(rows))
    return ((key, [row.get(key) for row in rows]) for key in keys)


def _put_once(found: dict[Any, Any], name: Any, value: Any) -> None:
    if name in found:
        raise NotColumnarError(f"two fields become {name}")
    found[name] = value


_ID_CHARACTERS = 14  # what dlt's ten random bytes come to in base64
_ACCEPTED_TYPES: dict[str, frozenset[type]] = {
    "text": frozenset({str}),
    "bigint": frozenset({int}),
    "double": frozenset({float, int}),
    "bool": frozenset({bool}),
    "timestamp": frozenset({str}),
    "json": frozenset({dict, list}),
}


def to_array(cells: ColumnValues, column: TColumnSchema, kind: pa.DataType) -> pa.Array:
    """The values as an array of type `kind`, the type of dlt's `column`.

    Raises `NotColumnarError` if dlt would coerce a value, make a variant column of it, or refuse it.
    """
    name, data_type = column["name"], str(column["data_type"])
    if not cells.types:
        return pa.nulls(len(cells.values), kind)
    if not cells.types <= _ACCEPTED_TYPES.get(data_type, frozenset()):
        found = ", ".join(sorted(one.__name__ for one in cells.types))
        raise NotColumnarError(f"{name} is {data_type} and got {found}")
    try:
        if data_type == "timestamp":
            array = _timestamp_array(cells.values, kind)
        elif data_type == "json":
            array = pa.array(cells.texts, kind)
        else:
            array = pa.array(cells.values, kind)
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise NotColumnarError(f"{name} is {data_type}: {error}") from None
    if data_type == "double" and not pc.all(pc.is_finite(array)).as_py():
        raise NotColumnarError(f"{name} has a number that is not finite")
    return array


def random_ids(count: int) -> pa.Array:
    """So many identifiers like dlt's own: random, in base64."""
    text = base64.b64encode(secrets.token_bytes(count * _ID_CHARACTERS * 3 // 4 + 3))
    return pa.StringArray.from_buffers(count, _id_offsets(count), pa.py_buffer(text))


@lru_cache(maxsize=16)  # pages are of few sizes
def _id_offsets(count: int) -> pa.Buffer:
    """Where each identifier starts."""
    return pa.array(range(0, (count + 1) * _ID_CHARACTERS, _ID_CHARACTERS), pa.int32()).buffers()[1]


def _timestamp_array(values: Sequence[Any], kind: pa.TimestampType) -> pa.Array:
    """Texts in ISO 8601 as moments; without a zone they are taken for UTC, as dlt does.

    Arrow reads a text with a zone only as a moment, one without only as a wall clock.
    """
    texts = pa.array(values, pa.string())
    if kind.tz is None:
        raise NotColumnarError("a time without a zone")
    try:
        return pc.cast(texts, kind)
    except pa.ArrowInvalid:
        return pc.assume_timezone(pc.cast(texts, pa.timestamp(kind.unit)), kind.tz)
