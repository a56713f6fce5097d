"""Paging that does not end: a link, a cursor or a page that comes again."""

import hashlib
import json
import marshal
from dataclasses import dataclass, field
from typing import Any

import requests

__all__ = ["PageGuard"]

_BY_VALUE = 2  # marshal's version before it wrote references, which equal values need not share


@dataclass
class PageGuard:
    """Watches the pages of one call. Each check returns what is wrong, or None.

    It remembers a short mark of every request and page, not the pages.
    """

    max_pages: int
    _asked: dict[bytes, int] = field(default_factory=dict)
    _seen: dict[bytes, int] = field(default_factory=dict)

    def check_request(self, request: requests.Request, page: int) -> str | None:
        """Whether the next request was asked before, or is one too many."""
        if page > self.max_pages:
            return (
                f"there are more than {self.max_pages} pages (http.max_pages); if that is right, "
                "raise it"
            )
        parts = (request.method, request.url, request.params, request.json, request.data)
        text = json.dumps(parts, sort_keys=True, default=str)
        earlier = self._asked.setdefault(_mark(text.encode("utf-8", "surrogatepass")), page)
        if earlier == page:
            return None
        return (
            f"page {page} would ask for what page {earlier} asked for: the next link or cursor "
            "that the API gave does not move"
        )

    def check_records(self, records: list[Any], page: int) -> str | None:
        """Whether a page has come before, record by record.

        One or two records without a key may well be equal to others: they count only if they are
        those of the page before.
        """
        if not records:
            return None
        mark = _mark(marshal.dumps(records, _BY_VALUE))
        earlier = self._seen.get(mark)
        self._seen[mark] = page
        if earlier is None or (earlier != page - 1 and len(records) <= 2):
            return None
        return (
            f"page {page} has the very records of page {earlier}: the API seems to ignore the "
            "paging parameters; check the paginator, or use `single_page` if it does not page"
        )


def _mark(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=16).digest()
