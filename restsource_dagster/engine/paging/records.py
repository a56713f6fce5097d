"""Take the records out of a response: parse the body, find the records, refuse a body without any.

Without a `data_selector` the place of the records is detected as dlt does, but more carefully. dlt
takes the first list with a usual name, else the first list of any name. So it loads one list of an
object that is a single record, and the details of an error message as rows.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import requests
from jsonpath_ng import Child, Fields, Index, JSONPath, Root, Slice
from jsonpath_ng import jsonpath as language
from jsonpath_ng.ext.filter import Filter

from restsource_dagster.connector.models.body_format import BodyFormat
from restsource_dagster.connector.models.response_action import ActionName
from restsource_dagster.engine.dlt_compat import (
    NON_RECORD_KEY_PATTERNS,
    RECORD_KEY_PATTERNS,
    find_all_lists,
    find_response_page_data,
    jsonpath,
)
from restsource_dagster.engine.http.json_body import (
    ApiResponse,
    UnverifiedRecords,
    expected_key_count,
)
from restsource_dagster.engine.paging.response_checks import (
    ID_KEYS,
    describe_failure,
    failure_beside_records,
    failure_field,
    is_error_field,
    looks_like_an_error,
    reports_no_records,
)

__all__ = [
    "NoRecordsError",
    "NotDetectedError",
    "RecordReader",
    "Selection",
    "UnusableBodyError",
    "check_status",
    "detect_selector",
    "extract_records",
    "knows_page_size",
    "parse_body",
    "selects_every_record",
]

_EMPTY_BODY_ADVICE = (
    'if that means that there are no rows, say so: "response_actions": '
    '[{"status_code": %d, "action": "ignore"}]'
)


_WHY_NOT = {
    "retry": ", and trying again did not help",
    "skip": ", but rows of the resource came before it",
    "end": ", but no page came before it",
}
"""Why an answer is an error although the file's action says otherwise."""


class UnusableBodyError(ValueError):
    """The response is an error, is empty, or has no JSON."""


def check_status(response: requests.Response, action: ActionName | None) -> None:
    """Raise `UnusableBodyError` for a response that is an error by its status or by `action`.

    `action` is what the file's `response_actions` say about the response.
    """
    if action is not None:
        raise UnusableBodyError(
            f"response_actions: {action} this answer ({response.reason}){_WHY_NOT.get(action, '')}"
        )
    if response.status_code >= requests.codes.bad_request:
        raise UnusableBodyError(f"the API refused ({response.reason})")
    # requests has followed every redirect that names a place
    if response.status_code >= requests.codes.multiple_choices:
        raise UnusableBodyError(
            f"the API leads elsewhere ({response.reason}) and does not say where"
        )


def parse_body(response: requests.Response, action: ActionName | None) -> Any:
    """Return the JSON of a response. Raises `UnusableBodyError` if it is an error or is empty.

    `action` is what the file's `response_actions` say about the response.
    """
    check_status(response, action)
    # an error, not an empty page: rows that did not arrive are not rows that do not exist
    if not response.content.strip():
        raise UnusableBodyError(f"the answer is empty; {_EMPTY_BODY_ADVICE % response.status_code}")
    try:
        return response.json()
    except requests.exceptions.JSONDecodeError as error:
        reason = f"the answer is not JSON ({error}){_format_advice(response)}"
    except UnicodeDecodeError as error:
        reason = (
            f"the answer is no text in {error.encoding} (byte {error.start}), which JSON is unless "
            "Content-Type names another charset"
        )
    except RecursionError:  # a thousand open brackets are enough
        reason = "the answer is nested too deeply to be read"
    raise UnusableBodyError(reason)


def _format_advice(response: requests.Response) -> str:
    """Return what to write for a body that is in another format by its type; "" for any other."""
    known = BodyFormat().format_of(response.headers.get("Content-Type", ""))
    if known in (None, "json"):
        return ""
    return f'. Its type says {known}: set "response": {{"format": "{known}"}} in the endpoint'


KeyPath = tuple[str, ...]
"""The keys that lead to a list in a body."""

