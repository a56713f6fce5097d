"""Texts and numbers that JSON and YAML share: which ones are read, and what is said of the others."""

import json
import math
import re
from typing import Any

from restsource_dagster.config.limits import MAX_DIGITS
from restsource_dagster.config.problems import Finding

__all__ = [
    "half_a_pair",
    "has_lone_surrogate",
    "no_such_number",
    "number_too_large",
    "number_too_long",
    "read_float",
    "read_integer",
    "repeated_key",
    "without_surrogates",
]

_SURROGATE = re.compile(r"[\ud800-\udfff]")


def read_integer(text: str) -> int | None:
    """The whole number, or None if it has more digits than we (or Python) read."""
    if len(text.lstrip("+-")) > MAX_DIGITS:
        return None
    try:
        return int(text)
    except ValueError:  # this Python was told to read fewer digits than that
        return None


def read_float(text: str) -> float | None:
    """The number, or None if it is larger than a double holds."""
    number = float(text)
    return None if math.isinf(number) else number


def has_lone_surrogate(text: str) -> bool:
    """Whether the text holds half of a surrogate pair, which no UTF-8 file or database takes."""
    return _SURROGATE.search(text) is not None


def without_surrogates(value: Any) -> Any:
    """The value with the replacement character for every lone surrogate in keys and texts."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {without_surrogates(k): without_surrogates(v) for k, v in value.items()}
    if isinstance(value, list):
        return [without_surrogates(element) for element in value]
    return value


def repeated_key(pointer: str, key: str, first_line: int) -> Finding:
    """The same key twice in one object."""
    shown = json.dumps(key if len(key) <= 60 else f"{key[:59]}\u2026", ensure_ascii=False)
    return Finding(
        pointer=pointer,
        message=f"The key {shown} is there twice in one object",
        found=f"it again, after line {first_line}",
        expected="each key once",
        mend="Keep one of the two",
        on_key=True,
    )


def half_a_pair(pointer: str) -> Finding:
    """Half of a surrogate pair."""
    return Finding(
        pointer=pointer,
        message="The text holds half of a surrogate pair, which is no character",
        found="a \\ud... escape without its partner",
        expected="two \\ud... escapes together, or the character itself",
        mend="Write the character itself; the file is UTF-8",
    )


def no_such_number(pointer: str, word: str) -> Finding:
    """NaN and the infinities, which no JSON holds."""
    return Finding(
        pointer=pointer,
        message="JSON has no such number",
        found=word,
        expected="a number, a text or null",
        mend="Put it in quotes if the API wants the word",
    )


def number_too_long(pointer: str, digits: int) -> Finding:
    """A whole number that Python doesn't read."""
    return Finding(
        pointer=pointer,
        message="The number is too long",
        found=f"{digits:,} digits",
        expected=f"at most {MAX_DIGITS:,} digits",
        mend="Put it in quotes if it is an identifier",
    )


def number_too_large(pointer: str) -> Finding:
    """A number beyond what a double holds."""
    return Finding(
        pointer=pointer,
        message="The number is too large",
        expected="a number below 1.8e308",
        mend="Put it in quotes if it is an identifier",
    )
