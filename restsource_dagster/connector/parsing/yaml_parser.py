"""Read YAML as another notation of JSON: the same values, no tags, no surprises.

Scalars are those of YAML 1.2's core schema (https://yaml.org/spec/1.2.2/#103-core-schema): a date
and the words yes, no, on and off stay texts. The value is built from PyYAML's events without
recursion, so that neither nesting nor aliases of aliases can exhaust stack or memory.
"""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from restsource_dagster.connector.parsing.parsed_text import (
    MAX_DEPTH,
    MAX_MISTAKES,
    MAX_VALUES,
    LocatedFinding,
    ParsedText,
    SourceNode,
    TextLines,
    empty_file,
    has_lone_surrogate,
    lone_surrogate,
    no_such_number,
    number_too_large,
    number_too_long,
    read_float,
    read_integer,
    repeated_key,
    replace_surrogates,
    too_deep,
    too_many_values,
)
from restsource_dagster.connector.parsing.yaml_errors import yaml_syntax_error
from restsource_dagster.connector.validation.diagnostics import Finding

__all__ = ["parse_yaml"]

_WORDS: dict[str, Any] = {
    # The empty text is the value of a key without one: `key:`.
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL_OR_HEX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


# libyaml's parser is seven times as fast as the one in Python, and gives the same events. A wheel of PyYAML
# without it is rare.
_FAST_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_yaml(text: str) -> ParsedText:
    """Return the value of a YAML text and everything wrong with the text. Never raises."""
    builder = _Builder(text)
    try:
        builder.read(_FAST_LOADER)
    except Exception:  # noqa: BLE001 - the slow parser tells more about what is wrong, and where
        builder = _Builder(text)
        try:
            builder.read(yaml.SafeLoader)
        except Exception as error:  # noqa: BLE001 - PyYAML itself fails on some texts, e.g. "\Uffffffff"
            builder.complete = False
            builder.findings.append(yaml_syntax_error(error, text))
    # Complete if only a second document is refused: then the first one is checked.
    usable = builder.complete
    if not usable and not builder.findings:
        builder.findings.append(LocatedFinding(0, empty_file()))
    return ParsedText(
        builder.value if usable else None,
        tuple(builder.findings),
        usable,
        lambda: builder.root,
    )


class _StopReadingError(Exception):
    """The rest of the file can't be read, or enough mistakes are found."""


@dataclass(frozen=True)
class _Anchor:
    """A value that aliases can repeat: how many values it holds and how deep they are nested."""

    value: Any
    size: int = 1
    depth: int = 0


@dataclass
class _Container:
    """A list or an object that is being read."""

    value: list[Any] | dict[str, Any]
    node: SourceNode
    anchor: str | None
    is_key: bool
    is_flow: bool = False
    has_bare_name: bool = False
    """Whether a key has neither a colon nor a value: `{name}`."""
    size: int = 1
    depth: int = 1
    key: str | None = None
    key_offset: int | None = None

    @property
    def awaits_key(self) -> bool:
        return isinstance(self.value, dict) and self.key is None

    @property
    def next_token(self) -> str:
        return self.key if self.key is not None else str(len(self.value))


class _Builder:
    """Builds the value, its source map and the findings from PyYAML's events."""

    def __init__(self, text: str) -> None:
        self.value: Any = None
        self.root = SourceNode()
        self.findings: list[LocatedFinding] = []
        self.complete = False
        self._lines = TextLines(text)
        self._stack: list[_Container] = []
        self._anchors: dict[str, _Anchor | None] = {}
        self._size = 0

    def read(self, loader: Any) -> None:
        """Read the text by the events of one of PyYAML's loaders. Raises what its parser raises."""
        try:
            # Events only: PyYAML's constructors, which can make objects of tags, never run.
            for event in yaml.parse(self._lines.text, Loader=loader):
                self._take(event)
        except _StopReadingError:
            return

    def _take(self, event: yaml.Event) -> None:
        offset = event.start_mark.index if event.start_mark is not None else 0
        match event:
            case yaml.ScalarEvent():
                self._scalar(event, offset)
            case yaml.AliasEvent():
                self._alias(str(event.anchor), offset)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._open(event, offset)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.DocumentStartEvent() if self.complete:
                self._stop(offset, _second_document())
            case yaml.DocumentEndEvent():
                self.complete = True

    def _stop(self, offset: int, finding: Finding) -> NoReturn:
        self.findings.append(LocatedFinding(offset, finding))
        raise _StopReadingError

    def _report(self, offset: int, finding: Finding) -> None:
        if len(self.findings) == MAX_MISTAKES:
            raise _StopReadingError
        self.findings.append(LocatedFinding(offset, finding))

    def _awaits_key(self) -> bool:
        return bool(self._stack) and self._stack[-1].awaits_key

    def _pointer(self) -> str:
        """The pointer of the next value, or of the object whose key is next."""
        if not self._stack:
            return ""
        container = self._stack[-1]
        if container.awaits_key:
            return container.node.pointer
        return SourceNode(container.next_token, parent=container.node).pointer

    def _scalar(self, event: yaml.ScalarEvent, offset: int) -> None:
        value, finding = _read_scalar(event, self._pointer)
        if self._awaits_key():
            if not isinstance(value, str):
                finding = finding or _key_not_text(self._pointer(), "a number or a word")
                value = str(event.value)
            if finding:
                self._report(offset, finding)
            self._key(value, offset, is_plain=event.implicit[0])
            return
        if finding:
            self._report(offset, finding)
        self._add_node(offset)
        if self._stack and self._stack[-1].is_flow and event.implicit[0] and not event.value:
            self._stack[-1].has_bare_name = True
        self._remember(event.anchor, _Anchor(value))
        self._add_value(value, size=1, depth=0, offset=offset)

    def _key(self, key: str, offset: int, *, is_plain: bool = False) -> None:
        container = self._stack[-1]
        container.key, container.key_offset = key, offset
        earlier = container.node.children.get(key)
        if earlier is not None and earlier.key is not None:
            line, _ = self._lines.line_and_column(earlier.key)
            self._report(offset, repeated_key(self._pointer(), key, line))
        elif key == "<<" and is_plain:  # in quotes it is a key like any other
            self._report(offset, _merge_key(self._pointer()))

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, offset: int) -> None:
        if len(self._stack) >= MAX_DEPTH:
            self._stop(offset, too_deep())
        if event.tag is not None:
            self._report(offset, _tagged(self._pointer()))
        is_key = self._awaits_key()
        if is_key:
            self._report(offset, _key_not_text(self._pointer(), "a list or an object"))
        node = SourceNode(value=offset) if is_key else self._add_node(offset)
        value: list[Any] | dict[str, Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        # Until the value is complete, an alias for it would make the value contain itself.
        self._remember(event.anchor, None)
        self._stack.append(_Container(value, node, event.anchor, is_key, bool(event.flow_style)))

    def _close(self) -> None:
        closed = self._stack.pop()
        if closed.is_key:
            # A stand-in, so that the value after this key has a place.
            self._key("?", closed.node.value)
            return
        if closed.has_bare_name and (name := _only_name(closed.value)):
            self._report(closed.node.value, _bare_braces(closed.node.pointer, name))
        self._remember(closed.anchor, _Anchor(closed.value, closed.size, closed.depth))
        self._add_value(closed.value, closed.size, closed.depth, closed.node.value)

    def _alias(self, name: str, offset: int) -> None:
        if self._awaits_key():
            self._report(offset, _key_not_text(self._pointer(), "an alias"))
            self._key(f"*{name}", offset)
            return
        anchor = self._anchors.get(name)
        if anchor is None:
            self._report(offset, _bad_alias(self._pointer(), is_defined=name in self._anchors))
            anchor = _Anchor(None)
        if len(self._stack) + anchor.depth > MAX_DEPTH:
            self._stop(offset, too_deep())
        self._add_node(offset)
        # Before the copy: ten lines of aliases for aliases can stand for billions of values.
        if self._size + anchor.size > MAX_VALUES:
            self._stop(offset, too_many_values())
        self._add_value(copy.deepcopy(anchor.value), anchor.size, anchor.depth, offset)

    def _remember(self, name: str | None, anchor: _Anchor | None) -> None:
        if name is not None:
            self._anchors[name] = anchor

    def _add_node(self, offset: int) -> SourceNode:
        if not self._stack:
            self.root.value = offset
            return self.root
        container = self._stack[-1]
        parent, token = container.node, container.next_token
        node = parent.children[token] = SourceNode(token, offset, container.key_offset, parent)
        return node

    def _add_value(self, value: Any, size: int, depth: int, offset: int) -> None:
        """Put a complete value into the list or object around it."""
        # The values inside a list or an object were counted when they were added to it.
        self._size += size if not isinstance(value, (dict, list)) else 1
        if self._size > MAX_VALUES:
            self._stop(offset, too_many_values())
        if not self._stack:
            self.value = value
            return
        container = self._stack[-1]
        if isinstance(container.value, list):
            container.value.append(value)
        elif container.key is not None:
            container.value[container.key] = value
            container.key = container.key_offset = None
        container.size += size
        container.depth = max(container.depth, depth + 1)


def _only_name(value: list[Any] | dict[str, Any]) -> str | None:
    """Return the name of a placeholder that YAML reads as an object: `{incremental.start_value}`."""
    if not isinstance(value, dict) or len(value) != 1:
        return None
    ((name, inner),) = value.items()
    return name if inner is None and re.fullmatch(r"[\w.-]+", name) else None


def _bare_braces(pointer: str, name: str) -> Finding:
    return Finding(
        pointer, "Braces without quotes are an object in YAML", f"an object with the name `{name[:60]}`", None,
        f'Write "{{{name[:60]}}}" in quotes',
    )  # fmt: skip


def _read_scalar(event: yaml.ScalarEvent, pointer: Callable[[], str]) -> tuple[Any, Finding | None]:
    """Return the value of a scalar, and a finding if it can't be read."""
    text: str = event.value
    if event.tag is not None:
        return text, _tagged(pointer())
    # PyYAML's mark of a quoted scalar, which is a text whatever it holds.
    if not event.implicit[0]:
        return _read_quoted(text, pointer)
    if text in _WORDS:
        return _WORDS[text], None
    return _read_plain(text, pointer)


def _read_plain(text: str, pointer: Callable[[], str]) -> tuple[Any, Finding | None]:
    number: float | None
    if _INTEGER.fullmatch(text):
        number = read_integer(text)
        return number or 0, None if number is not None else number_too_long(pointer(), len(text))
    if _FLOAT.fullmatch(text):
        number = read_float(text)
        return number or 0.0, None if number is not None else number_too_large(pointer())
    if _NO_NUMBER.fullmatch(text):
        return 0.0, no_such_number(pointer(), text)
    # Base 0 reads the prefixes `0o` and `0x`.
    return int(text, base=0) if _OCTAL_OR_HEX.fullmatch(text) else text, None


def _read_quoted(text: str, pointer: Callable[[], str]) -> tuple[str, Finding | None]:
    if not has_lone_surrogate(text):
        return text, None
    # A pair of escapes is one character in JSON, so it is here: YAML contains JSON.
    paired = text.encode("utf-16", "surrogatepass")
    try:
        return paired.decode("utf-16"), None
    except UnicodeDecodeError:
        return replace_surrogates(text), lone_surrogate(pointer())


def _tagged(pointer: str) -> Finding:
    return Finding(
        pointer, "Tags are not read", "a tag, which begins with `!`", "a value without a tag",
        "Delete the tag; a text is put in quotes, a secret written ${NAME}",
    )  # fmt: skip


def _key_not_text(pointer: str, found: str) -> Finding:
    return Finding(
        pointer, "Keys are texts", found, "a text", "Put it in double quotes, and a text that "
        "begins with { or [ too; a secret is written ${NAME}",
    )  # fmt: skip


def _merge_key(pointer: str) -> Finding:
    """Report YAML 1.1's merge key, which YAML 1.2 doesn't have."""
    return Finding(
        pointer, "Merging with `<<` is not read", "the key `<<`", None,
        'Write the keys out, or use "resource_defaults"', on_key=True,
    )  # fmt: skip


def _bad_alias(pointer: str, *, is_defined: bool) -> Finding:
    found = "an alias for a value that holds it" if is_defined else "an alias for no anchor"
    return Finding(
        pointer, "The alias can't be read", found, "an alias (*name) after its anchor (&name)",
        "Put the text in quotes if it only begins with *",
    )  # fmt: skip


def _second_document() -> Finding:
    return Finding(
        "", "The file holds more than one document", "a second one after `---`", "one document",
        "Put the second one into a file of its own",
    )  # fmt: skip
