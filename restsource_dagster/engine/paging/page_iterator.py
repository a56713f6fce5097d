"""Where the paging of one call stands: what to ask for next, and what an answer means for it.

It asks for nothing itself, so that the same steps serve who wants the pages and who fetches them
ahead.

Paging that does not end: a link, a cursor or a page that comes again.
"""

import hashlib
import json
import marshal
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import requests
from dlt.sources.helpers.rest_client.paginators import BasePaginator

from restsource_dagster.connector.models.endpoint import ResponseAction
from restsource_dagster.engine.errors import PagingError, ResponseError
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.paging.records import RecordReader, extract_records, parse_body
from restsource_dagster.engine.paging.response_checks import matching_action
from restsource_dagster.engine.paging.safe_paginators import (
    TolerantRangePaginator,
    detect_paginator,
)

__all__ = ["Page", "PageGuard", "PageIterator", "PageResponse"]

# Marking every record of a large page takes as long as parsing it. Fifty say almost always that a
# page is new. Where they say that it is not, all its records are marked, so that no page is mistaken
# for another one; a page that does repeat is then recognised when it comes once more.
_SAMPLE_SIZE = 50
_MARSHAL_VERSION = (
    2  # marshal's version before it wrote references, which equal values need not share
)


@dataclass
class PageGuard:
    """Watches the pages of one call. Each check tells what is wrong, or None.

    It remembers a short mark of every request and page, not the pages.
    """

    max_pages: int
    _asked: dict[bytes, int] = field(default_factory=dict)
    _seen: dict[bytes, int] = field(default_factory=dict)
    _digests: set[bytes] = field(default_factory=set)

    def check_request(self, request: requests.Request, page: int) -> str | None:
        """Whether the next request was asked before, or is one too many."""
        if page > self.max_pages:
            return (
                f"there are more than {self.max_pages} pages (http.max_pages); if that is right, "
                "raise it"
            )
        parts = (request.method, request.url, request.params, request.json, request.data)
        text = json.dumps(parts, sort_keys=True, default=str)
        earlier = self._asked.setdefault(_digest(text.encode("utf-8", "surrogatepass")), page)
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
            mark = self._digest_of(records)
        self._digests.add(mark)
        earlier = self._seen.get(mark)
        self._seen[mark] = page
        if earlier is None or (earlier != page - 1 and len(records) <= 2):
            return None, mark
        problem = (
            f"page {page} has the very records of page {earlier}: the API seems to ignore the "
            "paging parameters; check the paginator, or use `single_page` if it does not page"
        )
        return problem, mark

    def _digest_of(self, records: list[Any]) -> bytes:
        """Stands for records. Of a large page a few are looked at, and all if those came before."""
        if len(records) > _SAMPLE_SIZE:
            step = (len(records) - 1) // (_SAMPLE_SIZE - 1)
            few = [*records[: step * (_SAMPLE_SIZE - 1) : step], records[-1]]
            mark = _digest(marshal.dumps([len(records), few], _MARSHAL_VERSION))
            if mark not in self._digests:
                return mark
        return _digest(marshal.dumps(list(records), _MARSHAL_VERSION))


def _digest(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=16).digest()


Records = list[Any]

_PAST_END_STATUSES = frozenset({400, 404, 416, 422})
_PAGINATOR_REASON_CHARS = 300


@dataclass(frozen=True)
class PageResponse:
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
class PageIterator:
    """The paging of one call. Not for several threads at once.

    `request` is the next one, changed in place from page to page; `paginator` belongs to the call.
    """

    resource: str
    redactor: Redactor
    actions: Sequence[ResponseAction]
    request: requests.Request
    paginator: BasePaginator | None
    reader: RecordReader
    guard: PageGuard
    number: int = 0
    """The page that was asked for last; pages count from 1."""
    _has_ended: bool = False

    def __post_init__(self) -> None:
        if self.paginator:
            self.paginator.init_request(self.request)

    @property
    def has_next_page(self) -> bool:
        """Whether there is a page to ask for."""
        if self._has_ended:
            return False
        return self.paginator is None or self.number == 0 or self.paginator.has_next_page

    def next(self) -> requests.Request:
        """The request of the next page. Raises `PagingError` if it would go in circles."""
        self.number += 1
        self._raise_if(self.guard.check_request(self.request, self.number))
        return self.request

    def turn(self, answer: PageResponse) -> Page | None:
        """Read a page and make the request of the one after it; None if the answer is the end.

        Raises `ResponseError` if the answer is not what the connector file says it is,
        `PagingError` if the page has come before.
        """
        response = answer.response
        if self._is_the_end(response):
            self._has_ended = True
            return None
        records, body = self._read(response)
        problem, mark = self.guard.check_records(records, self.number, answer.mark)
        self._raise_if(problem)
        self.paginator = self._advance_paginator(response, records)
        return Page(response, body, records, mark)

    def _is_the_end(self, response: requests.Response) -> bool:
        """Whether the file says to ignore the answer, or the page need not be there."""
        if matching_action(response, self.actions) == "ignore":
            return True
        paginator = self.paginator
        may_be_past = (
            isinstance(paginator, TolerantRangePaginator) and paginator.may_be_past_the_end
        )
        return may_be_past and response.status_code in _PAST_END_STATUSES

    def _read(self, response: requests.Response) -> tuple[Records, Any]:
        try:
            body = parse_body(response, matching_action(response, self.actions))
            return extract_records(response, self.reader, body)
        except ValueError as error:
            reason = str(error)
        raise self._response_error(reason, response)

    def _advance_paginator(self, response: requests.Response, records: Records) -> BasePaginator:
        """The paginator, detected at the first page, turned to the next one."""
        try:
            turned = self.paginator or detect_paginator(response)
            turned.update_state(response, records)
            turned.update_request(self.request)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # dlt's errors quote the whole answer; a secret is hidden before it could be cut in two
            reason = self.redactor(f"the paginator can't read the answer: {error}")[
                :_PAGINATOR_REASON_CHARS
            ]
        else:
            return turned
        raise self._response_error(reason, response)

    def _raise_if(self, problem: str | None) -> None:
        if problem:
            error = PagingError(problem)
            error.locate(self.resource, self.number, self.redactor)
            raise error

    def _response_error(self, reason: str, response: requests.Response) -> ResponseError:
        return ResponseError(
            reason,
            resource=self.resource,
            page=self.number,
            response=response,
            redact=self.redactor,
        )
