"""Compare the total that an API states with what arrived."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

__all__ = ["CallTotals", "stated_total", "whole_number"]

# as APIs name the total of a list: of all pages, not of this one
_TOTAL_FIELDS = frozenset(
    {"count", "total", "totalcount", "totalitems", "totalrecords", "totalresults"}
)
_TOTAL_PARENTS = ("meta", "metadata", "page", "paging", "pagination")
_TOTAL_HEADERS = ("X-Total-Count", "X-Total", "Total-Count")


@dataclass
class CallTotals:
    """Counts the pages and rows of one call, and keeps the total that the API stated last.

    `selects_every_record` is False if the selector filters: then a total can't be compared.
    """

    selects_every_record: bool
    rows: int = 0
    pages: int = 0
    newest_total: int | None = None

    def add_page(self, response: requests.Response, body: Any, rows: int) -> None:
        """Add a page of so many rows."""
        self.rows += rows
        # an empty page at the end is not one of those that the API counts
        self.pages += bool(rows)
        total = stated_total(response, body, rows) if self.selects_every_record else None
        self.newest_total = self.newest_total if total is None else total

    def total_records(self, paginator: Any) -> int | None:
        """Return the number of rows that the API stated; None if it stated none or is not clear.

        An offset paginator's total counts rows. A page number paginator's total should count pages,
        but often counts rows; it does not if more rows arrived than it says.
        """
        if not self.selects_every_record:
            return None
        if hasattr(paginator, "total_rows"):
            rows: int | None = paginator.total_rows
            return rows
        total = getattr(paginator, "newest_total", None)
        if total is None:
            return self.newest_total
        return total if self.rows <= total else None

    def describe_missing_pages(self, paginator: Any) -> str | None:
        """Return a sentence if paging ended before the number of pages that the API named."""
        total = getattr(paginator, "newest_total", None)
        if total is None or hasattr(paginator, "total_rows") or paginator.maximum_value:
            return None
        # fewer rows than the total: it may count rows, and then nothing is known of the pages
        if self.rows <= total or self.pages >= total:
            return None
        return f"the API named {total} pages, and {self.pages} came with rows"


def stated_total(response: requests.Response, body: Any, rows: int) -> int | None:
    """Return the number of all rows by a header or a field with a usual name.

    None if there is none, or several that differ. A number no larger than the rows of this page is
    ignored: it may count this page only.
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
        and type(value) is int  # not a bool, which is an int to isinstance
        and value > rows
    ]
    return found[0] if len(set(found)) == 1 else None


def whole_number(value: Any) -> int | None:
    """Return a number that is not negative, given as a number or a text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = int(value)
    except (ValueError, OverflowError):
        return None
    return number if number >= 0 else None


def _field_of(body: Any, name: str) -> Any:
    return body.get(name) if isinstance(body, Mapping) else None
