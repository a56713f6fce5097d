"""Compare the total that an API states with what arrived."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import requests

from restsource_dagster.engine.paging.response_checks import (
    normalized_field_name,
    split_names,
)

__all__ = [
    "CallTotals",
    "CarriedTotals",
    "PageTotal",
    "may_filter",
    "stated_total",
    "whole_number",
]

# as APIs name the total of a list: of all pages, not of this one
_TOTAL_FIELDS = frozenset(
    {"count", "total", "totalcount", "totalitems", "totalrecords", "totalresults", "recordstotal"}
)
# as APIs name the number of the rows that a filter leaves
_FILTERED_TOTAL_FIELDS = split_names(
    "odatacount filteredcount countfiltered filteredtotal totalfiltered filteredrecords recordsfiltered "
    "filteredtablerowscount matchcount matchedcount matchingcount totalmatched totalmatches "
    "totalmatching numfound nbhits totalhits"
)
_TOTAL_PARENTS = ("meta", "metadata", "page", "paging", "pagination")
_TOTAL_HEADERS = _TOTAL_FIELDS | {"wptotal", "paginationtotal", "paginationtotalcount"}
# https://www.rfc-editor.org/rfc/rfc9110#name-content-range, as in `items 0-99/950`
_CONTENT_RANGE = re.compile(r"(?:(?!bytes)\w+\s+)?(?:\d+-\d+|\*)/(\d+)")
# params of usual names that leave all rows in: about paging, order, the form of the answer, access
_NEUTRAL_PARAMS = split_names(
    "limit pagesize perpage size count top maxresults maxrecords maxitems pagelimit itemsperpage "
    "resultsperpage recordsperpage hitsperpage rowsperpage batchsize first take rows results num page "
    "pagenumber pagenum offset skip cursor sort sortby sortorder sortdir order orderby "
    "orderdir ordering direction expand expands include includes embed fields select columns labels "
    "shape nl extra format alt output json pretty indent envelope locale lang language units version "
    "apiversion v key apikey appid appkey accesskey accesstoken token authtoken clientid includetotal "
    "includecount withcount totals includetotals includetotalcount"
)


@dataclass(frozen=True)
class PageTotal:
    """The total that a page stated, whatever it counts, and how many rows the page had."""

    total: int
    rows: int
    asked_at: float
    answered_at: float


_MAX_CARRIED_TOTALS = 200


@dataclass(frozen=True)
class CarriedTotals:
    """What the parts of a call that were read before say about its totals. Of bounded size."""

    rows: int = 0
    pages: int = 0
    """The pages that had rows."""
    newest: int | None = None
    stated: tuple[int, ...] = ()
    """Those that may still be the number of all rows or pages."""
    largest: int = 0
    last: tuple[int, int] | None = None
    """The total of the last page that stated one, and its rows."""
    counts_down: bool = True
    """True as long as each total may be the number of the rows that are left."""
    fall: str | None = None
    """A sentence if a total fell."""


@dataclass
class CallTotals:
    """Counts the pages and rows of one call, and keeps the total that the API stated last.

    Pages that an earlier part of the load has read are counted by `carried`. `selects_every_record` is False if the selector filters: then a total can't be compared. With
    `is_filtered` the call asks for some of the rows. A total may be that of the whole table all the
    same, so only one whose name says that it is of the filter counts.
    """

    selects_every_record: bool
    is_filtered: bool = False
    carried: CarriedTotals = field(default_factory=CarriedTotals)
    rows: int = field(default=0, init=False)
    pages: int = field(default=0, init=False)
    newest_total: int | None = field(default=None, init=False)
    stated: list[PageTotal] = field(default_factory=list)
    """The totals of this part's pages that state one, in the order of the pages."""

    def __post_init__(self) -> None:
        self.rows, self.pages = self.carried.rows, self.carried.pages
        self.newest_total = self.carried.newest

    def add_page(
        self, response: requests.Response, body: Any, rows: int, paginator: Any = None
    ) -> None:
        """Add a page of so many rows; `paginator` has read its total, if it reads totals."""
        total = stated_total(response, body, rows)
        any_total = getattr(paginator, "newest_total", None) if total is None else total
        if any_total is not None:
            asked_at = getattr(response, "asked_at", 0.0)
            answered_at = getattr(response, "answered_at", 0.0)
            self.stated.append(PageTotal(any_total, rows, asked_at, answered_at))
        self.rows += rows
        # an empty page at the end is not one of those that the API counts
        self.pages += bool(rows)
        if self.is_filtered:
            total = stated_total(response, body, rows, is_filtered=True)
        # of the last page: an API that adds rows meanwhile states the larger number there
        if self.selects_every_record and total is not None:
            self.newest_total = total

    def describe_fall(self) -> str | None:
        """Return a sentence if the total fell while the pages were read; None if it did not.

        If it fell, rows were deleted, and later rows have moved to pages that were read before. A
        total is compared only if that many rows arrived: the total of a whole table changes for other
        reasons. It must fall from one response to another that was requested after the first arrived,
        because pages that are requested at the same time arrive in any order.
        """
        totals = {*self.carried.stated, *(page.total for page in self.stated)}
        # else the total is of something else, and its changes say nothing of these rows
        if not {self.rows, self.pages} & totals or self._counts_down:
            return None
        return self._fall

    @property
    def _fall(self) -> str | None:
        if self.carried.fall:
            return self.carried.fall
        # by time, not by page: prefetched pages are answered in any order
        by_answer = sorted(self.stated, key=lambda page: page.answered_at)
        # all pages of earlier parts were answered before the first of this one was requested
        largest, answered = self.carried.largest, 0
        for page in sorted(self.stated, key=lambda page: page.asked_at):
            while answered < len(by_answer) and by_answer[answered].answered_at <= page.asked_at:
                largest = max(largest, by_answer[answered].total)
                answered += 1
            if largest > page.total:
                return f"the API's total fell from {largest} to {page.total}"
        return None

    @property
    def _counts_down(self) -> bool:
        before = [PageTotal(*self.carried.last, 0.0, 0.0)] if self.carried.last else []
        return self.carried.counts_down and _counts_down([*before, *self.stated])

    def carry(self) -> CarriedTotals:
        """Return what the next part has to know of the pages up to now."""
        totals = dict.fromkeys((*self.carried.stated, *(page.total for page in self.stated)))
        last = self.stated[-1] if self.stated else None
        return CarriedTotals(
            rows=self.rows,
            pages=self.pages,
            newest=self.newest_total,
            # a total below what has arrived is neither the number of all rows nor of all pages
            stated=tuple(total for total in totals if total >= self.pages)[-_MAX_CARRIED_TOTALS:],
            largest=max(self.carried.largest, *(page.total for page in self.stated), 0),
            last=(last.total, last.rows) if last else self.carried.last,
            counts_down=self._counts_down,
            fall=self._fall,
        )

    def total_records(self, paginator: Any) -> int | None:
        """Return the number of rows that the API stated; None without one, or if it counts pages.

        An offset paginator's total counts rows. A page number paginator's total should count pages,
        but often counts rows. If more rows arrived than it states, it counts pages.
        """
        if not self.selects_every_record or self.is_filtered:
            return self.newest_total
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
        if self.is_filtered:
            return None
        # fewer rows than the total: it may count rows, and then nothing is known of the pages
        if self.rows <= total or self.pages >= total:
            return None
        return f"the API named {total} pages, and {self.pages} came with rows"


