"""What the schema offers at a place of a JSON or YAML text while it is typed: names, values and explanations.

The text is usually not valid then, so it is read token by token, and what can't be understood is skipped.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from restsource_dagster.connector.json_schema import connector_schema

__all__ = ["Completion", "SchemaHelp", "help_at"]

_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"?|[{}\[\]:,]|[^\s{}\[\]:,"]+')
_YAML_STEP = 2
_PLAIN_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_YAML_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
"""Plain words that YAML does not read as texts."""
_YAML_KEY = re.compile(
    r"""("(?:[^"\\]|\\.)*"|'[^']*'|[^\s#\-"'{\[][^:#]*?|-\w[^:#]*?)\s*:(?=\s|$)"""
)
_YAML_BLOCK = re.compile(r"[|>][+-]?\d?")
_MAX_DEPTH = 12
"""Of `$ref` and unions inside one another."""
_EMPTY = {"string": '""', "object": "{}", "array": "[]"}
Node = Mapping[str, Any]


@dataclass(frozen=True)
class Completion:
    """A name or a value that may stand at a place."""

    label: str
    text: str
    """What to write, with quotes."""
    kind: str
    """`property` or `value`."""
    info: str = ""

    def as_dict(self) -> Mapping[str, str]:
        """Return the completion as JSON values."""
        return {"label": self.label, "text": self.text, "kind": self.kind, "info": self.info}


@dataclass(frozen=True)
class SchemaHelp:
    """What may stand at a place. The texts replace what is from `begin` to `end`, in characters."""

    begin: int
    end: int
    completions: tuple[Completion, ...] = ()
    explanation: str = ""
    """Of the field at the place."""


@dataclass
class _Frame:
    """An object or a list that is open at a place of the text."""

    is_object: bool
    step: str | int = ""
    """Where it stands in the frame around it."""
    members: dict[str, str | None] = field(default_factory=dict)
    """The keys of an object, with their values if those are texts."""
    key: str | None = None
    after_colon: bool = False
    count: int = 0

    def place(self) -> str | int:
        return (self.key or "") if self.is_object else self.count


@dataclass(frozen=True)
class _Place:
    frames: tuple[_Frame, ...]
    begin: int
    end: int
    is_value: bool
    key: str | None
    has_colon: bool
    indent: int | None = None
    """Of a key in YAML, in characters; None in JSON, and within YAML's braces."""


def help_at(text: str, offset: int, *, is_yaml: bool = False) -> SchemaHelp:
    """Return what may stand at an offset, in characters, and what the field there means."""
    place = _YamlReader(text, offset).find_place() if is_yaml else _find_place(text, offset)
    if place is None:
        return SchemaHelp(offset, offset)
    # the schema is followed along the frames, and a `type` in each narrows its union
    nodes: Sequence[Node] = _members_of([_schema()], {})
    for number, frame in enumerate(place.frames):
        if number:
            nodes = [one for node in nodes for one in _children(node, frame.step)]
        nodes = _members_of(nodes, frame.members)
    if place.is_value:
        fields = [one for node in nodes for one in _children(node, _last_step(place))]
        values = _members_of(fields, {})
        found = tuple(_unique(_value_completions(values, is_yaml=is_yaml)))
        return SchemaHelp(place.begin, place.end, found, _description(fields, values))
    names = tuple(_unique(_key_completions(nodes, place, is_yaml=is_yaml)))
    fields = [one for node in nodes for one in _children(node, place.key or "")]
    return SchemaHelp(place.begin, place.end, names, _description(fields, _members_of(fields, {})))


def _last_step(place: _Place) -> str | int:
    # all items of a list have one schema
    return (place.key or "") if place.frames[-1].is_object else 0


@cache
def _schema() -> Node:
    return connector_schema()


