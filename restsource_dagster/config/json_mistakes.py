"""Say what is wrong with a text that isn't JSON, and how to write it; mend it where that is clear.

Only single characters, keys and well-known words of the file get into a message: what stands where
a value should may be a secret.
"""

import re
from collections.abc import Callable

from restsource_dagster.config import json_words
from restsource_dagster.config.json_diagnosis import Diagnosis, expected_for, mistake, put
from restsource_dagster.config.json_scan import CLOSING, open_brackets
from restsource_dagster.config.positions import TextLines

__all__ = ["Diagnosis", "diagnose"]

_SPACE = " \t\n\r"
_VALUE_START = re.compile(r"""["'{\[\-0-9A-Za-z\u201c\u201d\u201e]""")


def diagnose(text: str, offset: int, reason: str) -> Diagnosis:
    """What is wrong at the offset where the standard library's parser gave up with its reason."""
    for rule in _RULES:
        diagnosis = rule(text, offset, reason)
        if diagnosis is not None:
            return diagnosis
    expected = _closing(text, offset) if reason == "Expecting ',' delimiter" else None
    return mistake(
        offset,
        "This is not JSON",
        found=_found(text, offset),
        expected=expected or expected_for(reason),
    )


def _closing(text: str, offset: int) -> str | None:
    brackets = open_brackets(text[:offset])
    if not brackets:
        return None
    bracket, opened = brackets[-1]
    line, _ = TextLines(text).line_and_column(opened)
    return f"a comma, or the `{CLOSING[bracket]}` for the `{bracket}` of line {line}"


def _found(text: str, offset: int) -> str | None:
    char = text[offset : offset + 1]
    if not char:
        return "the end of the file"
    return f"`{char}`" if char.isprintable() and not char.isalnum() else None


def _before(text: str, offset: int) -> int:
    """The offset of the last character before `offset` that isn't white space; -1 if none."""
    return len(text[:offset].rstrip(_SPACE)) - 1


def _cut_off(text: str, offset: int, reason: str) -> Diagnosis | None:
    in_text = reason.startswith("Unterminated string")
    if not in_text and text[offset:].strip(_SPACE):
        return None
    lines, brackets = TextLines(text), open_brackets(text[:offset])
    wanted = '"' if in_text else ""
    wanted += "".join(CLOSING[bracket] for bracket, _ in reversed(brackets))
    if not wanted:
        return None
    bracket, opened = ('"', offset) if in_text else brackets[-1]
    return mistake(
        max(len(text.rstrip(_SPACE)) - 1, 0),
        "The file ends too early",
        found=f"the `{bracket}` of line {lines.line_and_column(opened)[0]} still open",
        expected=f"`{wanted}` to close what is open",
        mend="Close it, or copy the whole file again if it was cut off",
    )


def _trailing_comma(text: str, offset: int, _reason: str) -> Diagnosis | None:
    before = _before(text, offset)
    if text[offset : offset + 1] not in {"]", "}"} or before < 0 or text[before] != ",":
        return None
    return mistake(
        before,
        f"No comma may stand before the closing `{text[offset]}`",
        mend="Delete the comma",
        mended=put(text, before, " "),
    )


def _comma_too_many(text: str, offset: int, reason: str) -> Diagnosis | None:
    if text[offset : offset + 1] != "," or reason == "Extra data":
        return None
    before = _before(text, offset)
    if before < 0 or text[before] not in ",[{":
        return None
    return mistake(
        offset,
        "A comma stands where a value should"
        if reason == "Expecting value"
        else "A comma too many",
        found="`,`",
        expected=expected_for(reason),
        mend="Delete the comma",
        mended=put(text, offset, " "),
    )


def _missing(text: str, offset: int, reason: str) -> Diagnosis | None:
    sign = {"Expecting ',' delimiter": ",", "Expecting ':' delimiter": ":"}.get(reason)
    before = _before(text, offset)
    if sign is None or not _VALUE_START.match(text, offset):
        return None
    if before == offset - 1 and text[before] not in '"]}':
        return None
    name = "comma" if sign == "," else "colon"
    return mistake(
        before + 1,
        f"A {name} is missing here",
        expected=f"`{sign}`",
        mend=f"Write a {name}",
        mended=put(text, before + 1, sign) if before < offset - 1 else None,
    )


def _equals(text: str, offset: int, reason: str) -> Diagnosis | None:
    if reason != "Expecting ':' delimiter" or text[offset : offset + 1] != "=":
        return None
    return mistake(
        offset,
        "A colon stands between key and value",
        found="`=`",
        expected="`:`",
        mend="Write a colon",
        mended=put(text, offset, ":"),
    )


def _something_after(text: str, offset: int, reason: str) -> Diagnosis | None:
    if reason != "Extra data":
        return None
    return mistake(
        offset,
        "The file goes on after the end of its object",
        found=_found(text, offset),
        expected="one object in the file",
        mend="Delete what follows, or a bracket that closes too early",
        mended=put(text, offset, " " * (len(text) - offset)),
    )


_RULES: tuple[Callable[[str, int, str], Diagnosis | None], ...] = (
    json_words.comment,
    _cut_off,
    _trailing_comma,
    _comma_too_many,
    json_words.quotes,
    json_words.word,
    json_words.bare_key,
    json_words.control_character,
    json_words.escape,
    json_words.number,
    _missing,
    _equals,
    _something_after,
    json_words.bare_text,
)
