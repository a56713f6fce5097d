"""Read JSON: the value by the standard library, and all that is wrong with the text, located.

A mistake whose meaning is clear (a trailing comma, a comment, single quotes) is reported and
mended in memory, so that the next mistake of the file shows at the same time.
"""

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from restsource_dagster.config.json_mistakes import diagnose
from restsource_dagster.config.json_scan import (
    Item,
    deeper_than,
    more_values_than,
    places_of,
    scan,
)
from restsource_dagster.config.limits import (
    MAX_DEPTH,
    MAX_MISTAKES,
    MAX_VALUES,
    too_deep,
    too_many_values,
)
from restsource_dagster.config.positions import Mistake, Parsed, Place, TextLines
from restsource_dagster.config.scalars import (
    half_a_pair,
    has_lone_surrogate,
    no_such_number,
    number_too_large,
    number_too_long,
    read_float,
    read_integer,
    repeated_key,
    without_surrogates,
)

__all__ = ["parse_json"]

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_INTEGER = re.compile(r"-?[0-9]+")


def parse_json(text: str) -> Parsed:
    """The value of a JSON text and everything wrong with it. Never raises."""
    deep = deeper_than(text, MAX_DEPTH)
    if deep is not None:
        return _unusable([Mistake(deep, too_deep())])
    if more_values_than(text, MAX_VALUES):
        return _unusable([Mistake(0, too_many_values())])
    mistakes: list[Mistake] = []
    while len(mistakes) < MAX_MISTAKES:
        decoder = _Decoder()
        try:
            value = decoder.decode(text)
        except json.JSONDecodeError as error:
            diagnosis = diagnose(text, error.pos, error.msg)
            mistakes.append(diagnosis.mistake)
            if diagnosis.mended is None:
                break
            text = diagnosis.mended
        except RecursionError:  # the caller's stack was nearly full already
            return _unusable([*mistakes, Mistake(0, too_deep())])
        else:
            return _usable(text, value, mistakes, odd=decoder.odd)
    return _unusable(mistakes)


def _unusable(mistakes: list[Mistake]) -> Parsed:
    return Parsed(value=None, mistakes=tuple(mistakes), usable=False, places=Place)


def _usable(text: str, value: Any, mistakes: list[Mistake], *, odd: bool) -> Parsed:
    if odd or _SURROGATE_ESCAPE.search(text):
        mistakes = [*mistakes, *islice(_oddities(text), MAX_MISTAKES)]
        value = without_surrogates(value)
    return Parsed(value, tuple(mistakes), usable=True, places=lambda: places_of(text))


class _Decoder(json.JSONDecoder):
    """The standard library's decoder, which also notes that something odd went by."""

    def __init__(self) -> None:
        self.odd = False
        super().__init__(
            object_pairs_hook=self._object,
            parse_int=self._integer,
            parse_float=self._float,
            parse_constant=self._constant,
        )

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        self.odd = self.odd or len(values) < len(pairs)
        return values

    def _integer(self, text: str) -> int:
        number = read_integer(text)
        self.odd = self.odd or number is None
        return number or 0

    def _float(self, text: str) -> float:
        number = read_float(text)
        self.odd = self.odd or number is None
        return number or 0.0

    def _constant(self, _text: str) -> float:
        self.odd = True
        return 0.0


def _oddities(text: str) -> Iterator[Mistake]:
    """What the standard library's parser accepts and we don't."""
    lines = TextLines(text)
    for item in scan(text):
        pointer, offset, raw = item.place.pointer, item.place.value, item.raw
        if item.repeats is not None:
            line, _ = lines.line_and_column(item.repeats)
            yield Mistake(offset, repeated_key(pointer, item.place.token, line))
        if raw.startswith('"'):
            if has_lone_surrogate(json.loads(raw, strict=False)):
                yield Mistake(offset, half_a_pair(pointer))
        else:
            yield from _odd_number(item)


def _odd_number(item: Item) -> Iterator[Mistake]:
    pointer, offset, raw = item.place.pointer, item.place.value, item.raw
    if raw in {"NaN", "Infinity", "-Infinity"}:
        yield Mistake(offset, no_such_number(pointer, raw))
    elif _INTEGER.fullmatch(raw):
        if read_integer(raw) is None:
            yield Mistake(offset, number_too_long(pointer, len(raw)))
    elif raw[0] in "-0123456789" and read_float(raw) is None:
        yield Mistake(offset, number_too_large(pointer))
