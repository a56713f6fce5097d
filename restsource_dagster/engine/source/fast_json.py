"""JSON read fast, and proof afterwards that nothing was lost.

orjson takes half the time of Python's own parser, and is silent about two things that lose data: of
a key that stands twice it keeps the last, and a number beyond 64 bits it rounds. Whoever takes
`FreshRecords` proves that neither has happened, or reads the page again, slowly:

- A key is written once in the text, as `"key":`, so a document whose text has as many `":` as its
  objects have keys has none twice.
- A whole number beyond 64 bits becomes a float of at least 2^63.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import orjson

__all__ = [
    "INT64_LIMIT",
    "UnverifiedRecords",
    "ValueScan",
    "expected_key_count",
    "parse_fast",
    "scan_values",
]

INT64_LIMIT = 2.0**63
"""From here on a float may have been a whole number that lost digits, and a whole number has no place
in a column of 64 bits."""

_ESCAPED_DELIMITERS = (b"\\u0022", b"\\u003a", b"\\u003A")
"""A quote and a colon, as nobody needs to write them in a text."""
_DIGITS_TABLE = bytes(
    ord("0") if chr(code).isdigit() and code < 128 else ord(" ") for code in range(256)
)
_MANY_DIGITS = b"0" * 19
"""No whole number beyond 63 bits has fewer."""
_UTF_8 = frozenset({None, "utf-8", "utf8", "us-ascii", "ascii"})
_MAX_SCAN_DEPTH = 200


ObjectShape = tuple[str, ...]
"""The keys of an object, in their order."""


@dataclass(frozen=True)
class ValueScan:
    """What a look at values tells: how many keys all objects in them have, and their shapes."""

    keys: int
    shapes: frozenset[ObjectShape]


class UnverifiedRecords(list[Any]):
    """The records of a page as orjson gives them."""

    keys: int
    """So many keys they have if none stands twice."""
    raw: bytes
    """The text that they were read from."""
    reread: Callable[[], list[Any]]
    """The same records, read slowly; once, and before anything is done to these."""

    @classmethod
    def of(
        cls, records: list[Any], keys: int, raw: bytes, reread: Callable[[], list[Any]]
    ) -> "UnverifiedRecords":
        """The records, and how to prove them or read them again."""
        made = cls(records)
        made.keys, made.raw, made.reread = keys, raw, reread
        return made

    def without_nulls(self) -> "UnverifiedRecords":
        """The same without null items, which have no keys; still to be proved."""
        again = self.reread
        return UnverifiedRecords.of(
            _drop_nulls(self), self.keys, self.raw, lambda: _drop_nulls(again())
        )

    @cached_property
    def is_plain(self) -> bool:
        """Whether the text shows that no number is beyond 64 bits, and that what is read from it has as
        many `":` as it has when it is written again, but for keys that stand twice."""
        escapes = _ESCAPED_DELIMITERS if b"\\u00" in self.raw else ()
        if any(escape in self.raw for escape in escapes):
            return False
        return _MANY_DIGITS not in self.raw.translate(_DIGITS_TABLE)


def _drop_nulls(records: list[Any]) -> list[Any]:
    return [record for record in records if record is not None]


def parse_fast(raw: bytes, encoding: str | None) -> Any:
    """The JSON in `raw`. `encoding` is what the answer's headers say.

    Raises `ValueError` if it has to be read slowly, by whoever knows how to: it is no JSON, in another
    encoding, has half a character in it, or numbers that are not finite.
    """
    if (encoding and encoding.lower()) not in _UTF_8:
        raise ValueError(f"the encoding is {encoding}")
    return orjson.loads(raw)


def expected_key_count(records: list[Any], body: Any, raw: bytes) -> int | None:
    """How many keys the records of a body should have, by its text.

    None if that can't be told: the records are not one of its lists, or a number beside them may have
    lost digits.
    """
    written = raw.count(b'":')
    if body is records:
        return written
    beside = _scan_except(body, records)
    return None if beside is None else written - beside.keys


def scan_values(records: list[Any]) -> ValueScan | None:
    """Look at all there is in records.

    None if a number is beyond 64 bits or may have lost digits, or they are nested too deeply.
    """
    return _scan_except(list(records), None)


def _scan_except(body: Any, leave_out: list[Any] | None) -> ValueScan | None:
    keys, shapes, found = 0, set[ObjectShape](), leave_out is None
    level = [body]
    for _ in range(_MAX_SCAN_DEPTH):
        objects = [one for one in level if type(one) is dict]
        keys += sum(map(len, objects))
        shapes.update(map(tuple, objects))
        inner = chain.from_iterable(map(dict.values, objects))
        items = chain.from_iterable(one for one in level if type(one) is list)
        below = list(chain(inner, items))
        numbers = [one for one in below if type(one) is float or type(one) is int]
        if numbers and (max(numbers) >= INT64_LIMIT or min(numbers) <= -INT64_LIMIT):
            return None
        level = [one for one in below if type(one) is dict or type(one) is list]
        if not found:
            beside = [one for one in level if one is not leave_out]
            found, level = len(beside) < len(level), beside
        if not level:
            return ValueScan(keys, frozenset(shapes)) if found else None
    return None
