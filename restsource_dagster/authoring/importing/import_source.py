"""Import a source of any kind: find its kind, read it, choose resources, and make a file that `check` passes."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from restsource_dagster.authoring.importing.connector_draft import (
    ConnectorDraft,
    file_text,
    repair,
    select_resources,
    without_parent_cursors,
)
from restsource_dagster.authoring.importing.source_files import SourceError, SourceFile, parse_data
from restsource_dagster.authoring.importing.source_pieces import Fate
from restsource_dagster.connector.validation.diagnostics import Finding

__all__ = ["IMPORT_KINDS", "ImportKind", "ImportResult", "find_kind", "import_source"]

ImportKind = Literal["curl", "openapi", "postman", "har", "airbyte", "dlt"]
IMPORT_KINDS: tuple[ImportKind, ...] = get_args(ImportKind)

Reader = Callable[[Sequence[SourceFile], str | None], ConnectorDraft]
_READERS: dict[str, tuple[str, str]] = {
    "curl": ("curl_commands", "read_curl"),
    "openapi": ("openapi_document", "read_openapi"),
    "postman": ("postman_collection", "read_postman"),
    "har": ("har_archive", "read_har"),
    "airbyte": ("airbyte_manifest", "read_airbyte"),
    "dlt": ("dlt_code", "read_dlt"),
}
"""The module and the function of each kind. Only that of the kind in question is imported."""


@dataclass(frozen=True)
class ImportResult:
    """A connector file, what became of the source, and what `check` says of the file.

    `errors` are empty unless the file can't be made valid.
    """

    kind: ImportKind
    draft: ConnectorDraft
    findings: tuple[Finding, ...]

    @property
    def text(self) -> str:
        """The file as text."""
        return file_text(self.draft.value)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What keeps the file from being valid."""
        return tuple(each for each in self.findings if each.severity == "error")

    @property
    def fates(self) -> tuple[Fate, ...]:
        """What became of each piece of the source."""
        return self.draft.ledger.fates

    def as_dict(self, path: Path, missing: Sequence[str]) -> dict[str, object]:
        """Return the file at `path`, what became of the source and the variables without a value as JSON values."""
        fates = [fate.as_dict() for fate in self.fates]
        return {
            "path": str(path),
            "kind": self.kind,
            "name": self.draft.name,
            "file": self.draft.value,
            "missing": list(missing),
            "problems": [finding.at(path, 1, 1).as_dict() for finding in self.findings],
            **{
                state: [fate for fate in fates if fate["state"] == state]
                for state in ("mapped", "guessed", "suggested", "not_mapped")
            },
        }


def import_source(
    files: Sequence[SourceFile],
    kind: ImportKind | None = None,
    *,
    name: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> ImportResult:
    """Return the connector of a source: its first file, and others that it refers to.

    `name` is the connector's; without one the source's own. `include` and `exclude` are patterns of names of
    resources. Raises `SourceError` if nothing can be made of the source.
    """
    chosen = kind or find_kind(files[0])
    module, function = _READERS[chosen]
    read: Reader = getattr(
        importlib.import_module(f"restsource_dagster.authoring.importing.{module}"), function
    )
    draft = read(files, name)
    if include or exclude:
        draft = select_resources(draft, include, exclude)
        if not draft.value["resources"]:
            raise SourceError("--include and --exclude leave no resource")
    return ImportResult(chosen, *repair(without_parent_cursors(draft)))


def find_kind(file: SourceFile) -> ImportKind:
    """Return what kind of source a file is. Raises `SourceError` if it is none that is known."""
    from restsource_dagster.authoring.importing.curl_commands import is_curl
    from restsource_dagster.authoring.importing.dlt_code import is_dlt_code

    if is_curl(file.text):
        return "curl"
    # a document may name such a call, too, but in a text of JSON or YAML
    if is_dlt_code(file.text) and not file.text.lstrip().startswith(("{", "[")):
        return "dlt"
    try:
        value = parse_data(file)
    except SourceError:
        value = None
    kind = _kind_of_value(value) if isinstance(value, dict) else None
    if kind is None:
        raise SourceError(
            f"{file.name}: neither of {', '.join(IMPORT_KINDS)}; name the kind before the file"
        )
    return kind


def _kind_of_value(value: dict[str, Any]) -> ImportKind | None:
    if "openapi" in value or "swagger" in value:
        return "openapi"
    if isinstance(value.get("streams"), list) and ("check" in value or "definitions" in value):
        return "airbyte"
    if isinstance(value.get("item"), list) and "info" in value:
        return "postman"
    if isinstance(value.get("log"), dict) and "entries" in value["log"]:
        return "har"
    return None
