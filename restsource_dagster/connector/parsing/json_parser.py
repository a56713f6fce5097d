"""Read JSON: the value by the standard library, the mistakes and their places from our own tokens."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from restsource_dagster.connector.parsing.json_errors import correct_json
from restsource_dagster.connector.parsing.json_tokens import (
    Token,
    build_source_map,
    exceeded_limit,
    scan,
    text_of,
    tokenize,
)
from restsource_dagster.connector.parsing.limits import (
    MAX_MISTAKES,
    has_lone_surrogate,
    lone_surrogate,
    no_such_number,
    number_too_large,
    number_too_long,
    read_float,
    read_integer,
    repeated_key,
    replace_surrogates,
    too_deep,
)
from restsource_dagster.connector.parsing.source_map import (
    LocatedFinding,
    ParsedText,
    SourceNode,
    TextLines,
)
from restsource_dagster.connector.validation.diagnostics import Finding

__all__ = ["parse_json"]

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_INTEGER = re.compile(r"-?[0-9]+")
_NO_NUMBERS = frozenset({"NaN", "Infinity", "-Infinity"})


def parse_json(text: str) -> ParsedText:
    """Return the value of a JSON text and everything wrong with the text. Never raises."""
    exceeded = exceeded_limit(text)
    if exceeded is not None:
        return _unusable(exceeded)
    try:
        return _parse(text)
    except RecursionError:  # the caller's stack is nearly full: our own depth limit is far lower
        return _unusable(LocatedFinding(0, too_deep()))


def _unusable(*findings: LocatedFinding) -> ParsedText:
    return ParsedText(None, findings, usable=False, source_map=SourceNode)


def _parse(text: str) -> ParsedText:
    decoder = _Decoder()
    try:
        value = decoder.decode(text)
    except json.JSONDecodeError:
        corrected = correct_json(text)
        tokens = corrected.tokens
        if tokens is None:
            return _unusable(*corrected.findings)
        # With spaces, so that two tokens can't become one.
        value = decoder.decode(" ".join(raw for raw, _ in tokens))
        return _parsed(text, value, lambda: tokens, corrected.findings, odd=decoder.odd)
    return _parsed(text, value, lambda: tokenize(text), (), odd=decoder.odd)


def _parsed(
    text: str,
    value: Any,
    tokens: Callable[[], Iterable[Token]],
    findings: tuple[LocatedFinding, ...],
    *,
    odd: bool,
) -> ParsedText:
    if odd or _SURROGATE_ESCAPE.search(text):
        findings = (*findings, *islice(_odd_values(text, tokens()), MAX_MISTAKES))
        value = replace_surrogates(value)
    return ParsedText(value, findings, usable=True, source_map=lambda: build_source_map(tokens()))


class _Decoder(json.JSONDecoder):
    """The standard library's decoder, which also notes that a text has odd values."""

    # The hooks don't get the place of a value. So they only note that it is odd, and the few files
    # with odd values are scanned once more for the places.

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


def _odd_values(text: str, tokens: Iterable[Token]) -> Iterator[LocatedFinding]:
    """Yield what the standard library accepts and we don't."""
    lines = TextLines(text)
    for node, raw, earlier in scan(tokens):
        if node.key is not None and has_lone_surrogate(node.token):
            yield LocatedFinding(node.key, lone_surrogate(node.pointer))
        if node.key is not None and earlier is not None:
            line, _ = lines.line_and_column(earlier)
            yield LocatedFinding(node.key, repeated_key(node.pointer, node.token, line))
        finding = _odd_scalar(node, raw)
        if finding is not None:
            yield LocatedFinding(node.value, finding)


def _odd_scalar(node: SourceNode, raw: str) -> Finding | None:
    # Ask for the pointer only to report it: with a long key it is as long as the file.
    if raw[0] == '"':
        return lone_surrogate(node.pointer) if has_lone_surrogate(text_of(raw)) else None
    if raw in _NO_NUMBERS:
        return no_such_number(node.pointer, raw)
    if _INTEGER.fullmatch(raw):
        return number_too_long(node.pointer, len(raw)) if read_integer(raw) is None else None
    is_too_large = raw[0] in "-0123456789" and read_float(raw) is None
    return number_too_large(node.pointer) if is_too_large else None
