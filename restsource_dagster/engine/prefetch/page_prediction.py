"""Which pages will be asked for, if each comes as full as those before it.

Only what has a number can be told in advance: pages by number and by offset. A total tells how many
there are; without one, full pages make it likely that more follow, the likelier the more there were.
"""

from collections.abc import Iterator
from copy import copy

import requests
from dlt.sources.helpers.rest_client.paginators import OffsetPaginator, RangePaginator

from restsource_dagster.engine.paging.page_iterator import Page, PageIterator
from restsource_dagster.engine.paging.totals import whole_number
from restsource_dagster.engine.prefetch.response_replay import copy_request

__all__ = ["PagePrediction", "predicted_requests"]


class PagePrediction:
    """What is known of the pages of one call after each of them.

    At most `most` requests are for pages that need not be there. With `by_total_only` none are.
    """

    def __init__(self, most: int, *, by_total_only: bool = False) -> None:
        self._most = most
        self._by_total_only = by_total_only
        self._full_pages = 0
        self._previous: int | None = None
        self._largest = 0
        self._received = 0
        self._ended = False
        self.last = 1
        """The last page that may be asked for."""

    def learn(self, course: PageIterator, page: Page) -> None:
        """Look at a page that was read; `course` stands at the next one, which is about to be asked
        for."""
        rows = len(page.records)
        self._count_full_pages(rows, course)
        self._largest = max(self._largest, rows)
        self._received += rows
        upcoming = course.number
        ramp = 0
        if not self._by_total_only and self._full_pages:
            ramp = min(2 ** min(self._full_pages - 1, 16), self._most - 1)
        total, is_sure = self._last_page_by_total(course)
        self.last = max(upcoming, total, 0 if is_sure else upcoming + ramp)
        if self._ended:
            self.last = upcoming

    def fail(self) -> None:
        """A guess was wrong: make none any more."""
        self._ended = True

    def _count_full_pages(self, rows: int, course: PageIterator) -> None:
        """A page is full if it has as many rows as were asked for, or as the page before."""
        is_full = rows > 0 and (rows == self._previous or rows in _sent_numbers(course))
        self._full_pages = self._full_pages + 1 if is_full else 0
        self._previous = rows

    def _last_page_by_total(self, course: PageIterator) -> tuple[int, bool]:
        """The last page by the total that the API names, 0 if it names none; and whether a page
        after it is out of the question."""
        paginator = course.paginator
        promised = getattr(paginator, "promised", None)
        if not isinstance(paginator, RangePaginator) or promised is None:
            return 0, False
        is_sure = True
        if not isinstance(paginator, OffsetPaginator) and promised >= self._received > 0:
            # a total of pages, or of rows, of which there are no fewer than have come; there are at least
            # as many pages as the rows fill
            promised, is_sure = -(-promised // self._largest), False
        left = promised + paginator.base_index - paginator.current_value
        if left <= 0:
            return 0, is_sure
        return course.number - 1 + -(-left // max(1, paginator.value_step)), is_sure


def _sent_numbers(course: PageIterator) -> set[int]:
    """The whole numbers that a request sends, a page size most likely, without the one that counts
    pages."""
    paginator, request = course.paginator, course.request
    counters = {getattr(paginator, name, None) for name in ("param_name", "param_body_path")}
    values = [getattr(paginator, "limit", None)]
    for sent in (request.params, request.json):
        if isinstance(sent, dict):
            values += [value for name, value in sent.items() if name not in counters]
    return {number for value in values if (number := whole_number(value)) is not None}


def predicted_requests(course: PageIterator) -> Iterator[requests.Request]:
    """The requests after the next one of a course, if every page steps as far as the last one.

    Endless, unless the paginator has a maximum; empty for paginators that wait for an answer.
    """
    paginator = course.paginator
    if not isinstance(paginator, RangePaginator) or paginator.value_step <= 0:
        return iter(())
    return _step_requests(copy(paginator), copy_request(course.request))


def _step_requests(
    paginator: RangePaginator, request: requests.Request
) -> Iterator[requests.Request]:
    most = paginator.maximum_value
    while True:
        paginator.current_value += paginator.value_step
        if most is not None and paginator.current_value >= most:
            return
        request = copy_request(request)
        paginator.update_request(request)
        yield request