def _find_place(text: str, offset: int) -> _Place | None:
    """Return the innermost object or list around an offset; None outside of the file's object.

    The rest of that object is read, too: its `type` may stand after the place.
    """
    frames: list[_Frame] = []
    found: _Place | None = None
    depth = 0
    for match in _TOKEN.finditer(text):
        begin, end, mark = match.start(), match.end(), match.group()
        # right behind a word its completion is wanted; right behind a bracket a new one
        is_inside = begin < offset <= end and mark not in set("{[:,}]")
        if found is None and frames and (is_inside or begin >= offset):
            span = (begin, end) if is_inside else (offset, offset)
            found, depth = _place_at(text, frames, *span, is_key_token=is_inside), len(frames)
        _read(mark, frames)
        if found is not None and len(frames) < depth:
            break
    return found


def _place_at(
    text: str, frames: Sequence[_Frame], begin: int, end: int, *, is_key_token: bool
) -> _Place:
    frame = frames[-1]
    is_value = frame.after_colon or not frame.is_object
    key = frame.key if frame.is_object else None
    if not is_value:
        key = text[begin:end].strip('"') if is_key_token else None
    return _Place(tuple(frames), begin, end, is_value, key, text[end:].lstrip()[:1] == ":")


def _read(mark: str, frames: list[_Frame]) -> None:
    if mark in "{[":
        step = frames[-1].place() if frames else ""
        # the step is fixed now: the frame around it goes on counting
        frames.append(_Frame(mark == "{", step))
        return
    if not frames:
        return
    frame = frames[-1]
    if mark in "}]":
        frames.pop()
    elif mark == ",":
        frame.key, frame.after_colon = None, False
        frame.count += 1
    elif mark == ":":
        # a colon without a key is a slip, and what follows is skipped
        frame.after_colon = frame.key is not None
    elif not frame.is_object:
        return
    elif frame.after_colon:
        frame.members[frame.key or ""] = mark.strip('"')
    else:
        frame.key = mark.strip('"')
        # known before its value is, so that it is not offered once more
        frame.members.setdefault(frame.key, None)


