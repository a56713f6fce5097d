"""dlt's paginators, with replacements for those that lose rows or fail without need.

dlt's offset moves by the page size that was requested, and so skips rows when the API caps the size.
A total that is missing, null, a text or too small ends dlt's paging early or with an error. dlt
requests an empty link.
"""

from typing import Any

from dlt.sources.helpers.rest_client.paginators import (
    BasePaginator,
    JSONLinkPaginator,
    OffsetPaginator,
    PageNumberPaginator,
    RangePaginator,
)
from requests import Response

from restsource_dagster.engine.dlt_compat import PaginatorFactory, jsonpath
from restsource_dagster.engine.paging.totals import whole_number

__all__ = [
    "ReceivedOffsetPaginator",
    "TolerantLinkPaginator",
    "TolerantOffsetPaginator",
    "TolerantPageNumberPaginator",
    "TolerantRangePaginator",
    "detect_paginator",
]


class TolerantRangePaginator(RangePaginator):
    """A range that ignores a total that can't be right, if the file has another end of the paging.

    The largest total of all pages counts, so that a total that shrinks while pages are read cuts
    nothing off. It counts only until more has arrived than it says.
    """

    newest_total: int | None = None
    """The total that a page stated last: rows or pages, as the paginator counts."""
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

    def _is_reached(self) -> bool:
        if self.largest_total is None:
            return False
        end = self.largest_total + self.base_index
        if not self._ends_without_total:
            return bool(self.current_value >= end)
        # past a total that was too small paging goes on until the other end is found
        return bool(self.current_value == end or self._is_just_past(end))

    def _is_just_past(self, end: int) -> bool:
        """True if the last page was shorter than requested and so moved past the total."""
        return bool(self.current_value > end > self.current_value - self.value_step)

    def _read_total(self, response: Response) -> int | None:
        if self.total_path is None:
            return None
        found = jsonpath.find_values(self.total_path, response.json())
        total = whole_number(found[0]) if found else None
        if total is None and not self._ends_without_total:
            raise ValueError(
                f"`total_path` {self.total_path} gives {found[0]!r}, no whole number"
                if found
                else f"`total_path` {self.total_path} finds nothing"
            )
        return total

    @property
    def _ends_without_total(self) -> bool:
        return bool(
            self.stop_after_empty_page or self.has_more_path or self.maximum_value is not None
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
    """An offset for selectors that filter: the records selected don't show the size of the page."""


class TolerantPageNumberPaginator(TolerantRangePaginator, PageNumberPaginator):
    """A page number that needs no total if something else ends the paging."""


class TolerantLinkPaginator(JSONLinkPaginator):
    """A link in the body. An empty text and `false` end the paging, as null does."""

    def update_state(self, response: Response, data: list[Any] | None = None) -> None:
        """Read the next link. Raises `ValueError` if it is no text."""
        super().update_state(response, data)
        # dlt takes everything but null for a link, and requests it
        link: Any = self._next_reference
        if link is None or link is False or link == "":
            self._next_reference = None
        elif not isinstance(link, str):
            raise ValueError(f"`next_url_path` {self.next_url_path} gives {link}, no URL")


def detect_paginator(response: Response) -> BasePaginator:
    """Return the paginator that dlt detects in the first response, as one of ours.

    Raises `ValueError` if it detects none.
    """
    found, _ = PaginatorFactory().create_paginator(response)
    if isinstance(found, JSONLinkPaginator):
        return TolerantLinkPaginator(found.next_url_path)
    if isinstance(found, PageNumberPaginator):
        return TolerantPageNumberPaginator(total_path=found.total_path)
    if found is None:  # never with dlt's own factory, which ends with the single page
        raise ValueError("no paginator fits the answer")
    return found
