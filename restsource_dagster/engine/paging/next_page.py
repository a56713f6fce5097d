"""Find out whether a response has a next page: at the place that the file names, and elsewhere.

A link or cursor that is null or empty ends the paging. A missing one may be misspelt, and ending there
would load the first page only. So if no response has it, the rest of the response is searched for signs
of a next page.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
from jsonpath_ng import Child, Fields, JSONPath, Root

from restsource_dagster.engine.dlt_compat import jsonpath
from restsource_dagster.engine.paging.response_checks import (
    normalized_field_name,
    split_names,
)
from restsource_dagster.engine.paging.totals import whole_number

__all__ = [
    "describe_absent_path",
    "is_in_body",
    "names_position",
    "requested_page_size",
    "signs_of_next_page",
    "spelled_path",
]


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


def is_in_body(path: JSONPath, body: Any) -> bool:
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
_PAGE_COUNT_FIELDS = split_names("totalpages pagecount pagescount numpages numberofpages")
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
        if str(relation).lower() == "next" and link.get("url"):
            yield f'the header Link with rel="{relation}"'


_PAGE_SIZE_PARAMS = split_names(
    "limit pagesize perpage size count top maxresults maxrecords maxitems pagelimit itemsperpage "
    "resultsperpage recordsperpage hitsperpage rowsperpage batchsize first take rows results "
    "numresults"
)


def requested_page_size(response: requests.Response) -> int | None:
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


def names_position(response: requests.Response) -> bool:
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


def describe_absent_path(
    response: requests.Response,
    signs: Sequence[str],
    rows: int,
    total: int | None,
) -> str | None:
    """Return why a next page must exist although the response lacks its link or cursor; else None.

    `total` is the number of all rows that were asked for, if the answer states it.
    """
    if signs:
        return f"the answer names a next page at {', '.join(signs[:3])}"
    if total is not None and total > rows:
        return f"the answer has {rows} rows and states a total of {total}"
    size = requested_page_size(response)
    if size is not None and rows >= size:
        return (
            f"the page is full ({rows} rows were asked for). If there are no more by chance, ask for "
            "another number"
        )
    return None
