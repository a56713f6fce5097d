"""All that the builder has open: the folder, its files as they are typed, and what is known of their runs."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from restsource_dagster.authoring.builder.edited_file import EditedFile
from restsource_dagster.authoring.builder.file_preview import FilePreview
from restsource_dagster.authoring.used_template import used_template
from restsource_dagster.connector.loader import LoadedFolder, find_connector_files, load_folder
from restsource_dagster.connector.models.connector_file import CONNECTOR_NAME_PATTERN
from restsource_dagster.settings import Settings

__all__ = ["ListedFile", "NameTakenError", "OpenFiles", "ReadRuns", "RunTimes"]


@dataclass(frozen=True)
class RunTimes:
    """When a connector ran last, and when it is due."""

    last_status: str | None = None
    """Of Dagster, such as `SUCCESS`; None if it never ran, or if there is no Dagster instance."""
    last_ended: datetime | None = None
    next_due: datetime | None = None


ReadRuns = Callable[[LoadedFolder], Mapping[str, RunTimes]]
"""Returns the runs of each connector, by name. It may ask Dagster, so it takes a while."""


@dataclass(frozen=True)
class ListedFile:
    """One file of the list."""

    name: str
    """The connector's, or that of a file that is not valid."""
    path: Path
    errors: int
    warnings: int
    runs: RunTimes | None = None


class NameTakenError(Exception):
    """A name that a new file can't have; the text says why."""


@dataclass
class OpenFiles:
    """The state behind the page. It outlives a reload of the page, so what is typed is not lost."""

    settings: Settings
    read_runs: ReadRuns
    environment: Callable[[], Mapping[str, str]]
    """Reads the variables that files refer to."""
    dagster: str | None = None
    """The address of Dagster's UI."""
    _files: dict[Path, EditedFile] = field(default_factory=dict)
    _previews: dict[Path, FilePreview] = field(default_factory=dict)

    @property
    def paths(self) -> Sequence[Path]:
        """The files of the folder, and those that are not saved yet."""
        return sorted({*find_connector_files(self.settings.configs), *self._files})

    def list_files(self) -> Sequence[ListedFile]:
        """Read all files and what is known of their runs. Takes a while; needs no event loop."""
        folder = load_folder(self.settings.configs)
        runs = self.read_runs(folder)
        listed = []
        for loaded in folder.files:
            changes = used_template(loaded, self.settings)[1]
            # a file with errors has no name that can be trusted, but its path
            name = loaded.connector.name if loaded.connector else loaded.path.stem
            severities = [problem.severity for problem in (*loaded.problems, *changes)]
            listed.append(
                ListedFile(
                    name,
                    loaded.path,
                    severities.count("error"),
                    severities.count("warning"),
                    runs.get(name),
                )
            )
        return listed

    def open(self, path: Path) -> EditedFile:
        """Return the file as it is typed; it is read when it is opened first. Raises `FileNotOpenedError`.

        A file that was not edited here is read again.
        """
        known = self._files.get(path)
        # another program may have changed the file since
        if known is None or not known.is_edited:
            self._files[path] = EditedFile.open(path)
            self._files[path].settings = self.settings
        return self._files[path]

    def preview_of(self, file: EditedFile) -> FilePreview:
        """Return the preview of a file, the one that is under way if there is one."""
        known = self._previews.get(file.path)
        # a file that was closed and opened again is another object
        if known is None or known.file is not file:
            self._previews[file.path] = FilePreview(file, self.settings, self.environment)
        return self._previews[file.path]

    def is_unsaved(self, path: Path) -> bool:
        """True if a file is edited here and not saved."""
        return path in self._files and self._files[path].is_edited

    def add(self, name: str, text: str) -> EditedFile:
        """Open a file that is not there yet. Raises `NameTakenError` if a file can't have this name."""
        path = self.free_path(name)
        self._files[path] = EditedFile(path, None, text, settings=self.settings)
        return self._files[path]

    def free_path(self, name: str) -> Path:
        """Return where the file of a new connector goes. Raises `NameTakenError`."""
        if not re.fullmatch(CONNECTOR_NAME_PATTERN, name):
            raise NameTakenError(
                "A connector's name is a small letter, then small letters, digits and underscores."
            )
        path = self.settings.configs / f"{name}.json"
        # a link to nowhere does not exist, and writing to it would make its target
        if path.exists() or path.is_symlink() or path in self._files:
            raise NameTakenError(f"There is a file {path.name} already.")
        return path

    def forget(self, file: EditedFile) -> None:
        """Close a file without saving it."""
        self._files.pop(file.path, None)
        self._previews.pop(file.path, None)

    def missing_variables(self, file: EditedFile) -> Sequence[str]:
        """Return the variables that a file refers to and that have no value; none for a file with errors."""
        connector = file.loaded.connector
        known = self.environment()
        named = connector.references if connector is not None else ()
        # other references are places such as `file:...`, which no variable fills
        return sorted(name for name in named if name.isidentifier() and not known.get(name))

    def close(self) -> None:
        """Stop what is under way."""
        for preview in self._previews.values():
            preview.stop()
