"""Connectors of one folder that would share a name or a dataset: the first works, others are refused."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from restsource_dagster.config.document import Document, read_document
from restsource_dagster.config.loaded import LoadedFile
from restsource_dagster.config.naming import table_identifier
from restsource_dagster.config.problems import Finding, Problem

__all__ = ["without_namesakes"]


def without_namesakes(files: Iterable[LoadedFile]) -> Iterator[LoadedFile]:
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
