"""Change one value of a JSON or YAML text, and leave all else as it is written."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from restsource_dagster.authoring.importing.connector_draft import file_text
from restsource_dagster.connector.parsing.document import YAML_SUFFIXES

__all__ = ["TextEditError", "on_lines", "with_value", "without_value"]

_LINE_LENGTH = 90
_MAX_LINE = 100
"""Of an object on one line; a longer one is written on several."""


class TextEditError(Exception):
    """A text that can't be changed at this place. The text of the error says why, in a sentence."""


@dataclass
class _Span:
    """Where a value stands in a text, in characters, and what is inside it."""

    begin: int
    end: int
    is_mapping: bool = False
    is_block: bool = False
    """True for YAML's form without braces."""
    children: dict[str | int, "_Span"] = field(default_factory=dict)
    keys: dict[str | int, int] = field(default_factory=dict)
    """Where the key of each child begins."""

    @property
    def last_end(self) -> int:
        """The end of the last character of the value; a block's own end is after the lines below it."""
        children = list(self.children.values())
        return children[-1].last_end if self.is_block and children else self.end


def with_value(text: str, path: Path, steps: Sequence[str | int], value: Any) -> str:
    """Return the text with a JSON value at the place that keys and indices lead to.

    Objects on the way that are missing are made. The suffix of `path` says JSON or YAML. Raises
    `TextEditError` for a text with a mistake in its form, and for a place inside a text or a number.
    """
    span, depth = _deepest(_compose(text, path), steps)
    if depth == len(steps):
        indent = _indent_at(text, span.begin)
        end = span.last_end
        written = _written(value, indent, is_block=span.is_block)
        # the key of a block stands on the line above it
        begin = span.begin if not span.is_block else _after_colon(text, span.begin)
        lead = " " if span.is_block else ""
        return f"{text[:begin]}{lead}{written}{text[end:]}"
    if not span.is_mapping or not isinstance(steps[depth], str):
        raise TextEditError("there is a value of another form at this place: change it by hand")
    for step in reversed(steps[depth + 1 :]):
        value = {step: value}
    return _with_member(text, span, str(steps[depth]), value)


def without_value(text: str, path: Path, steps: Sequence[str | int]) -> str:
    """Return the text without a member of an object; the text itself if it has no such member.

    Raises `TextEditError` for a text with a mistake in its form.
    """
    root = _compose(text, path)
    if _deepest(root, steps)[1] < len(steps):
        return text
    holder = _deepest(root, steps[:-1])[0]
    names = list(holder.children)
    at = names.index(steps[-1])
    if not holder.is_block and len(names) == 1:
        return f"{text[: holder.begin]}{{}}{text[holder.end :]}"
    if holder.is_block and len(names) == 1:
        return without_value(text, path, steps[:-1])
    if at + 1 < len(names):
        return text[: holder.keys[steps[-1]]] + text[holder.keys[names[at + 1]] :]
    before = holder.children[names[at - 1]].last_end
    return text[:before] + text[holder.children[steps[-1]].last_end :]


def on_lines(text: str, path: Path, steps: Sequence[str | int]) -> str:
    """Return the text with the object at a place on several lines, if it has one that is too long.

    Only JSON is written anew, as YAML may have comments. Raises `TextEditError`.
    """
    span, depth = _deepest(_compose(text, path), steps)
    is_yaml = path.suffix.lower() in YAML_SUFFIXES
    begin, end = text.rfind("\n", 0, span.begin) + 1, text.find("\n", span.end)
    lines = text[begin : len(text) if end < 0 else end].splitlines()
    if depth < len(steps) or is_yaml or all(len(line) <= _MAX_LINE for line in lines):
        return text
    written = file_text(json.loads(text[span.begin : span.end])).rstrip("\n")
    indent = _indent_at(text, span.begin)
    return text[: span.begin] + written.replace("\n", f"\n{indent}") + text[span.end :]


def _compose(text: str, path: Path) -> _Span:
    """Return the places of a text's values. A JSON text is YAML, but for its tabs."""
    is_yaml = path.suffix.lower() in YAML_SUFFIXES
    try:
        node = yaml.compose(text if is_yaml else text.replace("\t", " "), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        node = None
    if node is None:
        raise TextEditError("the file has a mistake in its form: correct it first")
    return _span_of(node)


def _span_of(node: yaml.Node) -> _Span:
    is_block = isinstance(node, yaml.CollectionNode) and not node.flow_style
    made = _Span(node.start_mark.index, node.end_mark.index, is_block=is_block)
    if isinstance(node, yaml.MappingNode):
        made.is_mapping = True
        for key, value in node.value:
            made.children[str(key.value)] = _span_of(value)
            made.keys[str(key.value)] = key.start_mark.index
    elif isinstance(node, yaml.SequenceNode):
        made.children = {number: _span_of(value) for number, value in enumerate(node.value)}
    return made


def _deepest(root: _Span, steps: Sequence[str | int]) -> tuple[_Span, int]:
    """Return the innermost value on the way that is there, and how many steps lead to it."""
    span = root
    for depth, step in enumerate(steps):
        child = span.children.get(step)
        if child is None:
            return span, depth
        span = child
    return span, len(steps)


def _with_member(text: str, span: _Span, name: str, value: Any) -> str:
    if span.is_block:
        first = min(span.keys.values())
        indent = " " * (first - text.rfind("\n", 0, first) - 1)
        # a comment may follow on the line of the last value
        end = text.find("\n", span.last_end)
        end = len(text) if end < 0 else end
        return f"{text[:end]}\n{indent}{name}: {_written(value, indent, is_block=True)}{text[end:]}"
    key = json.dumps(name, ensure_ascii=False)
    if not span.children:
        indent = _indent_at(text, span.begin)
        return f"{text[: span.begin]}{{{key}: {_written(value, indent)}}}{text[span.end :]}"
    last = list(span.children)[-1]
    begin, end = span.keys[last], span.children[last].last_end
    indent = _indent_at(text, begin)
    is_own_line = text[:begin].endswith(f"\n{indent}") or text[:begin] == indent
    separator = f",\n{indent}" if is_own_line else ", "
    return f"{text[:end]}{separator}{key}: {_written(value, indent)}{text[end:]}"


def _indent_at(text: str, offset: int) -> str:
    line = text[text.rfind("\n", 0, offset) + 1 : offset]
    return line[: len(line) - len(line.lstrip())]


def _after_colon(text: str, offset: int) -> int:
    return text.rfind(":", 0, offset) + 1


def _written(value: Any, indent: str, *, is_block: bool = False) -> str:
    """Return a value as JSON, which YAML reads, too; on several lines if it is long."""
    short = json.dumps(value, ensure_ascii=False)
    if len(short) <= _LINE_LENGTH or not isinstance(value, dict | list):
        return short
    step = indent + ("  " if is_block else "")
    return json.dumps(value, ensure_ascii=False, indent=2).replace("\n", f"\n{step}")
