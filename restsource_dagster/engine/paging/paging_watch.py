"""Detect, over all calls of a resource, a misspelt place of the next page, and pages that shift.

A link or cursor that is null or empty ends the paging. A missing one may be misspelt, and ending there
would load the first page only. So if no response has it, the rest of the response is searched for signs
of a next page.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
from dlt.sources.helpers.rest_client.paginators import RangePaginator, SinglePagePaginator

from restsource_dagster.engine.dlt_compat import jsonpath
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.paging.page_iterator import Page, PageIterator
from restsource_dagster.engine.paging.response_checks import (
    normalized_field_name,
    split_names,
)
from restsource_dagster.engine.paging.safe_paginators import TolerantReferencePaginator
from restsource_dagster.engine.paging.totals import CallTotals, whole_number

__all__ = [
    "PagingWatch",
    "describe_full_page",
    "describe_more_pages",
    "next_references",
    "page_counts",
    "signs_of_next_page",
]

_SINGLE_PAGE_ADVICE = 'if it has no more pages, set "paginator": "single_page"'


class PagingWatch:
    """Distinguishes a misspelt place of the next page from the end of the paging.

    Many APIs omit the link or cursor on the last page. So once a response had it, in another call of
    the resource or in an earlier run, its absence is the end. One watch serves all calls of a
    resource in a load. With `is_strict`, a full page or a larger total makes its absence an error;
    without it, only a next page that the response names at another place does.
    """

    def __init__(self, notify: Callable[[str], None], *, is_strict: bool = True) -> None:
        self.notify = notify
        self.doubt: str | None = None
        """Why the rows of the calls may not be all there are; None if nothing points to it."""
        self._is_strict = is_strict
        self._found: str | None = None
        self._told: str | None = None
        self._absent: str | None = None
        self._warning: str | None = None
        self._error: IngestError | None = None
        # calls below parents may end in several threads, each of which takes its own
        self._ended = threading.local()
        self._signs = ""
        self._is_recalled = False
        self._moved: tuple[int, int] | None = None
        """The first page that began with the last rows of the page before it, and how many; None for none."""

    def recall(self, state: Mapping[str, Any]) -> None:
        """Read what `store` wrote in an earlier run. Only the first call counts."""
        if self._is_recalled:
            return
        self._is_recalled = True
        self._found, self._told = state.get("found"), state.get("told")

    def store(self, state: MutableMapping[str, Any]) -> None:
        """Write what the next run needs; nothing if there is nothing new."""
        known = {"found": self._found, "told": self._absent or self._told}
        state.update({name: place for name, place in known.items() if place})

    def take_shift(self) -> str | None:
        """Return a sentence if the thread's last call may have skipped rows, and forget it; else None."""
        shift: str | None = getattr(self._ended, "shift", None)
        self._ended.shift = None
        return shift

    def observe_boundary(self, tail: Sequence[Any], rows: Sequence[Any], page: int) -> None:
        """Take into account the last `BOUNDARY_ROWS` of a page and the rows of the next one.

        Equal rows show that rows were added ahead while the pages were read, which moves others to
        later pages. Deleted rows show nowhere but in a total.
        """
        if self._moved is None and (count := _repeated_rows(tail, rows)):
            self._moved = page, count

    def observe_end(
        self, pages: PageIterator, page: Page, totals: CallTotals, total: int | None
    ) -> None:
        """Take the end of a call into account: its last page, and its total if it is known.

        Raises `ResponseError` if no paginator was detected and the response names a next page.
        """
        paginator, rows = pages.paginator, totals.rows
        if isinstance(paginator, RangePaginator) or _names_position(page.response):
            self._ended.shift = totals.describe_fall()
        if isinstance(paginator, TolerantReferencePaginator):
            if paginator.was_found:
                self._found = paginator.reference
            elif page.listed and not pages.is_ended_by_rule:
                self._observe_absence(pages, page, paginator, rows, total)
        elif isinstance(paginator, SinglePagePaginator) and page.listed:
            self._observe_single_page(pages, page, total)

    def conclude(self) -> None:
        """Raise the error of the first call whose next page was not found, or warn about it.

        Call it after the last call. If a response had the place, its absence in others is the end of
        the paging, and only a next page that is named at another place is reported. Also reports
        that rows came twice because pages shifted.
        """
        if self._moved:
            page, count = self._moved
            self.notify(
                f"page {page} begins with the last {f'{count} rows' if count > 1 else 'row'} of page "
                f"{page - 1}: rows were added while the pages were read, and others came twice. With a "
                "primary_key they are stored once"
            )
        if self._absent is not None and self._absent == self._found:
            if self._signs:
                self.notify(self._signs)
            return
        if self._error is not None:
            raise self._error
        if self._warning is not None and self._absent != self._told:
            self.notify(self._warning)

    def _observe_absence(
        self,
        pages: PageIterator,
        page: Page,
        paginator: TolerantReferencePaginator,
        rows: int,
        total: int | None,
    ) -> None:
        self._absent = paginator.reference
        signs = signs_of_next_page(page.response, page.body, page.records)
        reason = describe_more_pages(signs, rows, total)
        full = describe_full_page(page.response, rows)
        if not paginator.may_be_absent:
            reason = reason or full
        if signs and not self._signs:
            self._signs = (
                f"{paginator.reference} is not in an answer, and {reason}; it was not read"
            )
        if reason and (signs or self._is_strict):
            self._error = self._error or pages.response_error(
                f"{paginator.reference} is not in the answer, and {reason}; {_SINGLE_PAGE_ADVICE}",
                page.response,
            )
        elif self._is_strict and paginator.may_be_absent and full:
            # the usual end, and by chance after a full page
            self._warning = self.doubt = f"{paginator.reference} was in no answer, and {full}"
        elif self._is_strict and not paginator.may_be_absent:
            self._warning = (
                f"{paginator.reference} was in no answer, so only the first page of each call was "
                f"read. It may be misspelt; {_SINGLE_PAGE_ADVICE}"
            )

    def _observe_single_page(self, pages: PageIterator, page: Page, total: int | None) -> None:
        signs = signs_of_next_page(page.response, page.body, page.records)
        named = f"the answer names a next page at {', '.join(signs[:3])}"
        if pages.is_detected and signs:
            raise pages.response_error(
                f"{named}, and no paginator could be detected for it; set `paginator`, or, "
                f"{_SINGLE_PAGE_ADVICE}",
                page.response,
            )
        if pages.is_detected and self._is_strict and total is not None and total > len(page.listed):
            raise pages.response_error(
                f"the answer has {len(page.listed)} rows and states a total of {total}, and no paginator "
                f"could be detected; set `paginator`, or, {_SINGLE_PAGE_ADVICE}",
                page.response,
            )
        size = _requested_page_size(page.response)
        if size is not None and len(page.listed) >= size:
            self.doubt = f"the only page is full ({size} rows were asked for)"
        elif signs:
            self.doubt = named
        if pages.is_detected and self._is_strict and size is not None and len(page.listed) >= size:
            self._absent = "full page"
            self._warning = (
                f"the page is full ({size} rows were asked for) and no paginator could be detected, "
                f"so only the first page was read; set `paginator`, or, {_SINGLE_PAGE_ADVICE}"
            )
        elif not pages.is_detected and signs:
            self._absent = "single_page"
            self._warning = f"{named}, and is not read on because `paginator` is `single_page`"


