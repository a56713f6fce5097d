"""Find the connector files of a folder and load them, each with everything that is wrong with it.

Loading needs the files and nothing else, and never raises: a broken file harms only itself.
"""

import hashlib
import os
import traceback
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from restsource_dagster.config.connector import Connector, parse_connector
from restsource_dagster.config.document import Document, parse_document, read_content
from restsource_dagster.config.json_elements import element_offsets
from restsource_dagster.config.known_connector import Known, KnownConnector
from restsource_dagster.config.loaded import Folder, LoadedFile
from restsource_dagster.config.namesakes import without_namesakes
from restsource_dagster.config.parse_cache import ParseCache, digest_of
from restsource_dagster.config.parse_entry import Entry
from restsource_dagster.config.problems import Finding, Problem

__all__ = [
    "Folder",
    "LoadedFile",
    "find_files",
    "fingerprint",
    "is_connector_file",
    "load_file",
    "load_files",
    "load_folder",
]

_SUFFIXES = frozenset({".json", ".yaml", ".yml"})
_NOT_OURS = (".", "~", "#")
"""How the names of hidden files and of editors' lock, swap and backup files begin."""


def find_files(folder: Path) -> tuple[Path, ...]:
    """The `.json`, `.yaml` and `.yml` files directly in a folder, by name.

    Hidden files and those of editors are left out. A folder or a pipe with such a name counts: that
    it isn't a file is for `load_file` to say. Nothing, if the folder can't be read.
    """
    return tuple(path for path, _ in _entries(folder))


def _entries(folder: Path) -> list[tuple[Path, os.DirEntry[str]]]:
    try:
        with os.scandir(folder) as entries:
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
    """Whether a file of this name would be loaded; nothing is said of what is in it."""
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(_NOT_OURS)


def fingerprint(folder: Path) -> str:
    """A text that changes when a connector file is added, changed, removed or made readable.

    Reads no file: names, sizes, inodes and times are enough.
    """
    digest = hashlib.sha256()
    for _, entry in _entries(folder):
        try:
            # The link's target counts: mounted configuration is changed by moving a link.
            state = Path(entry.path).stat()
        except OSError:
            seen = "unreadable"
        else:
            seen = f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_ino}"
        digest.update(f"{entry.name!r} {seen}\n".encode())
    return digest.hexdigest()


def load_file(path: Path) -> LoadedFile:
    """The connector of a file, or everything that is wrong with it. Never raises, never waits."""
    return _guarded(path, lambda: _load(path))


def _guarded(path: Path, load: Callable[[], LoadedFile]) -> LoadedFile:
    try:
        return load()
    except Exception as error:  # noqa: BLE001 - a slip of ours must not take the others down
        return LoadedFile(path, None, (_our_slip(error).at(path, 1, 1),))


def _load(path: Path) -> LoadedFile:
    content = read_content(path)
    if isinstance(content, Problem):
        return LoadedFile(path, None, (content,))
    return _parse(path, content)


def _parse(path: Path, content: bytes) -> LoadedFile:
    document = parse_document(path, content)
    if not isinstance(document, Document):
        return LoadedFile(path, None, document)
    connector, findings = parse_connector(document.value, path)
    # What stands where the text is wrong was guessed; the text's own problem is enough.
    said = {problem.pointer for problem in document.problems if problem.pointer}
    located = [document.located(each) for each in findings if each.pointer not in said]
    problems = tuple(sorted({*document.problems, *located}))
    if connector is None or any(problem.severity == "error" for problem in problems):
        return LoadedFile(path, None, problems)
    return LoadedFile(path, connector.with_lines(_lines(document, connector)), problems)


def _lines(document: Document, connector: Connector) -> Mapping[str, int]:
    pointers = [resource.pointer for resource in connector.resources]
    if document.problems or document.path.suffix.lower() != ".json":
        return {pointer: document.position(pointer)[0] for pointer in pointers}
    offsets = element_offsets(document.lines.text, "resources")
    return {
        pointer: document.lines.line_and_column(offsets[int(pointer.rsplit("/", 1)[1])])[0]
        for pointer in pointers
    }


def _our_slip(error: Exception) -> Finding:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    # Not its text: that may quote the file, and the file may hold a secret.
    found = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
    return Finding(
        pointer="",
        message="restsource itself failed on this file",
        found=found,
        mend="Please report it as a bug, with a file that shows it and no secrets in it",
    )


def load_files(paths: Iterable[Path]) -> tuple[LoadedFile, ...]:
    """These files in this order, each loaded on its own. Never raises.

    Of two files of one folder with the same connector name the first works, the other is refused.
    """
    return tuple(without_namesakes(load_file(path) for path in paths))


def load_folder(folder: Path, cache: ParseCache | None = None) -> Folder:
    """All connector files of a folder, each loaded on its own. Never raises.

    Of two files with the same connector name the first, by path, works; the other is refused. A
    folder that isn't there or can't be read is told as one broken file, the folder itself.

    With a cache, a file that it knows isn't parsed: its connector reads what only a run needs when it
    is asked for. What the cache didn't know, it knows from then on.
    """
    before = fingerprint(folder)
    missing = _folder_problem(folder)
    if missing is not None:
        return Folder((LoadedFile(folder, None, (missing,)),), before)
    paths = find_files(folder)
    if cache is None:
        return Folder(load_files(paths), before)
    loaded = (_guarded(path, partial(_look_up, path, cache)) for path in paths)
    files = tuple(without_namesakes(loaded))
    cache.save()
    return Folder(files, before)


def _look_up(path: Path, cache: ParseCache) -> LoadedFile:
    """The file as the cache knows it; else parsed, and known from then on."""
    content = read_content(path)
    if isinstance(content, Problem):
        return LoadedFile(path, None, (content,))
    digest = digest_of(content)
    found = cache.find(path, digest)
    if found is None:
        file = _parse(path, content)
        if file.connector is None:
            return file
        entry = Entry(Known.of(file.connector), file.problems)
        if not cache.add(path, digest, entry):
            return file
        found = entry.known.name, entry.warnings
    name, warnings = found
    # a code location holds thousands of them, and needs one when a run of it begins
    parse = partial(_in_full, path, zlib.compress(content, 1))
    connector = KnownConnector(path, name, partial(cache.recall, path), parse)
    return LoadedFile(path, connector, warnings)


def _in_full(path: Path, compressed: bytes) -> Connector:
    """The connector of a content that was parsed before. Raises `RuntimeError` if it isn't one."""
    file = _parse(path, zlib.decompress(compressed))
    if file.connector is None:
        raise RuntimeError(f"{path} was fine when it was parsed before: {file.problems}")
    return file.connector


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
        mend="Make it, or set RESTSOURCE_CONFIGS or --configs to the folder that holds them",
    ).at(folder, 1, 1)
