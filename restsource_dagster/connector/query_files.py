"""GraphQL queries that stand in files of their own, beside the connector file or the template.

The text of a file takes the place of `query_file` before a connector file is checked, so nothing
else has to know where a query stands.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from restsource_dagster.connector.parsing.document import read_content
from restsource_dagster.connector.validation.diagnostics import (
    FieldPath,
    Finding,
    Problem,
    describe_value,
    json_pointer,
    nearest_name,
)

__all__ = ["QUERY_SUFFIXES", "FolderOf", "with_query_files"]

QUERY_SUFFIXES = (".graphql", ".gql")
"""How the names of files with queries end."""

FolderOf = Callable[[str], Path]
"""Returns the folder of the file in which the value at a JSON pointer is written."""

_PARTS_WITH_QUERIES = ("job", "status", "download", "delete")
# in place of a query that can't be read, so that its absence is no second finding
_STANDS_FOR = "{ __typename }"


def with_query_files(value: Any, folder_of: FolderOf) -> tuple[Any, list[Finding]]:
    """Return a connector file's value with the texts of its query files, and what is wrong with them.

    The value itself is not changed. A field of a wrong type is left to the checks of the models.
    """
    if not any(_query_blocks(value)):
        return value, []
    filled, findings = deepcopy(value), []
    for at, block in _query_blocks(filled):
        # the name stays in a block with a `query`, too: the finding is about both
        text = _query_of(block, at, folder_of)
        if isinstance(text, Finding):
            # dlt doesn't get the block
            findings.append(replace(text, code="deliberate:graphql"))
            text = block.get("query", _STANDS_FOR)
        block.pop("query_file", None)
        block["query"] = text
    return filled, findings


def _query_blocks(value: Any) -> Iterator[tuple[FieldPath, dict[str, Any]]]:
    """Yield the `graphql` blocks that name a file, or have no query at all, with their places."""
    resources = value.get("resources") if isinstance(value, dict) else None
    for index, resource in enumerate(resources if isinstance(resources, list) else ()):
        endpoint = resource.get("endpoint") if isinstance(resource, dict) else None
        if isinstance(endpoint, dict):
            yield from _blocks_in(endpoint, ("resources", index, "endpoint"))


def _blocks_in(
    part: Mapping[str, Any], at: FieldPath
) -> Iterator[tuple[FieldPath, dict[str, Any]]]:
    block = part.get("graphql")
    if isinstance(block, dict) and _needs_file(block):
        yield (*at, "graphql"), block
    for name in _PARTS_WITH_QUERIES:
        if isinstance(part.get(name), dict):
            yield from _blocks_in(part[name], (*at, name))


def _needs_file(block: Mapping[str, Any]) -> bool:
    name = block.get("query_file")
    return isinstance(name, str) or ("query" not in block and name is None)


def _query_of(block: Mapping[str, Any], at: FieldPath, folder_of: FolderOf) -> str | Finding:
    name = block.get("query_file")
    if name is None:
        fix = 'Write "query" with its text, or "query_file" with the name of a file beside this one'
        return Finding(json_pointer(at), "The query is missing", fix=fix)
    place = json_pointer((*at, "query_file"))
    if "query" in block:
        message = "`query` and `query_file` both give the query"
        return Finding(place, message, fix="Leave one of them out", on_key=True)
    # a name without a folder can't lead out of the folder
    if not name.endswith(QUERY_SUFFIXES) or name != Path(name).name or "\\" in name:
        return Finding(
            place,
            "A query is in a file beside the one that names it",
            describe_value(name),
            f"a file's name that ends with {' or '.join(QUERY_SUFFIXES)}, without a folder",
        )
    return _read_query(folder_of(place) / name, place)


def _read_query(path: Path, place: str) -> str | Finding:
    content = read_content(path)
    if isinstance(content, Problem):
        close = nearest_name(path.name, _query_names(path.parent))
        fix = f'Write "{close}"' if close else f"Make the file {path.name} beside this one"
        found = content.found or describe_value(path.name)
        return Finding(place, "The file with the query can't be read", found, fix=fix)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Finding(place, f"{path.name} is not UTF-8", fix="Save it as UTF-8")
    return text if text.strip() else Finding(place, f"{path.name} is empty", fix="Write the query")


def _query_names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if path.suffix in QUERY_SUFFIXES)
    except OSError:
        return []
