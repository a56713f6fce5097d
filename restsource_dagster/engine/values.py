"""Values that JSON allows and a table does not: loaded sensibly, or refused by name.

Everything else is dlt's: mixed types become variant columns, objects columns, lists nested tables.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from restsource_dagster.engine.errors import RowError
from restsource_dagster.engine.parsing import FreshRecords, look
from restsource_dagster.engine.redaction import Redactor

__all__ = ["TWICE", "Values", "json_object"]

_LEAST, _MOST = -(2**63), 2**63 - 1
_DECIMAL_LIMIT = 10**29  # dlt's decimals have 38 digits, 9 of them behind the point
_DEEPEST = 200
_MOST_SHAPES = 10_000
_SNIPPET = 120


TWICE = "\ud800 stands twice"
"""A key that no API sends, in an object of which a key stood twice; its value is that key."""


def json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An `object_pairs_hook` that keeps in mind that a key stood twice, with different values."""
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    for key, value in pairs:
        if value != made[key]:
            return {**made, TWICE: key}
    return made


class Values:
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
        spread: Callable[[FreshRecords], list[Any] | None] | None = None,
    ) -> None:
        """`spread` takes a page whose rows become columns, where that settles everything."""
        self._resource = resource
        self._normalize = normalize
        self._say = say
        self._known: set[tuple[str, ...]] = set()
        self._redactor = redactor
        self._spread = spread
        self._big: tuple[tuple[str, ...], int] | None = None
        self.first_big: RowError | None = None
        """The first number beyond 64 bits: what is wrong if the load can't hold it after all."""

    def settle(self, records: list[Any], page: int) -> list[Any]:
        """The records of a page, made loadable in place. Raises `RowError`."""
        if isinstance(records, FreshRecords):
            spread = self._spread(records) if self._spread else None
            if spread is not None:
                return spread
            looked = look(records)
            if looked is None or looked.keys != records.keys:
                records = records.reread()
            elif all(map(self._is_fine, looked.shapes)):
                return records
        for index, record in enumerate(records):
            try:
                records[index] = self._settled(record, (), 0)
                if self._big is not None:
                    self._note_big(page, index + 1)
            except _UnfitError as error:
                snippet = self._redactor.start_of(repr(record), _SNIPPET)
                problem = f"{error.problem}. The record starts {snippet}"
                field = ".".join(error.path)
                raise RowError(self._resource, page, index + 1, field, problem) from None
        return records

    def _is_fine(self, keys: tuple[str, ...]) -> bool:
        """Whether an object with these keys is fine whatever its values."""
        if keys in self._known:
            return True
        columns = {self._normalize(key) if key else key for key in keys}
        if len(columns) < len(keys) or any(column.startswith("_dlt_") for column in columns):
            return False
        self._remember(keys)
        return True

    def _remember(self, keys: tuple[str, ...]) -> None:
        if len(self._known) >= _MOST_SHAPES:
            self._known.clear()
        self._known.add(keys)

    def _settled(self, value: Any, path: tuple[str, ...], depth: int) -> Any:
        """The value, or what stands for it."""
        kind = type(value)
        if kind is str:
            return value if value.isascii() else self._text(value, path)
        if kind is int:
            return value if _LEAST <= value <= _MOST else self._beyond(value, path)
        if kind is float and value - value != 0:
            raise _UnfitError(path, "the number is not finite")
        if isinstance(value, dict):
            self._object(value, path, depth + 1)
        elif kind is list:
            for index, item in enumerate(value):
                value[index] = self._settled(item, path, depth + 1)
        return value

    def _object(self, value: dict[str, Any], path: tuple[str, ...], depth: int) -> None:
        if depth > _DEEPEST:
            raise _UnfitError(path[:3], f"it is nested deeper than {_DEEPEST} levels")
        keys = tuple(value)
        if keys not in self._known:
            self._learn(value, keys, path)
        for key, item in value.items():
            kind = type(item)
            if kind is str:
                if item.isascii():
                    continue
            elif kind is int:
                if _LEAST <= item <= _MOST:
                    continue
            elif item is None or kind is bool:
                continue
            value[key] = self._settled(item, (*path, key), depth)

    def _learn(self, value: dict[str, Any], keys: tuple[str, ...], path: tuple[str, ...]) -> None:
        """Look at an object's keys, and remember them if they are fine whatever the values."""
        if TWICE in value:
            twice = value.pop(TWICE)
            raise _UnfitError((*path, twice), "the key stands twice in one object")
        columns: dict[str, str] = {}
        fine = True
        for key in keys:
            if _is_broken(key):
                raise _UnfitError((*path, _mended(key)), "the key has half a character in it")
            column = self._normalize(key) if key else key
            if column.startswith("_dlt_"):
                raise _UnfitError((*path, key), "names that start with _dlt_ are dlt's own")
            twin = columns.setdefault(column, key)
            if twin != key:
                fine = False
                if value[twin] != value[key]:
                    raise _UnfitError(
                        (*path, key),
                        f"{twin!r} and {key!r} would both become the column {column!r}, and they "
                        "differ",
                    )
        if fine:
            self._remember(keys)

    def _text(self, value: str, path: tuple[str, ...]) -> str:
        if not _is_broken(value):
            return value
        self._say(
            f"{self._resource}: {'.'.join(path)} has half a character (a lone surrogate) in it, "
            "replaced by U+FFFD"
        )
        return _mended(value)

    def _beyond(self, value: int, path: tuple[str, ...]) -> Decimal | str:
        self._big = (path, value)
        return Decimal(value) if abs(value) < _DECIMAL_LIMIT else str(value)

    def _note_big(self, page: int, row: int) -> None:
        if self.first_big is None and self._big is not None:
            path, value = self._big
            column = ".".join(path)
            self.first_big = RowError(
                self._resource,
                page,
                row,
                column,
                f"{value} does not fit the 64 bits of the column, which has held smaller numbers. "
                'Declare it before the first load, "columns": {"' + column + '": {"data_type": '
                '"decimal"}}, and give a table that exists already another "table_name"',
            )
        self._big = None


class _UnfitError(Exception):
    def __init__(self, path: tuple[str, ...], problem: str) -> None:
        super().__init__(problem)
        self.path = path
        self.problem = problem


def _is_broken(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _mended(text: str) -> str:
    return "".join(_characters(text))


def _characters(text: str) -> Iterator[str]:
    for character in text:
        yield "\ufffd" if "\ud800" <= character <= "\udfff" else character
