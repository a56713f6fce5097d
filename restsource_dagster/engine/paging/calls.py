"""A call of an endpoint, and what the page loop needs of those who fetch its pages ahead of it.

`engine.prefetch` implements `PagePrefetch`, so that paging doesn't import it.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import requests

from restsource_dagster.engine.paging.page_iterator import Page, PageIterator, PageResponse

__all__ = [
    "Call",
    "CallToFetch",
    "FetchPage",
    "PageFetcher",
    "PagePrefetch",
    "SendRequest",
]


@dataclass(frozen=True)
class Call:
    """One call of an endpoint, all placeholders filled in. It may have many pages."""

    path: str
    method: str = "GET"
    headers: Mapping[str, Any] | None = None
    params: Mapping[str, Any] | None = None
    json: Mapping[str, Any] | None = None
    data: Any = None
    is_filtered: bool = False
    """True if it may ask for some of the rows only, so that a total may count others, too."""

    @property
    def is_prefetchable(self) -> bool:
        """True if the call may be sent before it is known to be needed."""
        # POST is how many APIs search; the other methods may change data
        return self.method.upper() in ("GET", "HEAD", "POST", "QUERY", "SEARCH")


SendRequest = Callable[[requests.Request, int], requests.Response]
"""Sends a request and returns the response. Takes the number of its page, for error messages."""
FetchPage = Callable[[requests.Request, int], PageResponse]
"""Returns the response to the request of a page, sent now or prefetched. Takes the page's number."""


@dataclass(frozen=True)
class CallToFetch:
    """One call whose pages may be prefetched."""

    resource: str
    pages: PageIterator
    send: SendRequest
    may_stop_early: bool = False
    """True if the page loop may stop before the last page.

    Then at most as many pages are prefetched as it has asked for.
    """
    first_page_only: bool = False
    """True if one request is sent, and no more before someone waits for the page."""
    is_kept: Callable[[], bool] = lambda: False
    """Called when the page loop ends early: returns True if a later call goes on at its next page."""


@dataclass(frozen=True)
class PageFetcher:
    """Fetches the pages of one call for its page loop."""

    fetch: FetchPage
    prefetch_after: Callable[[Page], None] = lambda _: None
    """Fetches what follows a page that was read. Called before its records are used."""


class PagePrefetch(Protocol):
    """Fetches pages before the page loop asks for them. `engine.prefetch` implements it."""

    @property
    def max_prefetched_calls(self) -> int:
        """How many calls are worth prefetching at a time."""

    def page_fetcher(self, call: CallToFetch) -> AbstractContextManager[PageFetcher]:
        """Fetch the pages of a call for its page loop, which advances `call.pages` in one thread."""

    def prefetch(self, call: CallToFetch, group: object) -> None:
        """Fetch the pages of a call that is about to be made. Calls of a group follow one another."""

    def prefetch_for_later(self, call: CallToFetch) -> None:
        """Fetch the pages of a call that will be made later in the run."""

    def cancel_group(self, group: object) -> None:
        """Cancel this group's pending prefetches."""

    def keep_group(self, group: object, part: object) -> None:
        """Keep this group's pending prefetches for the part of a load that follows `part`."""
