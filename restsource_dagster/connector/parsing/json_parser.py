"""Read JSON: the value by the standard library, the mistakes and their places from our own tokens.

Any text has tokens, valid JSON or not, and nothing here is recursive: a hostile file can't overflow
the stack. What Python's decoder says of a mistake differs between versions, so no message depends on
it. A message shows single signs, keys and known words of the file only: a value may be a secret.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Any, NoReturn

from restsource_dagster.connector.parsing.parsed_text import (
    MAX_DEPTH,
    MAX_MISTAKES,
    MAX_VALUES,
    LocatedFinding,
    ParsedText,
    SourceNode,
    TextLines,
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
    too_many_values,
)
from restsource_dagster.connector.validation.diagnostics import Finding

__all__ = [
    "CLOSERS",
    "CLOSING",
    "WHITE_SPACE",
    "CorrectedJson",
    "Token",
    "build_source_map",
    "correct_json",
    "exceeded_limit",
    "parse_json",
    "scan",
    "text_of",
    "tokenize",
]

Token = tuple[str, int]
"""The characters of a token and its offset."""

# Valid JSON has only the first three kinds. The others name common mistakes, and the last the rest.
# A text that is never closed is one token up to the end: it keeps any input linear to read.
_TOKEN = re.compile(
    r"""[ \t\n\r]*+(
      "[^"\\]*+(?:\\.[^"\\]*+)*+"?                  # a text
    | [\[\]{},:]                                    # a sign of the structure
    | [^ \t\n\r\[\]{},:"'/\#\u201c\u201d\u201e]++   # a number or a word
    | //[^\n\r]* | \#[^\n\r]* | /\*.*?(?:\*/|\Z)    # a comment
    | '[^'"\\\x00-\x1f]*'                           # a text in single quotes
    | [\u201c-\u201e][^"\\\x00-\x1f\u201c-\u201e]*[\u201c\u201d]   # or in typographic quotes
    | [^ \t\n\r]
    )""",
    re.DOTALL | re.VERBOSE,
)
WHITE_SPACE = " \t\n\r"
CLOSING = {"[": "]", "{": "}"}
"""The closing bracket for each opening bracket."""
CLOSERS = frozenset(CLOSING.values())


def tokenize(text: str) -> Iterator[Token]:
    """Yield all tokens of a text, without white space."""
    # The pattern skips white space before a token. At the end of the text no token follows, and the
    # search would start again at each space.
    for found in _TOKEN.finditer(text.rstrip(WHITE_SPACE)):
        yield found[1], found.start(1)


def text_of(raw: str) -> str:
    """Return the text that a valid token in double quotes stands for."""
    return str(json.loads(raw)) if "\\" in raw else raw[1:-1]


def exceeded_limit(text: str) -> LocatedFinding | None:
    """Return the first limit that a text exceeds, `MAX_DEPTH` or `MAX_VALUES`; None if it has none.

    Empty lists and objects count as two values.
    """
    # Signs inside texts count, too, so these counts are upper bounds. Nearly no file needs its
    # tokens here.
    brackets = text.count("[") + text.count("{")
    if brackets <= MAX_DEPTH and brackets + text.count(",") < MAX_VALUES:
        return None
    depth = values = 0
    for raw, offset in tokenize(text):
        if raw in CLOSING:
            depth += 1
            if depth > MAX_DEPTH:
                return LocatedFinding(offset, too_deep())
        elif raw in CLOSERS:
            depth = max(0, depth - 1)
        # The first value of a list comes after a bracket, each other one after a comma.
        values += raw == "," or raw in CLOSING
        if values >= MAX_VALUES:
            return LocatedFinding(0, too_many_values())
    return None


def scan(tokens: Iterable[Token]) -> Iterator[tuple[SourceNode, str, int | None]]:
    """Yield (node, token, offset of an earlier equal key) of each value of valid JSON, in order.

    The token of a list or an object is its opening bracket. The nodes grow into the source map.
    """
    node = SourceNode()
    stack: list[tuple[SourceNode, bool]] = []
    key, key_offset, awaits_key = "", 0, False
    for raw, offset in tokens:
        if raw == ":":
            continue
        if raw == ",":
            awaits_key = stack[-1][1]
        elif raw in CLOSERS:
            stack.pop()
            awaits_key = False
        elif awaits_key:
            key, key_offset, awaits_key = text_of(raw), offset, False
        else:
            earlier = None
            if not stack:
                node.value = offset
            else:
                parent, is_object = stack[-1]
                if is_object:
                    earlier = parent.children.get(key)
                    node = SourceNode(key, offset, key_offset, parent)
                else:
                    node = SourceNode(str(len(parent.children)), offset, None, parent)
                parent.children[node.token] = node
            yield node, raw, earlier.key if earlier else None
            if raw in CLOSING:
                awaits_key = raw == "{"
                stack.append((node, awaits_key))


def build_source_map(tokens: Iterable[Token]) -> SourceNode:
    """Return the source map of the tokens of valid JSON."""
    values = scan(tokens)
    root, _, _ = next(values)
    for _ in values:  # the map grows with each step
        continue
    return root


_SCALAR = re.compile(
    r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null|NaN|-?Infinity"
)
_TEXT = re.compile(r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+')
"""A text up to its closing quote, or up to what JSON doesn't allow in it."""
_BARE_KEY = re.compile(r"[A-Za-z_$][\w$.-]{0,59}")
_COLON = re.compile(r"\s*:")
_QUOTES = frozenset("'\u201c\u201d\u201e")
_WORDS = {"True": "true", "False": "false", "None": "null", "TRUE": "true", "FALSE": "false",
          "NULL": "null", "Null": "null"}  # fmt: skip


class _Expected(Enum):
    """What the grammar allows next."""

    VALUE = "a value: an object, a list, a text in double quotes, a number, true, false or null"
    KEY = "a key in double quotes"
    COLON = "a colon after the key"
    COMMA = "a comma"
    """Or the closing bracket."""
    END = "the end of the file"


@dataclass(frozen=True)
class CorrectedJson:
    """The mistakes of a text, and the tokens of valid JSON without them.

    `tokens` is None if the meaning of a mistake isn't clear: that mistake is the last one found.
    """

    findings: tuple[LocatedFinding, ...]
    tokens: tuple[Token, ...] | None


def correct_json(text: str) -> CorrectedJson:
    """Return the mistakes of a text that isn't JSON, and its tokens without them."""
    corrector = _Corrector(text)
    try:
        for raw, offset in tokenize(text):
            corrector.take(raw, offset)
        corrector.finish()
    except _StopError:
        return CorrectedJson(tuple(corrector.findings), None)
    return CorrectedJson(tuple(corrector.findings), tuple(corrector.tokens))


class _StopError(Exception):
    """The meaning of the rest of the text isn't clear, or enough mistakes are found."""


@dataclass
class _Corrector:
    """Checks tokens against JSON's grammar (RFC 8259) and corrects common mistakes."""

    text: str
    findings: list[LocatedFinding] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    _open: list[Token] = field(default_factory=list)
    _expected: _Expected = _Expected.VALUE
    _end: int = 0
    """Where the token before ends, in the original text."""

    def take(self, raw: str, offset: int) -> None:
        """Check the next token."""
        if raw[0] == "#" or raw[:2] in {"//", "/*"}:
            self._report(
                offset, "JSON has no comments", f"`{raw[0]}`", None,
                'Delete it, or say it in a "description"; a .yaml file may have # comments',
            )  # fmt: skip
            return
        if raw in CLOSERS:
            self._close(raw, offset)
        elif raw == ",":
            self._comma(offset)
        elif raw == ":" and self._expected is _Expected.COLON:
            self._add(raw, offset, _Expected.VALUE)
        else:
            self._key_or_value(self._respelled(raw, offset), offset)
        self._end = offset + len(raw)

    def finish(self) -> None:
        """Check that the text is complete."""
        if self._expected is not _Expected.END:
            self._cut_off()

    def _report(self, offset: int, message: str, found: str | None = None,
                expected: str | None = None, fix: str | None = None) -> None:  # fmt: skip
        if len(self.findings) == MAX_MISTAKES:
            raise _StopError
        finding = Finding("", message, found, expected, fix)
        self.findings.append(LocatedFinding(offset, finding))

    def _refuse(self, offset: int, found: str, expected: str) -> NoReturn:
        self._report(offset, "This is not JSON", found, expected)
        raise _StopError

    def _cut_off(self, quote: str = "") -> NoReturn:
        closing = quote + "".join(CLOSING[bracket] for bracket, _ in reversed(self._open))
        expected = f"`{closing}`{self._opened_at()}" if closing else self._expected.value
        # At the last character rather than after it: an editor can't jump behind the end.
        last = max(len(self.text.rstrip(WHITE_SPACE)) - 1, 0)
        self._refuse(last, "the end of the file", expected)

    def _opened_at(self) -> str:
        if not self._open:
            return ""
        bracket, offset = self._open[-1]
        # Only the text up to the bracket is split into lines: a wrong file can have millions.
        line, _ = TextLines(self.text[: offset + 1]).line_and_column(offset)
        return f" for the `{bracket}` of line {line}"

    def _unexpected(self, raw: str, offset: int) -> NoReturn:
        expected = self._expected.value
        if self._expected is _Expected.COMMA:
            expected += f", or the `{CLOSING[self._open[-1][0]]}`{self._opened_at()}"
        self._refuse(offset, _described(raw), expected)

    def _add(self, raw: str, offset: int, expected: _Expected) -> None:
        self.tokens.append((raw, offset))
        self._expected = expected

    def _last(self) -> str:
        return self.tokens[-1][0] if self.tokens else ""

    def _in_object(self) -> bool:
        return bool(self._open) and self._open[-1][0] == "{"

    def _after_comma(self) -> _Expected:
        return _Expected.KEY if self._in_object() else _Expected.VALUE

    def _after_value(self) -> _Expected:
        return _Expected.COMMA if self._open else _Expected.END

    def _close(self, raw: str, offset: int) -> None:
        # Only now is it clear that no value follows the comma, which is already added.
        if self._last() == ",":
            message = f"No comma may stand before the closing `{raw}`"
            self._report(self.tokens.pop()[1], message, None, None, "Delete the comma")
            self._expected = _Expected.COMMA
        is_complete = self._expected is _Expected.COMMA or self._last() in CLOSING
        if not (self._open and is_complete and CLOSING[self._open[-1][0]] == raw):
            self._unexpected(raw, offset)
        self._open.pop()
        self._add(raw, offset, self._after_value())

    def _comma(self, offset: int) -> None:
        if self._expected is _Expected.COMMA:
            self._add(",", offset, self._after_comma())
        elif self._last() == "," or self._last() in CLOSING:
            self._report(offset, "A comma too many", "`,`", None, "Delete the comma")
        else:
            self._unexpected(",", offset)

    def _respelled(self, raw: str, offset: int) -> str:
        """Return the token as JSON writes it, and report it if that differs."""
        if raw[0] in _QUOTES:
            self._report(offset, "Texts and keys are in straight double quotes", f"`{raw[0]}`",
                         '`"`', 'Write "..."')  # fmt: skip
            if len(raw) == 1:  # the tokenizer found no closing quote, or escapes before it
                raise _StopError
            return f'"{raw[1:-1]}"'
        if self._in_object() and self._expected in {_Expected.KEY, _Expected.COMMA}:
            if _BARE_KEY.fullmatch(raw) and _COLON.match(self.text, offset + len(raw)):
                fix = f'Write "{raw}": ...; a .yaml file may have keys without quotes'
                self._report(offset, "Keys are in double quotes", raw, None, fix)
                return f'"{raw}"'
        elif raw in _WORDS:
            right = _WORDS[raw]
            self._report(offset, "JSON spells this word differently", raw, right, f"Write {right}")
            return right
        return raw

    def _key_or_value(self, raw: str, offset: int) -> None:
        is_text = raw[0] == '"'
        can_be_value = is_text or raw in CLOSING or _SCALAR.fullmatch(raw)
        # In an object only a key can follow: after `"say "hi""` no comma is missing.
        if self._expected is _Expected.COMMA and (is_text if self._in_object() else can_be_value):
            self._report(self._end, "A comma is missing here", None, "`,`", "Write a comma")
            self._add(",", self._end, self._after_comma())
        if self._expected is _Expected.KEY and is_text:
            self._check_text(raw, offset)
            self._add(raw, offset, _Expected.COLON)
        elif self._expected is not _Expected.VALUE or not can_be_value:
            self._unexpected(raw, offset)
        elif raw in CLOSING:
            self._open.append((raw, offset))
            self._add(raw, offset, self._after_comma())
        else:
            if is_text:
                self._check_text(raw, offset)
            self._add(raw, offset, self._after_value())

    def _check_text(self, raw: str, offset: int) -> None:
        found = _TEXT.match(raw)
        end = found.end() if found else 0
        char = raw[end : end + 1]
        if char == "\\":
            self._refuse(offset + end, "a backslash before another character",
                         r"one of \" \\ \/ \b \f \n \r \t \uXXXX")  # fmt: skip
        elif char in {"\n", "\r"}:
            self._refuse(offset + end, "the end of the line", '`"` to close the text')
        elif not char:
            self._cut_off('"')
        # A control character, which JSON allows in a text only as an escape (RFC 8259, section 7).
        elif char != '"':
            escape = r"\t" if char == "\t" else f"\\u{ord(char):04x}"
            self._refuse(offset + end, _described(char), f"`{escape}`")


def _described(raw: str) -> str:
    """Describe a token without showing more than one sign of it."""
    first = raw[0]
    if first in '"\t':
        return "a text" if first == '"' else "a tab"
    if _SCALAR.fullmatch(raw):
        return "another value"
    if first in "+-.0123456789":
        return "a number that is not written like 12, -0.5 or 1e6"
    if first.isalnum():
        return "a word without quotes"
    return f"`{first}`" if first.isprintable() else f"the character U+{ord(first):04X}"


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
        # First the decoder, which is written in C: a valid file needs no tokens of ours.
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
    # The decoder has a hook for numbers and objects, but none for texts.
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
        # Fewer entries than pairs: a key is there twice.
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
