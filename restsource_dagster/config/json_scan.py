"""Walk through a JSON text without recursion, noting where everything is."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from restsource_dagster.config.positions import Place

__all__ = [
    "CLOSING",
    "Item",
    "deeper_than",
    "more_values_than",
    "open_brackets",
    "places_of",
    "scan",
]

# A string that is never closed is one token up to the end, which keeps any text linear to read.
_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
_TOKEN = re.compile(rf'{_STRING}|[\[\]{{}},:]|[^\s\[\]{{}},:"]+', re.DOTALL)
_STRUCTURE = re.compile(rf"{_STRING}|[\[\]{{}}]", re.DOTALL)
_OPENERS = frozenset("[{")
_CLOSERS = frozenset("]}")
CLOSING = {"[": "]", "{": "}"}
"""The closing bracket of an opening one."""


@dataclass(frozen=True, slots=True)
class Item:
    """A value or a key on the way: where it is and its raw text.

    The raw text of a list or an object is only its opening bracket. For a key `place` is that of
    its value, whose offset isn't known yet; `repeats` is the offset of the same key's first
    occurrence in the same object.
    """

    place: Place
    raw: str
    is_key: bool = False
    repeats: int | None = None


@dataclass(slots=True)
class _Frame:
    place: Place
    is_object: bool
    child: str = "0"
    key: int | None = None
    seen: dict[str, int] = field(default_factory=dict)

    def advance(self) -> None:
        if not self.is_object:
            self.child = str(int(self.child) + 1)


def scan(text: str) -> Iterator[Item]:
    """All keys and values, in order, of a text that the standard library's parser accepts."""
    root = Place()
    stack: list[_Frame] = []
    awaits_key = False
    for token in _TOKEN.finditer(text):
        raw, offset = token.group(), token.start()
        if raw in _CLOSERS:
            stack.pop()
            awaits_key = False
        elif raw == ",":
            stack[-1].advance()
            awaits_key = stack[-1].is_object
        elif raw == ":":
            awaits_key = False
        elif awaits_key:
            yield _key(stack[-1], raw, offset)
        else:
            place = _value(root, stack, offset)
            yield Item(place, raw)
            if raw in _OPENERS:
                stack.append(_Frame(place, is_object=raw == "{"))
                awaits_key = raw == "{"


def _value(root: Place, stack: list[_Frame], offset: int) -> Place:
    if not stack:
        root.value = offset
        return root
    return stack[-1].place.child(stack[-1].child, offset, stack[-1].key)


def _key(frame: _Frame, raw: str, offset: int) -> Item:
    frame.child = json.loads(raw, strict=False) if "\\" in raw else raw[1:-1]
    frame.key = offset
    first = frame.seen.setdefault(frame.child, offset)
    place = Place(frame.child, offset, offset, parent=frame.place)
    return Item(place, raw, is_key=True, repeats=None if first == offset else first)


def places_of(text: str) -> Place:
    """The tree of places of a text that the standard library's parser accepts."""
    items = scan(text)
    root = next(items).place
    for _ in items:  # the tree grows as the scan goes on
        pass
    return root


def open_brackets(text: str) -> list[tuple[str, int]]:
    """The brackets, with their offsets, that are still open at the end of any text."""
    stack: list[tuple[str, int]] = []
    for token in _STRUCTURE.finditer(text):
        if token.group() in _OPENERS:
            stack.append((token.group(), token.start()))
        elif token.group() in _CLOSERS and stack:
            stack.pop()
    return stack


def deeper_than(text: str, levels: int) -> int | None:
    """The offset of the first bracket below `levels` others in any text; None if there is none."""
    if text.count("[") + text.count("{") <= levels:
        return None
    depth = 0
    for token in _STRUCTURE.finditer(text):
        if token.group() in _OPENERS:
            depth += 1
            if depth > levels:
                return token.start()
        elif token.group() in _CLOSERS:
            depth = max(0, depth - 1)
    return None


def more_values_than(text: str, limit: int) -> bool:
    """Whether any text holds more values than that. Empty lists and objects count for two."""
    # A value that isn't the first of its list comes after a comma, the first after a bracket.
    if text.count(",") + text.count("[") + text.count("{") < limit:
        return False
    signs = (token.group() for token in _TOKEN.finditer(text))
    return sum(sign == "," or sign in _OPENERS for sign in signs) >= limit
