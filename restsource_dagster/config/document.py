"""Read one file, JSON or YAML, into a value whose parts know where they are written."""

import errno
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from restsource_dagster.config.json_text import parse_json
from restsource_dagster.config.limits import MAX_BYTES, empty_file
from restsource_dagster.config.positions import Mistake, Place, TextLines
from restsource_dagster.config.problems import Finding, Problem
from restsource_dagster.config.yaml_text import parse_yaml

__all__ = ["Document", "parse_document", "read_content", "read_document"]


@dataclass(frozen=True)
class Document:
    """The value of a file and where its parts are.

    `problems` are mistakes of the text that leave the value readable, such as a trailing comma: the
    file is wrong, but what else is wrong with it can be told at the same time.
    """

    path: Path
    value: Any
    lines: TextLines = field(repr=False)
    places: Callable[[], Place] = field(repr=False)
    problems: tuple[Problem, ...] = ()

    @cached_property
    def _root(self) -> Place:
        return self.places()

    def position(self, pointer: str, *, on_key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of the value at a JSON pointer, or of its key.

        For a pointer that isn't in the file it is the position of the nearest ancestor that is.
        """
        place = self._root.find(pointer)
        offset = place.key if on_key and place.key is not None else place.value
        return self.lines.line_and_column(offset)

    def located(self, finding: Finding) -> Problem:
        """The finding with its position in this file."""
        return finding.at(self.path, *self.position(finding.pointer, on_key=finding.on_key))


def read_document(path: Path) -> Document | tuple[Problem, ...]:
    """The document at a path, or what keeps it from being read. Never raises, never waits.

    Files with more than `MAX_BYTES` and anything that isn't a regular file are refused unread.
    """
    content = read_content(path)
    return (content,) if isinstance(content, Problem) else parse_document(path, content)


def read_content(path: Path) -> bytes | Problem:
    """The content of a file, or what keeps it from being read, under the same rules."""
    content = _read_bytes(path)
    return content.at(path, 1, 1) if isinstance(content, Finding) else content


def parse_document(path: Path, content: bytes) -> Document | tuple[Problem, ...]:
    """The document that a file's content is, or what keeps it from being one. Never raises."""
    text = _decode(content)
    if isinstance(text, Finding):
        return (text.at(path, 1, 1),)
    if isinstance(text, Mistake):
        return _located(path, TextLines(_as_far_as_text(content)), [text])
    lines = TextLines(text)
    if not text.strip():
        return (empty_file().at(path, 1, 1),)
    parsed = parse_yaml(text) if path.suffix.lower() in {".yaml", ".yml"} else parse_json(text)
    problems = _located(path, lines, parsed.mistakes)
    if not parsed.usable:
        return problems
    return Document(path, parsed.value, lines, parsed.places, problems)


def _located(path: Path, lines: TextLines, mistakes: Sequence[Mistake]) -> tuple[Problem, ...]:
    return tuple(
        sorted(each.finding.at(path, *lines.line_and_column(each.offset)) for each in mistakes)
    )


def _read_bytes(path: Path) -> bytes | Finding:
    try:
        before = path.stat()  # first, because opening a device can already do something
        if not stat.S_ISREG(before.st_mode):
            return _not_a_file(before.st_mode)
        # Without O_NONBLOCK a FIFO put there in this moment would make us wait for its writer.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(handle, "rb") as file:  # noqa: PTH123 - it is a handle
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return _not_a_file(os.fstat(handle).st_mode)
            if os.fstat(handle).st_size > MAX_BYTES:
                return _too_large()
            content = file.read(MAX_BYTES + 1)
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
    mends = {
        errno.ENOENT: "Check the path",
        errno.EACCES: "Let the user that runs this read it: chmod a+r, or chown",
        errno.ELOOP: "The link points to itself in the end: delete it",
    }
    return Finding("", "The file can't be read", reason, None,
                   mends.get(number) if number else None)  # fmt: skip


def _decode(content: bytes) -> str | Finding | Mistake:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return Finding("", "The file is not in UTF-8", "UTF-16", "UTF-8",
                       "Save it again with the encoding UTF-8")  # fmt: skip
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = content[: error.start].decode("utf-8-sig", errors="replace")
        return Mistake(
            len(good),
            Finding("", "The file is not in UTF-8", f"the byte 0x{content[error.start]:02x}",
                    "UTF-8", "Save it again with the encoding UTF-8, if it is a text at all"),
        )  # fmt: skip


def _as_far_as_text(content: bytes) -> str:
    return content.decode("utf-8-sig", errors="replace")
