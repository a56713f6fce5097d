"""Split JSON into tokens: the base of the source map, the limits and the mistakes.

Any text has tokens, valid JSON or not, and nothing here is recursive: a hostile file can't overflow
the stack.
"""

import json
import re
from collections.abc import Iterable, Iterator

from restsource_dagster.connector.parsing.limits import (
    MAX_DEPTH,
    MAX_VALUES,
    too_deep,
    too_many_values,
)
from restsource_dagster.connector.parsing.source_map import LocatedFinding, SourceNode

__all__ = [
    "CLOSERS",
    "CLOSING",
    "WHITE_SPACE",
    "Token",
    "build_source_map",
    "exceeded_limit",
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
    # The pattern skips white space before a token. At the end of the text it would do so in vain,
    # once for each space.
    for found in _TOKEN.finditer(text.rstrip(WHITE_SPACE)):
        yield found[1], found.start(1)


def text_of(raw: str) -> str:
    """Return the text that a valid token in double quotes stands for."""
    return str(json.loads(raw)) if "\\" in raw else raw[1:-1]


def exceeded_limit(text: str) -> LocatedFinding | None:
    """Return the first limit that a text exceeds, `MAX_DEPTH` or `MAX_VALUES`; None if it has none.

    Empty lists and objects count as two values.
    """
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
                    node = parent.add(key, offset, key_offset)
                else:
                    node = parent.add(str(len(parent.children)), offset)
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
