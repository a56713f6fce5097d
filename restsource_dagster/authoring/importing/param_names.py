"""What names of params and fields say: which ask for a page, which hold a key, a cursor or the next page.

The names are those of public APIs; each list begins with the more common ones.
"""

import re
from collections.abc import Iterable

__all__ = [
    "CURSOR_PARAMS",
    "LIMIT_PARAMS",
    "OFFSET_PARAMS",
    "PAGE_PARAMS",
    "is_named",
    "normal_name",
]

PAGE_PARAMS = (
    *("page", "page_number", "pagenum", "pageno", "page_num", "page_no", "p", "pg", "current_page"),
    *("page_index", "pagenumber", "pageindex", "paged"),
)
LIMIT_PARAMS = (
    *("limit", "per_page", "page_size", "pagesize", "perpage", "size", "count", "max_results"),
    *("maxresults", "top", "first", "rows", "take", "page_limit", "results_per_page", "batch_size"),
    *("max", "num", "length", "max_items", "items_per_page"),
)
OFFSET_PARAMS = (
    "offset",
    "start",
    "skip",
    "start_index",
    "startindex",
    "start_at",
    "startat",
    "from",
)
CURSOR_PARAMS = (
    *("cursor", "after", "starting_after", "page_token", "pagetoken", "next_token", "nexttoken"),
    *("next_cursor", "continuation_token", "continuation", "continuationtoken", "marker", "next"),
    *("page_cursor", "scroll_id", "next_page_token", "next_page", "bookmark", "paging_token"),
    *("start_cursor", "startcursor", "after_cursor", "pagination_token", "last_id", "since_id"),
)


def normal_name(name: str) -> str:
    """Return a name in small letters with underscores: `page_size` for `pageSize`, `$page-size`, `page[size]`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub("[^a-z0-9]+", "_", spaced.lower()).strip("_")


def is_named(name: str, known: Iterable[str]) -> bool:
    """True if a param has one of the names, however it is spelt."""
    normal = normal_name(name)
    if normal in (
        "page_page",
        "page_number",
        "page_offset",
        "page_after",
        "page_cursor",
        "page_limit",
    ):
        # `page[number]` and the like, of JSON:API
        return normal in known or normal.removeprefix("page_") in known
    return normal in known
