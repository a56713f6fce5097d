"""What the parsers of JSON and YAML share: the places of values in a text, and what a file can hold.

Places are offsets, lines, columns and JSON pointers. Real connector files stay far below the limits, which keep
a wrong or hostile file harmless.
"""

import json
import math
import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

from restsource_dagster.connector.validation.diagnostics import Finding, json_pointer, pointer_steps

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_DIGITS",
    "MAX_MISTAKES",
    "MAX_VALUES",
    "LocatedFinding",
    "ParsedText",
    "SourceNode",
    "TextLines",
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


@dataclass(slots=True, eq=False)
class SourceNode:
    """The place of one value, and the nodes of the values inside it.

    `value` and `key` are offsets in characters; `key` is None for list elements and the root.
    """

    # A tree, because a flat map would hold each pointer in full: megabytes for long keys.
    token: str = ""
    value: int = 0
    key: int | None = None
    parent: "SourceNode | None" = field(default=None, repr=False)
    children: dict[str, "SourceNode"] = field(default_factory=dict, repr=False)

    @property
    def pointer(self) -> str:
        """The JSON pointer (RFC 6901) of the value, "" for the root."""
        tokens: list[str] = []
        node = self
        while node.parent is not None:
            tokens.append(node.token)
            node = node.parent
        return json_pointer(reversed(tokens))

    def find(self, pointer: str) -> "SourceNode":
        """Return the node of a JSON pointer, or its nearest ancestor that is in the text."""
        node = self
        for token in pointer_steps(pointer):
            child = node.children.get(token)
            if child is None:
                break
            node = child
        return node


@dataclass(frozen=True)
class LocatedFinding:
    """A finding at an offset of the text, in characters."""

    offset: int
    finding: Finding


@dataclass(frozen=True)
class ParsedText:
    """The result of a parser.

    `value` is meaningful only if `usable`. A usable text can have findings too: the parser corrects
    a mistake with a clear meaning, such as a trailing comma, to report the next ones as well.
    `source_map` builds the map. That takes a pass over the text, so call it only for a position.
    """

    value: Any
    findings: tuple[LocatedFinding, ...]
    usable: bool
    source_map: Callable[[], SourceNode]


@dataclass(frozen=True)
class TextLines:
    """A text that converts offsets to lines and columns.

    A line ends with LF, CRLF or CR, as in an editor; `str.splitlines` knows more line ends.
    """

    text: str = field(repr=False)

    @cached_property
    def _starts(self) -> list[int]:
        # The replacements keep all offsets, and splitting is much faster than a regular expression.
        lines = self.text.replace("\r\n", " \n").replace("\r", "\n").split("\n")
        return list(accumulate((len(line) + 1 for line in lines[:-1]), initial=0))

    def line_and_column(self, offset: int) -> tuple[int, int]:
        """Return line and column of an offset, both from 1, the column in characters."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def offset(self, line: int, column: int) -> int:
        """Return the offset of a line and column, both from 1."""
        return self._starts[line - 1] + column - 1
