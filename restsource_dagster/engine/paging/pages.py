"""The page loop.

It stands where `RESTClient.paginate` stands in dlt and uses dlt's paginators, selectors and
detection, but an answer that is not what the file says is an error, never an empty page, and paging
that does not end is stopped.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
from dlt.common import jsonpath
from dlt.sources.helpers.rest_client.detector import PaginatorFactory
from dlt.sources.helpers.rest_client.paginators import BasePaginator
from dlt.sources.helpers.rest_client.utils import join_url
from jsonpath_ng import JSONPath
from requests.auth import AuthBase

from restsource_dagster.engine.errors import IngestError, RequestError, ResponseError
from restsource_dagster.engine.http.session import ApiSession
from restsource_dagster.engine.http.tokens import RenewingToken
from restsource_dagster.engine.paging.actions import Action, is_ignored
from restsource_dagster.engine.paging.guards import PageGuard
from restsource_dagster.engine.paging.selectors import (
    detect_selector,
    leads_to_an_empty_list,
    select,
)
from restsource_dagster.engine.redaction import Redactor

__all__ = ["Call", "Endpoint", "PageListener"]

Records = list[Any]


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


@dataclass(frozen=True)
class _Page:
    number: int
    response: requests.Response


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
    actions: Sequence[Action] = ()
    max_pages: int = 100_000
    listener: PageListener | None = None

    def pages(self, call: Call) -> Iterator[Records]:
        """The records of each page of a call, in order; every call starts its paginator anew.

        Raises `RequestError` if the API can't be reached, `ResponseError` if an answer is not what
        the connector file says it is.
        """
        request = self._request(call)
        paginator = deepcopy(self.paginator)
        selector = jsonpath.compile_path(self.data_selector) if self.data_selector else None
        guard = PageGuard(self.max_pages)
        if paginator:
            paginator.init_request(request)
        number = received = 0
        while paginator is None or number == 0 or paginator.has_next_page:
            number += 1
            self._stop_if(guard.check_request(request, number))
            page = _Page(number, self._send(request, number))
            if is_ignored(page.response, self.actions):
                return
            body = self._body(page)
            selector = detect_selector(body) if selector is None else selector
            records = self._records(page, body, selector)
            self._stop_if(guard.check_records(records, number))
            paginator = paginator or _detect_paginator(page.response)
            self._turn(paginator, request, page, records)
            received += len(records)
            yield self._told(records)
        if self.listener:
            self.listener.end(getattr(paginator, "promised_rows", None), received)

    def _request(self, call: Call) -> requests.Request:
        absolute = urlsplit(call.path).scheme in ("http", "https")
        url = call.path if absolute else join_url(self.base_url, call.path)
        return requests.Request(
            method=call.method.upper(),
            url=url,
            headers={**(self.headers or {}), **(call.headers or {})},
            params=dict(call.params or {}),
            json=dict(call.json) if call.json else None,
            data=call.data,
            auth=self.auth,
        )

    def _send(self, request: requests.Request, number: int) -> requests.Response:
        try:
            response = self._send_once(request)
            if response.status_code == requests.codes.unauthorized and self._renew(response):
                response = self._send_once(request)
        except IngestError as error:
            error.resource = error.resource or self.resource
            raise
        except (requests.RequestException, ValueError) as error:
            raise RequestError(
                resource=self.resource,
                page=number,
                url=self.redactor(str(request.url)),
                cause=self.redactor(f"{type(error).__name__}: {error}"),
            ) from None
        return response

    def _send_once(self, request: requests.Request) -> requests.Response:
        prepared = self.session.prepare_request(request)
        settings = self.session.merge_environment_settings(prepared.url, {}, None, None, None)
        return self.session.send(prepared, **settings)

    def _renew(self, refused: requests.Response) -> bool:
        """Get another token if this one was refused and can be renewed; once per request."""
        if not isinstance(self.auth, RenewingToken):
            return False
        self.auth.renew(refused.request)
        return True

    def _body(self, page: _Page) -> Any:
        response = page.response
        if response.status_code >= requests.codes.bad_request:
            raise self._unexpected(f"the API refused ({response.reason})", page)
        if not response.content.strip():
            raise self._unexpected("the answer is empty", page)
        try:
            return response.json()
        except (requests.exceptions.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._unexpected(f"the answer is not JSON ({error})", page) from None

    def _records(self, page: _Page, body: Any, selector: JSONPath) -> Records:
        records = select(selector, body)
        if records is not None:
            return records
        if body and not leads_to_an_empty_list(selector, body):
            raise self._unexpected(f"data_selector {self.data_selector!r} finds nothing", page)
        return []

    def _turn(
        self, paginator: BasePaginator, request: requests.Request, page: _Page, records: Records
    ) -> None:
        try:
            paginator.update_state(page.response, records)
            paginator.update_request(request)
        except (ValueError, TypeError, KeyError) as error:
            raise self._unexpected(f"the paginator can't read the answer: {error}", page) from error

    def _told(self, records: Records) -> Records:
        """Tell of the page, and leave out null items: a null is no record."""
        nulls = sum(record is None for record in records)
        if self.listener:
            self.listener.page(len(records), nulls)
        return [record for record in records if record is not None] if nulls else records

    def _stop_if(self, problem: str | None) -> None:
        if problem:
            error = IngestError(f"resource {self.resource}: {self.redactor(problem)}")
            error.resource = self.resource
            raise error

    def _unexpected(self, reason: str, page: _Page) -> ResponseError:
        return ResponseError(
            reason,
            resource=self.resource,
            page=page.number,
            response=page.response,
            redactor=self.redactor,
        )


def _detect_paginator(response: requests.Response) -> BasePaginator:
    paginator, _ = PaginatorFactory().create_paginator(response)
    if paginator is None:  # the factory's last resort is the single page
        raise ValueError("no paginator fits the answer")
    return paginator
