"""Short ways to import a text, and to look at what became of its pieces."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from restsource_dagster.authoring.importing.import_source import (
    ImportKind,
    ImportResult,
    import_source,
)
from restsource_dagster.authoring.importing.source_files import SourceFile
from restsource_dagster.authoring.importing.source_pieces import FateState, leaves_of
from restsource_dagster.connector.loader import load_file
from restsource_dagster.connector.validation.diagnostics import FieldPath, json_pointer
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_settings

__all__ = ["imported", "loaded", "paths_of", "resources_of", "unaccounted"]


def imported(
    text: str,
    kind: ImportKind | None = None,
    *,
    name: str | None = None,
    others: Sequence[Any] = (),
) -> ImportResult:
    """What an import makes of a text; fails the test if `check` would refuse the file."""
    made = import_source([SourceFile("source", text), *others], kind, name=name)
    assert made.errors == ()
    return made


def loaded(made: ImportResult, folder: Path, **environment: str) -> Settings:
    """Load the imported connector with the engine; return the settings, for queries of the tables."""
    path = folder / f"{made.draft.name}.json"
    path.write_text(made.text)
    connector = load_file(path).connector
    assert connector is not None
    settings = make_settings(folder)
    values = {**made.draft.variables.values(), **environment}
    for name, outcome in load(connector, settings, environment=values).items():
        assert outcome.failure is None, (name, outcome.failure)
    return settings


def resources_of(made: ImportResult) -> dict[str, Any]:
    """The resources of the file by name."""
    return {each["name"]: each for each in made.draft.value["resources"]}


def paths_of(made: ImportResult, state: FateState) -> dict[str, str]:
    """What the report says of each piece in a state: the target, or why it is not mapped."""
    return {
        json_pointer(fate.path): fate.target or fate.reason
        for fate in made.fates
        if fate.state == state
    }


def unaccounted(document: Any, made: ImportResult) -> list[str]:
    """The leaves of a source that the report says nothing about."""
    spoken = {fate.path for fate in made.fates}

    def is_spoken_of(path: FieldPath) -> bool:
        return any(path[:length] in spoken for length in range(len(path) + 1))

    return [json_pointer(path) for path, _ in leaves_of(document) if not is_spoken_of(path)]
