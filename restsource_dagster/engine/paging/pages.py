"""The page loop.

It stands where `RESTClient.paginate` stands in dlt and uses dlt's paginators, selectors and
detection, but an answer that is not what the file says is an error, never an empty page, and paging
that does not end is stopped.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
from dlt.sources.helpers.rest_client.paginators import BasePaginator
from dlt.sources.helpers.rest_client.utils import join_url
from requests.auth import AuthBase

from restsource_dagster.engine.errors import PagingError, ResponseError
from restsource_dagster.engine.http.session import ApiSession
from restsource_dagster.engine.paging.actions import Action, verdict_on
from restsource_dagster.engine.paging.asking import Asker
from restsource_dagster.engine.paging.bodies import read_body
from restsource_dagster.engine.paging.guards import PageGuard
from restsource_dagster.engine.paging.paginators import TolerantRange, detect_paginator
from restsource_dagster.engine.paging.selectors import RecordReader, counts_rows
from restsource_dagster.engine.paging.totals import Account
from restsource_dagster.engine.redaction import Redactor

__all__ = ["Call", "Endpoint", "PageListener"]

Records = list[Any]

_PAST_THE_END = frozenset({400, 404, 416, 422})
_REASON_LENGTH = 300


@dataclass(frozen=True)
class Call:
    """One call of an endpoint, all placeholders filled in."""

    path: str
    method: str = "GET"
    headers: Mapping[str, Any] | None = None
    params: Mapping[str, Any] | None = None
    json: Mapping[str, Any] | None = None
    data: Any = None


class PageListener(Protocol):
    """Is told of what arrives, from any thread."""

    def page(self, rows: int, nulls: int) -> None:
        """A page with so many items, nulls among them."""

    def end(self, promised: int | None, received: int) -> None:
        """A call ended: the total that the API named last, if it did, and the items received."""

    def note(self, text: str) -> None:
        """Something a person wants to know."""


@dataclass(frozen=True)
class Endpoint:
    """How one resource is asked for: everything about its requests that no call changes."""

    resource: str
    base_url: str
    session: ApiSession
    redactor: Redactor
    headers: Mapping[str, str] | None = None
    auth: AuthBase | None = None
    paginator: BasePaginator | None = None
    data_selector: str | None = None
    selector_is_given: bool = True
    """Whether the file has the selector, or dlt has chosen it."""
    actions: Sequence[Action] = ()
    max_pages: int = 100_000
    listener: PageListener | None = None

    def pages(self, call: Call) -> Iterator[Records]:
        """The records of each page of a call, in order; every call starts its paginator anew.

        Raises `RequestError` if the API can't be reached, `ResponseError` if an answer is not what
        the connector file says it is, `PagingError` if the paging does not end.
        """
        request = self._request(call)
        paginator = deepcopy(self.paginator)
        reader = RecordReader(self.data_selector, is_given=self.selector_is_given)
        guard = PageGuard(self.max_pages)
        account = Account(counts_rows(self.data_selector))
        if paginator:
            paginator.init_request(request)
        number = 0
        while paginator is None or number == 0 or paginator.has_next_page:
            number += 1
            self._stop_if(guard.check_request(request, number), number)
            response = self._asker.ask(request, number)
            if self._is_the_end(response, paginator):
                break
            records, body = self._read(response, reader, number)
            self._stop_if(guard.check_records(records, number), number)
            paginator = self._turned(paginator, request, response, records, number)
            account.page(response, body, len(records))
            yield self._told(records)
        if self.listener:
            self.listener.end(account.promised(paginator), account.rows)
            if missing := account.missing_pages(paginator):
                self.listener.note(missing)

    @cached_property
    def _asker(self) -> Asker:
        return Asker(self.resource, self.session, self.redactor, self.auth, self.actions)

    def _request(self, call: Call) -> requests.Request:
        absolute = urlsplit(call.path).scheme in ("http", "https")
        url = call.path if absolute else join_url(self.base_url, call.path)
        return requests.Request(
            method=call.method.upper(),
            url=url,
            headers={**(self.headers or {}), **(call.headers or {})},
            params=dict(call.params or {}),
            json=deepcopy(dict(call.json)) if call.json else None,  # paginators write into it
            data=call.data,
            auth=self.auth,
        )

    def _is_the_end(self, response: requests.Response, paginator: BasePaginator | None) -> bool:
        """Whether the file says to ignore the answer, or the page need not be there."""
        if verdict_on(response, self.actions) == "ignore":
            return True
        may_be_past = isinstance(paginator, TolerantRange) and paginator.may_be_past_the_end
        return may_be_past and response.status_code in _PAST_THE_END

    def _read(
        self, response: requests.Response, reader: RecordReader, page: int
    ) -> tuple[Records, Any]:
        try:
            body = read_body(response, verdict_on(response, self.actions))
            return reader.records(body), body
        except ValueError as error:
            reason = str(error)
        raise self._unexpected(reason, response, page)

    def _turned(
        self,
        paginator: BasePaginator | None,
        request: requests.Request,
        response: requests.Response,
        records: Records,
        page: int,
    ) -> BasePaginator:
        """The paginator, detected at the first page, turned to the next one."""
        try:
            turned = paginator or detect_paginator(response)
            turned.update_state(response, records)
            turned.update_request(request)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # dlt's errors quote the whole answer; a secret is hidden before it could be cut in two
            reason = self.redactor(f"the paginator can't read the answer: {error}")[:_REASON_LENGTH]
        else:
            return turned
        raise self._unexpected(reason, response, page)

    def _told(self, records: Records) -> Records:
        """Tell of the page, and leave out null items: a null is no record."""
        nulls = sum(record is None for record in records)
        if self.listener:
            self.listener.page(len(records), nulls)
        return [record for record in records if record is not None] if nulls else records

    def _stop_if(self, problem: str | None, page: int) -> None:
        if problem:
            error = PagingError(problem)
            error.at(self.resource, page, self.redactor)
            raise error

    def _unexpected(self, reason: str, response: requests.Response, page: int) -> ResponseError:
        return ResponseError(
            reason,
            resource=self.resource,
            page=page,
            response=response,
            redactor=self.redactor,
        )
