"""Detect, over all calls of a resource, a misspelt place of the next page, and pages that shift."""

import threading
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from dlt.sources.helpers.rest_client.paginators import RangePaginator, SinglePagePaginator

from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.paging.next_page import (
    describe_absent_path,
    names_position,
    requested_page_size,
    signs_of_next_page,
)
from restsource_dagster.engine.paging.page_iterator import Page, PageIterator
from restsource_dagster.engine.paging.safe_paginators import TolerantReferencePaginator
from restsource_dagster.engine.paging.totals import CallTotals

__all__ = ["PagingWatch"]

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

    def observe_end(
        self, pages: PageIterator, page: Page, totals: CallTotals, total: int | None
    ) -> None:
        """Take the end of a call into account: its last page, and its total if it is known.

        Raises `ResponseError` if no paginator was detected and the response names a next page.
        """
        paginator, rows = pages.paginator, totals.rows
        if isinstance(paginator, RangePaginator) or names_position(page.response):
            self._ended.shift = totals.describe_fall()
        if isinstance(paginator, TolerantReferencePaginator):
            if paginator.was_found:
                self._found = paginator.reference
            elif page.listed:
                self._observe_absence(pages, page, paginator, rows, total)
        elif isinstance(paginator, SinglePagePaginator) and page.listed:
            self._observe_single_page(pages, page)

    def conclude(self) -> None:
        """Raise the error of the first call whose next page was not found, or warn about it.

        Call it after the last call. If a response had the place, its absence in others is the end of
        the paging, and only a next page that is named at another place is reported.
        """
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
        reason = describe_absent_path(page.response, signs, rows, total)
        if signs and not self._signs:
            self._signs = (
                f"{paginator.reference} is not in an answer, and {reason}; it was not read"
            )
        if reason and (signs or self._is_strict):
            self._error = self._error or pages.response_error(
                f"{paginator.reference} is not in the answer, and {reason}; {_SINGLE_PAGE_ADVICE}",
                page.response,
            )
        elif self._is_strict and not paginator.may_be_absent:
            self._warning = (
                f"{paginator.reference} was in no answer, so only the first page of each call was "
                f"read. It may be misspelt; {_SINGLE_PAGE_ADVICE}"
            )

    def _observe_single_page(self, pages: PageIterator, page: Page) -> None:
        signs = signs_of_next_page(page.response, page.body, page.records)
        named = f"the answer names a next page at {', '.join(signs[:3])}"
        if pages.is_detected and signs:
            raise pages.response_error(
                f"{named}, and no paginator could be detected for it; set `paginator`, or, "
                f"{_SINGLE_PAGE_ADVICE}",
                page.response,
            )
        size = requested_page_size(page.response)
        if pages.is_detected and self._is_strict and size is not None and len(page.listed) >= size:
            self._absent = "full page"
            self._warning = (
                f"the page is full ({size} rows were asked for) and no paginator could be detected, "
                f"so only the first page was read; set `paginator`, or, {_SINGLE_PAGE_ADVICE}"
            )
        elif not pages.is_detected and signs:
            self._absent = "single_page"
            self._warning = f"{named}, and is not read on because `paginator` is `single_page`"
