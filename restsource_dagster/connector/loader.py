"""Find the connector files of a folder, read them, and load each with all its problems.

Loading needs nothing but the files and never raises: a broken file does not affect the others. If
connectors of one folder share a name or a dataset, the first one loads and the others are refused.
"""

import errno
import hashlib
import os
import re
import stat
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.connector_file import CONNECTOR_NAME_PATTERN
from restsource_dagster.connector.naming import dataset_identifier
from restsource_dagster.connector.parsing.json_parser import parse_json
from restsource_dagster.connector.parsing.limits import MAX_BYTES, empty_file
from restsource_dagster.connector.parsing.source_map import LocatedFinding, SourceNode, TextLines
from restsource_dagster.connector.parsing.yaml_parser import parse_yaml
from restsource_dagster.connector.validation.connector_builder import parse_connector
from restsource_dagster.connector.validation.diagnostics import Finding, Problem

__all__ = [
    "Document",
    "LoadedFile",
    "LoadedFolder",
    "find_connector_files",
    "fingerprint_folder",
    "is_connector_file",
    "load_file",
    "load_files",
    "load_folder",
    "load_wanted",
    "mention_of",
    "read_content",
    "read_document",
    "without_duplicate_names",
]


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

    def located(self, finding: Finding) -> Problem:
        """Return the finding with its position in this file."""
        return finding.at(self.path, *self.position(finding.pointer, on_key=finding.on_key))


def read_document(path: Path) -> Document | tuple[Problem, ...]:
    """Return the document at a path, or why it can't be read. Never raises, never blocks.

    A file with more than `MAX_BYTES` and anything that isn't a regular file are refused unread.
    """
    content = read_content(path)
    return (content,) if isinstance(content, Problem) else _parse(path, content)


def read_content(path: Path) -> bytes | Problem:
    """Return the content of a file, or why it can't be read, by the rules of `read_document`."""
    content = _read_bytes(path)
    return content.at(path, 1, 1) if isinstance(content, Finding) else content


def _parse(path: Path, content: bytes) -> Document | tuple[Problem, ...]:
    text = _decode(content)
    if isinstance(text, Finding):
        return (text.at(path, 1, 1),)
    if isinstance(text, LocatedFinding):
        # The place is in the part that is UTF-8, and for its line any reading of the rest will do.
        return _located(path, TextLines(content.decode("utf-8-sig", errors="replace")), [text])
    lines = TextLines(text)
    if not text.strip():
        return (empty_file().at(path, 1, 1),)
    parsed = parse_yaml(text) if path.suffix.lower() in {".yaml", ".yml"} else parse_json(text)
    problems = _located(path, lines, parsed.findings)
    if not parsed.usable:
        return problems
    return Document(path, parsed.value, lines, parsed.source_map, problems)


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


@dataclass(frozen=True)
class LoadedFile:
    """A loaded file. `connector` is None exactly if one of its problems is an error."""

    path: Path
    connector: Connector | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class LoadedFolder:
    """All connector files of a folder, by name. `fingerprint` was taken before they were read."""

    files: tuple[LoadedFile, ...]
    fingerprint: str

    @property
    def connectors(self) -> tuple[Connector, ...]:
        """The connectors without errors."""
        return tuple(file.connector for file in self.files if file.connector is not None)

    @property
    def broken(self) -> tuple[LoadedFile, ...]:
        """The files with errors."""
        return tuple(file for file in self.files if file.connector is None)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems of all files, by file and place."""
        return tuple(sorted(problem for file in self.files for problem in file.problems))


_ADDED = re.compile(r"(?:_staging|[x_])+$")
"""Endings that don't change the dataset of a name: dlt writes `x` for a final underscore."""
_WHOLE = rb"(?<![a-z0-9_])%b(?:_*staging|[x_])*(?![a-z0-9_])"
_ESCAPE = rb"\\[uUx\r\n]"
"""An escape of JSON or YAML that can stand in the middle of a name."""


def mention_of(names: Collection[str]) -> re.Pattern[bytes]:
    """Return a pattern that finds the files that may define these connectors, by text or by stem.

    It also finds files whose connector has the same dataset, and some that define none of them. It
    misses no file. Names that no connector can have are left out.
    """
    possible = sorted(name for name in names if re.fullmatch(CONNECTOR_NAME_PATTERN, name))
    words = dict.fromkeys(re.sub("_+", "_+", _ADDED.sub("", name)) for name in possible)
    return re.compile(b"|".join([_ESCAPE, *(_WHOLE % word.encode() for word in words)]))


