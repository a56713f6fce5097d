"""Makes records loadable: changes or refuses the values that JSON has and a table can't store.

Everything else is left to dlt: mixed types become variant columns, objects become columns, lists
become nested tables.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from decimal import Decimal
from typing import Any

from restsource_dagster.engine.errors import RecordError
from restsource_dagster.engine.http.json_body import (
    DUPLICATE_KEY,
    ObjectShape,
    UnverifiedRecords,
    scan_values,
)
from restsource_dagster.engine.http.redaction import Redactor

__all__ = ["MAX_RECORD_DEPTH", "RecordSanitizer"]

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_DECIMAL_LIMIT = 10**29  # dlt's decimals have 38 digits, 9 of them after the point
MAX_RECORD_DEPTH = 200  # far below Python's recursion limit, far above any real API
_MAX_KNOWN_SHAPES = 10_000
_RECORD_SNIPPET_CHARS = 120
_SEPARATOR = "__"
_VARIANT_INFIX = "__v_"
_DATA_TYPES = {str: "text", int: "bigint", float: "double", bool: "bool"}
"""dlt's types of JSON's values, which name the columns for values of another type."""


class RecordSanitizer:
    """Makes the records of a resource loadable, in place. Call it from any thread.

    - A whole number beyond 64 bits becomes a decimal, beyond 29 digits a text. A column that has held
      smaller ones can't store it, and the load fails with `first_oversized`.
    - A lone surrogate (half a character) becomes U+FFFD, with a message.
    - Refused: two fields that become one column or one nested table (`Id` and `id`, `a__b` and the `b`
      of `a`), a duplicate key, fields with dlt's own prefix, infinite numbers, more than 200 levels.
    """

    def __init__(
        self,
        resource: str,
        normalize: Callable[[str], str],
        notify: Callable[[str], None],
        redactor: Redactor,
        flatten: Callable[[UnverifiedRecords], list[Any] | None] | None = None,
        *,
        levels: int | None = None,
        json_columns: Collection[str] = (),
        foreign_tables: Mapping[str, str] | None = None,
    ) -> None:
        """`normalize` turns a field's name into that of its column.

        `flatten` turns a page into columns and verifies its values on the way; it returns None for a
        page that it can't take. `levels` is the number of levels of objects and lists that become
        columns and tables; None is all. Objects in `json_columns` stay JSON. `foreign_tables` are
        tables of other resources that a list of this one could be nested in: each with the name that
        it has below the table of this resource.
        """
        self._resource = resource
        self._levels = MAX_RECORD_DEPTH if levels is None else levels
        self._json_columns = frozenset(map(normalize, json_columns))
        self._foreign_tables = foreign_tables or {}
        self._normalize = normalize
        self._notify = notify
        self._known_shapes: set[ObjectShape] = set()
        self._redactor = redactor
        self._flatten = flatten
        self._oversized: tuple[tuple[str, ...], int] | None = None
        self.first_oversized: RecordError | None = None
        """The error to raise if dlt can't store the first number beyond 64 bits."""

    def sanitize(self, records: list[Any], page: int) -> list[Any]:
        """Return the records of a page, made loadable. Raises `RecordError` for one that can't be."""
        if isinstance(records, UnverifiedRecords) and self._foreign_tables:
            # the names of lists are looked at one by one
            records = records.parse_strictly()
        if isinstance(records, UnverifiedRecords):
            flattened = self._flatten(records) if self._flatten else None
            if flattened is not None:
                return flattened
            scan = scan_values(records)
            if scan is None or scan.key_count != records.key_count:
                records = records.parse_strictly()
            elif all(map(self._is_loadable, scan.shapes)):
                # orjson refuses surrogates and infinite numbers, so nothing is left to check
                return records
        for index, record in enumerate(records):
            try:
                records[index] = self._sanitized(record, (), 0)
                if self._foreign_tables and isinstance(record, dict):
                    self._check_tables(record, (), "")
                if self._oversized is not None:
                    self._note_oversized(page, index + 1)
            except _UnloadableValueError as error:
                snippet = self._redactor.snippet(repr(record), _RECORD_SNIPPET_CHARS)
                problem = f"{error.problem}. The record starts {snippet}"
                field = ".".join(error.path)
                raise RecordError(self._resource, page, index + 1, field, problem) from None
        return records

    def _is_loadable(self, keys: ObjectShape) -> bool:
        """Return True if an object with these keys can be stored whatever its values."""
        if keys in self._known_shapes:
            return True
        columns = {self._normalize(key) if key else key for key in keys}
        if len(columns) < len(keys) or any(column.startswith("_dlt_") for column in columns):
            return False
        if _has_paths_in_common(columns):
            return False
        self._remember(keys)
        return True

    def _remember(self, keys: ObjectShape) -> None:
        # objects with ids for keys have a new shape each time
        if len(self._known_shapes) >= _MAX_KNOWN_SHAPES:
            self._known_shapes.clear()
        self._known_shapes.add(keys)

    def _sanitized(self, value: Any, path: tuple[str, ...], depth: int) -> Any:
        """Return the value, or the one to store in its place."""
        kind = type(value)
        if kind is str:
            return value if value.isascii() else self._sanitized_text(value, path)
        if kind is int:
            return (
                value if _INT64_MIN <= value <= _INT64_MAX else self._oversized_value(value, path)
            )
        # inf - inf and nan - nan are nan, which differs from 0
        if kind is float and value - value != 0:
            raise _UnloadableValueError(path, "the number is not finite")
        if isinstance(value, dict):
            self._sanitize_object(value, path, depth + 1)
        elif kind is list:
            for index, item in enumerate(value):
                value[index] = self._sanitized(item, path, depth + 1)
        return value

    def _sanitize_object(self, value: dict[str, Any], path: tuple[str, ...], depth: int) -> None:
        if depth > MAX_RECORD_DEPTH:
            raise _UnloadableValueError(
                path[:3], f"it is nested deeper than {MAX_RECORD_DEPTH} levels"
            )
        keys = tuple(value)
        if keys not in self._known_shapes:
            self._check_keys(value, keys, path)
        # the usual values are checked here, without the cost of a call for each
        for key, item in value.items():
            kind = type(item)
            if kind is str:
                if item.isascii():
                    continue
            elif kind is int:
                if _INT64_MIN <= item <= _INT64_MAX:
                    continue
            elif item is None or kind is bool:
                continue
            value[key] = self._sanitized(item, (*path, key), depth)

    def _check_keys(self, value: dict[str, Any], keys: ObjectShape, path: tuple[str, ...]) -> None:
        """Raise an error for keys that can't be stored; remember them if they can with any values."""
        if DUPLICATE_KEY in value:
            twice = value.pop(DUPLICATE_KEY)
            raise _UnloadableValueError(
                (*path, twice), "the key is there twice in one object, with different values"
            )
        columns: dict[str, str] = {}
        is_loadable = True
        for key in keys:
            if _has_surrogate(key):
                raise _UnloadableValueError(
                    (*path, _replace_surrogates(key)),
                    "the key has half a character (a lone surrogate)",
                )
            column = self._normalize(key) if key else key
            if column.startswith("_dlt_"):
                raise _UnloadableValueError(
                    (*path, key), "names that start with _dlt_ are dlt's own"
                )
            first = columns.setdefault(column, key)
            if first != key:
                # equal values do no harm, so the next object with these keys is checked again
                is_loadable = False
                if value[first] != value[key]:
                    raise _UnloadableValueError(
                        (*path, key),
                        f"{first!r} and {key!r} would both become the column {column!r}, and they "
                        "differ",
                    )
        if _has_paths_in_common(columns.keys()):
            is_loadable = False
            self._check_paths(value, path)
        if is_loadable:
            self._remember(keys)

    def _check_paths(self, value: dict[str, Any], path: ObjectShape) -> None:
        """Raise an error if a field of an object inside would become the column of another field."""
        found: dict[tuple[bool, str], tuple[ObjectShape, Any]] = {}
        for keys, column, item in self._flattened(value, (), "", self._levels):
            # lists become tables, which have names of their own
            is_list = isinstance(item, list) and column not in self._json_columns
            first, other = found.setdefault((is_list, column), (keys, item))
            if first != keys and (other != item or (is_list and item)):
                one, two = ".".join(first), ".".join(keys)
                what = "table below this one" if is_list else "column"
                raise _UnloadableValueError(
                    (*path, *keys), f"{one!r} and {two!r} would both become the {what} {column!r}"
                )
        self._check_variants(value, path, {column for _, column in found})

    def _check_tables(self, value: dict[str, Any], path: ObjectShape, below: str) -> None:
        """Raise an error for a list whose rows would go to the table of another resource."""
        for keys, name, item in self._flattened(value, path, below, self._levels):
            if not isinstance(item, list) or name in self._json_columns:
                continue
            if table := self._foreign_tables.get(name):
                raise _UnloadableValueError(
                    keys,
                    f"the rows of this list would go to {table}, the table of another resource. "
                    'Give one of the two another "table_name"',
                )
            for row in item:
                if isinstance(row, dict):
                    self._check_tables(row, keys, f"{name}{_SEPARATOR}")

    def _check_variants(
        self, value: dict[str, Any], path: ObjectShape, columns: Collection[str]
    ) -> None:
        """Raise an error for a value whose column for another type is the column of another field."""
        for key, item in value.items():
            variant = f"{self._normalize(key)}{_VARIANT_INFIX}{_DATA_TYPES.get(type(item))}"
            if key and variant in columns:
                raise _UnloadableValueError(
                    (*path, key),
                    f"{variant!r}, the column for values of this type if the column has another, is "
                    "also a field",
                )

    def _flattened(
        self, value: dict[str, Any], path: ObjectShape, above: str, levels: int
    ) -> Iterator[tuple[ObjectShape, str, Any]]:
        """Yield the keys that lead to each value that is stored, its column, and the value."""
        for key, item in value.items():
            column = f"{above}{self._normalize(key) if key else key}"
            if isinstance(item, dict) and levels > 0 and column not in self._json_columns:
                yield from self._flattened(item, (*path, key), f"{column}{_SEPARATOR}", levels - 1)
            else:
                yield (*path, key), column, item

    def _sanitized_text(self, value: str, path: tuple[str, ...]) -> str:
        if not _has_surrogate(value):
            return value
        self._notify(
            f"{self._resource}: {'.'.join(path)} has half a character (a lone surrogate), "
            "replaced by U+FFFD"
        )
        return _replace_surrogates(value)

    def _oversized_value(self, value: int, path: tuple[str, ...]) -> Decimal | str:
        self._oversized = (path, value)
        return Decimal(value) if abs(value) < _DECIMAL_LIMIT else str(value)

    def _note_oversized(self, page: int, row: int) -> None:
        if self.first_oversized is None and self._oversized is not None:
            path, value = self._oversized
            column = ".".join(path)
            self.first_oversized = RecordError(
                self._resource,
                page,
                row,
                column,
                f"{value} does not fit the 64 bits of the column, which has held smaller numbers. "
                'Declare it before the first load, "columns": {"' + column + '": {"data_type": '
                '"decimal"}}; if the table exists, choose another "table_name"',
            )
        self._oversized = None


def _has_paths_in_common(columns: Collection[str]) -> bool:
    """Return True if the name of a column begins like that of another one and goes on below it."""
    return any(
        any(column[:at] in columns for at in _separators(column))
        for column in columns
        if _SEPARATOR in column
    )


def _separators(column: str) -> Iterator[int]:
    """Yield where a name could be split into an object's name and a field's."""
    at = column.find(_SEPARATOR, 1)
    while at > 0:
        yield at
        at = column.find(_SEPARATOR, at + 1)


class _UnloadableValueError(Exception):
    """A value that no table can store; `path` leads to it from the record."""

    def __init__(self, path: tuple[str, ...], problem: str) -> None:
        super().__init__(problem)
        self.path = path
        self.problem = problem


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _replace_surrogates(text: str) -> str:
    return "".join(_valid_characters(text))


def _valid_characters(text: str) -> Iterator[str]:
    for character in text:
        yield "\ufffd" if "\ud800" <= character <= "\udfff" else character
