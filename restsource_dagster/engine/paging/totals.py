"""What an API says there is, and what has arrived of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

__all__ = ["CallTotals", "stated_total", "whole_number"]

_TOTAL_FIELDS = frozenset(
    {"count", "total", "totalcount", "totalitems", "totalrecords", "totalresults"}
)
_TOTAL_PARENTS = ("meta", "metadata", "page", "paging", "pagination")
_TOTAL_HEADERS = ("X-Total-Count", "X-Total", "Total-Count")


@dataclass
class CallTotals:
    """Counts the pages and rows of one call, and remembers the newest total that answers named.

    `counts_rows` tells that every row of a page is selected, so that a total can be compared.
    """

    counts_rows: bool
    rows: int = 0
    pages: int = 0
    newest_total: int | None = None

    def page(self, response: requests.Response, body: Any, rows: int) -> None:
        """A page with so many rows arrived."""
        self.rows += rows
        self.pages += bool(rows)
        total = stated_total(response, body, rows) if self.counts_rows else None
        self.newest_total = self.newest_total if total is None else total

    def promised(self, paginator: Any) -> int | None:
        """The rows that the API said there are; None if it did not, or if that is not clear.

        An offset's total counts rows. A page number's total should count pages and often counts
        rows: if more rows have arrived than it says, it does not.
        """
        if not self.counts_rows:
            return None
        if hasattr(paginator, "promised_rows"):
            rows: int | None = paginator.promised_rows
            return rows
        total = getattr(paginator, "promised", None)
        if total is None:
            return self.newest_total
        return total if self.rows <= total else None

    def describe_missing_pages(self, paginator: Any) -> str | None:
        """In words: an empty page came before the number of pages that the API named."""
        total = getattr(paginator, "promised", None)
        if total is None or hasattr(paginator, "promised_rows") or paginator.maximum_value:
            return None
        if self.rows <= total or self.pages >= total:
            return None
        return f"the API named {total} pages, and {self.pages} came with rows"


def stated_total(response: requests.Response, body: Any, rows: int) -> int | None:
    """How many rows there are by a header or a field with a usual name; None if that is not clear.

    A `count` that is the number of rows on this page says nothing of the others.
    """
    for name in _TOTAL_HEADERS:
        if (total := whole_number(response.headers.get(name))) is not None:
            return total
    found = [
        value
        for level in (body, *(_field_of(body, name) for name in _TOTAL_PARENTS))
        if isinstance(level, Mapping)
        for key, value in level.items()
        if re.sub(r"[\W_]", "", key.lower()) in _TOTAL_FIELDS
        and type(value) is int
        and value > rows
    ]
    return found[0] if len(set(found)) == 1 else None


def whole_number(value: Any) -> int | None:
    """A number that is not negative, given as such or as a text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = int(value)
    except (ValueError, OverflowError):
        return None
    return number if number >= 0 else None


def _field_of(body: Any, name: str) -> Any:
    return body.get(name) if isinstance(body, Mapping) else None
