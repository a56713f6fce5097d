"""The page loop.

It stands where `RESTClient.paginate` stands in dlt and uses dlt's paginators, selectors and
detection, but an answer that is not what the file says is an error, never an empty page, and paging
that does not end is stopped.

One request of a page: credentials, the second try with a new token, and clear errors.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
from dlt.sources.helpers.rest_client.paginators import BasePaginator
from jsonpath_ng import JSONPath
from requests.auth import AuthBase

from restsource_dagster.connector.models.endpoint import ResponseAction
from restsource_dagster.engine.dlt_compat import join_url, jsonpath
from restsource_dagster.engine.errors import IngestError, RequestError, ResponseError
from restsource_dagster.engine.http.json_body import UnverifiedRecords
from restsource_dagster.engine.http.oauth import RenewingToken
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.http.session import ApiSession
from restsource_dagster.engine.paging.page_iterator import (
    PageGuard,
    PageIterator,
    PageResponse,
    Records,
)
from restsource_dagster.engine.paging.records import RecordReader, selects_every_record
from restsource_dagster.engine.paging.response_checks import matching_action
from restsource_dagster.engine.paging.totals import CallTotals
from restsource_dagster.engine.prefetch.prefetcher import FetchPage, Prefetcher
from restsource_dagster.engine.prefetch.response_replay import request_key

__all__ = ["Call", "EndpointReader", "PageListener", "RequestSender"]


@dataclass(frozen=True)
class RequestSender:
    """Sends the requests of one resource."""

    resource: str
    session: ApiSession
    redactor: Redactor
    auth: AuthBase | None
    actions: Sequence[ResponseAction]

    def ask(self, request: requests.Request, page: int) -> requests.Response:
        """The answer to a request, whatever its status.

        A token that is refused is renewed, once. Raises `RequestError` if there is no answer, other
        `IngestError`s for what the rules of the session forbid, `ResponseError` if a new token is
        refused, too.
        """
        try:
            response = self._send(request)
            token = self._refused_token(response)
            if token is None:
                return response
            token.renew(response.request)
            again = self._send(request)
        except IngestError as error:
            error.locate(self.resource, page, self.redactor)
            raise
        except (requests.RequestException, ValueError) as error:
            cause = self.redactor(f"{type(error).__name__}: {error}")
        else:
            return self._check_renewed_token(again, page)
        # out here, so that the error does not hang on to the request and its secrets
        raise RequestError(
            resource=self.resource, page=page, url=self.redactor(str(request.url)), cause=cause
        )

    def _send(self, request: requests.Request) -> requests.Response:
        prepared = self.session.prepare_request(request)
        settings = self.session.merge_environment_settings(prepared.url, {}, None, None, None)
        return self.session.send(prepared, **settings)

    def _refused_token(self, response: requests.Response) -> RenewingToken | None:
        """The token, if it was refused and the connector file does not expect that."""
        if response.status_code != requests.codes.unauthorized:
            return None
        if not isinstance(self.auth, RenewingToken) or matching_action(response, self.actions):
            return None
        return self.auth

    def _check_renewed_token(self, response: requests.Response, page: int) -> requests.Response:
        if self._refused_token(response) is None:
            return response
        raise ResponseError(
            "the API refused the token and then a new one, too",
            resource=self.resource,
            page=page,
            response=response,
            redact=self.redactor,
        )


@dataclass(frozen=True)
class Call:
    """One call of an endpoint, all placeholders filled in."""

    path: str
    method: str = "GET"
    headers: Mapping[str, Any] | None = None
    params: Mapping[str, Any] | None = None
    json: Mapping[str, Any] | None = None
    data: Any = None

    @property
    def is_prefetchable(self) -> bool:
        """Whether it may be sent before it is known to be wanted. POST is how many APIs search."""
        return self.method.upper() in ("GET", "HEAD", "POST")


class PageListener(Protocol):
    """Is told of what arrives, from any thread."""

    def page(self, rows: int, nulls: int) -> None:
        """A page with so many items, nulls among them."""

    def end(self, promised: int | None, received: int) -> None:
        """A call ended: the total that the API named last, if it did, and the items received."""

    def note(self, text: str) -> None:
        """Something a person wants to know."""


@dataclass(frozen=True)
class EndpointReader:
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
    actions: Sequence[ResponseAction] = ()
    max_pages: int = 100_000
    listener: PageListener | None = None
    ahead: Prefetcher | None = None
    """Fetches pages before they are wanted; without it they are fetched one by one."""

    def pages(self, call: Call, *, may_stop: bool = False) -> Generator[Records, None, None]:
        """The records of each page of a call, in order; every call starts its paginator anew.

        `may_stop` tells that the caller may stop before the last page: less is fetched ahead then.
        Raises `RequestError` if the API can't be reached, `ResponseError` if an answer is not what
        the connector file says it is, `PagingError` if the paging does not end.
        """
        course, account = self._course(call), CallTotals(self._counts_rows)
        with self._page_fetcher(call, course, may_stop=may_stop) as fetch:
            while course.has_next_page:
                request = course.next()
                page = course.turn(fetch(request, course.number))
                if page is None:
                    break
                account.page(page.response, page.body, len(page.records))
                yield self._told(page.records)
        if self.listener:
            self.listener.end(account.promised(course.paginator), account.rows)
            if missing := account.describe_missing_pages(course.paginator):
                self.listener.note(missing)

    @cached_property
    def _sender(self) -> RequestSender:
        return RequestSender(self.resource, self.session, self.redactor, self.auth, self.actions)

    @property
    def looks_ahead(self) -> int:
        """How many calls may be foreseen at a time."""
        return self.ahead.max_prefetched_calls if self.ahead else 0

    def foresee(self, call: Call, *, may_stop: bool, group: object) -> None:
        """Fetch the pages of a call that is about to be made, one of a group of such calls."""
        if self.ahead is not None and call.is_prefetchable:
            course = self._course(call)
            self.ahead.foresee(
                self.resource, course, self._sender.ask, may_stop=may_stop, group=group
            )

    def foresee_for_later(self, call: Call, *, may_stop: bool) -> None:
        """Fetch the pages of a call that will be made later in the run."""
        if self.ahead is not None and call.is_prefetchable:
            course = self._course(call)
            self.ahead.foresee_for_later(self.resource, course, self._sender.ask, may_stop=may_stop)

    def withdraw(self, group: object) -> None:
        """Calls of this group that were not made are not made any more."""
        if self.ahead is not None:
            self.ahead.withdraw(group)

    def _page_fetcher(
        self, call: Call, course: PageIterator, *, may_stop: bool
    ) -> AbstractContextManager[FetchPage]:
        ask = self._sender.ask
        if self.ahead is None or not call.is_prefetchable:
            return nullcontext(lambda request, page: PageResponse(ask(request, page)))
        return self.ahead.page_fetcher(
            self.resource,
            request_key(course.request),
            lambda: self._course(call),
            ask,
            may_stop=may_stop,
        )

    @cached_property
    def _selector(self) -> JSONPath | None:
        return jsonpath.compile_path(self.data_selector) if self.data_selector else None

    @cached_property
    def _counts_rows(self) -> bool:
        return selects_every_record(self.data_selector)

    def _course(self, call: Call) -> PageIterator:
        return PageIterator(
            resource=self.resource,
            redactor=self.redactor,
            actions=self.actions,
            request=self._request(call),
            paginator=deepcopy(self.paginator),
            reader=RecordReader(
                self.data_selector, is_given=self.selector_is_given, compiled=self._selector
            ),
            guard=PageGuard(self.max_pages),
        )

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

    def _told(self, records: Records) -> Records:
        """Tell of the page, and leave out null items: a null is no record."""
        nulls = sum(record is None for record in records)
        if self.listener:
            self.listener.page(len(records), nulls)
        if not nulls:
            return records
        if isinstance(records, UnverifiedRecords):
            return records.without_nulls()
        return [record for record in records if record is not None]
