"""Paging that does not end: a link, a cursor or a page that comes again."""

import hashlib
import json
import marshal
from dataclasses import dataclass, field
from typing import Any

import requests

__all__ = ["PageGuard"]

# Marking every record of a large page takes as long as parsing it. Fifty say almost always that a
# page is new. Where they say that it is not, all its records are marked, so that no page is mistaken
# for another one; a page that does repeat is then recognised when it comes once more.
_FEW = 50
_BY_VALUE = 2  # marshal's version before it wrote references, which equal values need not share


@dataclass
class PageGuard:
    """Watches the pages of one call. Each check tells what is wrong, or None.

    It remembers a short mark of every request and page, not the pages.
    """

    max_pages: int
    _asked: dict[bytes, int] = field(default_factory=dict)
    _seen: dict[bytes, int] = field(default_factory=dict)
    _marks: set[bytes] = field(default_factory=set)

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

    def check_records(
        self, records: list[Any], page: int, mark: bytes | None = None
    ) -> tuple[str | None, bytes | None]:
        """Whether a page has come before, record by record; and the mark of its records.

        One or two records without a key may well be equal to others: they count only if they are
        those of the page before. `mark` is the mark of these records, if somebody knows it.
        """
        if not records:
            return None, None
        if mark is None:
            mark = self._mark_of(records)
        self._marks.add(mark)
        earlier = self._seen.get(mark)
        self._seen[mark] = page
        if earlier is None or (earlier != page - 1 and len(records) <= 2):
            return None, mark
        problem = (
            f"page {page} has the very records of page {earlier}: the API seems to ignore the "
            "paging parameters; check the paginator, or use `single_page` if it does not page"
        )
        return problem, mark

    def _mark_of(self, records: list[Any]) -> bytes:
        """Stands for records. Of a large page a few are looked at, and all if those came before."""
        if len(records) > _FEW:
            step = (len(records) - 1) // (_FEW - 1)
            few = [*records[: step * (_FEW - 1) : step], records[-1]]
            mark = _mark(marshal.dumps([len(records), few], _BY_VALUE))
            if mark not in self._marks:
                return mark
        return _mark(marshal.dumps(list(records), _BY_VALUE))


def _mark(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=16).digest()