# keys beside the records that are about the page
_PAGING_KEYS = frozenset(
    {"next", "previous", "prev", "cursor", "links", "meta", "pagination", "paging"}
)


class NotDetectedError(ValueError):
    """The place of the records is unclear: the body isn't a list or an object with one such list."""


def detect_selector(body: Any) -> JSONPath | None:
    """Return the place of the records; None if the body is empty, so that a later page decides.

    A list is detected as dlt does, and so is an object with a list under a usual name (`data`,
    `items`, ...). Another list counts if no second one could be meant and the object has no id: an
    object with an id is a record itself. An object without a list is one record. Raises
    `NotDetectedError` for anything else.
    """
    if body is None or body == {}:
        return None
    if isinstance(body, list):
        return Root()
    if not isinstance(body, dict):
        raise NotDetectedError(
            f"the answer is neither an object nor a list but {_describe_value(body)}"
        )
    if looks_like_an_error(body):
        raise NotDetectedError(
            'the answer looks like an error message; if it is a row, set data_selector to "$"'
        )
    # dlt chooses one of the lists; whether another one could be meant is judged here
    lists: list[tuple[KeyPath, list[Any]]] = find_all_lists(body, result=[])
    dlts_choice, _ = find_response_page_data(body)
    has_usual_name = bool(lists) and dlts_choice[-1] in RECORD_KEY_PATTERNS
    if has_usual_name and not any(map(is_error_field, dlts_choice)):
        return _selector_for(dlts_choice)
    return _selector_for(_only_list(body, lists) if lists else _null_list(body))


def _only_list(body: Mapping[str, Any], lists: list[tuple[KeyPath, list[Any]]]) -> KeyPath:
    candidates = [path for path, items in lists if _may_hold_records(path, items)]
    # an id on the way to the list: the object is a record with a list in it, as an order has lines
    if len(candidates) == 1 and not any(
        ID_KEYS & keys for keys in _keys_on_path(body, candidates[0])
    ):
        return candidates[0]
    names = ", ".join(".".join(path) for path, _ in lists)
    raise NotDetectedError(
        f"it is not clear which list holds the rows (there is {names}); say it with data_selector, "
        'or set data_selector to "$" if the whole object is one row'
    )


def _may_hold_records(path: KeyPath, items: list[Any]) -> bool:
    if path[-1].lower() in NON_RECORD_KEY_PATTERNS or any(map(is_error_field, path)):
        return False
    return not items or any(isinstance(item, dict) for item in items)


def _keys_on_path(body: Mapping[str, Any], path: KeyPath) -> Iterator[set[str]]:
    """Yield the keys of each object on the way to a list, in lower case."""
    level: Any = body
    for name in path:
        yield {str(key).lower() for key in level}
        level = level[name]


def _null_list(body: Mapping[str, Any]) -> KeyPath:
    """Return a usual name that holds null if all else is about paging; else the path of the body.

    Some servers write an empty list as null.
    """
    empty = [key for key, value in body.items() if value is None and key in RECORD_KEY_PATTERNS]
    if len(empty) == 1 and all(
        key == empty[0] or isinstance(value, bool | int | float) or key.lower() in _PAGING_KEYS
        for key, value in body.items()
    ):
        return (empty[0],)
    return ()


def _selector_for(path: KeyPath) -> JSONPath:
    # built, not written as a text and compiled: a key may hold any character
    selector: JSONPath = Root()
    for name in path:
        selector = Child(selector, Fields(name))
    return selector


# what `[*]` compiles to; older versions of jsonpath-ng have a slice without bounds for it
_Wildcard: type[JSONPath] = getattr(language, "Wildcard", Slice)


_SELECTING_STEPS = (Slice, Index, Filter, _Wildcard)


class NoRecordsError(ValueError):
    """The body does not have what the selector names."""


@dataclass(frozen=True)
class Selection:
    """The records of a page, and the items of the list that the selector takes them from.

    A filter in the selector may drop all records of a page that is full. Whether a page is empty, and
    how far an offset moves, is a matter of the listed items. Without a filter both are the same list.
    """

    records: list[Any]
    listed: list[Any]