def _repeated_rows(tail: Sequence[Any], rows: Sequence[Any]) -> int:
    """Return with how many of the last rows of a page the next one begins."""
    first = rows[0]
    if not isinstance(first, dict):
        return 0
    # from the end, as few rows are added while a page is read
    for count in range(1, min(len(tail), len(rows)) + 1):
        if tail[-count] == first and list(tail[-count:]) == list(rows[:count]):
            return count
    return 0


# Names of fields and headers as APIs use them, normalized by `normalized_field_name`.
_NEXT_FIELDS = split_names(
    "next nextpage nextlink nexturl nexturi nexthref nextcursor nexttoken nextpagetoken nextpageurl "
    "nextpagelink nextpagecursor nextpageuri nextrecordsurl nextmarker nextoffset nextstart "
    "nextpagekey nextpageid nextbatch nextkey nextposition odatanextlink continuationtoken "
    "continuation"
)
_NEXT_HEADERS = _NEXT_FIELDS | {"msnextpage", "mscontinuation", "mscontinuationtoken"}
_MORE_FIELDS = split_names(
    "hasmore hasnext hasnextpage hasmoreitems hasmoreresults hasmorepages hasmorerecords hasmoredata "
    "more moreitems moreresults morepages morerecords moreavailable moreitemsincollection istruncated "
    "truncated"
)
_LAST_FIELDS = split_names("islast islastpage lastpage last endofstream")
_PAGE_COUNT_FIELDS = split_names(
    "totalpages totalpage pagetotal pagecount pagescount pages numpages numberofpages lastpage "
    "lastpagenumber"
)
_LINK_LISTS = frozenset({"links", "link"})
# what APIs send in place of a link or a cursor when there is none
_EMPTY_TEXTS = frozenset({"", "0", "-1", "null", "none", "false", "undefined", "nil"})
# deeper objects hold data rather than facts about the page
_SEARCHED_LEVELS = 4


