"""What becomes of connector files when they are loaded."""

from dataclasses import dataclass
from pathlib import Path

from restsource_dagster.config.connector import Connector
from restsource_dagster.config.problems import Problem

__all__ = ["Folder", "LoadedFile"]


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
