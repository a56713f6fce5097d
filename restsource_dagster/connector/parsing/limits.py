"""Limit what a file can hold: its size, and the texts and numbers that JSON and YAML share.

Real connector files stay far below these limits. The limits keep a wrong or hostile file harmless.
"""

import json
import math
import re
from typing import Any

from restsource_dagster.connector.validation.diagnostics import Finding

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_DIGITS",
    "MAX_MISTAKES",
    "MAX_VALUES",
    "empty_file",
    "has_lone_surrogate",
    "lone_surrogate",
    "no_such_number",
    "number_too_large",
    "number_too_long",
    "read_float",
    "read_integer",
    "repeated_key",
    "replace_surrogates",
    "too_deep",
    "too_many_values",
]

MAX_BYTES = 4 * 1024 * 1024
"""Largest size of a file in bytes. A larger file isn't read at all."""
MAX_DEPTH = 100
"""Most levels of lists and objects inside each other."""
MAX_DIGITS = 4_300
"""Most digits of a whole number, Python's own limit (`sys.int_info.default_max_str_digits`)."""
MAX_MISTAKES = 200
"""Most syntax mistakes that one check lists."""
MAX_VALUES = 100_000
"""Most values in a file: lists, objects, texts, numbers, true, false and null each count as one."""

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_IN_QUOTES = "Put it in quotes if it is an identifier"


def read_integer(text: str) -> int | None:
    """Return the whole number, or None if it has too many digits."""
    if len(text.lstrip("+-")) > MAX_DIGITS:
        return None
    try:
        return int(text)
    except ValueError:  # PYTHONINTMAXSTRDIGITS can set a lower limit than ours
        return None


def read_float(text: str) -> float | None:
    """Return the number, or None if a double can't hold it."""
    number = float(text)
    # `float` turns a number that is too large into an infinity, without an error.
    return None if math.isinf(number) else number


def has_lone_surrogate(text: str) -> bool:
    """True if the text holds half of a surrogate pair, which UTF-8 and databases refuse."""
    return _SURROGATE.search(text) is not None


def replace_surrogates(value: Any) -> Any:
    """Return the value with U+FFFD for each lone surrogate in its keys and texts."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {replace_surrogates(k): replace_surrogates(v) for k, v in value.items()}
    if isinstance(value, list):
        return [replace_surrogates(element) for element in value]
    return value


def empty_file() -> Finding:
    """Report a file without a value."""
    return Finding("", "The file is empty", None,
                   'an object with "schedule", "client" and "resources"')  # fmt: skip


def too_deep() -> Finding:
    """Report more levels than `MAX_DEPTH`."""
    return Finding("", "Lists and objects are nested too deeply here",
                   f"more than {MAX_DEPTH} levels", f"at most {MAX_DEPTH} levels",
                   "Is this a connector file?")  # fmt: skip


def too_many_values() -> Finding:
    """Report more values than `MAX_VALUES`."""
    return Finding("", "The file holds too much", f"more than {MAX_VALUES:,} values",
                   f"at most {MAX_VALUES:,} values",
                   "Is this a connector file? If so, split it: one file per API")  # fmt: skip


def repeated_key(pointer: str, key: str, first_line: int) -> Finding:
    """Report a key that one object has twice."""
    shown = json.dumps(key if len(key) <= 60 else f"{key[:59]}\u2026", ensure_ascii=False)
    return Finding(pointer, f"The key {shown} is there twice in one object",
                   f"it again, after line {first_line}", "each key once", "Keep one of the two",
                   on_key=True)  # fmt: skip


def lone_surrogate(pointer: str) -> Finding:
    """Report half of a surrogate pair."""
    return Finding(pointer, "The text holds half of a surrogate pair, which is no character",
                   "a \\ud... escape without its partner",
                   "two \\ud... escapes together, or the character itself",
                   "Write the character itself; the file is UTF-8")  # fmt: skip


def no_such_number(pointer: str, word: str) -> Finding:
    """Report NaN or an infinity."""
    return Finding(pointer, "JSON has no such number", word, "a number, a text or null",
                   "Put it in quotes if the API wants the word")  # fmt: skip


def number_too_long(pointer: str, digits: int) -> Finding:
    """Report a whole number with more digits than `MAX_DIGITS`."""
    return Finding(pointer, "The number is too long", f"{digits:,} digits",
                   f"at most {MAX_DIGITS:,} digits", _IN_QUOTES)  # fmt: skip


def number_too_large(pointer: str) -> Finding:
    """Report a number that a double can't hold."""
    return Finding(pointer, "The number is too large", None, "a number below 1.8e308",
                   _IN_QUOTES)  # fmt: skip
