"""Connectors of one folder that would share a name or a dataset: the first works, others are refused."""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from restsource_dagster.config.envelope import NAME
from restsource_dagster.config.loaded import LoadedFile
from restsource_dagster.config.naming import table_identifier
from restsource_dagster.config.problems import Finding, Problem
from restsource_dagster.connector.parsing.document import Document

__all__ = ["mention_of", "without_namesakes"]

_ADDED = re.compile(r"(?:_staging|[x_])+$")
"""What a name can have at its end beyond that of a namesake: dlt writes an `x` for a last underscore."""
_WHOLE = rb"(?<![a-z0-9_])%b(?:_*staging|[x_])*(?![a-z0-9_])"
_ESCAPE = rb"\\[uUx\r\n]"
"""An escape of JSON or YAML that can stand in the middle of a name."""


def mention_of(names: Collection[str]) -> re.Pattern[bytes]:
    """Return the pattern of a file's text or stem that can hold one of these names or a namesake of it.

    It finds too much rather than too little. A name that no connector can have is left out.
    """
    possible = sorted(name for name in names if re.fullmatch(NAME, name))
    words = dict.fromkeys(re.sub("_+", "_+", _ADDED.sub("", name)) for name in possible)
    return re.compile(b"|".join([_ESCAPE, *(_WHOLE % word.encode() for word in words)]))


def without_namesakes(
    files: Iterable[tuple[LoadedFile, Document | None]],
) -> Iterator[LoadedFile]:
    """Refuse a connector whose name or dataset an earlier file of the same folder has.

    Each file comes with its document, which gives the place of its name.
    """
    taken: dict[tuple[Path, str], LoadedFile] = {}
    for file, document in files:
        if file.connector is None:
            yield file
            continue
        keys = [(file.path.parent, dataset) for dataset in _datasets(file.connector.name)]
        first = next((taken[key] for key in keys if key in taken), None)
        if first is None:
            taken.update(dict.fromkeys(keys, file))
            yield file
        else:
            problem = _namesake(file, document, first)
            yield replace(file, connector=None, problems=(*file.problems, problem))


def _datasets(name: str) -> tuple[str, str]:
    """The dataset that dlt loads a connector into, and the one in which it prepares the rows."""
    dataset = table_identifier(name)
    return dataset, f"{dataset}_staging"


def _namesake(file: LoadedFile, document: Document | None, first: LoadedFile) -> Problem:
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
    return document.located(finding) if document else finding.at(file.path, 1, 1)
