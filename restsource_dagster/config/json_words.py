"""Rules about single words of a text that isn't JSON: comments, quotes, numbers, escapes."""

import re

from restsource_dagster.config.json_diagnosis import Diagnosis, expected_for, mistake, put

__all__ = [
    "bare_key",
    "bare_text",
    "comment",
    "control_character",
    "escape",
    "number",
    "quotes",
    "word",
]

_COMMENT = re.compile(r"//[^\n\r]*|#[^\n\r]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_QUOTED = re.compile(
    r"'((?:[^'\\\n\r]|\\.)*)'|[\u201c\u201d\u201e]([^\u201c\u201d\"\n\r]*)[\u201c\u201d]"
)
_WORDS = {"True": "true", "False": "false", "None": "null", "TRUE": "true", "FALSE": "false",
          "NULL": "null", "Null": "null"}  # fmt: skip
_WORD = re.compile("|".join(rf"{word}\b" for word in _WORDS))
_BARE_KEY = re.compile(r"([A-Za-z_$][\w$.-]{0,59})\s*:")
_BARE_START = re.compile(r"[^\W\d]|\$")
_IN_NUMBERS = frozenset("0123456789.")


def comment(text: str, offset: int, _reason: str) -> Diagnosis | None:
    """A comment, in any of the three spellings people try."""
    found = _COMMENT.match(text, offset)
    if found is None:
        return None
    return mistake(
        offset,
        "JSON has no comments",
        found=f"`{text[offset]}`",
        mend='Delete it, or say it in a "description"; a .yaml file may have # comments',
        mended=put(text, offset, " " * len(found.group())),
    )


def quotes(text: str, offset: int, _reason: str) -> Diagnosis | None:
    """Single or typographic quotes."""
    quoted = _QUOTED.match(text, offset)
    if quoted is None:
        return None
    inside = quoted[1] if quoted[1] is not None else quoted[2]
    inside = inside.replace('"', " ").replace("\\'", " '")
    return mistake(
        offset,
        "Texts and keys are in straight double quotes",
        found=f"`{text[offset]}`",
        expected='`"`',
        mend='Write "..."',
        mended=put(text, offset, f'"{inside}"'),
    )


def word(text: str, offset: int, _reason: str) -> Diagnosis | None:
    """Python's or SQL's spelling of true, false and null."""
    found = _WORD.match(text, offset)
    if found is None:
        return None
    right = _WORDS[found.group()]
    return mistake(
        offset,
        "JSON spells this word differently",
        found=found.group(),
        expected=right,
        mend=f"Write {right}",
        mended=put(text, offset, right),
    )


def bare_key(text: str, offset: int, reason: str) -> Diagnosis | None:
    """A key without quotes."""
    key = _BARE_KEY.match(text, offset)
    if key is None or not reason.startswith("Expecting property name"):
        return None
    return mistake(
        offset,
        "Keys are in double quotes",
        found=key[1],
        mend=f'Write "{key[1]}": ...; a .yaml file may have keys without quotes',
    )


def control_character(text: str, offset: int, reason: str) -> Diagnosis | None:
    """A line break, tab or other control character inside a text."""
    if not reason.startswith("Invalid control character"):
        return None
    if text[offset] in "\n\r":
        return _open_at_line_end(text, offset)
    is_tab = text[offset] == "\t"
    name = "a tab" if is_tab else "a control character"
    return mistake(
        offset,
        f"{name.capitalize()} can't stand in a text as it is",
        found=name,
        mend="Write \\t" if is_tab else "Write \\u and its four hexadecimal digits, or delete it",
        mended=put(text, offset, " "),
    )


def _open_at_line_end(text: str, offset: int) -> Diagnosis:
    comma = text[offset - 1] == "," and text[offset - 2] != '"'
    return mistake(
        offset,
        "The text is not closed at the end of its line",
        found="the end of the line",
        expected='`"`',
        mend='Close it with "; a line break inside a text is written \\n',
        mended=put(text, offset - 1, '",') if comma else put(text, offset, '"'),
    )


def escape(text: str, offset: int, reason: str) -> Diagnosis | None:
    """A backslash before something that needs none."""
    if not reason.startswith("Invalid \\"):
        return None
    backslash = text.rfind("\\", 0, offset + 1)
    return mistake(
        backslash,
        "JSON doesn't know this escape",
        found="a backslash",
        expected=r"one of \" \\ \/ \b \f \n \r \t \uXXXX",
        mend=r"Write \\ for a backslash itself",
        mended=put(text, backslash, "  "[: len(text) - backslash]),
    )


def number(text: str, offset: int, reason: str) -> Diagnosis | None:
    """A number with a leading zero, a plus sign, a unit."""
    start = text[offset : offset + 1]
    goes_on = text[max(0, offset - 1) : offset] in _IN_NUMBERS and (start.isalnum() or start == ".")
    if not goes_on and not (start in {"+", "."} and reason == "Expecting value"):
        return None
    return mistake(
        offset,
        "JSON doesn't write numbers like this",
        expected="a number such as 12, -0.5 or 1e6",
        mend="Write it without leading zero, plus sign or unit; put it in quotes if it is a text",
    )


def bare_text(text: str, offset: int, reason: str) -> Diagnosis | None:
    """A text without quotes."""
    if reason != "Expecting value" or not _BARE_START.match(text, offset):
        return None
    return mistake(
        offset,
        "A text without quotes stands where a value should",
        expected=expected_for(reason),
        mend='Put it in double quotes: "..."',
    )
