"""One connector file while a person edits it: what was opened, what is typed, and how it is saved."""

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from restsource_dagster.authoring.builder.text_edits import (
    TextEditError,
    on_lines,
    with_value,
    without_value,
)
from restsource_dagster.authoring.used_template import used_template
from restsource_dagster.connector.fixes import hidden_secrets, with_replacement
from restsource_dagster.connector.loader import LoadedFile, load_text
from restsource_dagster.connector.parsing.document import Document, parse_document, read_content
from restsource_dagster.connector.validation.diagnostics import Problem
from restsource_dagster.settings import Settings
from restsource_dagster.whole_file import write_file_whole

__all__ = ["ChangedOnDiskError", "EditedFile", "FileNotOpenedError"]

_NEW_FILE_MODE = 0o644


class FileNotOpenedError(Exception):
    """A file that can't be opened; the text says why."""


class ChangedOnDiskError(Exception):
    """The file is no longer what was opened; nothing was written. `diff` leads from it to the edited text."""

    def __init__(self, path: Path, diff: str) -> None:
        self.diff = diff
        super().__init__(f"{path} was changed by somebody else since it was opened here")


@dataclass
class EditedFile:
    """A file that is open. `opened` is its text when it was read; None for a file that is not there yet."""

    path: Path
    opened: str | None
    text: str
    """With a line feed at the ends of lines, as editors have it."""
    line_end: str = "\n"
    notice: str = ""
    """What a person should know when it is opened first."""
    settings: Settings | None = None
    """Where the loads of the project are noted, for what a template changes."""
    _loaded: tuple[str, LoadedFile] | None = None

    @classmethod
    def open(cls, path: Path) -> "EditedFile":
        """Read a file. Raises `FileNotOpenedError`."""
        text = _read_text(path)
        if text is None:
            raise FileNotOpenedError(f"there is no {path}")
        return cls(path, text, text, "\r\n" if b"\r\n" in path.read_bytes() else "\n")

    @property
    def is_edited(self) -> bool:
        """True if there is something to save."""
        return self.text != self.opened

    @property
    def loaded(self) -> LoadedFile:
        """What the text is as a connector file, with all that `check` says of it."""
        if self._loaded is None or self._loaded[0] != self.text:
            read = load_text(self.text, self.path)
            if self.settings is not None:
                changes = used_template(read, self.settings, text=self.text)[1]
                read = replace(read, problems=(*read.problems, *changes))
            self._loaded = self.text, read
        return self._loaded[1]

    @property
    def problems(self) -> Sequence[Problem]:
        """What `check` says of the text as it is typed, by line."""
        return sorted(self.loaded.problems)

    @property
    def resources(self) -> Sequence[str]:
        """The names of the resources; of a file with errors those that can be read."""
        if self.loaded.connector is not None:
            return [one.name for one in self.loaded.connector.resources]
        return [name for name in self._named_resources() if name]

    def _named_resources(self) -> list[str]:
        document = parse_document(self.path, self.text.encode())
        value = document.value if isinstance(document, Document) else None
        listed = value.get("resources") if isinstance(value, dict) else None
        items = listed if isinstance(listed, list) else []
        names = [one.get("name") if isinstance(one, dict) else one for one in items]
        return [name if isinstance(name, str) else "" for name in names]

    def can_fix(self, problem: Problem) -> bool:
        """True if the fix of a problem is a replacement in this file."""
        return problem.replacement is not None and problem.path == self.path

    def fix(self, problem: Problem) -> None:
        """Replace the wrong word of a problem, as `check --fix` does."""
        self.text = with_replacement(self.text, self.path, problem)

    def put(self, resource: str, place: str | Sequence[str], value: Any) -> None:
        """Write a value into a resource at a place, such as `endpoint.paginator`; None takes it out.

        A resource that is a name only, and an endpoint that is a path only, become objects. Raises
        `TextEditError`.
        """
        names = self._named_resources()
        if resource not in names:
            raise TextEditError(
                f"`{resource}` is not written out in this file: a template or a default brings it"
            )
        at: tuple[str | int, ...] = ("resources", names.index(resource))
        below = place.split(".") if isinstance(place, str) else place
        steps = (*at, *below)
        if value is None:
            self.text = without_value(self.text, self.path, steps)
            return
        self._write_out(resource, at, needs_endpoint=len(below) > 1 and below[0] == "endpoint")
        self.text = on_lines(with_value(self.text, self.path, steps, value), self.path, at)

    def _write_out(self, resource: str, at: tuple[str | int, ...], *, needs_endpoint: bool) -> None:
        found = self.value_at(at)
        if isinstance(found, str):
            endpoint: Any = {"path": resource} if needs_endpoint else resource
            made = {"name": resource, "endpoint": endpoint}
            self.text = with_value(self.text, self.path, at, made)
        elif needs_endpoint and isinstance(self.value_at((*at, "endpoint")), str):
            path = {"path": self.value_at((*at, "endpoint"))}
            self.text = with_value(self.text, self.path, (*at, "endpoint"), path)

    def value_at(self, steps: Sequence[str | int]) -> Any:
        """Return the value of the text at a place; None if there is none."""
        document = parse_document(self.path, self.text.encode())
        value: Any = document.value if isinstance(document, Document) else None
        for step in steps:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def in_resource(self, resource: str, place: str) -> Any:
        """Return what a resource of the text says at a place such as `endpoint.params`; None for nothing."""
        names = self._named_resources()
        if resource not in names:
            return None
        return self.value_at(("resources", names.index(resource), *place.split(".")))

    @property
    def diff(self) -> str:
        """What saving would change, as a unified diff without secrets; "" for nothing."""
        return self._diff_from(self.opened or "")

    def _diff_from(self, before: str) -> str:
        name = self.path.name
        found = difflib.unified_diff(
            before.splitlines(keepends=True),
            self.text.splitlines(keepends=True),
            f"{name} (saved)",
            f"{name} (edited)",
        )
        # a text without a line end at its end would run into the next line
        made = "".join(line if line.endswith("\n") else f"{line}\n" for line in found)
        return hidden_secrets(hidden_secrets(made, self.text, self.path), before, self.path)

    def save(self) -> None:
        """Write the file as a whole. Raises `ChangedOnDiskError` if it isn't what was opened, or `OSError`."""
        on_disk = _read_text(self.path)
        if on_disk != self.opened:
            raise ChangedOnDiskError(self.path, self._diff_from(on_disk or ""))
        content = self.text.replace("\n", self.line_end).encode()
        if self.opened is None:
            # "x": never over a file that was made meanwhile
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _NEW_FILE_MODE)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
        else:
            write_file_whole(self.path.resolve(), content)
        self.opened = self.text

    def revert(self) -> None:
        """Forget what was typed, and read the file again. Raises `FileNotOpenedError`."""
        fresh = EditedFile.open(self.path)
        self.opened, self.text = fresh.opened, fresh.text

    def keep_mine(self) -> None:
        """Take the file as it is now for what was opened, so that saving replaces it."""
        self.opened = _read_text(self.path)


def _read_text(path: Path) -> str | None:
    """Return the text of a file; None if it is not there. Raises `FileNotOpenedError`."""
    if not path.exists() and not path.is_symlink():
        return None
    content = read_content(path)
    if isinstance(content, Problem):
        raise FileNotOpenedError(content.explanation)
    try:
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise FileNotOpenedError(f"{path} is not a text in UTF-8") from None
