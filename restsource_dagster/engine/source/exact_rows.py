"""Rows that dlt's normalizer stores as they came.

dlt fits each value into the type of its column, and changes some on the way: 9007199254740993 becomes
...992 in a column of doubles, 5 becomes true in a column of bools, "1_000" becomes 1000. A value that
it can't fit gets a column beside the other, `x__v_text`. This module sends values that dlt would
change there, too: one rule for all values and all modes. It looks at the rows that are not written as
columns; those that are (engine/columnar) hold no value of another type than their column.
"""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any, cast

import dlt
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.schema import Schema

from restsource_dagster.engine.columnar.column_loader import SchemaLearner, renew_normalizer
from restsource_dagster.engine.columnar.flatten import NotColumnarError, SchemaRules
from restsource_dagster.engine.dlt_compat import (
    Container,
    UnsupportedDltError,
    coerce_value,
    table_identifier,
)
from restsource_dagster.engine.errors import IngestError

__all__ = ["ExactRows", "is_stored_as_it_came"]

_INT64_LIMIT = 2**63
_INT64_CHARS = 20
_DATA_TYPES: dict[type, str] = {
    str: "text",
    int: "bigint",
    float: "double",
    bool: "bool",
    Decimal: "decimal",
    dict: "json",
    list: "json",
}
"""dlt's types of the values in a record."""
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_WHOLE_NUMBER = re.compile(r"-?(0|[1-9]\d*)", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(r"\d\d:\d\d(:\d\d(\.\d+)?)?", re.ASCII)
_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?\s?(Z|z|[+-]\d\d(:?\d\d)?)?)?", re.ASCII
)
_DECIMAL_SCALE = 9  # of dlt's decimals, if the file declares no other


def is_stored_as_it_came(data_type: str, value: Any) -> bool:
    """Return True if dlt stores a value unchanged in a column of a type, or not in this column.

    The value is of another type than the column. A number and its digits are the same value, and so
    are a time and its text.
    """
    if isinstance(value, bool):
        # dlt reads 5 as true, and writes true into a text as "True"
        return False
    # dlt gives objects and lists a column of their own by itself
    if isinstance(value, dict | list):
        return True
    checks = _TEXT_CHECKS if isinstance(value, str) else _NUMBER_CHECKS
    return checks.get(data_type, _never)(value)


def _always(_: Any) -> bool:
    return True


def _never(_: Any) -> bool:
    return False


def _is_text_of_double(text: str) -> bool:
    # by its digits: 0.1 as a float is another number, and is written as 0.1 again
    return _NUMBER.fullmatch(text) is not None and Decimal(text) == Decimal(repr(float(text)))


def _is_text_of_integer(text: str) -> bool:
    return (
        _WHOLE_NUMBER.fullmatch(text) is not None
        and len(text) <= _INT64_CHARS
        and -_INT64_LIMIT <= int(text) < _INT64_LIMIT
    )


def _is_text_of_decimal(text: str) -> bool:
    try:
        return _NUMBER.fullmatch(text) is not None and _scale(Decimal(text)) <= _DECIMAL_SCALE
    except InvalidOperation:
        return False


def _scale(number: Decimal) -> int:
    exponent = number.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else _INT64_LIMIT


_NUMBER_CHECKS: dict[str, Callable[[Any], bool]] = {
    "text": _always,
    "json": _always,
    "double": lambda number: Decimal(float(number)) == number,
    # a Decimal has more than 64 bits: the load refuses it by name
    "bigint": lambda number: not isinstance(number, float) or abs(number) < _INT64_LIMIT,
    "decimal": lambda number: _scale(Decimal(str(number))) <= _DECIMAL_SCALE,
    "wei": lambda number: number % 1 == 0,
}
"""By the type of the column; dlt would change a number in any other."""
_TEXT_CHECKS: dict[str, Callable[[str], bool]] = {
    "binary": _always,
    "bigint": _is_text_of_integer,
    "double": _is_text_of_double,
    "decimal": _is_text_of_decimal,
    "wei": lambda text: _WHOLE_NUMBER.fullmatch(text) is not None,
    "bool": lambda text: text in ("true", "false"),
    "timestamp": lambda text: _MOMENT.fullmatch(text) is not None,
    "date": lambda text: _DATE.fullmatch(text) is not None,
    "time": lambda text: _TIME.fullmatch(text) is not None,
    # JSON in a text is what such a column is for; a text that merely reads as a number is a text
    "json": lambda text: text.lstrip()[:1] in ("{", "["),
}


@dataclass
class ExactRows:
    """Sends values that dlt would change to the column that it makes for values of their type."""

    table: str
    """The table's name as the file has it."""
    _types: "_ColumnTypes | None" = None
    _is_unsupported: bool = False

    def load(self, pages: Iterator[Any]) -> Iterator[Any]:
        """Yield the pages, changed where dlt would change a value. Runs inside dlt's extraction."""
        for page in pages:
            if not isinstance(page, list) or not page or self._is_unsupported:
                yield page
                continue
            if self._types is None:
                # dlt adds the table with its hints to the schema, where its types are looked up
                yield dlt.mark.materialize_table_schema()
                self._types = self._open()
            types = self._types
            yield [_exact(record, types) for record in page] if types else page

    def _open(self) -> "_ColumnTypes | None":
        schema = dlt.current.source_schema()
        try:
            return _ColumnTypes(schema, table_identifier(schema, self.table))
        except (NotColumnarError, UnsupportedDltError):
            self._is_unsupported = True
            return None