class RecordReader:
    """Takes the records out of the pages of one call, in order.

    Without a selector the first page that is not empty decides where the records are. `is_from_file`
    is False for a selector that dlt chose: `$` for a path that ends in an id. `compiled` is the
    selector compiled before, since compiling takes longer than reading a small page. With
    `allows_errors` rows are read although the body says beside them that something failed.
    """

    def __init__(
        self,
        selector: str | None,
        *,
        is_from_file: bool = True,
        compiled: JSONPath | None = None,
        allows_errors: bool = False,
        allowed_error_paths: Collection[str] = (),
    ) -> None:
        self._allows_errors = allows_errors
        self._allowed_error_paths = allowed_error_paths
        self._file_selector = selector if is_from_file else None
        self._selector = compiled or (jsonpath.compile_path(selector) if selector else None)
        self._list_path = None if self._selector is None else _path_of_list(self._selector)
        self._pages_are_lists: bool | None = None

    def read(self, body: Any) -> Selection:
        """Return the records of a page. As in dlt, null is an empty page and an object one record.

        Raises `NoRecordsError` or `NotDetectedError`, both `ValueError`s, for a body that is not
        what the selector or the pages before it say.
        """
        records = self._records(body)
        found = [] if self._list_path is None else jsonpath.find_values(self._list_path, body)
        listed = found[0] if len(found) == 1 and isinstance(found[0], list | dict) else records
        if not (records and self._allows_errors):
            judged = self._without_allowed_errors(body)
            field = failure_beside_records(judged, listed if isinstance(listed, list) else records)
            if field is not None:
                raise _failure_error(field, describe_failure(judged, field), len(records))
        return Selection(records, list(listed.values()) if isinstance(listed, dict) else listed)

    def _without_allowed_errors(self, body: Any) -> Any:
        if not self._allowed_error_paths:
            return body
        from restsource_dagster.engine.http.graphql_answers import without_allowed_errors

        return without_allowed_errors(body, self._allowed_error_paths)

    def check_beside(self, body: Any, rows: int) -> None:
        """Raise `NoRecordsError` if the root of an XML file says beside `rows` records that it failed."""
        root = next(iter(body.values()), None) if isinstance(body, Mapping) else None
        if (rows and self._allows_errors) or (field := failure_beside_records(root, ())) is None:
            return
        raise _failure_error(field, describe_failure(root, field), rows)

    def _records(self, body: Any) -> list[Any]:
        if self._selector is None:
            self._selector = detect_selector(body)
            if self._selector is None:
                return []
        # a place that was detected on one page is a guess about the next
        if self._file_selector is None:
            self._check_shape(body)
        found = jsonpath.find_values(self._selector, body)
        if not found:
            return self._empty_page(body)
        # one match is the list of records; several, of `[*]` or a filter, are the records
        records = found[0] if len(found) == 1 else found
        if isinstance(records, list) and records:
            return records
        if records in (None, [], {}):
            return []
        if not isinstance(records, dict) and _is_plain_path(self._selector):
            raise NoRecordsError(f"{self._name} leads to {_describe_value(records)}, not to rows")
        return [records]

    def _check_shape(self, body: Any) -> None:
        """Raise `NoRecordsError` if the whole body is the page and changes its form.

        Once a list, it stays a list; an object must not be an error message.
        """
        if not isinstance(self._selector, Root) or reports_no_records(body):
            return
        is_list = isinstance(body, list)
        self._pages_are_lists = is_list if self._pages_are_lists is None else self._pages_are_lists
        if is_list != self._pages_are_lists:
            raise NoRecordsError("the answer is no list, as the pages before it were")
        if isinstance(body, dict) and looks_like_an_error(body):
            raise NoRecordsError(
                'the answer looks like an error message; if it is a row, set data_selector to "$"'
            )

    def _empty_page(self, body: Any) -> list[Any]:
        if self._selector is not None and _selects_from_nothing(self._selector, body):
            return []
        if reports_no_records(body):
            return []
        if field := failure_field(body):
            raise _failure_error(field, describe_failure(body, field), 0)
        raise NoRecordsError(f"{self._name} finds nothing")

    @property
    def _name(self) -> str:
        if self._file_selector:
            return f"data_selector {self._file_selector!r}"
        return f"the place of the first page's rows ({self._selector})"


