"""Find the connector files of a folder and load them, each with everything that is wrong with it.

Loading needs the files and nothing else, and never raises: a broken file harms only itself.
"""

import hashlib
import os
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from restsource_dagster.config.connector import Connector, parse_connector
from restsource_dagster.config.document import Document, read_document
from restsource_dagster.config.naming import table_identifier
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


@dataclass(frozen=True)
class LoadedFile:
    """A file and what became of it: `connector` is None exactly if a problem is an error."""

    path: Path
    connector: Connector | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Folder:
    """All connector files of a folder, by name. `fingerprint` is from before they were read."""

    files: tuple[LoadedFile, ...]
    fingerprint: str

    @property
    def connectors(self) -> tuple[Connector, ...]:
        """The connectors that work."""
        return tuple(file.connector for file in self.files if file.connector is not None)

    @property
    def broken(self) -> tuple[LoadedFile, ...]:
        """The files that don't."""
        return tuple(file for file in self.files if file.connector is None)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems of all files, by file and place."""
        return tuple(sorted(problem for file in self.files for problem in file.problems))


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
    try:
        return _load(path)
    except Exception as error:  # noqa: BLE001 - a slip of ours must not take the others down
        return LoadedFile(path, None, (_our_slip(error).at(path, 1, 1),))


def _load(path: Path) -> LoadedFile:
    document = read_document(path)
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
    """These files in this order, each loaded on its own. Never raises.

    Of two files of one folder with the same connector name the first works, the other is refused.
    """
    return tuple(_without_namesakes(load_file(path) for path in paths))


def load_folder(folder: Path) -> Folder:
    """All connector files of a folder, each loaded on its own. Never raises.

    Of two files with the same connector name the first, by path, works; the other is refused. A
    folder that isn't there or can't be read is told as one broken file, the folder itself.
    """
    before = fingerprint(folder)
    missing = _folder_problem(folder)
    if missing is not None:
        return Folder((LoadedFile(folder, None, (missing,)),), before)
    return Folder(load_files(find_files(folder)), before)


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


def _without_namesakes(files: Iterator[LoadedFile]) -> Iterator[LoadedFile]:
    """Refuse a connector whose name or dataset an earlier file of the same folder has."""
    taken: dict[tuple[Path, str], LoadedFile] = {}
    for file in files:
        if file.connector is None:
            yield file
            continue
        keys = [(file.path.parent, dataset) for dataset in _datasets(file.connector.name)]
        first = next((taken[key] for key in keys if key in taken), None)
        if first is None:
            taken.update(dict.fromkeys(keys, file))
            yield file
        else:
            problem = _namesake(file, first)
            yield replace(file, connector=None, problems=(*file.problems, problem))


def _datasets(name: str) -> tuple[str, str]:
    """The dataset that dlt loads a connector into, and the one in which it prepares the rows."""
    dataset = table_identifier(name)
    return dataset, f"{dataset}_staging"


def _namesake(file: LoadedFile, first: LoadedFile) -> Problem:
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
        mend='Give this file another "name", or delete one of the two',
    )
    document = read_document(file.path)
    if isinstance(document, Document):
        return document.located(finding)
    return finding.at(file.path, 1, 1)
