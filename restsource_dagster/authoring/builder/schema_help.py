"""What the schema offers at a place of a JSON text while it is typed: names, values and explanations.

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


def help_at(text: str, offset: int) -> SchemaHelp:
    """Return what may stand at an offset, in characters, and what the field there means."""
    place = _find_place(text, offset)
    if place is None:
        return SchemaHelp(offset, offset)
    nodes: Sequence[Node] = _members_of([_schema()], {})
    for number, frame in enumerate(place.frames):
        if number:
            nodes = [one for node in nodes for one in _children(node, frame.step)]
        nodes = _members_of(nodes, frame.members)
    if place.is_value:
        fields = [one for node in nodes for one in _children(node, _last_step(place))]
        values = _members_of(fields, {})
        found = tuple(_unique(_value_completions(values)))
        return SchemaHelp(place.begin, place.end, found, _description(fields, values))
    names = tuple(_unique(_key_completions(nodes, place)))
    fields = [one for node in nodes for one in _children(node, place.key or "")]
    return SchemaHelp(place.begin, place.end, names, _description(fields, _members_of(fields, {})))


def _last_step(place: _Place) -> str | int:
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
        frame.after_colon = frame.key is not None
    elif not frame.is_object:
        return
    elif frame.after_colon:
        frame.members[frame.key or ""] = mark.strip('"')
    else:
        frame.key = mark.strip('"')
        frame.members.setdefault(frame.key, None)


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
    return fitting or flat


def _flattened(node: Node, depth: int) -> Iterator[Node]:
    if depth > _MAX_DEPTH:
        return
    if "$ref" in node:
        name = str(node["$ref"]).rpartition("/")[2]
        yield from _flattened(_schema()["$defs"][name], depth + 1)
        return
    unions = [*node.get("anyOf", ()), *node.get("oneOf", ())]
    for member in unions:
        yield from _flattened(member, depth + 1)
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


def _key_completions(nodes: Sequence[Node], place: _Place) -> Iterator[Completion]:
    taken = place.frames[-1].members.keys() - {place.key}
    for node in nodes:
        for name, part in node.get("properties", {}).items():
            if name in taken or not isinstance(part, Mapping):
                continue
            kinds = [one.get("type") for one in _members_of([part], {})]
            written = json.dumps(name)
            if not place.has_colon:
                kind = kinds[0] if kinds and isinstance(kinds[0], str) else ""
                written += f": {_EMPTY.get(kind, '')}"
            yield Completion(name, written, "property", _description([part], []))


def _value_completions(nodes: Sequence[Node]) -> Iterator[Completion]:
    for node in nodes:
        values = [node["const"]] if "const" in node else node.get("enum", [])
        if node.get("type") == "boolean":
            values = [True, False]
        for value in values:
            text = json.dumps(value, ensure_ascii=False)
            yield Completion(text.strip('"'), text, "value", str(node.get("description", "")))
        kind = node.get("properties", {}).get("type")
        if isinstance(kind, Mapping) and "const" in kind:
            text = f'{{"type": {json.dumps(kind["const"])}}}'
            yield Completion(str(kind["const"]), text, "value", str(node.get("description", "")))


def _description(fields: Sequence[Node], members: Sequence[Node]) -> str:
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
