"""Find the connector files of a folder, read them, and load each with all its problems.

Loading needs nothing but the files and never raises: a broken file does not affect the others. If
connectors of one folder share a name or a dataset, the first one loads and the others are refused.
"""

import hashlib
import os
import re
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.connector_file import CONNECTOR_NAME_PATTERN
from restsource_dagster.connector.naming import dataset_identifier
from restsource_dagster.connector.parsing.document import (
    TEMPLATES_FOLDER,
    YAML_SUFFIXES,
    Document,
    parse_document,
    read_content,
    read_document,
)
from restsource_dagster.connector.query_files import QUERY_SUFFIXES, with_query_files
from restsource_dagster.connector.validation.connector_builder import parse_connector
from restsource_dagster.connector.validation.diagnostics import Finding, Problem

if TYPE_CHECKING:
    from restsource_dagster.connector.template_expansion import Expansion

__all__ = [
    "LoadedFile",
    "LoadedFolder",
    "find_connector_files",
    "find_watched_files",
    "fingerprint_folder",
    "is_connector_file",
    "iter_files",
    "iter_folder",
    "load_file",
    "load_folder",
    "load_text",
    "load_wanted",
    "mention_of",
    "without_duplicate_names",
]


@dataclass(frozen=True)
class LoadedFile:
    """A loaded file. `connector` is None exactly if one of its problems is an error."""

    path: Path
    connector: Connector | None
    problems: tuple[Problem, ...]
    expanded: Mapping[str, Any] | None = None
    """The file that it stands for if it uses a template."""


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
    # Names only: `check` reads more files than fit into memory with their connectors.
    taken: dict[tuple[Path, str], tuple[str, Path]] = {}
    for file, document in files:
        if file.connector is None:
            yield file
            continue
        # By folder: `check` takes files of several folders, and each is a set of connectors of its
        # own.
        keys = [(file.path.parent, dataset) for dataset in _datasets_of(file.connector.name)]
        first = next((taken[key] for key in keys if key in taken), None)
        if first is None:
            taken.update(dict.fromkeys(keys, (file.connector.name, file.path)))
            yield file
        else:
            problem = _duplicate_name_problem(file, document, *first)
            yield replace(file, connector=None, problems=(*file.problems, problem))


def _datasets_of(name: str) -> tuple[str, str]:
    """Return the dataset that dlt loads a connector into, and its staging dataset."""
    dataset = dataset_identifier(name)
    # dlt merges by way of the staging dataset, so a connector of that name would load into it.
    return dataset, f"{dataset}_staging"


def _duplicate_name_problem(
    file: LoadedFile, document: Document | None, other: str, other_path: Path
) -> Problem:
    name = file.connector.name if file.connector else ""
    same = name == other
    finding = Finding(
        pointer="/name",
        message=f'Another file has the connector name "{name}" already'
        if same
        else f'The name "{name}" means the same dataset as "{other}"',
        found=f"it in {other_path.name} too" if same else f"{other} in {other_path.name}",
        expected="each name once" if same else "names that differ in more than underscores",
        fix='Give this file another "name", or delete one of the two',
    )
    return document.located(finding) if document else finding.at(file.path, 1, 1)


_FILE_SUFFIXES = YAML_SUFFIXES | {".json"}
_IGNORED_PREFIXES = (".", "~", "#")
"""Prefixes of hidden files and of editors' lock, swap and backup files."""


def find_connector_files(folder: Path) -> tuple[Path, ...]:
    """Return the `.json`, `.yaml` and `.yml` files directly in a folder, by name.

    Hidden files and those of editors are left out. A folder or a pipe with such a name is included:
    `load_file` reports that it isn't a file. Empty if the folder can't be read.
    """
    return tuple(_named_files(folder, is_connector_file))


def find_watched_files(folder: Path) -> tuple[Path, ...]:
    """Return the files that connectors are made of: connector files, the project's templates and query files."""
    folders = (folder, folder / TEMPLATES_FOLDER)
    return tuple(path for each in folders for path in _named_files(each, _is_watched))


def _is_watched(path: Path) -> bool:
    return is_connector_file(path) or path.name.endswith(QUERY_SUFFIXES)


def _named_files(folder: Path, is_wanted: Callable[[Path], bool]) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            # `scandir` has no order, and of two namesakes the first one loads.
            names = sorted(entry.name for entry in entries)
    except (OSError, ValueError):
        return []
    return [folder / name for name in names if is_wanted(Path(name))]


