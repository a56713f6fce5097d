"""Where the records are in an answer, if the file does not say: dlt's detection, made careful.

dlt takes the first list with a usual name, else the first list there is, so that a single object
loses everything but one of its lists, and the list of an error message becomes rows.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from dlt.sources.helpers.rest_client.detector import (
    NON_RECORD_KEY_PATTERNS,
    RECORD_KEY_PATTERNS,
    find_all_lists,
    find_response_page_data,
)
from jsonpath_ng import Child, Fields, JSONPath, Root

from restsource_dagster.engine.paging.signs import is_about_an_error, looks_like_an_error

__all__ = ["NotDetectedError", "detect_selector"]

Path = tuple[str, ...]

_IDS = frozenset({"id", "_id", "uuid", "guid"})
_PAGING = frozenset({"next", "previous", "prev", "cursor", "links", "meta", "pagination", "paging"})


class NotDetectedError(ValueError):
    """The answer is no list of records, and not clearly an object that has one."""


def detect_selector(body: Any) -> JSONPath | None:
    """Where the records are; None if the answer is empty, so that a later one may tell.

    As dlt does for a list and for an object with a list under a usual name (`data`, `items`, ...).
    Any other list counts if no other could be meant and the object has no id: one that has is a
    record itself. An object without a list is one record. Raises `NotDetectedError` for anything
    else.
    """
    if body is None or body == {}:
        return None
    if isinstance(body, list):
        return Root()
    if not isinstance(body, dict):
        raise NotDetectedError(f"the answer is neither an object nor a list but {_kind(body)}")
    if looks_like_an_error(body):
        raise NotDetectedError(
            'the answer looks like an error message; if it is a row, set data_selector to "$"'
        )
    lists: list[tuple[Path, list[Any]]] = find_all_lists(body, result=[])
    usual, _ = find_response_page_data(body)
    if lists and usual[-1] in RECORD_KEY_PATTERNS and not any(map(is_about_an_error, usual)):
        return _selector(usual)
    return _selector(_only_list(body, lists) if lists else _null_list(body))


def _only_list(body: Mapping[str, Any], lists: list[tuple[Path, list[Any]]]) -> Path:
    candidates = [path for path, items in lists if _may_hold_records(path, items)]
    if len(candidates) == 1 and not any(_IDS & keys for keys in _levels(body, candidates[0])):
        return candidates[0]
    named = ", ".join(".".join(path) for path, _ in lists)
    raise NotDetectedError(
        f"it is not clear which list holds the rows (there is {named}); say it with data_selector, "
        'or set data_selector to "$" if the whole object is one row'
    )


def _may_hold_records(path: Path, items: list[Any]) -> bool:
    if path[-1].lower() in NON_RECORD_KEY_PATTERNS or any(map(is_about_an_error, path)):
        return False
    return not items or any(isinstance(item, dict) for item in items)


def _levels(body: Mapping[str, Any], path: Path) -> Iterator[set[str]]:
    """The keys of each object on the way to a list, in lower case."""
    level: Any = body
    for name in path:
        yield {str(key).lower() for key in level}
        level = level[name]


def _null_list(body: Mapping[str, Any]) -> Path:
    """A usual name that holds null, where all else is about paging: an empty list of some servers."""
    empty = [key for key, value in body.items() if value is None and key in RECORD_KEY_PATTERNS]
    if len(empty) == 1 and all(
        key == empty[0] or isinstance(value, bool | int | float) or key.lower() in _PAGING
        for key, value in body.items()
    ):
        return (empty[0],)
    return ()


def _selector(path: Path) -> JSONPath:
    """Fields are quoted by construction, not by text: a key may hold any character."""
    selector: JSONPath = Root()
    for name in path:
        selector = Child(selector, Fields(name))
    return selector


def _kind(body: Any) -> str:
    return "a text" if isinstance(body, str) else f"{body!r}"