def without_duplicate_names(
    files: Iterable[tuple[LoadedFile, Document | None]],
) -> Iterator[LoadedFile]:
    """Refuse a connector whose name or dataset an earlier file of the same folder has.

    Each file comes with its document, which gives the place of its name.
    """
    taken: dict[tuple[Path, str], LoadedFile] = {}
    for file, document in files:
        if file.connector is None:
            yield file
            continue
        # By folder: `check` takes files of several folders, and each is a set of connectors of its
        # own.
        keys = [(file.path.parent, dataset) for dataset in _datasets_of(file.connector.name)]
        first = next((taken[key] for key in keys if key in taken), None)
        if first is None:
            taken.update(dict.fromkeys(keys, file))
            yield file
        else:
            problem = _duplicate_name_problem(file, document, first)
            yield replace(file, connector=None, problems=(*file.problems, problem))


def _datasets_of(name: str) -> tuple[str, str]:
    """Return the dataset that dlt loads a connector into, and its staging dataset."""
    dataset = dataset_identifier(name)
    # dlt merges by way of the staging dataset, so a connector of that name would load into it.
    return dataset, f"{dataset}_staging"


def _duplicate_name_problem(
    file: LoadedFile, document: Document | None, first: LoadedFile
) -> Problem:
    name = file.connector.name if file.connector else ""
    other = first.connector.name if first.connector else ""
    same = name == other
    finding = Finding(
        pointer="/name",
        message=f'Another file has the connector name "{name}" already'
        if same
        else f'The name "{name}" means the same dataset as "{other}"',
        found=f"it in {first.path.name} too" if same else f"{other} in {first.path.name}",
        expected="each name once" if same else "names that differ in more than underscores",
        fix='Give this file another "name", or delete one of the two',
    )
    return document.located(finding) if document else finding.at(file.path, 1, 1)


_FILE_SUFFIXES = frozenset({".json", ".yaml", ".yml"})
_IGNORED_PREFIXES = (".", "~", "#")
"""Prefixes of hidden files and of editors' lock, swap and backup files."""


def find_connector_files(folder: Path) -> tuple[Path, ...]:
    """Return the `.json`, `.yaml` and `.yml` files directly in a folder, by name.

    Hidden files and those of editors are left out. A folder or a pipe with such a name is included:
    `load_file` reports that it isn't a file. Empty if the folder can't be read.
    """
    return tuple(path for path, _ in _connector_file_entries(folder))


def _connector_file_entries(folder: Path) -> list[tuple[Path, os.DirEntry[str]]]:
    try:
        with os.scandir(folder) as entries:
            # `scandir` has no order, and of two namesakes the first one loads.
            return sorted(
                (
                    (folder / entry.name, entry)
                    for entry in entries
                    if is_connector_file(Path(entry.name))
                ),
                key=lambda pair: pair[0].name,
            )
    except (OSError, ValueError):
        return []


def is_connector_file(path: Path) -> bool:
    """True if a file of this name is loaded, whatever its content."""
    return path.suffix.lower() in _FILE_SUFFIXES and not path.name.startswith(_IGNORED_PREFIXES)


def fingerprint_folder(folder: Path) -> str:
    """Return a text that changes when a connector file is added, changed, removed or made readable.

    Reads no file: names, sizes, inodes and times are enough.
    """
    digest = hashlib.sha256()
    for _, entry in _connector_file_entries(folder):
        try:
            # The link's target counts: mounted configuration is changed by moving a link.
            state = Path(entry.path).stat()
        except OSError:
            seen = "unreadable"
        else:
            # The change time and the inode show what the modification time can't: a new mode or
            # owner, and a file that replaces another one and has its old time.
            seen = f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_ino}"
        # `repr`, because a name that isn't UTF-8 holds surrogates, which `encode` refuses.
        digest.update(f"{entry.name!r} {seen}\n".encode())
    return digest.hexdigest()


def load_file(path: Path) -> LoadedFile:
    """Load the connector of a file, with all its problems. Never raises, never blocks."""
    return _load_and_parse(path)[0]