def _counts_down(pages: Sequence[PageTotal]) -> bool:
    """True if each total is the number of rows that are left, with or without the page that states it."""
    pairs = list(pairwise(pages))
    return all(one.total - after.total == one.rows for one, after in pairs) or all(
        one.total - after.total == after.rows for one, after in pairs
    )


def stated_total(
    response: requests.Response, body: Any, rows: int, *, is_filtered: bool = False
) -> int | None:
    """Return the number of all rows by a header or a field with a usual name.

    A number that is that of the filter by its name comes first; with `is_filtered` no other counts.
    None if there is none, or several that differ. Of the others, a number no larger than the rows of
    this page is ignored: it may count this page only.
    """
    numbers = list(_numbers_beside(body))
    filtered = {value for name, value in numbers if name in _FILTERED_TOTAL_FIELDS}
    if filtered or is_filtered:
        return filtered.pop() if len(filtered) == 1 else None
    # before the fields: a header with such a name is about the whole list, a field may be about a
    # part
    if (total := _total_in_headers(response)) is not None:
        return total
    found = {value for name, value in numbers if name in _TOTAL_FIELDS and value > rows}
    return found.pop() if len(found) == 1 else None


def _total_in_headers(response: requests.Response) -> int | None:
    for name, value in response.headers.items():
        if normalized_field_name(name).removeprefix("x") in _TOTAL_HEADERS:
            return whole_number(value)
    ranged = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return int(ranged[1]) if ranged else None


def _numbers_beside(body: Any) -> Iterator[tuple[str, int]]:
    """Yield the whole numbers of a body and of its usual parts about paging, by normalized name."""
    for level in (body, *(_field_of(body, name) for name in _TOTAL_PARENTS)):
        if isinstance(level, Mapping):
            for key, value in level.items():
                if type(value) is int:  # not a bool, which is an int to isinstance
                    yield normalized_field_name(str(key)), value


def may_filter(param: str) -> bool:
    """True if a param with this name may select some of the rows."""
    return normalized_field_name(param) not in _NEUTRAL_PARAMS


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