def signs_of_next_page(response: requests.Response, body: Any, records: Sequence[Any]) -> list[str]:
    """Return the places at which a response says that more pages follow, the clearest first.

    Signs are links, cursors and flags such as `has_more`, in headers and outside the records. If the
    response also says that it is the last page, there are none. Pass the first response of a call:
    then a number of pages above 1 is a sign, too.
    """
    fields = list(_fields_beside(body, records))
    if any(_says_last(name, value) for name, _, value in fields):
        return []
    signs = [path for name, path, value in fields if _is_next(name, value)]
    signs += [path for name, path, value in fields if name in _MORE_FIELDS and value is True]
    signs += [path for name, path, value in fields if name in _LAST_FIELDS and value is False]
    signs += [
        f"{path} ({value})"
        for name, path, value in fields
        if name in _PAGE_COUNT_FIELDS and (whole_number(value) or 0) > 1
    ]
    return [f"`{sign}`" for sign in signs] + list(_signs_in_headers(response))


def next_references(body: Any, records: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the links and cursors of a next page that a body has beside its records: path and value.

    The path is that of the text or number itself, as a JSON path.
    """
    for name, path, value in _fields_beside(body, records):
        if not _is_next(name, value):
            continue
        if path.endswith("[rel=next]"):
            yield _path_in_list(path.removesuffix("[rel=next]"), body, value), value
        elif isinstance(value, Mapping):
            for key, item in value.items():
                if isinstance(item, str) and _is_reference(item):
                    yield f"{path}.{key}", item
        else:
            yield path, value


def _path_in_list(path: str, body: Any, link: Any) -> str:
    """Return the JSON path of the next link in a list of links."""
    spellings = [
        f'{path}[?(@.{relation}=="next")].{field}'
        for relation in ("rel", "relation")
        for field in ("href", "url")
    ]
    return next((one for one in spellings if link in jsonpath.find_values(one, body)), path)


def page_counts(body: Any, records: Sequence[Any]) -> Iterator[tuple[str, int]]:
    """Yield the numbers of pages that a body states beside its records: path and number."""
    for name, path, value in _fields_beside(body, records):
        if name in _PAGE_COUNT_FIELDS and (count := whole_number(value)) is not None:
            yield path, count


def _says_last(name: str, value: Any) -> bool:
    return (name in _MORE_FIELDS and value is False) or (name in _LAST_FIELDS and value is True)


def _is_next(name: str, value: Any) -> bool:
    if name not in _NEXT_FIELDS:
        return False
    if isinstance(value, Mapping):  # {"next": {"href": "..."}}
        return any(isinstance(item, str) and _is_reference(item) for item in value.values())
    return _is_reference(value)


def _is_reference(value: Any) -> bool:
    """True if a value may be a link, a cursor or a page number."""
    if isinstance(value, str):
        return value.strip().lower() not in _EMPTY_TEXTS
    # not a bool, which is an int to isinstance
    return type(value) is int and value > 0


def _fields_beside(
    body: Any, records: Sequence[Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[str, str, Any]]:
    """Yield the fields outside the records: normalized name, path, value."""
    # an object that is the record itself says nothing about paging
    if not isinstance(body, Mapping) or any(body is record for record in records[:1]):
        return
    for key, value in body.items():
        here = (*path, str(key))
        name = normalized_field_name(str(key))
        yield name, ".".join(here), value
        if isinstance(value, Mapping) and len(path) < _SEARCHED_LEVELS - 1:
            # the values of an object may be the records, as those of `data.*` are
            if not any(value is record for record in records[:1]):
                yield from _fields_beside(value, records, here)
        elif name in _LINK_LISTS and isinstance(value, list) and value is not records:
            yield from _links_in_list(value, ".".join(here))


def _links_in_list(links: Sequence[Any], path: str) -> Iterator[tuple[str, str, Any]]:
    """Yield the next link of a list such as `[{"rel": "next", "href": "..."}]`."""
    for link in links:
        if isinstance(link, Mapping) and "next" in (link.get("rel"), link.get("relation")):
            yield "next", f"{path}[rel=next]", link.get("href") or link.get("url")


def _signs_in_headers(response: requests.Response) -> Iterator[str]:
    for key, value in response.headers.items():
        name = normalized_field_name(key).removeprefix("x")
        if name in _NEXT_HEADERS and _is_reference(value):
            yield f"the header {key}"
        if name in _MORE_FIELDS and value.strip().lower() == "true":
            yield f"the header {key}"
    for relation, link in response.links.items():
        if relation == "next" and link.get("url"):
            yield f'the header Link with rel="{relation}"'


_PAGE_SIZE_PARAMS = split_names(
    "limit pagesize perpage size count top maxresults maxrecords maxitems pagelimit itemsperpage "
    "resultsperpage recordsperpage hitsperpage rowsperpage batchsize first take rows results "
    "numresults"
)


def _requested_page_size(response: requests.Response) -> int | None:
    """Return the largest page that a request asks for, by a parameter of a usual name; else None.

    It is in the query, or in the JSON body. 1 is left out: it asks for one record, not for a page.
    """
    sent = parse_qsl(urlsplit(str(response.request.url)).query)
    sizes = [
        whole_number(value)
        for name, value in [*sent, *_json_fields(response.request.body)]
        if normalized_field_name(name) in _PAGE_SIZE_PARAMS
    ]
    return max((size for size in sizes if size and size > 1), default=None)


_POSITION_PARAMS = split_names("page pagenumber pagenum pageno offset skip start startat from")


def _names_position(response: requests.Response) -> bool:
    """True if a page was asked for by its place among the rows, which shift when one is deleted.

    False for a cursor: it names a row, or only the API knows what it means.
    """
    sent = parse_qsl(urlsplit(str(response.request.url)).query)
    return any(
        normalized_field_name(name) in _POSITION_PARAMS and value.isdecimal()
        for name, value in sent
    )


def _json_fields(body: Any) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a request's body and those one level below, as of GraphQL's variables."""
    try:
        fields = json.loads(body) if body else None
    except (TypeError, ValueError):  # a form
        return
    if isinstance(fields, dict):
        yield from fields.items()
        for value in fields.values():
            if isinstance(value, dict):
                yield from value.items()


def describe_more_pages(signs: Sequence[str], rows: int, total: int | None) -> str | None:
    """Return why a next page must exist although the response lacks its link or cursor; else None.

    `total` is the number of all rows that were asked for, if the answer states it.
    """
    if signs:
        return f"the answer names a next page at {', '.join(signs[:3])}"
    if total is not None and total > rows:
        return f"the answer has {rows} rows and states a total of {total}"
    return None


def describe_full_page(response: requests.Response, rows: int) -> str | None:
    """Return that a page has as many rows as were asked for, if it has; else None."""
    size = _requested_page_size(response)
    if size is None or rows < size:
        return None
    return (
        f"the page is full ({rows} rows were asked for). If there are no more by chance, ask for "
        "another number"
    )
