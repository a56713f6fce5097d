"""Values that JSON allows and a table does not: loaded sensibly, or refused by name.

Everything else is dlt's: mixed types become variant columns, objects columns, lists nested tables.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from restsource_dagster.engine.errors import RecordError
from restsource_dagster.engine.http.json_body import DUPLICATE_KEY, UnverifiedRecords, scan_values
from restsource_dagster.engine.http.redaction import Redactor

__all__ = ["RecordSanitizer"]

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_DECIMAL_LIMIT = 10**29  # dlt's decimals have 38 digits, 9 of them behind the point
_MAX_RECORD_DEPTH = 200
_MAX_KNOWN_SHAPES = 10_000
_RECORD_SNIPPET_CHARS = 120


class RecordSanitizer:
    """Goes through the records of a resource, from any thread.

    - A whole number beyond 64 bits becomes a decimal, beyond 29 digits a text; a column that holds
      smaller ones already can't take it, and the load is refused (`first_big`).
    - Half a character (a lone surrogate) becomes U+FFFD, and that is said.
    - Refused: two fields that become one column (`Id`, `id`), a key that stands twice, fields with
      dlt's own prefix, infinite numbers, more than 200 levels.
    """

    def __init__(
        self,
        resource: str,
        normalize: Callable[[str], str],
        say: Callable[[str], None],
        redactor: Redactor,
        spread: Callable[[UnverifiedRecords], list[Any] | None] | None = None,
    ) -> None:
        """`spread` takes a page whose rows become columns, where that settles everything."""
        self._resource = resource
        self._normalize = normalize
        self._say = say
        self._known: set[tuple[str, ...]] = set()
        self._redactor = redactor
        self._spread = spread
        self._oversized: tuple[tuple[str, ...], int] | None = None
        self.first_oversized: RecordError | None = None
        """The first number beyond 64 bits: what is wrong if the load can't hold it after all."""

    def sanitize(self, records: list[Any], page: int) -> list[Any]:
        """The records of a page, made loadable in place. Raises `RowError`."""
        if isinstance(records, UnverifiedRecords):
            spread = self._spread(records) if self._spread else None
            if spread is not None:
                return spread
            looked = scan_values(records)
            if looked is None or looked.key_count != records.key_count:
                records = records.parse_strictly()
            elif all(map(self._is_loadable, looked.shapes)):
                return records
        for index, record in enumerate(records):
            try:
                records[index] = self._settled(record, (), 0)
                if self._oversized is not None:
                    self._note_oversized(page, index + 1)
            except _UnloadableValueError as error:
                snippet = self._redactor.snippet(repr(record), _RECORD_SNIPPET_CHARS)
                problem = f"{error.problem}. The record starts {snippet}"
                field = ".".join(error.path)
                raise RecordError(self._resource, page, index + 1, field, problem) from None
        return records

    def _is_loadable(self, keys: tuple[str, ...]) -> bool:
        """Whether an object with these keys is fine whatever its values."""
        if keys in self._known:
            return True
        columns = {self._normalize(key) if key else key for key in keys}
        if len(columns) < len(keys) or any(column.startswith("_dlt_") for column in columns):
            return False
        self._remember(keys)
        return True

    def _remember(self, keys: tuple[str, ...]) -> None:
        if len(self._known) >= _MAX_KNOWN_SHAPES:
            self._known.clear()
        self._known.add(keys)

    def _settled(self, value: Any, path: tuple[str, ...], depth: int) -> Any:
        """The value, or what stands for it."""
        kind = type(value)
        if kind is str:
            return value if value.isascii() else self._text(value, path)
        if kind is int:
            return (
                value if _INT64_MIN <= value <= _INT64_MAX else self._oversized_value(value, path)
            )
        if kind is float and value - value != 0:
            raise _UnloadableValueError(path, "the number is not finite")
        if isinstance(value, dict):
            self._object(value, path, depth + 1)
        elif kind is list:
            for index, item in enumerate(value):
                value[index] = self._settled(item, path, depth + 1)
        return value

    def _object(self, value: dict[str, Any], path: tuple[str, ...], depth: int) -> None:
        if depth > _MAX_RECORD_DEPTH:
            raise _UnloadableValueError(
                path[:3], f"it is nested deeper than {_MAX_RECORD_DEPTH} levels"
            )
        keys = tuple(value)
        if keys not in self._known:
            self._learn(value, keys, path)
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
            value[key] = self._settled(item, (*path, key), depth)

    def _learn(self, value: dict[str, Any], keys: tuple[str, ...], path: tuple[str, ...]) -> None:
        """Look at an object's keys, and remember them if they are fine whatever the values."""
        if DUPLICATE_KEY in value:
            twice = value.pop(DUPLICATE_KEY)
            raise _UnloadableValueError((*path, twice), "the key stands twice in one object")
        columns: dict[str, str] = {}
        fine = True
        for key in keys:
            if _has_surrogate(key):
                raise _UnloadableValueError(
                    (*path, _replace_surrogates(key)), "the key has half a character in it"
                )
            column = self._normalize(key) if key else key
            if column.startswith("_dlt_"):
                raise _UnloadableValueError(
                    (*path, key), "names that start with _dlt_ are dlt's own"
                )
            twin = columns.setdefault(column, key)
            if twin != key:
                fine = False
                if value[twin] != value[key]:
                    raise _UnloadableValueError(
                        (*path, key),
                        f"{twin!r} and {key!r} would both become the column {column!r}, and they "
                        "differ",
                    )
        if fine:
            self._remember(keys)

    def _text(self, value: str, path: tuple[str, ...]) -> str:
        if not _has_surrogate(value):
            return value
        self._say(
            f"{self._resource}: {'.'.join(path)} has half a character (a lone surrogate) in it, "
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
                '"decimal"}}, and give a table that exists already another "table_name"',
            )
        self._oversized = None


class _UnloadableValueError(Exception):
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
