"""From records to columns: objects flattened, lists taken apart, nothing converted yet."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from types import NoneType
from typing import Any

from dlt.common.json import json

from restsource_dagster.engine.columnar.errors import NotColumnarError
from restsource_dagster.engine.columnar.rules import SchemaRules

__all__ = ["Cells", "Sheet", "spread"]

Record = dict[str, Any]
_NO_FIELDS: Record = {}
_DEEPEST = 40


@dataclass(frozen=True)
class Cells:
    """The values of one column, and the types among them other than `NoneType`."""

    values: Sequence[Any]
    types: frozenset[type]
    is_full: bool
    """Whether no value is missing."""

    @cached_property
    def texts(self) -> Sequence[bytes | None]:
        """Objects and lists as dlt writes them as JSON. Raises `TypeError` if they can't be."""
        dump = json.dumpb
        if self.is_full:
            return [dump(value) for value in self.values]
        return [None if value is None else dump(value) for value in self.values]


@dataclass(frozen=True)
class Sheet:
    """The rows of one table in one page.

    For a nested table `parents` says for each row which row of the parent's sheet it belongs to,
    and `positions` where it stood in that row's list; `roots` leads to the page's records.
    """

    table: str
    parent: str | None
    length: int
    columns: dict[str, Cells]
    roots: Sequence[int]
    parents: Sequence[int] = ()
    positions: Sequence[int] = ()
    keys: int = 0
    """The keys of all objects that became its columns."""


def spread(table: str, records: Sequence[Any], rules: SchemaRules) -> list[Sheet]:
    """The sheets of a page, each after its parent's; names as dlt's normalizer gives them.

    Raises `NotColumnarError` where a column would hold different kinds of things, two fields have
    one name, or a record is no object.
    """
    if not all(issubclass(one, dict) for one in set(map(type, records))):
        raise NotColumnarError("a record is no object")
    level = rules.level(table)
    return list(
        _Spreader(rules)._sheets(table, None, (table,), records, level, range(len(records)))
    )


@dataclass(frozen=True)
class _Spreader:
    rules: SchemaRules

    def _sheets(
        self,
        table: str,
        parent: str | None,
        path: tuple[str, ...],
        rows: Sequence[Record],
        level: int,
        roots: Sequence[int],
        parents: Sequence[int] = (),
        positions: Sequence[int] = (),
    ) -> Iterator[Sheet]:
        if len(path) > _DEEPEST:
            raise NotColumnarError("the records are nested too deeply")
        columns: dict[str, Cells] = {}
        lists: dict[tuple[str, ...], Sequence[Any]] = {}
        keys = self._fields(table, rows, level, columns, lists)
        yield Sheet(table, parent, len(rows), columns, roots, parents, positions, keys)
        for steps, values in lists.items():
            yield from self._nested(table, path + steps, values, level - 1, roots)

    def _fields(
        self,
        table: str,
        rows: Sequence[Record],
        level: int,
        columns: dict[str, Cells],
        lists: dict[tuple[str, ...], Sequence[Any]],
    ) -> int:
        rules, keys = self.rules, 0
        waiting: list[tuple[Sequence[Record], int, tuple[str, ...]]] = [(rows, level, ())]
        while waiting:
            current, depth, steps = waiting.pop()
            if len(steps) > _DEEPEST:
                raise NotColumnarError("the records are nested too deeply")
            keys += sum(map(len, current))
            for key, values in _columns_of(current):
                types = set(map(type, values))
                is_full = NoneType not in types
                types.discard(NoneType)
                way = (*steps, rules.fragment(key))
                name = rules.column(way)
                nests = not types.isdisjoint((dict, list))
                if nests and not rules.stays_json(table, name, depth):
                    if len(types) > 1:
                        raise NotColumnarError(f"{name} is an object or a list here and not there")
                    if dict in types:
                        objects = [_NO_FIELDS if value is None else value for value in values]
                        waiting.append((objects, depth - 1, way))
                    else:
                        _put(lists, (*steps, rules.table_fragment(key)), values)
                else:
                    _put(columns, name, Cells(values, frozenset(types), is_full))
        return keys

    def _nested(
        self,
        parent: str,
        path: tuple[str, ...],
        lists: Sequence[list[Any] | None],
        level: int,
        roots: Sequence[int],
    ) -> Iterator[Sheet]:
        items = list(chain.from_iterable(filter(None, lists)))
        if not items:
            return
        table = self.rules.table(path)
        parents = [row for row, found in enumerate(lists) if found for _ in found]
        positions = list(chain.from_iterable(range(len(found)) for found in lists if found))
        tops = [roots[row] for row in parents]
        types = set(map(type, items))
        if types == {dict}:
            yield from self._sheets(table, parent, path, items, level, tops, parents, positions)
        elif types.isdisjoint((dict, list)):
            name = str(self.rules.normalizer.c_value)
            cells = {name: Cells(items, frozenset(types - {NoneType}), NoneType not in types)}
            yield Sheet(table, parent, len(items), cells, tops, parents, positions)
        else:
            raise NotColumnarError(f"the items of {table} are of different kinds, or lists")


def _columns_of(rows: Sequence[Record]) -> Iterable[tuple[str, Sequence[Any]]]:
    """The fields of rows and the values of each; None where a row lacks it."""
    shapes = set(map(tuple, rows))
    if len(shapes) == 1:
        return zip(shapes.pop(), zip(*map(dict.values, rows), strict=True), strict=True)
    keys = dict.fromkeys(chain.from_iterable(rows))
    return ((key, [row.get(key) for row in rows]) for key in keys)


def _put(found: dict[Any, Any], name: Any, value: Any) -> None:
    if name in found:
        raise NotColumnarError(f"two fields become {name}")
    found[name] = value
