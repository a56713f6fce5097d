"""Where in a text a value is written: offsets, lines, columns and JSON pointers."""

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from restsource_dagster.config.problems import Finding

__all__ = ["Mistake", "Parsed", "Place", "TextLines"]

_LINE_BREAK = re.compile(r"\r\n|\n|\r")


@dataclass(slots=True, eq=False)
class Place:
    """A value's place in a text, and the places below it: a tree, built once while parsing.

    `value` and `key` are offsets in characters; `key` is None for list elements and the root.
    """

    token: str = ""
    value: int = 0
    key: int | None = None
    parent: "Place | None" = field(default=None, repr=False)
    children: dict[str, "Place"] = field(default_factory=dict, repr=False)

    def child(self, token: str, value: int, key: int | None = None) -> "Place":
        """Add a child and return it. A second one of the same name takes the first one's place."""
        place = Place(token, value, key, parent=self)
        self.children[token] = place
        return place

    @property
    def pointer(self) -> str:
        """The JSON pointer (RFC 6901) of the value, "" for the root."""
        tokens: list[str] = []
        place = self
        while place.parent is not None:
            tokens.append(place.token.replace("~", "~0").replace("/", "~1"))
            place = place.parent
        return "".join(f"/{token}" for token in reversed(tokens))

    def find(self, pointer: str) -> "Place":
        """The place of a pointer, or of its nearest ancestor that is in the text."""
        place = self
        for token in pointer.split("/")[1:]:
            below = place.children.get(token.replace("~1", "/").replace("~0", "~"))
            if below is None:
                break
            place = below
        return place


@dataclass(frozen=True)
class Mistake:
    """A finding at an offset (in characters): what the parsers of this folder report."""

    offset: int
    finding: Finding


@dataclass(frozen=True)
class Parsed:
    """What a parser made of a text.

    `value` is meaningful if `usable`, even if there are mistakes: a mistake whose meaning is clear
    (a trailing comma) must not hide the next one. `places` makes the tree of places; it may cost a
    pass over the text, so it is only called when somebody asks for a position.
    """

    value: Any
    mistakes: tuple[Mistake, ...]
    usable: bool
    places: Callable[[], Place]


@dataclass(frozen=True)
class TextLines:
    """A text that knows in which line an offset is. A line ends with LF, CRLF or CR."""

    text: str = field(repr=False)

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(found.end() for found in _LINE_BREAK.finditer(self.text))]

    def line_and_column(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both from 1, the column in characters."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1
