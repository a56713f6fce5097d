"""dlt's paginators, with replacements for those that lose rows or fail without need.

dlt's offset moves by the page size that was requested, and so skips rows when the API caps the size.
A total that is missing, null, a text or too small ends dlt's paging early or with an error. dlt
requests an empty link, and takes one that is not in the response for the end.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dlt.sources.helpers.rest_client.paginators import (
    BasePaginator,
    HeaderCursorPaginator,
    HeaderLinkPaginator,
    JSONLinkPaginator,
    JSONResponseCursorPaginator,
    OffsetPaginator,
    PageNumberPaginator,
    RangePaginator,
)
from jsonpath_ng import Child, Fields, JSONPath, Root
from jsonpath_ng.exceptions import JSONPathError
from requests import Response

from restsource_dagster.engine.dlt_compat import PaginatorFactory, jsonpath
from restsource_dagster.engine.paging.totals import whole_number

__all__ = [
    "HeaderUrlPaginator",
    "ReceivedOffsetPaginator",
    "TolerantCursorPaginator",
    "TolerantHeaderCursorPaginator",
    "TolerantHeaderLinkPaginator",
    "TolerantLinkPaginator",
    "TolerantOffsetPaginator",
    "TolerantPageNumberPaginator",
    "TolerantRangePaginator",
    "detect_paginator",
    "spelled_path",
]


class TolerantRangePaginator(RangePaginator):
    """A range paginator that ignores an impossible total if the file ends the paging in another way.

    The largest total of all pages counts, so that a total that shrinks while pages are read cuts
    nothing off. Once more has arrived than the total states, the total is ignored.
    """

    newest_total: int | None = None
    """The total that a page stated last: rows or pages, as the paginator counts."""
    total_header: str | None = None
    """The header with the total; None: it is at `total_path`."""
    ends_by_rule: bool = False
    """True if `PagingRules` end the paging, too."""
    largest_total: int | None = None
    """The largest total that a page stated."""

    def update_state(self, response: Response, data: list[Any] | None = None) -> None:
        """Move to the next page. Raises `ValueError` without a total if nothing else ends the paging."""
        total = self._read_total(response)
        if total is not None:
            self.newest_total = total
            self.largest_total = max(total, self.largest_total or 0)
        # dlt would read the total, too, and fail on one that is no number
        total_path, self.total_path = self.total_path, None
        try:
            super().update_state(response, data)
        finally:
            self.total_path = total_path
        if self._is_reached():
            self._has_next_page = False

    @property
    def may_be_past_the_end(self) -> bool:
        """True if the newest total says that the next page does not exist."""
        return (
            self.newest_total is not None
            and self.current_value >= self.newest_total + self.base_index
        )

    @property
    def is_cut_off(self) -> bool:
        """True if `maximum_offset` or `maximum_page` has ended the paging, and not its total."""
        is_at_maximum = self.maximum_value is not None and self.current_value >= self.maximum_value
        return bool(is_at_maximum) and not self._is_reached()

    def _is_reached(self) -> bool:
        if self.largest_total is None:
            return False
        end = self.largest_total + self.base_index
        if not self._ends_without_total:
            return bool(self.current_value >= end)
        # past a total that was too small, paging continues to the other end that the file gives
        return bool(self.current_value == end or self._is_just_past(end))

    def _is_just_past(self, end: int) -> bool:
        """True if the last page was shorter than requested and so moved past the total."""
        return bool(self.current_value > end > self.current_value - self.value_step)

    def _read_total(self, response: Response) -> int | None:
        if self.total_header is not None:
            return self._read_total_header(response)
        if self.total_path is None:
            return None
        body = response.json()
        found = jsonpath.find_values(spelled_path(self.total_path, body), body)
        total = whole_number(found[0]) if found else None
        if total is None and not self._ends_without_total:
            raise ValueError(
                f"`total_path` {self.total_path} gives {found[0]!r}, no whole number"
                if found
                else f"`total_path` {self.total_path} finds nothing"
            )
        return total

    def _read_total_header(self, response: Response) -> int | None:
        given = response.headers.get(self.total_header or "")
        total = whole_number(given)
        if total is None and not self._ends_without_total:
            raise ValueError(f"`total_header` {self.total_header} gives {given!r}, no whole number")
        return total

    @property
    def _ends_without_total(self) -> bool:
        return bool(
            self.ends_by_rule
            or self.stop_after_empty_page
            or self.has_more_path
            or self.maximum_value is not None
        )


class ReceivedOffsetPaginator(TolerantRangePaginator, OffsetPaginator):
    """An offset that moves by the number of rows that arrived, not by the page size requested."""

    @property
    def total_rows(self) -> int | None:
        """The stated number of rows from the first offset on; None if `maximum_offset` cuts it."""
        if self.newest_total is None or self.maximum_value is not None:
            return None
        return max(0, self.newest_total - self.initial_value)

    def update_state(self, response: Response, data: list[Any] | None = None) -> None:
        """Move by the number of rows on the page."""
        self.value_step = len(data) if data else self.limit
        super().update_state(response, data)

    def _is_just_past(self, end: int) -> bool:  # noqa: ARG002 - every row has been counted
        return False


class TolerantOffsetPaginator(TolerantRangePaginator, OffsetPaginator):
    """An offset for selectors such as `days[*].orders`, which do not show how many items the API counts."""


class TolerantPageNumberPaginator(TolerantRangePaginator, PageNumberPaginator):
    """A page number that needs no total if something else ends the paging."""


class TolerantReferencePaginator(BasePaginator):
    """A paginator that reads a link or a cursor at a place of the response."""

    reference: str
    """The field of the file and the place that it names, for messages."""
    was_found: bool = False
    """True if a response of the call had the place, be it null."""
    may_be_absent: bool = False
    """True if the absence of the place is the usual end of the paging."""


class TolerantLinkPaginator(JSONLinkPaginator, TolerantReferencePaginator):
    """A link in the body. An empty text and `false` end the paging, as null does."""

    def __init__(self, next_url_path: str | JSONPath = "next") -> None:
        super().__init__(next_url_path)
        self.reference = f"next_url_path {str(next_url_path)!r}"

    def update_state(self, response: Response, data: list[Any] | None = None) -> None:
        """Read the next link. Raises `ValueError` if it is no text."""
        self.next_url_path = _path_in(self, self.next_url_path, response)
        super().update_state(response, data)
        # dlt takes everything but null for a link, and requests it
        link: Any = self._next_reference
        if link is None or link is False or link == "":
            self._next_reference = None
        elif not isinstance(link, str):
            raise ValueError(f"`next_url_path` {self.next_url_path} gives {link}, no URL")


# as dlt reads a flag that is a text
_TRUE_TEXTS = frozenset({"yes", "true", "t", "y", "1"})


class TolerantCursorPaginator(JSONResponseCursorPaginator, TolerantReferencePaginator):
    """A cursor in the body. One that is missing though more pages follow is an error."""

    def __init__(self, cursor_path: str | JSONPath = "cursors.next", **given: Any) -> None:
        super().__init__(cursor_path, **given)
        self.reference = f"cursor_path {str(cursor_path)!r}"

    def update_state(self, response: Response, data: list[Any] | None = None) -> None:
        """Read the next cursor.

        Raises `ValueError` if there is none and `has_more_path` says that more pages follow.
        """
        self.cursor_path = _path_in(self, self.cursor_path, response)
        if self.has_more_path:
            self.has_more_path = spelled_path(self.has_more_path, response.json())
        super().update_state(response, data)
        if self._next_reference is None and self._says_more(response, data):
            raise ValueError(
                f"`has_more_path` says that more pages follow, and {self.reference} has no cursor"
            )

    def _says_more(self, response: Response, data: list[Any] | None) -> bool:
        if not self.has_more_path or (self.stop_after_empty_page and not data):
            return False
        # dlt has refused what is neither a boolean nor the text of one
        said = jsonpath.find_values(self.has_more_path, response.json())[0]
        return said is True or str(said).lower() in _TRUE_TEXTS


class TolerantHeaderLinkPaginator(HeaderLinkPaginator, TolerantReferencePaginator):
    """A link in the header `Link`. An empty URL ends the paging."""

    def __init__(self, links_next_key: str = "next") -> None:
        super().__init__(links_next_key.lower())  # as `ApiResponse.links` has the relations
        self.reference = f"links_next_key {links_next_key!r}"
        # https://www.rfc-editor.org/rfc/rfc8288: the last page has no link of that relation
        self.may_be_absent = self.links_next_key == "next"

    def update_state(self, response: Response, data: list[Any] | None = None) -> None:
        """Read the next link."""
        super().update_state(response, data)
        self.was_found = self.was_found or self.links_next_key in response.links
        self._next_reference = self._next_reference or None


class HeaderUrlPaginator(HeaderLinkPaginator, TolerantReferencePaginator):
    """A URL in a header of any name. An empty one ends the paging."""

    def __init__(self, next_url_header: str) -> None:
        super().__init__()
        self.next_url_header = next_url_header
        self.reference = f"next_url_header {next_url_header!r}"

    def update_state(self, response: Response, data: list[Any] | None = None) -> None:  # noqa: ARG002
        """Read the next URL."""
        self.was_found = self.was_found or self.next_url_header in response.headers
        self._next_reference = response.headers.get(self.next_url_header, "").strip() or None


class TolerantHeaderCursorPaginator(HeaderCursorPaginator, TolerantReferencePaginator):
    """A cursor in a header. An empty one ends the paging."""

    def __init__(self, cursor_key: str = "next", cursor_param: str = "cursor") -> None:
        super().__init__(cursor_key, cursor_param)
        self.reference = f"cursor_key {cursor_key!r}"

    def update_state(self, response: Response, data: list[Any] | None = None) -> None:
        """Read the next cursor."""
        super().update_state(response, data)
        self.was_found = self.was_found or self.cursor_key in response.headers
        self._next_reference = self._next_reference or None


def _path_in(paginator: TolerantReferencePaginator, path: JSONPath, response: Response) -> JSONPath:
    """Return the path as the body spells it, and note if it is there."""
    body = response.json()
    spelled = spelled_path(path, body)
    paginator.was_found = paginator.was_found or _is_in_body(spelled, body)
    return spelled


_ODATA_NEXT_LINKS = ("@odata.nextLink", "odata.nextLink", "@nextLink")


def detect_paginator(response: Response, body: Any) -> BasePaginator:
    """Return the paginator that dlt detects in the first response and its body, as one of ours.

    The next link of OData is detected, too. Raises `ValueError` if nothing is detected.
    """
    link = next((name for name in _ODATA_NEXT_LINKS if isinstance(body, dict) and name in body), "")
    if link:
        return TolerantLinkPaginator(Child(Root(), Fields(link)))
    try:
        found, _ = PaginatorFactory().create_paginator(response)
    except JSONPathError as error:  # dlt doesn't quote keys such as `next page`
        raise ValueError(f"a next page is named at a place that is no JSON path: {error}") from None
    if isinstance(found, JSONLinkPaginator):
        return TolerantLinkPaginator(found.next_url_path)
    if isinstance(found, JSONResponseCursorPaginator):
        return TolerantCursorPaginator(found.cursor_path)
    if isinstance(found, HeaderLinkPaginator):
        return TolerantHeaderLinkPaginator(found.links_next_key)
    if isinstance(found, PageNumberPaginator):
        return TolerantPageNumberPaginator(total_path=found.total_path)
    if found is None:  # never with dlt's own factory, which ends with the single page
        raise ValueError("no paginator fits the answer")
    return found


def spelled_path(path: JSONPath, body: Any) -> JSONPath:
    """Return the path with dots in its keys, if the body spells the keys so; else the path itself.

    `@odata.nextLink` is the key of that spelling, which a JSON path takes for two keys.
    """
    names = _names_of(path)
    if names is None or len(names) == 1 or jsonpath.find_values(path, body):
        return path
    found = next(_spellings(names, body), None)
    if found is None:
        return path
    spelled: JSONPath = Root()
    for name in found:
        spelled = Child(spelled, Fields(name))
    return spelled


def _is_in_body(path: JSONPath, body: Any) -> bool:
    """True if a body has a value at a path, null included, or null or `{}` on the way there."""
    if jsonpath.find_values(path, body):
        return True
    level = body
    for name in _names_of(path) or ():
        if level is None or level == {}:
            return level is not body
        level = level.get(name) if isinstance(level, Mapping) and name in level else ""
    return False


def _names_of(path: JSONPath) -> list[str] | None:
    """Return the keys of a plain path; None for any other path."""
    names: list[str] = []
    while isinstance(path, Child):
        if not isinstance(path.right, Fields) or len(path.right.fields) != 1:
            return None
        names.insert(0, path.right.fields[0])
        path = path.left
    if isinstance(path, Fields) and len(path.fields) == 1:
        return [path.fields[0], *names]
    return names if isinstance(path, Root) else None


def _spellings(names: Sequence[str], body: Any) -> Iterator[list[str]]:
    """Yield the ways to join neighbouring names by dots so that they are keys of the body."""
    if not names:
        yield []
    elif isinstance(body, Mapping):
        for count in range(1, len(names) + 1):
            key = ".".join(names[:count])
            if key in body:
                yield from ([key, *rest] for rest in _spellings(names[count:], body[key]))
