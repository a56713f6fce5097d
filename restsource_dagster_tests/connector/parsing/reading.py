"""Read a document that a test writes."""

from pathlib import Path

from restsource_dagster.connector.parsing.document import Document, read_document
from restsource_dagster.connector.validation.diagnostics import Problem

__all__ = ["only", "problems", "read", "value"]


def read(tmp_path: Path, content: str | bytes, name: str = "x.json") -> Document | list[Problem]:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    document = read_document(path)
    return document if isinstance(document, Document) else list(document)


def problems(tmp_path: Path, content: str | bytes, name: str = "x.json") -> list[Problem]:
    document = read(tmp_path, content, name)
    return list(document.problems) if isinstance(document, Document) else document


def only(tmp_path: Path, content: str | bytes, name: str = "x.json") -> Problem:
    found = problems(tmp_path, content, name)
    assert len(found) == 1, [problem.as_text() for problem in found]
    return found[0]


def value(tmp_path: Path, content: str | bytes, name: str = "x.json") -> object:
    document = read(tmp_path, content, name)
    assert isinstance(document, Document)
    assert document.problems == ()
    return document.value
