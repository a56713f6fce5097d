"""Find the connector files of a folder and load them, each with everything that is wrong with it.

Loading needs the files and nothing else, and never raises: a broken file harms only itself.
"""

import hashlib
import os
import re
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from restsource_dagster.config.connector import Connector, parse_connector
from restsource_dagster.config.loaded import Folder, LoadedFile
from restsource_dagster.config.namesakes import mention_of, without_namesakes
from restsource_dagster.config.problems import Finding, Problem
from restsource_dagster.connector.parsing.document import Document, read_content, read_document

__all__ = [
    "Folder",
    "LoadedFile",
    "find_files",
    "fingerprint",
    "is_connector_file",
    "load_file",
    "load_files",
    "load_folder",
    "load_wanted",
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
    return _load(path)[0]


def _load(path: Path) -> tuple[LoadedFile, Document | None]:
    """Load a file; the document tells where its parts are, if it can be read."""
    try:
        document = read_document(path)
        if not isinstance(document, Document):
            return LoadedFile(path, None, document), None
        return _connector_of(document), document
    except Exception as error:  # noqa: BLE001 - a slip of ours must not take the others down
        return LoadedFile(path, None, (_our_slip(error).at(path, 1, 1),)), None


def _connector_of(document: Document) -> LoadedFile:
    path = document.path
    connector, findings = parse_connector(document.value, path)
    # What stands where the text is wrong was guessed; the text's own problem is enough.
    said = {problem.pointer for problem in document.problems if problem.pointer}
    located = [document.located(each) for each in findings if each.pointer not in said]
    problems = tuple(sorted({*document.problems, *located}))
    if connector is None or any(problem.severity == "error" for problem in problems):
        return LoadedFile(path, None, problems)
    return LoadedFile(path, connector.with_lines(_lines(document, connector)), problems)


def _lines(document: Document, connector: Connector) -> Mapping[str, int]:
    pointers = (resource.pointer for resource in connector.resources)
    return {pointer: document.position(pointer)[0] for pointer in pointers}


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
    """Load these files in this order, each on its own. Never raises.

    Of two files of one folder with the same connector name the first works, the other is refused.
    """
    return tuple(without_namesakes(map(_load, paths)))


def load_folder(folder: Path) -> Folder:
    """Load all connector files of a folder, each on its own. Never raises.

    Of two files with the same connector name the first, by path, works; the other is refused. A
    folder that isn't there or can't be read is reported as one broken file, the folder itself.
    """
    return _load_all(folder, {})


def load_wanted(
    folder: Path, names: Collection[str], is_wanted: Callable[[Connector], bool]
) -> Folder:
    """Load the wanted connectors of a folder and parse few of the other files. Never raises.

    `names` holds the names that a wanted connector can have. The result has the files whose text or
    name mentions one of them, each as `load_folder` gives it. If none of their connectors is wanted,
    the result has all files of the folder.
    """
    before = fingerprint(folder)
    pattern = mention_of(names)
    mentioned = {path: _load(path) for path in find_files(folder) if _mentions(path, pattern)}
    chosen = Folder(tuple(without_namesakes(mentioned.values())), before)
    return chosen if any(map(is_wanted, chosen.connectors)) else _load_all(folder, mentioned)


def _mentions(path: Path, pattern: re.Pattern[bytes]) -> bool:
    content = read_content(path)
    if isinstance(content, Problem):
        return False
    return any(pattern.search(each) for each in (os.fsencode(path.stem), content))


def _load_all(folder: Path, loaded: Mapping[Path, tuple[LoadedFile, Document | None]]) -> Folder:
    """Load the files of a folder that aren't loaded yet."""
    before = fingerprint(folder)
    missing = _folder_problem(folder)
    if missing is not None:
        return Folder((LoadedFile(folder, None, (missing,)),), before)
    files = (loaded.get(path) or _load(path) for path in find_files(folder))
    return Folder(tuple(without_namesakes(files)), before)


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
