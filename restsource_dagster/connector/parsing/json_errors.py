"""Find the mistakes of a text that isn't JSON, from our own tokens.

What Python's decoder says of a mistake differs between versions, so nothing here depends on it. A
message shows single signs, keys and known words of the file only: a value may be a secret.
"""

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import NoReturn

from restsource_dagster.connector.parsing.json_tokens import (
    CLOSERS,
    CLOSING,
    WHITE_SPACE,
    Token,
    tokenize,
)
from restsource_dagster.connector.parsing.limits import MAX_MISTAKES
from restsource_dagster.connector.parsing.source_map import LocatedFinding, TextLines
from restsource_dagster.connector.validation.diagnostics import Finding

__all__ = ["CorrectedJson", "correct_json"]

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
