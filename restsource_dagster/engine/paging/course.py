"""Where the paging of one call stands: what to ask for next, and what an answer means for it.

It asks for nothing itself, so that the same steps serve who wants the pages and who fetches them
ahead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import requests
from dlt.sources.helpers.rest_client.paginators import BasePaginator

from restsource_dagster.engine.errors import PagingError, ResponseError
from restsource_dagster.engine.paging.actions import Action, verdict_on
from restsource_dagster.engine.paging.bodies import read_body
from restsource_dagster.engine.paging.fresh import fresh_records
from restsource_dagster.engine.paging.guards import PageGuard
from restsource_dagster.engine.paging.paginators import TolerantRange, detect_paginator
from restsource_dagster.engine.paging.selectors import RecordReader
from restsource_dagster.engine.redaction import Redactor

__all__ = ["Answer", "Course", "Page"]

Records = list[Any]

_PAST_THE_END = frozenset({400, 404, 416, 422})
_REASON_LENGTH = 300


@dataclass(frozen=True)
class Answer:
    """The answer to the request of a page; `mark` stands for its records, if they were read."""

    response: requests.Response
    mark: bytes | None = None


@dataclass(frozen=True)
class Page:
    """What an answer holds."""

    response: requests.Response
    body: Any
    records: Records
    mark: bytes | None
    """Stands for the records: equal ones have equal marks. None if there are none."""


@dataclass
class Course:
    """The paging of one call. Not for several threads at once.

    `request` is the next one, changed in place from page to page; `paginator` belongs to the call.
    """

    resource: str
    redactor: Redactor
    actions: Sequence[Action]
    request: requests.Request
    paginator: BasePaginator | None
    reader: RecordReader
    guard: PageGuard
    number: int = 0
    """The page that was asked for last; pages count from 1."""
    _is_over: bool = False

    def __post_init__(self) -> None:
        if self.paginator:
            self.paginator.init_request(self.request)

    @property
    def goes_on(self) -> bool:
        """Whether there is a page to ask for."""
        if self._is_over:
            return False
        return self.paginator is None or self.number == 0 or self.paginator.has_next_page

    def next(self) -> requests.Request:
        """The request of the next page. Raises `PagingError` if it would go in circles."""
        self.number += 1
        self._stop_if(self.guard.check_request(self.request, self.number))
        return self.request

    def turn(self, answer: Answer) -> Page | None:
        """Read a page and make the request of the one after it; None if the answer is the end.

        Raises `ResponseError` if the answer is not what the connector file says it is,
        `PagingError` if the page has come before.
        """
        response = answer.response
        if self._is_the_end(response):
            self._is_over = True
            return None
        records, body = self._read(response)
        problem, mark = self.guard.check_records(records, self.number, answer.mark)
        self._stop_if(problem)
        self.paginator = self._turned(response, records)
        return Page(response, body, records, mark)

    def _is_the_end(self, response: requests.Response) -> bool:
        """Whether the file says to ignore the answer, or the page need not be there."""
        if verdict_on(response, self.actions) == "ignore":
            return True
        paginator = self.paginator
        may_be_past = isinstance(paginator, TolerantRange) and paginator.may_be_past_the_end
        return may_be_past and response.status_code in _PAST_THE_END

    def _read(self, response: requests.Response) -> tuple[Records, Any]:
        try:
            body = read_body(response, verdict_on(response, self.actions))
            return fresh_records(response, self.reader, body)
        except ValueError as error:
            reason = str(error)
        raise self._unexpected(reason, response)

    def _turned(self, response: requests.Response, records: Records) -> BasePaginator:
        """The paginator, detected at the first page, turned to the next one."""
        try:
            turned = self.paginator or detect_paginator(response)
            turned.update_state(response, records)
            turned.update_request(self.request)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # dlt's errors quote the whole answer; a secret is hidden before it could be cut in two
            reason = self.redactor(f"the paginator can't read the answer: {error}")[:_REASON_LENGTH]
        else:
            return turned
        raise self._unexpected(reason, response)

    def _stop_if(self, problem: str | None) -> None:
        if problem:
            error = PagingError(problem)
            error.at(self.resource, self.number, self.redactor)
            raise error

    def _unexpected(self, reason: str, response: requests.Response) -> ResponseError:
        return ResponseError(
            reason,
            resource=self.resource,
            page=self.number,
            response=response,
            redactor=self.redactor,
        )
