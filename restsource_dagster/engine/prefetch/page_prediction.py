"""Predict which pages of a call will be requested, and their requests.

Only pages by number and by offset can be predicted: any other paging waits for each response. A total
says how many pages there are. Without one, full pages make it likely that more follow, and the more
likely the more of them there were.
"""

from collections.abc import Iterator
from copy import copy

import requests
from dlt.sources.helpers.rest_client.paginators import OffsetPaginator, RangePaginator

from restsource_dagster.engine.paging.page_iterator import Page, PageIterator, copy_request
from restsource_dagster.engine.paging.totals import whole_number

__all__ = ["PagePrediction", "predicted_requests"]


class PagePrediction:
    """Predicts the last page of a call that may be requested, and observes each page for it.

    At most `max_guesses` requests are for pages that may not exist; none is with `only_by_total`.
    """

    def __init__(self, max_guesses: int, *, only_by_total: bool = False) -> None:
        self._max_guesses = max_guesses
        self._only_by_total = only_by_total
        self._full_pages = 0
        self._previous_rows: int | None = None
        self._most_rows = 0
        self._received = 0
        self._has_stopped = False
        self.last_page = 1
        """The last page that may be requested."""

    def observe(self, pages: PageIterator, page: Page) -> None:
        """Take a page that was read into account; `pages` is about to request the next one."""
        rows = len(page.listed)
        self._count_full_pages(rows, pages)
        self._most_rows = max(self._most_rows, rows)
        self._received += rows
        upcoming = pages.page_number
        guesses = 0
        if not self._only_by_total and self._full_pages:
            # 1, 2, 4, ...: most calls have few pages, and each wrong guess is a request
            guesses = min(2 ** min(self._full_pages - 1, 16), self._max_guesses - 1)
        last_by_total, is_certain = self._last_page_by_total(pages)
        self.last_page = max(upcoming, last_by_total, 0 if is_certain else upcoming + guesses)
        if self._has_stopped:
            self.last_page = upcoming
        if (most := pages.rules.max_rows) is not None:
            left = max(0, most - pages.rows) // max(1, self._most_rows)
            self.last_page = min(self.last_page, upcoming - 1 + left)

    def stop(self) -> None:
        """Predict no more pages: a prediction was wrong."""
        self._has_stopped = True

    def _count_full_pages(self, rows: int, pages: PageIterator) -> None:
        # full: as many rows as the request asked for, or as the page before had
        is_full = rows > 0 and (rows == self._previous_rows or rows in _sent_numbers(pages))
        self._full_pages = self._full_pages + 1 if is_full else 0
        self._previous_rows = rows

    def _last_page_by_total(self, pages: PageIterator) -> tuple[int, bool]:
        """Return the last page by the stated total, 0 without one, and True if no page follows it."""
        paginator = pages.paginator
        total = getattr(paginator, "newest_total", None)
        if not isinstance(paginator, RangePaginator) or total is None:
            return 0, False
        is_certain = True
        # the file says of a total in a header what it counts
        is_unclear = not isinstance(paginator, OffsetPaginator) and not _names_header(paginator)
        if is_unclear and total >= self._received > 0:
            # A total of pages, or of rows if no more rows than that have arrived. Either way there are
            # at least as many pages as so many rows fill.
            total, is_certain = -(-total // self._most_rows), False
        left = total + paginator.base_index - paginator.current_value
        if left <= 0:
            return 0, is_certain
        return pages.page_number - 1 + -(-left // max(1, paginator.value_step)), is_certain


def _names_header(paginator: RangePaginator) -> bool:
    return getattr(paginator, "total_header", None) is not None


def _sent_numbers(pages: PageIterator) -> set[int]:
    """Return the whole numbers that a request sends, except the page number or offset.

    One of them is likely to be the page size.
    """
    paginator, request = pages.paginator, pages.request
    counters = {getattr(paginator, name, None) for name in ("param_name", "param_body_path")}
    values = [getattr(paginator, "limit", None)]
    for sent in (request.params, request.json):
        if isinstance(sent, dict):
            values += [value for name, value in sent.items() if name not in counters]
    return {number for value in values if (number := whole_number(value)) is not None}


def predicted_requests(pages: PageIterator) -> Iterator[requests.Request]:
    """Yield the requests after the next one, if every page steps as far as the last one did.

    Endless, unless the paginator has a maximum. Empty for a paginator that waits for each response.
    """
    paginator = pages.paginator
    # a cursor or a link is known only from the response before it
    if not isinstance(paginator, RangePaginator) or paginator.value_step <= 0:
        return iter(())
    return _step_requests(copy(paginator), copy_request(pages.request))


def _step_requests(
    paginator: RangePaginator, request: requests.Request
) -> Iterator[requests.Request]:
    maximum = paginator.maximum_value
    while True:
        paginator.current_value += paginator.value_step
        if maximum is not None and paginator.current_value >= maximum:
            return
        request = copy_request(request)
        paginator.update_request(request)
        yield request
