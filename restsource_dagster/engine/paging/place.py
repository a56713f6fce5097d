"""The place of a call in its paging: where a later call goes on, as a JSON value for dlt's state."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests
from dlt.sources.helpers.rest_client.paginators import (
    BasePaginator,
    BaseReferencePaginator,
    HeaderLinkPaginator,
    JSONLinkPaginator,
    JSONResponseCursorPaginator,
    PageNumberPaginator,
    RangePaginator,
)

from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.paging.safe_paginators import (
    TolerantCursorPaginator,
    TolerantHeaderLinkPaginator,
    TolerantLinkPaginator,
    TolerantPageNumberPaginator,
    TolerantRangePaginator,
    TolerantReferencePaginator,
)
from restsource_dagster.engine.paging.totals import CallTotals, CarriedTotals

__all__ = ["CallProgress", "Place", "describe_place", "go_to_place", "read_place"]

Place = Mapping[str, Any]
"""What the next request needs: `{"next": ...}` a link or cursor, or `{"value": ...}` an offset or
page number. With `detected` and `at` the paginator that the first response decided on."""

# by the name that the state has: the names never change
_DETECTED: Mapping[str, tuple[type[BasePaginator], type[BasePaginator], str]] = {
    "json_link": (JSONLinkPaginator, TolerantLinkPaginator, "next_url_path"),
    "cursor": (JSONResponseCursorPaginator, TolerantCursorPaginator, "cursor_path"),
    "header_link": (HeaderLinkPaginator, TolerantHeaderLinkPaginator, "links_next_key"),
    "page_number": (PageNumberPaginator, TolerantPageNumberPaginator, "total_path"),
}
_MAX_DESCRIBED_CHARS = 100


@dataclass
class CallProgress:
    """How far a call has come. The page loop updates it before it yields a page."""

    place: Place | None = None
    """Where the call starts; None for its first page."""
    read_place: Callable[[], Place | None] = field(default=lambda: None)
    """Returns the place of the next page; None if there is none, or if it can't be stored."""
    pages: int = 0
    """How many pages were read, those of earlier parts included."""
    rows_before: int = 0
    """The rows of the current page ahead of the ones that were yielded last."""
    is_within_page: bool = False
    """True if more rows of the current page follow: it is on the disk, and is read in batches."""
    is_whole: bool = False
    """True if no part of the load may end within the call: its rows replace others all at once."""
    has_ended: bool = False
    """True if the last page was read."""
    is_capped: bool = False
    """True if it is the last page because the API returns no more rows to one query."""
    goes_on: bool = False
    """True if the next part of the load goes on at the next page, so that prefetched pages are kept."""
    token: Any = None
    """The last token that an answer had; None without one."""
    has_token_place: bool = False
    """True if an answer had the place of the token, null or not."""
    carried: CarriedTotals = field(default_factory=CarriedTotals)
    """What earlier parts know of the totals that the API states."""
    totals: CallTotals | None = None
    """What is known of them by now; None before the first page."""


def read_place(
    paginator: BasePaginator | None, *, is_detected: bool, redactor: Redactor
) -> Place | None:
    """Return the place of a paginator whose request is at the next page; None if it can't be stored.

    That is a place with a secret in it, such as a link that repeats the API key.
    """
    place: dict[str, Any]
    # pages by number and by offset: the value alone says where the next request begins
    if isinstance(paginator, RangePaginator):
        place = {"value": paginator.current_value}
        if isinstance(paginator, TolerantRangePaginator) and paginator.largest_total is not None:
            place |= {"total": paginator.newest_total, "largest": paginator.largest_total}
    elif isinstance(paginator, BaseReferencePaginator):
        place = {"next": paginator._next_reference}
    else:
        return None
    # the file names no paginator, so the next run could not tell what the value is one of
    if is_detected:
        found = next(
            (
                {"detected": name, "at": str(getattr(paginator, attribute) or "")}
                for name, (kind, _, attribute) in _DETECTED.items()
                if isinstance(paginator, kind)
            ),
            None,
        )
        if found is None:
            return None
        place |= found
    try:
        text = json.dumps(place)
    except TypeError:  # a cursor that is no JSON value
        return None
    return place if redactor(text) == text else None


def go_to_place(
    paginator: BasePaginator | None, place: Place, request: requests.Request
) -> BasePaginator:
    """Set a paginator, and its first request, to a place that `read_place` returned.

    Pass None if the file names no paginator; the one that was detected is made again.
    """
    if paginator is None:
        _, make, attribute = _DETECTED[place["detected"]]
        paginator = make(**{attribute: place["at"] or None})
    # first: it prepares the request for the first page, which the place then replaces
    paginator.init_request(request)
    if isinstance(paginator, RangePaginator):
        paginator.current_value = place["value"]
        if isinstance(paginator, TolerantRangePaginator):
            paginator.newest_total = place.get("total")
            paginator.largest_total = place.get("largest")
    elif isinstance(paginator, BaseReferencePaginator):
        paginator._next_reference = place["next"]
    if isinstance(paginator, TolerantReferencePaginator):
        # the response before had it, so its absence is the end
        paginator.was_found = True
    paginator.update_request(request)
    return paginator


def describe_place(place: Place | None) -> str:
    """Return a place in words, shortened: `offset or page 1200`, `link https://...`."""
    if place is None:
        return "the end of the pages"
    if "value" in place:
        return f"position {place['value']}"
    text = str(place["next"])
    shown = text if len(text) <= _MAX_DESCRIBED_CHARS else f"{text[:_MAX_DESCRIBED_CHARS]}..."
    return f"link {shown}" if "://" in text else f"cursor {shown}"
