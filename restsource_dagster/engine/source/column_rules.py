"""What the file says of a column, checked while a row's page and number are known.

dlt and Arrow find a key without a value, a key of another type or a number with too many digits when
the rows are written. Then their errors name neither page nor row, and the run fails for ever.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any

from dlt.common.schema import Schema

from restsource_dagster.connector.model import Resource
from restsource_dagster.connector.models.table_hints import Column
from restsource_dagster.connector.naming import is_key_path, key_column
from restsource_dagster.engine.dlt_compat import column_identifier, table_identifier
from restsource_dagster.engine.errors import RecordError
from restsource_dagster.engine.source.exact_rows import is_stored_as_it_came

__all__ = ["ColumnRules"]

_SEPARATOR = "__"
_ONLY_FIELD = "value"
_VARIANT = "__v_"
_DECIMAL_PRECISION, _DECIMAL_SCALE = 38, 9  # dlt's own, if the file declares none
_KEY_TYPES: Mapping[type, str] = {str: "text", int: "bigint", float: "double", bool: "bool"}
_SNIPPET_CHARS = 80


@dataclass
class ColumnRules:
    """Checks the rows of one resource. `stored` is the schema of the tables that exist."""

    resource: Resource
    stored: Schema
    snippet: Callable[[str, int], str]
    """Redacts a text and cuts it to so many characters."""
    _key_types: dict[str, str] = field(default_factory=dict)
    _first_seen: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """Page and row of the first value of each field and type, if a contract may refuse them."""

    @cached_property
    def _declared(self) -> Mapping[str, Column]:
        """The columns of the file, by name."""
        return self.resource.hints.columns_by_name

    @cached_property
    def required(self) -> Mapping[str, str]:
        """The columns that need a value, with the names that the file has for them."""
        columns = self._declared
        keys = (*self.resource.primary_key, *self.resource.merge_key)
        named = [name for name in keys if _needs_value(columns.get(key_column(name)))]
        # a key that is nullable on purpose is not asked for; any other column only if the file says
        # so
        named += [name for name, column in columns.items() if column.nullable is False]
        return {column_identifier(self.stored, key_column(name)): name for name in named}

    @cached_property
    def _keys(self) -> frozenset[str]:
        names = (*self.resource.primary_key, *self.resource.merge_key)
        return frozenset(column_identifier(self.stored, key_column(name)) for name in names)

    @cached_property
    def _from_parent(self) -> frozenset[str]:
        """The columns that rows get from their parent, after they are checked here."""
        names = self.resource.columns_from_parent.values()
        return frozenset(column_identifier(self.stored, name) for name in names)

    @cached_property
    def _numbers(self) -> Mapping[str, Column]:
        """The columns with a declared number of digits or bits."""
        return {
            column_identifier(self.stored, name): column
            for name, column in self._declared.items()
            if column.data_type == "decimal"
            or (column.data_type in ("bigint", "wei") and column.precision)
        }

    def untyped_keys(self) -> list[str]:
        """Return the names of columns that need a value and whose type only a row could tell."""
        columns = self._declared
        return [
            name
            for name in map(key_column, self.required.values())
            if name not in columns or not columns[name].data_type
        ]

    def first_seen(self, column: str) -> tuple[int, int] | None:
        """Return page and row of the first record with a value for this column or nested table.

        That is a value of the type in the name, if it ends in one: `id__v_text`.
        """
        path, _, data_type = column.partition(_VARIANT)
        # dlt's error names the column, perhaps of a nested table, and no record
        for (name, kind), found in self._first_seen.items():
            known = column_identifier(self.stored, name) if name else name
            is_there = path == known or path.startswith(f"{known}{_SEPARATOR}")
            if is_there and (not data_type or data_type == kind):
                return found
        return None

    def _note_fields(self, page: Sequence[Any], number: int) -> None:
        for row, record in enumerate(page, 1):
            for name, value in record.items() if isinstance(record, dict) else ():
                if value is not None:
                    kind = _KEY_TYPES.get(type(value), "")
                    self._first_seen.setdefault((name, kind), (number, row))

    def check(self, records: Sequence[Any], page: Sequence[Any], number: int) -> None:
        """Raise `RecordError` for a record of a page that can't be stored as the file says.

        `records` are those of the page that are loaded.
        """
        if self.resource.hints.schema_contract is not None:
            self._note_fields(page, number)
        for column in self.required.keys() - self._from_parent:
            for record in records:
                # dlt stores a value that is no object as one with the field `value`
                row = record if isinstance(record, dict) else {_ONLY_FIELD: record}
                self._check_value(column, row, record, page, number)
        for column, declared in self._numbers.items():
            for record in records:
                value = self._find(record, column) if isinstance(record, dict) else None
                if value is not None and (problem := _misfit(declared, value)):
                    self._refuse(column, record, page, number, problem)

    def check_parent_field(self, field_name: str, value: Any, row: int) -> None:
        """Raise `RecordError` for a key that a row gets from its parent, without a value there."""
        column = column_identifier(self.stored, field_name)
        if value is None and column in self.required:
            problem = "the parent's record has no value there, and the file needs one"
            raise RecordError(self.resource.name, None, row, field_name, problem)

    def _check_value(
        self, column: str, row: Mapping[str, Any], record: Any, page: Sequence[Any], number: int
    ) -> None:
        # most fields are named as their columns are, and this is cheaper than a search
        value = row.get(column)
        if value is None:
            value = self._find(row, column)
        if value is None:
            self._refuse(column, record, page, number, self._missing(column, row))
        if isinstance(value, dict | list) and self._is_spread(column):
            self._refuse(column, record, page, number, _describe_spread(column, value))
        if column in self._keys:
            # dlt would store another type in a column of its own, and match no row by it
            known = self._known_type(column, value)
            if known and _KEY_TYPES.get(type(value)) != known and not _is_same(known, value):
                shown = self.snippet(repr(value), _SNIPPET_CHARS)
                self._refuse(
                    column,
                    record,
                    page,
                    number,
                    f"the key is {known} in rows that came before, and {shown} here. A key has one "
                    f'type: declare it, "columns": {{"{column}": {{"data_type": "text"}}}}, together '
                    'with another "table_name", or choose another key',
                )

    def _is_spread(self, column: str) -> bool:
        """Return True if dlt stores an object or a list in columns and tables of its own."""
        declared = self._declared.get(column)
        is_json = declared is not None and declared.data_type == "json"
        return not is_json and self.resource.max_table_nesting != 0

    def _missing(self, column: str, record: Mapping[str, Any]) -> str:
        name = self.required[column]
        if column not in self._keys:
            return "it has no value there, and by the file it is not nullable"
        problem = "it has no value there, and rows are identified by it"
        if is_key_path(name) and name in record:
            plain = column_identifier(self.stored, name)
            return f'{problem}: a dot leads into an object. This field has one in its name: write "{plain}"'
        return f'{problem}. Choose a key that each row has, or leave the key out and write "append"'

    def _known_type(self, column: str, value: Any) -> str | None:
        """Return the type of a key: the table's, else that of the first value."""
        if column not in self._key_types:
            table = self.stored.tables.get(table_identifier(self.stored, self.resource.table), {})
            columns: Any = table.get("columns", {})
            stored = columns.get(column, {}).get("data_type")
            declared = self._declared.get(column)
            first = stored or (declared and declared.data_type) or _KEY_TYPES.get(type(value))
            # dlt may read a text as a time
            self._key_types[column] = "" if first == "text" and not stored else str(first or "")
        return self._key_types[column]

    def _find(self, record: Mapping[str, Any], column: str) -> Any:
        """Return the value that is stored in a column: of a field, or of one inside of an object."""
        for key, value in record.items():
            name = column_identifier(self.stored, key) if key else key
            if name == column and value is not None:
                return value
            if isinstance(value, dict) and column.startswith(f"{name}{_SEPARATOR}"):
                found = self._find(value, column[len(name) + len(_SEPARATOR) :])
                if found is not None:
                    return found
        return None

    def _refuse(
        self,
        column: str,
        record: Any,
        page: Sequence[Any],
        number: int,
        problem: str,
    ) -> None:
        row = next((at for at, one in enumerate(page, 1) if one is record), None)
        if row is None:  # marked records are copies
            row = next((at for at, one in enumerate(page, 1) if one == record), 0)
        name = self.required.get(column, column)
        raise RecordError(self.resource.name, number, row, name, problem)


