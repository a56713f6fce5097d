"""dlt's paginators, with two replaced where they lose rows or stumble.

An offset that moves by the page size asked for skips rows when the API caps the size; a total that
is missing, null or a text ends in an error although an empty page would tell the end.
"""

from collections.abc import Mapping
from typing import Any

from dlt.common import jsonpath
from dlt.sources.helpers.rest_client.paginators import (
    BasePaginator,
    OffsetPaginator,
    PageNumberPaginator,
    RangePaginator,
)
from dlt.sources.rest_api.config_setup import create_paginator
from requests import Response

__all__ = ["ReceivedOffsetPaginator", "TolerantPageNumberPaginator", "make_paginator"]


class _Tolerant(RangePaginator):
    """A range that treats a total it can't read as none, if something else tells the end."""

    promised: int | None = None
    """The total that the newest page named, in the paginator's own unit."""

    def update_state(self, response: Response, data: list[Any] | None = None) -> None:
        """Read the total here, and leave the rest to dlt."""
        self.promised = self._read_total(response)
        stated, self.total_path = self.total_path, None
        try:
            super().update_state(response, data)
        finally:
            self.total_path = stated
        reached = self.promised is not None and (
            self.current_value >= self.promised + self.base_index
        )
        if reached:
            self._has_next_page = False

    def _read_total(self, response: Response) -> int | None:
        if self.total_path is None:
            return None
        found = jsonpath.find_values(self.total_path, response.json())
        total = _whole_number(found[0]) if found else None
        if total is None and not self._ends_without_total:
            raise ValueError(
                f"`total_path` {self.total_path} gives {found[0]!r}, no whole number"
                if found
                else f"`total_path` {self.total_path} finds nothing"
            )
        return total

    @property
    def _ends_without_total(self) -> bool:
        return bool(
            self.stop_after_empty_page or self.has_more_path or self.maximum_value is not None
        )


class ReceivedOffsetPaginator(_Tolerant, OffsetPaginator):
    """An offset that moves by the rows that arrived, not by those that were asked for."""

    @property
    def promised_rows(self) -> int | None:
        """The rows from the first offset on that the API says there are; None if cut by us."""
        if self.promised is None or self.maximum_value is not None:
            return None
        return max(0, self.promised - self.initial_value)

    def update_state(self, response: Response, data: list[Any] | None = None) -> None:
        """Step by the size of the page."""
        self.value_step = len(data) if data else self.limit
        super().update_state(response, data)


class TolerantOffsetPaginator(_Tolerant, OffsetPaginator):
    """An offset for selectors that filter, where rows that arrive say nothing of the page's size."""


class TolerantPageNumberPaginator(_Tolerant, PageNumberPaginator):
    """A page number that does without a total where it can."""


def make_paginator(config: Any, *, counts_rows: bool) -> BasePaginator | None:
    """The paginator of a configuration; None means that it is detected.

    `counts_rows` tells that the selected records are all records of a page. Raises `ValueError` as
    dlt does.
    """
    offset = ReceivedOffsetPaginator if counts_rows else TolerantOffsetPaginator
    ours: Mapping[str, type[BasePaginator]] = {
        "offset": offset,
        "page_number": TolerantPageNumberPaginator,
    }
    kind = config if isinstance(config, str) else str((config or {}).get("type"))
    if kind not in ours:
        return create_paginator(config)
    arguments = {} if isinstance(config, str) else dict(config)
    arguments.pop("type", None)
    return ours[kind](**arguments)


def _whole_number(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return int(value)
    except (ValueError, OverflowError):
        return None
