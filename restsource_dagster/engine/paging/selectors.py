"""The records of an answer: what a selector finds, and what it means if it finds nothing."""

from typing import Any

from dlt.common import jsonpath
from jsonpath_ng import Child, Fields, Index, JSONPath, Root, Slice
from jsonpath_ng import jsonpath as language
from jsonpath_ng.ext.filter import Filter

from restsource_dagster.engine.paging.detection import detect_selector
from restsource_dagster.engine.paging.signs import (
    looks_like_an_error,
    says_failure,
    says_nothing_there,
)

__all__ = ["NoRecordsError", "RecordReader", "counts_rows"]


_Wildcard: type[JSONPath] = getattr(language, "Wildcard", Slice)
"""What `[*]` is read as; a slice without bounds in older versions of jsonpath-ng."""


class NoRecordsError(ValueError):
    """The answer does not have what the selector names."""


class RecordReader:
    """Takes the records out of the pages of one call, in order.

    Without a selector the first page that is not empty tells where they are. `is_given` tells that
    the file has the selector: it is dlt that takes `$` for a path that ends in an id. `compiled` is
    the selector, if it was compiled before, which takes longer than a small page. Raises
    `NoRecordsError` or `NotDetectedError`, both `ValueError`s, for an answer that is not what it
    should be.
    """

    def __init__(
        self, selector: str | None, *, is_given: bool = True, compiled: JSONPath | None = None
    ) -> None:
        self._given = selector if is_given else None
        self._selector = compiled or (jsonpath.compile_path(selector) if selector else None)
        self._pages_are_lists: bool | None = None

    def records(self, body: Any) -> list[Any]:
        """The records of a page. As dlt does: a null is an empty page, an object is one record."""
        if self._selector is None:
            self._selector = detect_selector(body)
            if self._selector is None:
                return []
        if self._given is None:
            self._check_shape(body)
        found = jsonpath.find_values(self._selector, body)
        if not found:
            return self._nothing(body)
        records = found[0] if len(found) == 1 else found
        if isinstance(records, list) and records:
            return records
        if records in (None, [], {}):
            if says_failure(body):
                raise NoRecordsError("the answer has no rows and says that something failed")
            return []
        if not isinstance(records, dict) and _is_plain(self._selector):
            raise NoRecordsError(f"{self._name} leads to {_kind(records)}, not to rows")
        return [records]

    def _check_shape(self, body: Any) -> None:
        """A whole answer is a page: it stays a list, or an object that is no error message."""
        if not isinstance(self._selector, Root) or says_nothing_there(body):
            return
        is_list = isinstance(body, list)
        self._pages_are_lists = is_list if self._pages_are_lists is None else self._pages_are_lists
        if is_list != self._pages_are_lists:
            raise NoRecordsError("the answer is no list, as the pages before it were")
        if isinstance(body, dict) and looks_like_an_error(body):
            raise NoRecordsError(
                'the answer looks like an error message; if it is a row, set data_selector to "$"'
            )

    def _nothing(self, body: Any) -> list[Any]:
        if self._selector is not None and _leads_to_nothing(self._selector, body):
            return []
        if says_nothing_there(body):
            return []
        raise NoRecordsError(f"{self._name} finds nothing")

    @property
    def _name(self) -> str:
        if self._given:
            return f"data_selector {self._given!r}"
        return f"the place of the first page's rows ({self._selector})"


def counts_rows(selector: str | None) -> bool:
    """Whether a selector gives every record of a page once: a plain path, or `[*]` at its end."""
    if selector is None:
        return True
    path = jsonpath.compile_path(selector)
    if isinstance(path, Child) and _takes_all(path.right):
        path = path.left
    return _is_plain(path)


def _takes_all(step: JSONPath) -> bool:
    if isinstance(step, Slice):
        return step.start is None and step.end is None and step.step is None
    return isinstance(step, _Wildcard)


def _is_plain(path: JSONPath) -> bool:
    while isinstance(path, Child):
        if not _is_one_field(path.right):
            return False
        path = path.left
    return isinstance(path, Root) or _is_one_field(path)


def _is_one_field(path: JSONPath) -> bool:
    return isinstance(path, Fields) and len(path.fields) == 1 and path.fields[0] != "*"


def _leads_to_nothing(selector: JSONPath, body: Any) -> bool:
    """Whether a selector is right and nothing is there for it.

    `data[*].item` and `data[0]` find nothing if `data` is empty, a filter if no record passes it.
    """
    while isinstance(selector, Child):
        if isinstance(selector.right, Slice | Index | Filter | _Wildcard):
            found = jsonpath.find_values(selector.left, body)
            if any(value in (None, [], {}) for value in found):
                return True
            if isinstance(selector.right, Filter) and any(isinstance(v, list) for v in found):
                return True
        selector = selector.left
    return False


def _kind(value: Any) -> str:
    return "a text" if isinstance(value, str) else repr(value)
