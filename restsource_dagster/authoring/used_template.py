"""What the changes of a template mean for tables that a machine has loaded: a warning before the next load."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from restsource_dagster.connector.loader import LoadedFile
from restsource_dagster.connector.validation.diagnostics import Problem
from restsource_dagster.settings import Settings

if TYPE_CHECKING:  # few files use a template
    from restsource_dagster.connector.templates import Template

__all__ = ["FindTemplate", "UsedTemplate", "find_valid_template", "used_template"]

FindTemplate = Callable[[str, Path], "Template | None"]


@dataclass(frozen=True)
class UsedTemplate:
    """A template whose versions have changed tables, and what is known of its loads."""

    label: str
    loaded: Mapping[str, str]
    """Template and version of the last load by resource, as noted in the state."""
    unknown: str = ""
    """Why nothing is known of loads; empty if something is."""


def find_valid_template(name: str, folder: Path) -> "Template | None":
    """Return a template; None if it has errors or there is none."""
    from restsource_dagster.connector.templates import Template, find_template

    found = find_template(name, folder)
    return found if isinstance(found, Template) else None


def used_template(
    file: LoadedFile,
    settings: Settings,
    *,
    find: FindTemplate = find_valid_template,
    text: str | None = None,
) -> tuple[UsedTemplate | None, tuple[Problem, ...]]:
    """Return the template of a file, and what its changes mean for the tables, as warnings.

    `text` is what the file was read from, if that is not what is on the disk.
    """
    if file.connector is None or file.connector.template is None:
        return None, ()
    label, name = file.connector.template, file.connector.name
    template = find(label.partition(" ")[0], file.path.parent)
    if template is None or not template.head.changes:
        return None, ()
    # few templates have changes
    from restsource_dagster.connector.parsing.document import (
        Document,
        parse_document,
        read_document,
    )
    from restsource_dagster.state.loaded_versions import LoadedVersions
    from restsource_dagster.state.state_errors import StateError
    from restsource_dagster.state.store import open_state

    try:
        versions = LoadedVersions(open_state(settings), name)
        loaded = versions.read()
    except (StateError, OSError) as error:
        return UsedTemplate(label, {}, f"the state can't be read: {error}"), ()
    if not loaded:
        return UsedTemplate(label, {}, f"no load is noted in {versions.location}"), ()
    selected = [one.name for one in file.connector.resources if one.selected]
    findings = list(template.head.change_findings(template.name, loaded, selected))
    if not findings:
        return UsedTemplate(label, loaded), ()
    read = read_document(file.path) if text is None else parse_document(file.path, text.encode())
    located = map(read.located, findings) if isinstance(read, Document) else ()
    return UsedTemplate(label, loaded), tuple(located)
