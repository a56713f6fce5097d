"""Read a file into its JSON value, with the places of its parts. Never raises, never blocks."""

import errno
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from restsource_dagster.connector.parsing.json_parser import parse_json
from restsource_dagster.connector.parsing.parsed_text import (
    MAX_BYTES,
    LocatedFinding,
    ParsedText,
    SourceNode,
    TextLines,
    empty_file,
)
from restsource_dagster.connector.validation.diagnostics import Finding, Problem

__all__ = [
    "TEMPLATES_FOLDER",
    "YAML_SUFFIXES",
    "Document",
    "parse_document",
    "read_content",
    "read_document",
]

YAML_SUFFIXES = frozenset({".yaml", ".yml"})
TEMPLATES_FOLDER = "templates"
"""The folder of a project's own templates, in the folder of its connector files."""


@dataclass(frozen=True)
class Document:
    """The value of a file and where its parts are.

    `problems` are mistakes of the text that leave the value readable, such as a trailing comma. The
    file is not valid, but the problems of its value can be reported at the same time.
    """

    path: Path
    value: Any
    lines: TextLines = field(repr=False)
    source_map: Callable[[], SourceNode] = field(repr=False)
    problems: tuple[Problem, ...] = ()

    @cached_property
    def _root(self) -> SourceNode:
        return self.source_map()

    def position(self, pointer: str, *, on_key: bool = False) -> tuple[int, int]:
        """Return line and column, from 1, of the value at a JSON pointer, or of its key.

        For a pointer that isn't in the file, return the position of its nearest ancestor.
        """
        node = self._root.find(pointer)
        offset = node.key if on_key and node.key is not None else node.value
        return self.lines.line_and_column(offset)

    def line(self, pointer: str) -> int:
        """Return the line of the value at a JSON pointer, from 1."""
        return self.position(pointer)[0]

    def offset(self, problem: Problem) -> int:
        """Return the offset of a problem of this file in its text, in characters."""
        return self.lines.offset(problem.line, problem.column)

    def located(self, finding: Finding) -> Problem:
        """Return the finding with its position in this file."""
        return finding.at(self.path, *self.position(finding.pointer, on_key=finding.on_key))


def read_document(path: Path) -> Document | tuple[Problem, ...]:
    """Return the document at a path, or why it can't be read. Never raises, never blocks.

    A file with more than `MAX_BYTES` and anything that isn't a regular file are refused unread.
    """
    content = read_content(path)
    return (content,) if isinstance(content, Problem) else parse_document(path, content)


def read_content(path: Path) -> bytes | Problem:
    """Return the content of a file, or why it can't be read, by the rules of `read_document`."""
    content = _read_bytes(path)
    return content.at(path, 1, 1) if isinstance(content, Finding) else content


def parse_document(path: Path, content: bytes) -> Document | tuple[Problem, ...]:
    """Return the document that a file of this path would be with this content, or why it is none."""
    if len(content) > MAX_BYTES:
        return (_too_large().at(path, 1, 1),)
    text = _decode(content)
    if isinstance(text, Finding):
        return (text.at(path, 1, 1),)
    if isinstance(text, LocatedFinding):
        # The place is in the part that is UTF-8, and for its line any reading of the rest will do.
        return _located(path, TextLines(content.decode("utf-8-sig", errors="replace")), [text])
    lines = TextLines(text)
    if not text.strip():
        return (empty_file().at(path, 1, 1),)
    parsed = _parse_yaml(text) if path.suffix.lower() in YAML_SUFFIXES else parse_json(text)
    problems = _located(path, lines, parsed.findings)
    if not parsed.usable:
        return problems
    return Document(path, parsed.value, lines, parsed.source_map, problems)


def _parse_yaml(text: str) -> ParsedText:
    # Most files are JSON, and PyYAML takes a while to import.
    from restsource_dagster.connector.parsing.yaml_parser import parse_yaml

    return parse_yaml(text)


def _located(
    path: Path, lines: TextLines, findings: Iterable[LocatedFinding]
) -> tuple[Problem, ...]:
    return tuple(
        sorted(each.finding.at(path, *lines.line_and_column(each.offset)) for each in findings)
    )


def _read_bytes(path: Path) -> bytes | Finding:
    try:
        before = path.stat()  # first, because opening a device can already have an effect
        if not stat.S_ISREG(before.st_mode):
            return _not_a_file(before.st_mode)
        # A FIFO could replace the file right now; without O_NONBLOCK we would wait for its writer.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(handle, "rb") as file:  # noqa: PTH123 - it is a handle
            opened = os.fstat(handle)
            if not stat.S_ISREG(opened.st_mode):
                return _not_a_file(opened.st_mode)
            if opened.st_size > MAX_BYTES:
                return _too_large()
            content = file.read(MAX_BYTES + 1)  # the file may still grow
    except (OSError, ValueError) as error:
        return _unreadable(path, error)
    return _too_large() if len(content) > MAX_BYTES else content


def _not_a_file(mode: int) -> Finding:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"),
             (stat.S_ISSOCK, "a socket"))  # fmt: skip
    found = next((name for test, name in kinds if test(mode)), "a device")
    return Finding("", "This is not a file", found, "a file with one JSON object",
                   "Move it elsewhere or rename it")  # fmt: skip


def _too_large() -> Finding:
    limit = f"{MAX_BYTES // 1024**2} MB"
    return Finding("", "The file is too large to be a connector file", f"more than {limit}",
                   f"at most {limit}", "Move it elsewhere; data do not belong here")  # fmt: skip


def _unreadable(path: Path, error: OSError | ValueError) -> Finding:
    number = error.errno if isinstance(error, OSError) else None
    reason = os.strerror(number) if number else "the path is not valid"
    if number == errno.ENOENT and os.path.islink(path):  # noqa: PTH114 - takes any path
        return Finding("", "The link points to a file that does not exist", None, None,
                       "Make the file it points to, or delete the link")  # fmt: skip
    fixes = {
        errno.ENOENT: "Check the path",
        errno.EACCES: "Let the user that runs this read it: chmod a+r, or chown",
        errno.ELOOP: "The link points to itself in the end: delete it",
    }
    return Finding("", "The file can't be read", reason, None,
                   fixes.get(number) if number else None)  # fmt: skip


def _decode(content: bytes) -> str | Finding | LocatedFinding:
    # The byte order marks of UTF-16, as some Windows editors save. UTF-8 never has these bytes.
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return Finding("", "The file is not in UTF-8", "UTF-16", "UTF-8",
                       "Save it again with the encoding UTF-8")  # fmt: skip
    try:
        # `-sig` drops the byte order mark of UTF-8, which JSON doesn't allow (RFC 8259, section
        # 8.1).
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = content[: error.start].decode("utf-8-sig", errors="replace")
        return LocatedFinding(
            len(good),
            Finding("", "The file is not in UTF-8", f"the byte 0x{content[error.start]:02x}",
                    "UTF-8", "Save it again with the encoding UTF-8, if it is a text at all"),
        )  # fmt: skip
