"""dlt's paginators, with some replaced where they lose rows or stumble.

An offset that moves by the page size asked for skips rows when the API caps the size; a total that
is missing, null, a text or too small ends the paging early or in an error; an empty link is asked
for.
"""

from collections.abc import Mapping
from typing import Any

from dlt.sources.helpers.rest_client.paginators import (
    BasePaginator,
    JSONLinkPaginator,
    OffsetPaginator,
    PageNumberPaginator,
    RangePaginator,
)
from requests import Response

from restsource_dagster.engine.dlt_compat import PaginatorFactory, create_paginator, jsonpath
from restsource_dagster.engine.paging.totals import whole_number

__all__ = [
    "ReceivedOffsetPaginator",
    "TolerantLinkPaginator",
    "TolerantOffsetPaginator",
    "TolerantPageNumberPaginator",
    "TolerantRangePaginator",
    "detect_paginator",
    "make_paginator",
]


class TolerantRangePaginator(RangePaginator):
    """A range that treats a total it can't believe as none, if something else tells the end.

    The largest total of all pages counts, so that one which shrinks cuts nothing off, and only as
    long as no more has arrived than it says.
    """

    promised: int | None = None
    """The total that the newest page to name one named, in the paginator's own unit."""
    largest_total: int | None = None
    """The largest that any page named."""

    def update_state(self, response: Response, data: list[Any] | None = None) -> None:
        """Read the total here, and leave the rest to dlt."""
        total = self._read_total(response)
        if total is not None:
            self.promised = total
            self.largest_total = max(total, self.largest_total or 0)
        stated, self.total_path = self.total_path, None
        try:
            super().update_state(response, data)
        finally:
            self.total_path = stated
        if self._is_reached():
            self._has_next_page = False

    @property
    def may_be_past_the_end(self) -> bool:
        """Whether the next page is asked for although the newest total says it is not there."""
        return self.promised is not None and self.current_value >= self.promised + self.base_index

    def _is_reached(self) -> bool:
        if self.largest_total is None:
            return False
        end = self.largest_total + self.base_index
        if not self._ends_without_total:
            return bool(self.current_value >= end)
        return bool(self.current_value == end or self._is_just_past(end))

    def _is_just_past(self, end: int) -> bool:
        """Past a total by a page that was asked for as full and came short: it was the last."""
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
    """An offset that moves by the rows that arrived, not by those that were asked for."""

    @property
    def promised_rows(self) -> int | None:
        """The rows from the first offset on that the API says there are; None if cut by us."""
        if self.promised is None or self.maximum_value is not None:
            return None
        return max(0, self.promised - self.initial_value)

    def update_state(self, response: Response, data: list[Any] | None = None) -> None:
        """Step by the size of the page."""
        self.value_step = len(data) if data else self.limit
        super().update_state(response, data)

    def _is_just_past(self, end: int) -> bool:  # noqa: ARG002 - every row has been counted
        return False


class TolerantOffsetPaginator(TolerantRangePaginator, OffsetPaginator):
    """An offset for selectors that filter, where rows that arrive say nothing of the page's size."""


class TolerantPageNumberPaginator(TolerantRangePaginator, PageNumberPaginator):
    """A page number that does without a total where it can."""


class TolerantLinkPaginator(JSONLinkPaginator):
    """A link in the body, where an empty text or `false` is the end as null is."""

    def update_state(self, response: Response, data: list[Any] | None = None) -> None:
        """Raises `ValueError` for a link that is no text."""
        super().update_state(response, data)
        link: Any = self._next_reference
        if link is None or link is False or link == "":
            self._next_reference = None
        elif not isinstance(link, str):
            raise ValueError(f"`next_url_path` {self.next_url_path} gives {link}, no URL")


def make_paginator(config: Any, *, counts_rows: bool) -> BasePaginator | None:
    """The paginator of a configuration; None means that it is detected.

    `counts_rows` tells that the selected records are all records of a page. Raises `ValueError` as
    dlt does.
    """
    offset = ReceivedOffsetPaginator if counts_rows else TolerantOffsetPaginator
    ours: Mapping[str, type[BasePaginator]] = {
        "json_link": TolerantLinkPaginator,
        "offset": offset,
        "page_number": TolerantPageNumberPaginator,
    }
    if isinstance(config, BasePaginator):  # dlt's own choice for a path that ends in an id
        return config
    kind = config if isinstance(config, str) else str((config or {}).get("type"))
    if kind not in ours:
        return create_paginator(config)
    arguments = {} if isinstance(config, str) else dict(config)
    arguments.pop("type", None)
    return ours[kind](**arguments)


def detect_paginator(response: Response) -> BasePaginator:
    """The paginator that dlt's detection finds in the first answer, as one of ours."""
    found, _ = PaginatorFactory().create_paginator(response)
    if isinstance(found, JSONLinkPaginator):
        return TolerantLinkPaginator(found.next_url_path)
    if isinstance(found, PageNumberPaginator):
        return TolerantPageNumberPaginator(total_path=found.total_path)
    if found is None:  # the factory's last resort is the single page
        raise ValueError("no paginator fits the answer")
    return found