def is_connector_file(path: Path) -> bool:
    """True if a file of this name is loaded, whatever its content."""
    return path.suffix.lower() in _FILE_SUFFIXES and not path.name.startswith(_IGNORED_PREFIXES)


def fingerprint_folder(folder: Path) -> str:
    """Return a text that changes when a connector file, an own template or a file with a query is added,
    changed, removed or made readable.

    Reads no file: names, sizes, inodes and times are enough.
    """
    digest = hashlib.sha256()
    for path in find_watched_files(folder):
        try:
            # The link's target counts: mounted configuration is changed by moving a link.
            state = path.stat()
        except OSError:
            seen = "unreadable"
        else:
            # The change time and the inode show what the modification time can't: a new mode or
            # owner, and a file that replaces another one and has its old time.
            seen = f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_ino}"
        # `repr`, because a name that isn't UTF-8 holds surrogates, which `encode` refuses.
        digest.update(f"{path.name!r} {seen}\n".encode())
    return digest.hexdigest()


def load_file(path: Path) -> LoadedFile:
    """Load the connector of a file, with all its problems. Never raises, never blocks."""
    return _load_and_parse(path)[0]


def load_text(text: str, path: Path) -> LoadedFile:
    """Load the connector of a text as if it were the file at `path`, which need not exist.

    Its suffix says whether it is JSON or YAML. Never raises.
    """
    return _load_parsed(path, lambda: parse_document(path, text.encode("utf-8", "surrogatepass")))[
        0
    ]


def _load_and_parse(path: Path) -> tuple[LoadedFile, Document | None]:
    """Load a file; return its document too, which locates its parts, if it can be read."""
    return _load_parsed(path, lambda: read_document(path))


def _load_parsed(
    path: Path, parse: Callable[[], Document | tuple[Problem, ...]]
) -> tuple[LoadedFile, Document | None]:
    try:
        document = parse()
        if not isinstance(document, Document):
            return LoadedFile(path, None, document), None
        return _connector_of(document), document
    except Exception as error:  # noqa: BLE001 - a slip of ours must not take the others down
        return LoadedFile(path, None, (_internal_error_finding(error).at(path, 1, 1),)), None


def _connector_of(document: Document) -> LoadedFile:
    if not isinstance(document.value, dict) or "template" not in document.value:
        return _checked_file(document, document.value, document)
    # a file without a template starts sooner
    from restsource_dagster.connector.template_expansion import Expansion, expand

    expanded = expand(document)
    if not isinstance(expanded, Expansion):
        problems = tuple(sorted({*document.problems, *expanded}))
        return LoadedFile(document.path, None, problems)
    usage = tuple(document.located(each) for each in expanded.findings)
    file = _checked_file(document, expanded.value, expanded, usage)
    connector = file.connector and replace(file.connector, template=expanded.template.label)
    whole, _ = with_query_files(expanded.value, partial(_folder_of, expanded))
    return replace(file, connector=connector, expanded=whole)


def _folder_of(places: "Document | Expansion", pointer: str) -> Path:
    """Return the folder of the file in which a value is written: the connector file or its template."""
    return places.located(Finding(pointer, "")).path.parent


def _checked_file(
    document: Document, value: Any, places: "Document | Expansion", known: Iterable[Problem] = ()
) -> LoadedFile:
    """Check the value of a document, or what it stands for; `places` knows where its parts are."""
    path = document.path
    connector, findings = parse_connector(value, path, partial(_folder_of, places))
    # a value at a syntax error is guessed by the parser: the syntax error is enough
    said = {problem.pointer for problem in (*document.problems, *known) if problem.pointer}
    located = [each for each in map(places.located, findings) if each.pointer not in said]
    problems = tuple(sorted({*document.problems, *known, *located}))
    if connector is None or any(problem.severity == "error" for problem in problems):
        return LoadedFile(path, None, problems)
    lines = {resource.pointer: places.line(resource.pointer) for resource in connector.resources}
    return LoadedFile(path, connector.with_lines(lines), problems)


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


def iter_files(paths: Iterable[Path]) -> Iterator[LoadedFile]:
    """Load these files in this order, one at a time. Never raises.

    If two files of one folder have the same connector name, the first loads and the other is refused.
    """
    return without_duplicate_names(map(_load_and_parse, paths))


def iter_folder(folder: Path) -> Iterator[LoadedFile]:
    """Load the files of a folder one at a time, each as `load_folder` gives it. Never raises."""
    missing = _folder_problem(folder)
    if missing is None:
        return iter_files(find_connector_files(folder))
    return iter((LoadedFile(folder, None, (missing,)),))


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
