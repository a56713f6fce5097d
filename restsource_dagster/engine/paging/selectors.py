"""Where the records are in an answer: the file's selector, or dlt's detection."""

from typing import Any

from dlt.common import jsonpath
from dlt.sources.helpers.rest_client.detector import find_response_page_data
from jsonpath_ng import Child, Fields, JSONPath, Root, Slice

__all__ = ["counts_rows", "detect_selector", "leads_to_an_empty_list", "select"]


def select(selector: JSONPath, body: Any) -> list[Any] | None:
    """The records that a selector finds, as a list; None if it finds nothing at all.

    As dlt does: one match that is a list is the list of records, a null is an empty page, and any
    other single match is one record.
    """
    found = jsonpath.find_values(selector, body)
    if not found:
        return None
    records = found[0] if len(found) == 1 else found
    if records is None:
        return []
    return records if isinstance(records, list) else [records]


def detect_selector(body: Any) -> JSONPath:
    """Where dlt's detection finds the records; fields are quoted by construction, not by text."""
    path, _ = find_response_page_data(body)
    selector: JSONPath = Root()
    for name in path:
        selector = selector if name == "$" else Child(selector, Fields(name))
    return selector


def counts_rows(selector: str | None) -> bool:
    """Whether a selector gives every record of a page once: a plain path, or `[*]` at its end."""
    if selector is None:
        return True
    path = jsonpath.compile_path(selector)
    if isinstance(path, Child) and isinstance(path.right, Slice):
        path = path.left
    while isinstance(path, Child):
        if not isinstance(path.right, Fields):
            return False
        path = path.left
    return isinstance(path, Fields | Root)


def leads_to_an_empty_list(selector: JSONPath, body: Any) -> bool:
    """Whether a selector such as `data[*].item` finds nothing because `data` is empty."""
    while isinstance(selector, Child):
        if isinstance(selector.right, Slice):
            found = jsonpath.find_values(selector.left, body)
            return any(value == [] or value is None for value in found)
        selector = selector.left
    return False
