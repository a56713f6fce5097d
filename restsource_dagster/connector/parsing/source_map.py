"""Map the values of a text to where they are written: offsets, lines, columns, JSON pointers."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

from restsource_dagster.connector.validation.diagnostics import Finding, json_pointer, pointer_steps

__all__ = ["LocatedFinding", "ParsedText", "SourceNode", "TextLines"]


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
