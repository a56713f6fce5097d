"""What connector files were parsed to, kept from one load of the code location to the next.

An entry goes by the file's name and a digest of its content, and the whole by the code that parsed: so
nothing ever needs to be cleared. It is JSON, checked against the types when it is read. Whatever is
wrong with it (cut off, edited, foreign, of another version), the files are parsed as if there were none.
"""

import hashlib
import importlib.metadata
import os
import platform
import stat
import tempfile
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from restsource_dagster.config.known_connector import Known
from restsource_dagster.config.parse_entry import Entry, from_text, to_text
from restsource_dagster.config.problems import Problem

__all__ = ["ParseCache", "digest_of"]

FOLDER = "parsed"
_BUILT_ON = ("pydantic", "PyYAML", "jsonpath-ng")
_LARGEST = 256 * 1024**2
"""Bytes of a cache file that are read; a thousand connectors of ten resources have 5 MB."""
_AT_HAND = 2
"""Entries that are held as objects: each connector is looked at a few times in a row."""

Rows = dict[str, tuple[str, str, bool, str]]
"""By the file's name: the digest of its content, the connector's name, whether there are warnings, and the
entry as text."""


class ParseCache:
    """The entries of one folder of connector files, in a file of the state folder."""

    def __init__(self, state_dir: Path, folder: Path) -> None:
        place = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:16]
        self._path = state_dir / FOLDER / f"{place}.json"
        self._rows = self._read()
        self._new: Rows = {}
        self._entry = lru_cache(_AT_HAND)(from_text)

    def find(self, path: Path, digest: str) -> tuple[str, tuple[Problem, ...]] | None:
        """The name of the connector of a file with this content, and its warnings; None if not known."""
        row = self._rows.get(path.name)
        if row is None or row[0] != digest:
            return None
        _, name, warned, text = row
        try:
            warnings = self._entry(text, path).warnings if warned else ()
        except ValueError:
            return None
        self._new[path.name] = row
        return name, warnings

    def recall(self, path: Path) -> Known | None:
        """What is known of a file that was found or added; None if that is no longer at hand."""
        row = self._new.get(path.name)
        try:
            return self._entry(row[-1], path).known if row else None
        except ValueError:
            return None

    def add(self, path: Path, digest: str, entry: Entry) -> bool:
        """Take in an entry; no, if it would come back as another."""
        try:
            text = to_text(entry)
            if self._entry(text, path) != entry:
                return False
        except ValueError:
            return False
        self._new[path.name] = (digest, entry.known.name, bool(entry.warnings), text)
        return True

    def save(self) -> None:
        """Keep what was found or added, and nothing else; where nothing can be kept, nothing is."""
        if self._new != self._rows:
            with suppress(OSError):
                self._write(_rows().dump_json(self._new))
        self._rows = self._new

    def release(self) -> None:
        """Give the memory back: definitions are made, and only runs look at connectors from now on."""
        self._rows = self._new = {}
        self._entry.cache_clear()

    def _read(self) -> Rows:
        version, digest, body = (*_read_own(self._path).split(b"\n", 2), b"", b"")[:3]
        if version == _code_version() and digest.decode("latin-1") == digest_of(body):
            with suppress(ValidationError):
                return _rows().validate_json(body, strict=True)
        return {}

    def _write(self, body: bytes) -> None:
        """Put it in place at once: a reader sees all of it or what was there before."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".new-", dir=self._path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(b"\n".join((_code_version(), digest_of(body).encode(), body)))
            Path(name).replace(self._path)
        finally:
            Path(name).unlink(missing_ok=True)


def digest_of(content: bytes) -> str:
    """The digest by which a content is known again."""
    return hashlib.sha256(content).hexdigest()


@cache
def _rows() -> TypeAdapter[Rows]:
    return TypeAdapter(Rows)


def _read_own(path: Path) -> bytes:
    """The content of a file that only we can have written; nothing if it isn't such a one."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - it is a handle
            state = os.fstat(descriptor)
            ours = state.st_uid == os.geteuid() and not state.st_mode & (
                stat.S_IWGRP | stat.S_IWOTH
            )
            if ours and stat.S_ISREG(state.st_mode) and state.st_size <= _LARGEST:
                return file.read(_LARGEST)
    return b""


@cache
def _code_version() -> bytes:
    """Changes with the code that parses: ours in this folder, and what it is built on."""
    built_on = [f"{name} {importlib.metadata.version(name)}" for name in _BUILT_ON]
    digest = hashlib.sha256(f"{platform.python_version()} {built_on}".encode())
    for module in sorted(Path(__file__).parent.glob("*.py")):
        state = module.stat()
        digest.update(f"\n{module.name} {state.st_size} {state.st_mtime_ns}".encode())
    return digest.hexdigest().encode()