@dataclass
class _YamlReader:
    """Reads a YAML text line by line, by its indentation; `find_place` is called once."""

    text: str
    offset: int
    _open: list[tuple[int, _Frame]] = field(default_factory=lambda: [(0, _Frame(is_object=True))])
    """The objects and lists around a line, with the column of their keys or dashes."""
    _block: int | None = None
    """The indentation of the key whose text goes on below it."""

    def find_place(self) -> _Place | None:
        """Return the place of the offset; None in a comment and in a text of several lines."""
        found: _Place | None = None
        depth = begin = 0
        for line in self.text.split("\n"):
            end = begin + len(line)
            if begin <= self.offset <= end:
                found = self._place_in(line, begin)
                if found is None:
                    return None
                depth = len(found.frames)
            elif line.strip() and not line.lstrip().startswith("#"):
                self._read_line(line)
            # what follows in the object may have its `type`
            if found is not None and len(self._open) < depth:
                break
            begin = end + 1
        return found

    def _place_in(self, line: str, begin: int) -> _Place | None:
        column = self.offset - begin
        # an empty line belongs to the column at which the cursor stands
        content = line[: len(line) - len(line.lstrip())] if line.strip() else line[:column]
        # in a comment, and in a text of several lines, nothing is offered
        if "#" in line[:column] or (self._block is not None and len(content) > self._block):
            return None
        start, rest = self._enter_items(line if line.strip() else line[:column])
        key = _YAML_KEY.match(rest)
        value_at = start + key.end() if key else None
        if value_at is not None and column >= value_at:
            return self._value_place(line, begin, value_at, start)
        frame = self._object_at(start)
        name = key[1] if key else rest.split("#")[0].rstrip()
        frames = tuple(one for _, one in self._open)
        if key is not None:
            self._note_key(frame, key, rest)
        if begin + start > self.offset:
            return None
        place_end = begin + start + len(name)
        return _Place(
            frames, begin + start, place_end, False, name.strip("\"'"), key is not None, start
        )

    def _value_place(self, line: str, begin: int, value_at: int, start: int) -> _Place:
        key = _YAML_KEY.match(line[start:])
        frame = self._object_at(start)
        frames = [one for _, one in self._open]
        if key is not None:
            self._note_key(frame, key, line[start:])
        value = line[value_at:]
        space = len(value) - len(value.lstrip())
        if value.lstrip()[:1] in ("{", "["):
            inner = self._flow_place(value.lstrip(), begin + value_at + space, frames)
            if inner is not None:
                return inner
        # a value stands after one space at least, also where none is typed yet
        first = begin + min(value_at + max(space, 1), len(line))
        last = begin + value_at + len(value.rstrip())
        first = min(first, self.offset)
        return _Place(tuple(frames), first, max(first, last), True, frame.key, True)

    def _flow_place(self, value: str, begin: int, above: Sequence[_Frame]) -> _Place | None:
        """Return a place within the braces of a value on one line."""
        frames = list(above)
        for match in _TOKEN.finditer(value):
            first, last, mark = begin + match.start(), begin + match.end(), match.group()
            is_inside = first < self.offset <= last and mark not in set("{[:,}]")
            if len(frames) > len(above) and (is_inside or first >= self.offset):
                span = (first, last) if is_inside else (self.offset, self.offset)
                return _place_at(self.text, frames, *span, is_key_token=is_inside)
            _read(mark, frames)
        return None

    def _read_line(self, line: str) -> None:
        indent = len(line) - len(line.lstrip())
        if self._block is not None and indent > self._block:
            return
        self._block = None
        start, rest = self._enter_items(line)
        key = _YAML_KEY.match(rest)
        if key is not None:
            self._note_key(self._object_at(start), key, rest)

    def _enter_items(self, line: str) -> tuple[int, str]:
        """Open the items that begin on a line; return the column and the text after their dashes."""
        column = len(line) - len(line.lstrip())
        rest = line[column:]
        # `- - a` opens two lists on one line
        while rest == "-" or rest.startswith("- "):
            self._close_below(column, is_dash=True)
            top, frame = self._open[-1]
            if frame.is_object:
                self._open.append((column, _Frame(is_object=False, step=frame.place())))
            elif top == column:
                frame.count += 1
            inner = rest[1:].lstrip()
            column += len(rest) - len(inner) if inner else max(len(rest), _YAML_STEP)
            rest = inner
        return column, rest

    def _close_below(self, column: int, *, is_dash: bool = False) -> None:
        """Close what a line at this column ends: a list may stand at the column of its key."""
        while len(self._open) > 1:
            top, frame = self._open[-1]
            is_ended = top == column and not frame.is_object and not is_dash
            if top <= column and not is_ended:
                return
            self._open.pop()

    def _object_at(self, column: int) -> _Frame:
        """Return the object whose keys stand at this column, opened if it is a new one."""
        self._close_below(column)
        top, frame = self._open[-1]
        # deeper than the object around it: a new one begins here
        if top < column or not frame.is_object:
            self._open.append((column, _Frame(is_object=True, step=frame.place())))
        return self._open[-1][1]

    def _note_key(self, frame: _Frame, key: re.Match[str], rest: str) -> None:
        name, value = key[1].strip("\"'"), rest[key.end() :].strip()
        frame.key, frame.after_colon = name, True
        frame.members[name] = value.partition(" #")[0].strip("\"' ") or None
        if _YAML_BLOCK.fullmatch(value):
            self._block = self._open[-1][0]


def _children(node: Node, step: str | int) -> Iterator[Node]:
    if isinstance(step, int):
        if isinstance(node.get("items"), Mapping):
            yield node["items"]
        return
    properties = node.get("properties", {})
    if isinstance(properties.get(step), Mapping):
        yield properties[step]
    elif isinstance(node.get("additionalProperties"), Mapping):
        yield node["additionalProperties"]


