"""Read the schemas of an OpenAPI document: references, combined schemas, and where a list of records is.

A document is hostile: references lead in circles, and schemas hold themselves. Each walk has a bound.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import unquote

from restsource_dagster.authoring.importing.param_names import normal_name
from restsource_dagster.authoring.importing.source_pieces import Piece
from restsource_dagster.connector.validation.diagnostics import unescaped_step

__all__ = ["RecordList", "References", "Shape", "field_path", "find_record_list", "scalars_of"]

_MAX_REFERENCES = 30
_MAX_SHAPE_DEPTH = 8
_MAX_FIELDS = 400
_LIST_NAMES = (
    *("data", "items", "results", "records", "entries", "values", "value", "list", "rows"),
    *("content", "collection", "objects", "elements", "nodes", "resources", "hits", "docs"),
    *("documents", "result", "response", "payload", "members"),
)
"""Names of fields that hold the records of an answer."""


@dataclass(frozen=True)
class References:
    """Follows `$ref` within the document, and to the other files that were given, by their names."""

    root: Piece
    files: frozenset[str] = frozenset()

    def follow(self, piece: Piece) -> Piece:
        """Return what a chain of references leads to; a missing piece if it leads nowhere."""
        for _ in range(_MAX_REFERENCES):
            reference = piece.get("$ref")
            if reference.text is None:
                return piece
            found = self._target(reference, piece)
            if found is None:
                return Piece(None, piece.path, piece.ledger)
            piece = found
        return Piece(None, piece.path, piece.ledger)

    def _target(self, reference: Piece, holder: Piece) -> Piece | None:
        file, _, pointer = (reference.text or "").partition("#")
        if file:
            name = PurePosixPath(unquote(file)).name
            if name not in self.files or "://" in file:
                reference.not_mapped("in another file: name that file after this one")
                return None
            start = self.root.get(f"file {name}")
        else:
            # a reference within another file is one to this file
            first = holder.path[0] if holder.path else ""
            own = isinstance(first, str) and first.startswith("file ")
            start = self.root.get(first) if own else self.root
        found = start
        for step in pointer.split("/")[1:]:
            name = unescaped_step(unquote(step))
            found = found.get(
                int(name) if isinstance(found.value, list) and name.isdigit() else name
            )
        if not found.exists:
            reference.not_mapped("leads nowhere")
            return None
        reference.mapped("what it refers to")
        return found


@dataclass(frozen=True)
class Shape:
    """What a schema says of a value: a list of other values, an object with fields, or something else."""

    kind: Literal["list", "object", "scalar", "unknown"]
    piece: Piece
    fields: Mapping[str, Piece] = field(default_factory=dict)
    items: Piece | None = None
    type: str = ""
    format: str = ""


def shape_of(schema: Piece, references: References, depth: int = 0) -> Shape:
    """Return the shape of a schema. Of `allOf`, `oneOf` and `anyOf` all fields count together."""
    piece = references.follow(schema)
    if depth > _MAX_SHAPE_DEPTH or not piece.is_object:
        return Shape("unknown", piece)
    fields: dict[str, Piece] = dict(piece.get("properties").fields())
    items = piece.get("items") if piece.get("items").exists else None
    kinds = _types_of(piece)
    for combined in ("allOf", "oneOf", "anyOf"):
        for part in piece.get(combined).elements():
            inner = shape_of(part, references, depth + 1)
            # the schema's own fields count more than those that it takes over
            fields = {**inner.fields, **fields}
            items = items or inner.items
            kinds = kinds or ([inner.type] if inner.type else [])
    kind = kinds[0] if kinds else ""
    text = piece.get("format").text or ""
    if kind == "array" or (items is not None and not fields):
        return Shape("list", piece, items=items or piece.get("items"), type=kind)
    if fields or kind == "object":
        return Shape("object", piece, fields=fields, type=kind)
    return Shape("scalar" if kind else "unknown", piece, type=kind, format=text)


def _types_of(piece: Piece) -> list[str]:
    given = piece.get("type").value
    names = given if isinstance(given, list) else [given]
    return [name for name in names if isinstance(name, str) and name != "null"]


@dataclass(frozen=True)
class RecordList:
    """Where the records of an answer are: a JSON path, the schema of one record, and why it is this list."""

    selector: str
    record: Shape
    answer: Shape
    piece: Piece
    evidence: str
    is_sure: bool


def find_record_list(
    schema: Piece, references: References, words: Sequence[str]
) -> RecordList | None:
    """Return the list of records in an answer; None if it is one record, or not known.

    `words` are names that the list may have: those of the path.
    """
    answer = shape_of(schema, references)
    if answer.kind == "list" and answer.items is not None:
        record = shape_of(answer.items, references)
        if record.kind == "scalar":
            return None
        return RecordList("$", record, answer, answer.piece, "the answer is a list", is_sure=True)
    if answer.kind != "object":
        return None
    return _list_in(answer, answer, references, [normal_name(word) for word in words], ())


def _list_in(
    answer: Shape, holder: Shape, references: References, words: Sequence[str], at: tuple[str, ...]
) -> RecordList | None:
    lists: dict[str, Shape] = {}
    objects: dict[str, Shape] = {}
    for name, schema in list(holder.fields.items())[:_MAX_FIELDS]:
        shape = shape_of(schema, references)
        if shape.kind == "list" and shape.items is not None:
            record = shape_of(shape.items, references)
            if record.kind != "scalar":
                lists[name] = record
        elif shape.kind == "object" and shape.fields:
            objects[name] = shape
    chosen = _best_list(list(lists), words, is_record=_is_record(holder))
    if chosen is not None:
        name, evidence = chosen
        path = field_path((*at, name))
        # several lists beside one another, and a name that says little: a person has to look
        is_sure = len(lists) == 1 or normal_name(name) in _LIST_NAMES
        return RecordList(path, lists[name], answer, holder.fields[name], evidence, is_sure=is_sure)
    # deeper lists are parts of something else
    if len(at) < 2:
        likely = [
            n for n in objects if normal_name(n) in (*_LIST_NAMES, *words, "embedded", "d", "page")
        ]
        for name in likely:
            found = _list_in(answer, objects[name], references, words, (*at, name))
            if found:
                return found
    return None


def _is_record(shape: Shape) -> bool:
    """True if an object looks like one record: it has an id of its own."""
    return any(normal_name(name) in ("id", "uuid", "sid", "guid") for name in shape.fields)


def _best_list(
    names: Sequence[str], words: Sequence[str], *, is_record: bool
) -> tuple[str, str] | None:
    """Return the field that holds the records, and why; None if the lists look like those of one record."""
    by_name = {normal_name(name): name for name in names}
    for word in words:
        if word in by_name:
            return by_name[word], "a list with a name of the path"
    for known in _LIST_NAMES:
        if known in by_name:
            return by_name[known], "a list with the usual name of records"
    if len(names) == 1 and not is_record:
        return names[0], "the only list of objects in the answer"
    return None


def field_path(steps: Sequence[str]) -> str:
    """Return the JSON path of these fields, with names in quotes where they need them."""
    return ".".join(
        step
        if step.isidentifier() and step.isascii() and not step.startswith("where")
        else f'"{step}"'
        for step in steps
    )


def scalars_of(
    shape: Shape, references: References, *, deepest: int = 3
) -> Iterator[tuple[tuple[str, ...], Shape]]:
    """Yield the values in an object that are neither lists nor objects, by their fields: nearest first."""
    waiting: list[tuple[tuple[str, ...], Shape]] = [((), shape)]
    seen = 0
    for at, holder in waiting:
        for name, schema in holder.fields.items():
            seen += 1
            if seen > _MAX_FIELDS:
                return
            inner = shape_of(schema, references)
            if inner.kind in ("scalar", "unknown"):
                yield (*at, name), inner
            elif inner.kind == "object" and len(at) + 1 < deepest:
                waiting.append(((*at, name), inner))
