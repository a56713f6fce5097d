"""Read YAML as JSON's cousin: the same values, no tags, no surprises.

Scalars are those of YAML 1.2's core schema (https://yaml.org/spec/1.2.2/#103-core-schema): a date
and the words yes, no, on and off stay texts. The value is built from the parser's events without
recursion, so that neither nesting nor aliases of aliases can do harm.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import yaml

from restsource_dagster.config import yaml_mistakes as mistakes
from restsource_dagster.config.limits import (
    MAX_DEPTH,
    MAX_MISTAKES,
    MAX_VALUES,
    empty_file,
    too_deep,
    too_many_values,
)
from restsource_dagster.config.positions import Mistake, Parsed, Place, TextLines
from restsource_dagster.config.problems import Finding
from restsource_dagster.config.scalars import repeated_key
from restsource_dagster.config.yaml_scalars import read_scalar

__all__ = ["parse_yaml"]


def parse_yaml(text: str) -> Parsed:
    """The value of a YAML text and everything wrong with it. Never raises."""
    builder = _Builder(text)
    usable = False
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
        usable = builder.complete
        if not usable:
            builder.mistakes.append(Mistake(0, empty_file()))
    except _StopReadingError:
        usable = builder.complete
    except yaml.YAMLError as error:
        builder.mistakes.append(mistakes.not_yaml(error, len(text)))
    except Exception as error:  # noqa: BLE001 - its scanner has slips, as chr() of "\Uffffffff"
        builder.mistakes.append(mistakes.unreadable(error))
    return Parsed(
        value=builder.value if usable else None,
        mistakes=tuple(builder.mistakes),
        usable=usable,
        places=lambda: builder.root,
    )


class _StopReadingError(Exception):
    """The rest of the file can't be read, or needn't be."""


@dataclass(frozen=True)
class _Anchor:
    """A value that aliases can repeat: how many values it holds and how deep they go."""

    value: Any
    size: int
    depth: int


@dataclass
class _Frame:
    """A list or an object that is being read."""

    container: list[Any] | dict[str, Any]
    place: Place
    anchor: str | None
    is_key: bool
    size: int = 1
    depth: int = 1
    key: str | None = None
    key_offset: int | None = None
    seen: dict[str, int] = field(default_factory=dict)

    @property
    def awaits_key(self) -> bool:
        return isinstance(self.container, dict) and self.key is None

    @property
    def next_token(self) -> str:
        return self.key if self.key is not None else str(len(self.container))


class _Builder:
    """Takes the parser's events and makes value, places and mistakes of them."""

    def __init__(self, text: str) -> None:
        self.value: Any = None
        self.root = Place()
        self.mistakes: list[Mistake] = []
        self.complete = False
        self._lines = TextLines(text)
        self._stack: list[_Frame] = []
        self._anchors: dict[str, _Anchor | None] = {}
        self._size = 0

    def take(self, event: yaml.Event) -> None:
        """Take the next event. Raises `_StopReadingError` if no further one is wanted."""
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._open(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.DocumentStartEvent() if self.complete:
                self._stop(_offset(event), mistakes.second_document())
            case yaml.DocumentEndEvent():
                self.complete = True

    def _stop(self, offset: int, finding: Finding) -> None:
        self.mistakes.append(Mistake(offset, finding))
        raise _StopReadingError

    def _report(self, offset: int, finding: Finding | None) -> None:
        if finding is None:
            return
        if len(self.mistakes) == MAX_MISTAKES:
            raise _StopReadingError
        self.mistakes.append(Mistake(offset, finding))

    def _pointer(self) -> str:
        """The pointer of the value that comes next, or of the object whose key comes next."""
        if not self._stack:
            return ""
        frame = self._stack[-1]
        if frame.awaits_key:
            return frame.place.pointer
        return Place(frame.next_token, parent=frame.place).pointer

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        offset = _offset(event)
        value, finding = read_scalar(event, self._pointer)
        if self._stack and self._stack[-1].awaits_key:
            if not isinstance(value, str):
                finding = finding or mistakes.key_not_text(self._pointer(), "a number or a word")
            self._report(offset, finding)
            self._key(value if isinstance(value, str) else str(event.value), offset)
            return
        self._report(offset, finding)
        self._place(offset)
        self._remember(event.anchor, _Anchor(value, size=1, depth=0))
        self._add(value, size=1, depth=0, offset=offset)

    def _key(self, key: str, offset: int) -> None:
        frame = self._stack[-1]
        frame.key, frame.key_offset = key, offset
        first = frame.seen.setdefault(key, offset)
        if first != offset:
            line, _ = self._lines.line_and_column(first)
            self._report(offset, repeated_key(self._pointer(), key, line))
        elif key == "<<":
            self._report(offset, mistakes.merge_key(self._pointer()))

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        offset = _offset(event)
        if len(self._stack) >= MAX_DEPTH:
            self._stop(offset, too_deep())
        if event.tag is not None:
            self._report(offset, mistakes.tagged(self._pointer()))
        is_key = bool(self._stack) and self._stack[-1].awaits_key
        if is_key:
            self._report(offset, mistakes.key_not_text(self._pointer(), "a list or an object"))
        place = Place(value=offset) if is_key else self._place(offset)
        container: list[Any] | dict[str, Any]
        container = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._remember(event.anchor, None)
        self._stack.append(_Frame(container, place, event.anchor, is_key))

    def _close(self) -> None:
        frame = self._stack.pop()
        if frame.is_key:
            self._key("?", frame.place.value)
            return
        self._remember(frame.anchor, _Anchor(frame.container, frame.size, frame.depth))
        self._add(frame.container, frame.size, frame.depth, frame.place.value)

    def _alias(self, event: yaml.AliasEvent) -> None:
        offset, name = _offset(event), str(event.anchor)
        if self._stack and self._stack[-1].awaits_key:
            self._report(offset, mistakes.key_not_text(self._pointer(), "an alias"))
            self._key(f"*{name}", offset)
            return
        anchor = self._anchors.get(name)
        if anchor is None:
            self._report(offset, mistakes.bad_alias(self._pointer(), defined=name in self._anchors))
            anchor = _Anchor(None, size=1, depth=0)
        if len(self._stack) + anchor.depth > MAX_DEPTH:
            self._stop(offset, too_deep())
        self._place(offset)
        if self._size + anchor.size > MAX_VALUES:
            self._stop(offset, too_many_values())
        self._add(copy.deepcopy(anchor.value), anchor.size, anchor.depth, offset)

    def _remember(self, name: str | None, anchor: _Anchor | None) -> None:
        if name is not None:
            self._anchors[name] = anchor

    def _place(self, offset: int) -> Place:
        if not self._stack:
            self.root.value = offset
            return self.root
        frame = self._stack[-1]
        return frame.place.child(frame.next_token, offset, frame.key_offset)

    def _add(self, value: Any, size: int, depth: int, offset: int) -> None:
        """Put a finished value into the list or object around it."""
        self._size += size if not isinstance(value, (dict, list)) else 1
        if self._size > MAX_VALUES:
            self._stop(offset, too_many_values())
        if not self._stack:
            self.value = value
            return
        frame = self._stack[-1]
        if isinstance(frame.container, list):
            frame.container.append(value)
        elif frame.key is not None:
            frame.container[frame.key] = value
            frame.key = frame.key_offset = None
        frame.size += size
        frame.depth = max(frame.depth, depth + 1)


def _offset(event: yaml.Event) -> int:
    return int(event.start_mark.index) if event.start_mark is not None else 0