def _members_of(nodes: Sequence[Node], members: Mapping[str, str | None]) -> list[Node]:
    """Return the schemas that a value may have: references followed, and of unions those of its `type`."""
    flat = [one for node in nodes for one in _flattened(node, 0)]
    fitting = [node for node in flat if _fits(node, members)]
    # with a `type` that is not known yet, all members help
    return fitting or flat


def _flattened(node: Node, depth: int) -> Iterator[Node]:
    # schemas refer to themselves
    if depth > _MAX_DEPTH:
        return
    if "$ref" in node:
        name = str(node["$ref"]).rpartition("/")[2]
        yield from _flattened(_schema()["$defs"][name], depth + 1)
        return
    unions = [*node.get("anyOf", ()), *node.get("oneOf", ())]
    for member in unions:
        yield from _flattened(member, depth + 1)
    # an object may have fields of its own beside its union
    if not unions or "properties" in node:
        yield node


def _fits(node: Node, members: Mapping[str, str | None]) -> bool:
    said = members.get("type")
    properties = node.get("properties", {})
    known = properties.get("type")
    if said is None:
        return True
    if not isinstance(known, Mapping):
        return False
    values = [known["const"]] if "const" in known else known.get("enum", [])
    return not values or said in values


def _key_completions(
    nodes: Sequence[Node], place: _Place, *, is_yaml: bool
) -> Iterator[Completion]:
    # the key at the place itself is being replaced
    taken = place.frames[-1].members.keys() - {place.key}
    for node in nodes:
        for name, part in node.get("properties", {}).items():
            if name in taken or not isinstance(part, Mapping):
                continue
            kinds = [one.get("type") for one in _members_of([part], {})]
            kind = kinds[0] if kinds and isinstance(kinds[0], str) else ""
            written = name if is_yaml else json.dumps(name)
            if not place.has_colon:
                written += (
                    _after_key(kind, place.indent) if is_yaml else f": {_EMPTY.get(kind, '')}"
                )
            yield Completion(name, written, "property", _description([part], []))


def _after_key(kind: str, indent: int | None) -> str:
    """Return what follows a key in YAML: the next line where its fields or items begin."""
    if indent is None or kind not in ("object", "array"):
        return ": "
    below = "\n" + " " * (indent + _YAML_STEP)
    return f":{below}- " if kind == "array" else f":{below}"


def _in_yaml(text: str, label: str) -> str:
    """Return a value without quotes where YAML reads the plain word as the same text."""
    return label if _PLAIN_WORD.fullmatch(label) and label not in _YAML_WORDS else text


def _value_completions(nodes: Sequence[Node], *, is_yaml: bool) -> Iterator[Completion]:
    for node in nodes:
        values = [node["const"]] if "const" in node else node.get("enum", [])
        if node.get("type") == "boolean":
            values = [True, False]
        for value in values:
            text = json.dumps(value, ensure_ascii=False)
            label = text.strip('"')
            is_text = is_yaml and isinstance(value, str)
            text = _in_yaml(text, label) if is_text else text
            yield Completion(label, text, "value", str(node.get("description", "")))
        kind = node.get("properties", {}).get("type")
        if isinstance(kind, Mapping) and "const" in kind:
            # a value that is an object begins with its `type`, which narrows all that follows
            text = f'{{"type": {json.dumps(kind["const"])}}}'
            yield Completion(str(kind["const"]), text, "value", str(node.get("description", "")))


def _description(fields: Sequence[Node], members: Sequence[Node]) -> str:
    # the field's own text says more than that of its type
    for node in (*fields, *members):
        if node.get("description"):
            return str(node["description"])
    return ""


def _unique(found: Iterator[Completion]) -> Iterator[Completion]:
    labels: set[str] = set()
    for one in found:
        if one.label not in labels:
            labels.add(one.label)
            yield one
