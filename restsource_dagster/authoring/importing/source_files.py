"""Read what is imported: files or standard input, as text, JSON or YAML, within limits.

Nothing but the given files is read, and nothing here recurses: neither nesting nor aliases of aliases can
exhaust the stack or the memory.
"""

import json
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from restsource_dagster.connector.validation.diagnostics import printable

__all__ = ["MAX_SOURCE_BYTES", "SourceError", "SourceFile", "parse_data", "read_source_files"]

MAX_SOURCE_BYTES = 50 * 1024 * 1024
"""Largest size of all files of one import, in bytes."""
_MAX_SOURCE_DEPTH = 100
_MAX_SOURCE_VALUES = 5_000_000
"""Most values in one document, those of aliases counted each time. 50 MB of JSON have about as many."""

_INTEGER = re.compile(r"[-+]?[0-9]{1,300}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_YAML_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))


class SourceError(Exception):
    """What is imported can't be read. The text says why, and what to do."""


@dataclass(frozen=True)
class SourceFile:
    """A file that is imported; its name is how others refer to it."""

    name: str
    text: str


def read_source_files(paths: Iterable[Path], stdin: BinaryIO) -> tuple[SourceFile, ...]:
    """Return the files as text, `-` as standard input. Raises `SourceError`.

    Together they have `MAX_SOURCE_BYTES` at most. UTF-8, and UTF-16 with its mark, as PowerShell writes it.
    """
    left = MAX_SOURCE_BYTES
    files = []
    for path in paths:
        content = stdin.read(left + 1) if str(path) == "-" else _read_file(path, left)
        if len(content) > left:
            raise SourceError(
                f"{printable(str(path))}: more than {MAX_SOURCE_BYTES // 1024**2} MB in all; leave out what "
                "is not needed"
            )
        left -= len(content)
        files.append(SourceFile(path.name, _decoded(path, content)))
    return tuple(files)


def _read_file(path: Path, limit: int) -> bytes:
    shown = printable(str(path))
    try:
        # a pipe could keep us waiting forever; O_NONBLOCK in case it has just replaced the file
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(handle, "rb") as file:  # noqa: PTH123 - it is a handle
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise SourceError(f"{shown}: not a file; write `-` to read standard input")
            return file.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = (
            os.strerror(error.errno) if isinstance(error, OSError) and error.errno else ""
        ) or ("the path is not valid")
        raise SourceError(f"{shown}: {reason}") from None


def _decoded(path: Path, content: bytes) -> str:
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        shown = printable(str(path))
        raise SourceError(
            f"{shown}: not a text in UTF-8; save it again with this encoding"
        ) from None


def parse_data(file: SourceFile) -> Any:
    """Return the value of a JSON or YAML text. All keys are texts. Raises `SourceError`."""
    text = file.text
    is_json = text.lstrip()[:1] in ("{", "[")
    try:
        value = json.loads(text, object_pairs_hook=_object) if is_json else _read_yaml(text)
    except json.JSONDecodeError as error:
        try:  # YAML may begin with a bracket, too
            value = _read_yaml(text)
        except SourceError:
            shown = printable(file.name)
            raise SourceError(
                f"{shown}:{error.lineno}:{error.colno}: no JSON: {error.msg}"
            ) from None
    except RecursionError:
        raise SourceError(f"{printable(file.name)}: nested too deeply") from None
    except ValueError:  # Python refuses to read whole numbers of thousands of digits
        raise SourceError(f"{printable(file.name)}: a number has too many digits") from None
    _check_size(file, value)
    return value


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object. Of a key that is there twice the last value counts, and the others stay to be told."""
    made: dict[str, Any] = {}
    for key, value in pairs:
        _assign(made, key, value)
    return made


def _assign(made: dict[str, Any], key: str, value: Any) -> None:
    if key in made:
        number = sum(1 for each in made if each.startswith(f"{key} (earlier"))
        made[f"{key} (earlier{f' {number + 1}' if number else ''})"] = made[key]
    made[key] = value


def _check_size(file: SourceFile, value: Any) -> None:
    """Refuse a value that is too deep, or too large with each alias written out."""
    count = 0
    stack = [(value, 1)]
    while stack:
        item, depth = stack.pop()
        count += 1
        if depth > _MAX_SOURCE_DEPTH or count > _MAX_SOURCE_VALUES:
            raise SourceError(
                f"{printable(file.name)}: more than {_MAX_SOURCE_VALUES:,} values, or more than "
                f"{_MAX_SOURCE_DEPTH} levels"
            )
        if isinstance(item, dict):
            stack.extend((inner, depth + 1) for inner in item.values())
        elif isinstance(item, list):
            stack.extend((inner, depth + 1) for inner in item)


def _read_yaml(text: str) -> Any:
    """Return the value of a YAML text, by the core schema of YAML 1.2."""
    # libyaml's parser is some twenty times faster, and a document of an API has megabytes
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    builder = _YamlBuilder()
    documents = 0
    try:
        # Events only: constructors, which can make objects of tags, never run.
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
            if documents > 1:
                raise SourceError("a second document after `---`: import one at a time")
            builder.take(event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it can't be read"
        raise SourceError(f"no YAML{place}: {printable(str(problem))}") from None
    return builder.value


class _YamlBuilder:
    """Builds the value of YAML events. Aliases share their value, so they take no memory."""

    def __init__(self) -> None:
        self.value: Any = None
        self._open: list[tuple[Any, str | None]] = []
        self._keys: list[Any] = []
        self._anchors: dict[str, Any] = {}

    @property
    def _awaits_key(self) -> bool:
        return (
            bool(self._open) and self._keys[-1] is _NO_KEY and isinstance(self._open[-1][0], dict)
        )

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            # a key is its text: `200:` and `0x10:` are names here, not numbers
            self._put(event.value if self._awaits_key else _scalar(event), event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            # an anchor is known when its value is complete, so no value can hold itself
            if event.anchor not in self._anchors:
                raise SourceError(
                    f"no YAML: *{printable(str(event.anchor))} has no value before it"
                )
            self._put(self._anchors[event.anchor], None)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            if len(self._open) >= _MAX_SOURCE_DEPTH:
                raise SourceError(f"no YAML that is read: more than {_MAX_SOURCE_DEPTH} levels")
            empty: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            self._open.append((empty, event.anchor))
            self._keys.append(_NO_KEY)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            made, anchor = self._open.pop()
            self._keys.pop()
            self._put(_merged(made), anchor)

    def _put(self, value: Any, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = value
        if not self._open:
            self.value = value
            return
        holder = self._open[-1][0]
        if isinstance(holder, list):
            holder.append(value)
        elif self._awaits_key:
            if not isinstance(value, str):
                raise SourceError("no YAML that is read: a list or an object is a key")
            self._keys[-1] = value
        else:
            _assign(holder, self._keys[-1], value)
            self._keys[-1] = _NO_KEY


def _merged(made: Any) -> Any:
    """Return an object with its merge key `<<` applied: the object's own fields count more."""
    if not isinstance(made, dict) or "<<" not in made:
        return made
    merged = made.pop("<<")
    for each in merged if isinstance(merged, list) else [merged]:
        if isinstance(each, dict):
            for name, inner in each.items():
                made.setdefault(name, inner)
    return made


_NO_KEY = object()


def _scalar(event: Any) -> Any:
    text = event.value
    if not event.implicit[0]:  # in quotes, or with a tag, which is ignored
        return text
    if text in _YAML_WORDS:
        return _YAML_WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