def _load_and_parse(path: Path) -> tuple[LoadedFile, Document | None]:
    """Load a file; return its document too, which locates its parts, if it can be read."""
    try:
        document = read_document(path)
        if not isinstance(document, Document):
            return LoadedFile(path, None, document), None
        return _connector_of(document), document
    except Exception as error:  # noqa: BLE001 - a slip of ours must not take the others down
        return LoadedFile(path, None, (_internal_error_finding(error).at(path, 1, 1),)), None


def _connector_of(document: Document) -> LoadedFile:
    path = document.path
    connector, findings = parse_connector(document.value, path)
    # a value at a syntax error is guessed by the parser: the syntax error is enough
    said = {problem.pointer for problem in document.problems if problem.pointer}
    located = [document.located(each) for each in findings if each.pointer not in said]
    problems = tuple(sorted({*document.problems, *located}))
    if connector is None or any(problem.severity == "error" for problem in problems):
        return LoadedFile(path, None, problems)
    return LoadedFile(path, connector.with_lines(_lines_by_pointer(document, connector)), problems)


def _lines_by_pointer(document: Document, connector: Connector) -> Mapping[str, int]:
    pointers = (resource.pointer for resource in connector.resources)
    return {pointer: document.position(pointer)[0] for pointer in pointers}


def _internal_error_finding(error: Exception) -> Finding:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    # Not its text: that may quote the file, and the file may hold a secret.
    found = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
    return Finding(
        pointer="",
        message="restsource itself failed on this file",
        found=found,
        fix="Please report it as a bug, with a file that shows it and no secrets in it",
    )


def load_files(paths: Iterable[Path]) -> tuple[LoadedFile, ...]:
    """Load these files in this order, each on its own. Never raises.

    If two files of one folder have the same connector name, the first loads and the other is refused.
    """
    return tuple(without_duplicate_names(map(_load_and_parse, paths)))


def load_folder(folder: Path) -> LoadedFolder:
    """Load all connector files of a folder, each on its own. Never raises.

    If two files have the same connector name, the first by path loads and the other is refused. A
    missing or unreadable folder is reported as one broken file: the folder itself.
    """
    return _load_all(folder, {})


def load_wanted(
    folder: Path, names: Collection[str], is_wanted: Callable[[Connector], bool]
) -> LoadedFolder:
    """Load the wanted connectors of a folder and parse few of the other files. Never raises.

    `names` holds the names that a wanted connector can have. The result has the files whose text or
    name mentions one of them, each as `load_folder` gives it. If none of their connectors is wanted,
    the result has all files of the folder.
    """
    before = fingerprint_folder(folder)
    pattern = mention_of(names)
    mentioned = {
        path: _load_and_parse(path)
        for path in find_connector_files(folder)
        if _mentions(path, pattern)
    }
    chosen = LoadedFolder(tuple(without_duplicate_names(mentioned.values())), before)
    # With all files, the caller can say which names there are.
    return chosen if any(map(is_wanted, chosen.connectors)) else _load_all(folder, mentioned)


def _mentions(path: Path, pattern: re.Pattern[bytes]) -> bool:
    content = read_content(path)
    if isinstance(content, Problem):
        return False
    # The stem, too: a connector without a `name` is named after its file.
    return any(pattern.search(each) for each in (os.fsencode(path.stem), content))


def _load_all(
    folder: Path, loaded: Mapping[Path, tuple[LoadedFile, Document | None]]
) -> LoadedFolder:
    """Load the files of a folder that aren't loaded yet."""
    before = fingerprint_folder(folder)
    # The fingerprint was taken first: a file that changes while it is read gives another one at the
    # next look.
    missing = _folder_problem(folder)
    if missing is not None:
        return LoadedFolder((LoadedFile(folder, None, (missing,)),), before)
    files = (loaded.get(path) or _load_and_parse(path) for path in find_connector_files(folder))
    return LoadedFolder(tuple(without_duplicate_names(files)), before)


def _folder_problem(folder: Path) -> Problem | None:
    try:
        with os.scandir(folder):
            return None
    except OSError as error:
        found = os.strerror(error.errno) if error.errno else type(error).__name__
    except ValueError:
        found = "a path that can't exist"
    return Finding(
        pointer="",
        message="The folder of connector files can't be read",
        found=found,
        fix="Make it, or set RESTSOURCE_CONFIGS or --configs to the folder that holds them",
    ).at(folder, 1, 1)