def _failure_error(field: str, said: str, rows: int) -> NoRecordsError:
    """Return the error for a body that says beside its rows that something failed."""
    if not rows:
        # some APIs answer 200 to a failure and add an empty list
        return NoRecordsError(
            f"the answer has no rows and says in `{field}` that something failed{said}"
        )
    return NoRecordsError(
        f"the answer has {rows} rows and says in `{field}` that something failed{said}. If such "
        'rows are to be loaded, set "partial_errors": "load" in the endpoint'
    )


def selects_every_record(selector: str | None) -> bool:
    """True if a selector selects every record of a page once: a plain path, or one with `[*]` last."""
    if selector is None:
        return True
    path = jsonpath.compile_path(selector)
    if isinstance(path, Child) and _selects_all_items(path.right):
        path = path.left
    return _is_plain_path(path)


def knows_page_size(selector: str | None) -> bool:
    """True if the items that a selector takes the records from are the items that the API counts.

    That is a plain path, or one that ends in `[*]`, a filter or a slice. In `days[*].orders` it is not
    known whether the API counts days or orders.
    """
    if selector is None:
        return True
    path = jsonpath.compile_path(selector)
    if isinstance(path, Child) and isinstance(path.right, _SELECTING_STEPS):
        path = path.left
    return _is_plain_path(path)


def _path_of_list(selector: JSONPath) -> JSONPath | None:
    """Return the path of the list that the first `[*]`, filter or slice of a selector goes through.

    None for a selector without one.
    """
    found = None
    # from the right to the left: what is found last is the first step of the path
    while isinstance(selector, Child):
        found = selector.left if isinstance(selector.right, _SELECTING_STEPS) else found
        selector = selector.left
    return Root() if isinstance(selector, _SELECTING_STEPS) else found


def _selects_all_items(step: JSONPath) -> bool:
    if isinstance(step, Slice):
        return step.start is None and step.end is None and step.step is None
    return isinstance(step, _Wildcard)


def _is_plain_path(path: JSONPath) -> bool:
    while isinstance(path, Child):
        if not _is_one_field(path.right):
            return False
        path = path.left
    return isinstance(path, Root) or _is_one_field(path)


def _is_one_field(path: JSONPath) -> bool:
    return isinstance(path, Fields) and len(path.fields) == 1 and path.fields[0] != "*"


def _selects_from_nothing(selector: JSONPath, body: Any) -> bool:
    """True if a selector fits the body and there is nothing to select.

    `data[*].item` and `data[0]` find nothing if `data` is empty, a filter if no record passes it.
    """
    while isinstance(selector, Child):
        if isinstance(selector.right, _SELECTING_STEPS):
            found = jsonpath.find_values(selector.left, body)
            if any(value in (None, [], {}) for value in found):
                return True
            if isinstance(selector.right, Filter) and any(isinstance(v, list) for v in found):
                return True
        selector = selector.left
    return False


def _describe_value(value: Any) -> str:
    return "a text" if isinstance(value, str) else repr(value)


def extract_records(
    response: requests.Response, reader: RecordReader, body: Any
) -> tuple[Selection, Any]:
    """Return the records of a body and the body, parsed strictly if it can't be verified later.

    The rest of the body (a cursor, a total) is verified here. The records are verified later, by the
    code that reads all their values. Raises `ValueError` as the reader does.
    """
    selection = reader.read(body)
    # Python's own parser loses nothing
    if not isinstance(response, ApiResponse) or not response.is_unverified:
        return selection, body
    records = selection.records
    key_count = expected_key_count(records, body, response.content)
    # rare, and slow: what is beside the records may decide where the next page is
    if key_count is None:
        body = response.parse_strictly()
        return reader.read(body), body
    unverified = UnverifiedRecords.of(
        records,
        key_count,
        response.content,
        lambda: reader.read(response.parse_strictly()).records,
    )
    return Selection(
        unverified, unverified if selection.listed is records else selection.listed
    ), body
