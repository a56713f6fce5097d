"""Paging that does not end: a link, a cursor or a page that comes again."""

import json
from dataclasses import dataclass, field
from typing import Any

import requests

__all__ = ["PageGuard"]


@dataclass
class PageGuard:
    """Watches the pages of one call. Each check returns what is wrong, or None."""

    max_pages: int
    _asked: dict[str, int] = field(default_factory=dict)
    _last: list[Any] = field(default_factory=list)

    def check_request(self, request: requests.Request, page: int) -> str | None:
        """Whether the next request was asked before, or is one too many."""
        if page > self.max_pages:
            return (
                f"there are more than {self.max_pages} pages (http.max_pages); if that is right, "
                "raise it"
            )
        earlier = self._asked.setdefault(_fingerprint(request), page)
        if earlier == page:
            return None
        return (
            f"page {page} would ask for what page {earlier} asked for: the next link or cursor "
            "that the API gave does not move"
        )

    def check_records(self, records: list[Any], page: int) -> str | None:
        """Whether a page is the one before it once more."""
        repeated = bool(records) and records == self._last
        self._last = records
        if not repeated:
            return None
        return (
            f"page {page} has the very records of page {page - 1}: the API seems to ignore the "
            "paging parameters; check the paginator, or use `single_page` if it does not page"
        )


def _fingerprint(request: requests.Request) -> str:
    parts = (request.method, request.url, request.params, request.json, request.data)
    return json.dumps(parts, sort_keys=True, default=str)