def _needs_value(declared: Column | None) -> bool:
    """True if a column of a key needs a value: always, unless the file lets it be null."""
    return declared is None or declared.nullable is not True


def _describe_spread(column: str, value: Any) -> str:
    """Return why a column has no value although its field has one."""
    if isinstance(value, list):
        return "it is a list here, whose items become rows of a table of their own; the file needs a value"
    inner = next((f'. A field inside of it is written "{column}__{name}"' for name in value), "")
    return f"it is an object here, whose fields become columns of their own{inner}"


def _is_same(data_type: str, value: Any) -> bool:
    """Return True if a key's value is stored in its column, and not beside it."""
    if data_type == "bigint" and isinstance(value, float | Decimal):
        return isinstance(value, float) and value % 1 == 0
    return not isinstance(value, dict | list) and is_stored_as_it_came(data_type, value)


def _misfit(column: Column, value: Any) -> str | None:
    """Return why a number does not fit the declared type; None if it does, or is no number."""
    if isinstance(value, bool | dict | list):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None  # a text: it gets a column of its own
    if not number.is_finite():
        return None
    if column.data_type == "bigint":
        limit = 2 ** ((column.precision or 64) - 1)
        fits = -limit <= number < limit
        return None if fits else f"{value} does not fit the {column.precision} bits of the column"
    if column.data_type == "wei":
        # `wei` is dlt's type of large whole numbers
        precision, scale = column.precision or _DECIMAL_PRECISION, column.scale or 0
    else:
        precision = column.precision or _DECIMAL_PRECISION
        scale = _DECIMAL_SCALE if column.scale is None else column.scale
    # without the zeros at the end: 1.50 has one digit after the point
    exponent = number.normalize().as_tuple().exponent
    digits_after = max(0, -exponent) if isinstance(exponent, int) else 0
    if digits_after <= scale and abs(number) < 10 ** (precision - scale):
        return None
    return (
        f"{value} does not fit the {precision} digits of the column, {scale} of them after the point. "
        "Declare more of them for a new table, or the type text"
    )