def _exact(record: Any, types: "_ColumnTypes") -> Any:
    """Return a record that dlt stores as it came: itself, or a copy."""
    if not types.find_changes(record):
        return record
    # dependents take the values of their parent from the same record
    changed = deepcopy(record)
    # a record that is no object is the value of one column
    holder = changed if isinstance(changed, dict) else {types.value_column: changed}
    # found again, as a change names the container of the value, which the copy has anew
    for container, key, moved in types.find_changes(holder):
        value = container[key]
        if isinstance(container, list):
            container[key] = {moved: value}
        else:
            del container[key]
            container[moved] = value
    return holder


Change = tuple[Any, Any, str]
"""A row or a list, the key or index of a value in it, and the key that the value gets."""


@dataclass
class _ColumnTypes:
    """The types of the columns of a table and of those nested in it, as dlt infers them."""

    schema: Schema
    table: str
    rules: SchemaRules = field(init=False)
    learner: SchemaLearner = field(init=False)

    def __post_init__(self) -> None:
        if self.table not in self.schema.tables:
            raise NotColumnarError("a contract allows no such table, and dlt drops its rows")
        renew_normalizer(self.schema, self.table)
        self.rules = SchemaRules(self.schema)
        self.learner = SchemaLearner(self.schema, Container()[DestinationCapabilitiesContext])

    @property
    def value_column(self) -> str:
        """The column of values that are no objects."""
        return str(self.rules.normalizer.c_value)

    def find_changes(self, record: Any) -> list[Change]:
        """Return the values of a record that dlt would change.

        The schema learns the record's new columns first. Empty for a record that dlt refuses.
        """
        row = record if isinstance(record, dict) else {self.value_column: record}
        changes: list[Change] = []
        try:
            # a new column has its type only after dlt has learnt it from this row
            if self._find(row, self.table, (self.table,), (), self._level, changes):
                self.learner.show(self.table, [row])
                self.rules.clear_nesting_cache()
                changes.clear()
                self._find(row, self.table, (self.table,), (), self._level, changes)
        except NotColumnarError:
            return []
        return changes

    @property
    def _level(self) -> int:
        return self.rules.level(self.table)

    def _find(
        self,
        row: dict[str, Any],
        table: str,
        path: tuple[str, ...],
        steps: tuple[str, ...],
        level: int,
        changes: list[Change],
    ) -> bool:
        """Add the changes in a row; return True if it has a column that has no type yet."""
        found = self.schema.tables.get(table)
        columns = found["columns"] if found else {}
        is_new = False
        for key, value in row.items():
            if value is None or not key:
                continue
            fragment = self.rules.column_fragment(key)
            name = self.rules.column((*steps, fragment))
            kind = type(value)
            if isinstance(value, dict | list) and not self.rules.stays_json(table, name, level):
                if isinstance(value, dict):
                    is_new |= self._find(value, table, path, (*steps, fragment), level - 1, changes)
                else:
                    below = (*path, *steps, self.rules.table_fragment(key))
                    is_new |= self._find_in_list(value, below, level - 1, changes)
                continue
            data_type = columns.get(name, {}).get("data_type")
            if data_type is None:
                is_new = True
            elif self._is_changed(data_type, value, f"{table}.{name}"):
                changes.append((row, key, f"{fragment}__v_{_DATA_TYPES[kind]}"))
        return is_new

    def _find_in_list(
        self, items: list[Any], path: tuple[str, ...], level: int, changes: list[Change]
    ) -> bool:
        table = self.rules.table(path)
        found = self.schema.tables.get(table)
        columns = found["columns"] if found else {}
        data_type = columns.get(self.value_column, {}).get("data_type")
        is_new = False
        for index, item in enumerate(items):
            if isinstance(item, dict):
                is_new |= self._find(item, table, path, (), level, changes)
            elif item is None or isinstance(item, list):
                continue
            elif data_type is None:
                is_new = True
            elif self._is_changed(data_type, item, f"{table}.{self.value_column}"):
                moved = f"{self.value_column}__v_{_DATA_TYPES[type(item)]}"
                changes.append((items, index, moved))
        return is_new

    def _is_changed(self, data_type: str, value: Any, column: str) -> bool:
        """Return True if dlt would change a value. Raises `IngestError` if a contract forbids others.

        A value that dlt can't fit gets a column of its own from dlt, or is refused by the contract.
        """
        kind = _DATA_TYPES.get(type(value))
        if kind in (None, data_type) or is_stored_as_it_came(data_type, value):
            return False
        column_type, value_type = cast("Any", data_type), cast("Any", kind)
        try:
            coerce_value(column_type, value_type, value)
        except (ValueError, SyntaxError):
            return False
        # only here: a value that dlt takes as it is breaks no contract
        if self._is_frozen:
            raise IngestError(
                f"{column} is {data_type}, a value that is {kind} came, and the contract on data_type "
                "takes no column for it. Let the contract evolve, or declare the column as text in "
                "another table"
            )
        return True

    @cached_property
    def _is_frozen(self) -> bool:
        contract = self.schema.resolve_contract_settings_for_table(self.table)
        return contract["data_type"] != "evolve"
