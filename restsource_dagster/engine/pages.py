"""The page loop: from one call of an endpoint to the records of all its pages.

It stands where `RESTClient.paginate` stands in dlt and uses dlt's paginators, selectors and
detection, but an answer that is not what the file says is an error, never an empty page.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import requests
from dlt.common import jsonpath
from dlt.sources.helpers.rest_client.detector import PaginatorFactory, find_response_page_data
from dlt.sources.helpers.rest_client.paginators import BasePaginator
from dlt.sources.helpers.rest_client.utils import join_url
from jsonpath_ng import Child, Fields, JSONPath, Root, Slice
from requests.auth import AuthBase

from restsource_dagster.engine.errors import RequestError, ResponseError
from restsource_dagster.engine.redaction import Redactor
from restsource_dagster.engine.session import ApiSession

__all__ = ["Call", "Endpoint", "Page", "is_ignored"]

Records = list[Any]
Action = Mapping[str, Any]
"""One entry of `response_actions`: `status_code`, `content`, `action`."""


@dataclass(frozen=True)
class Call:
    """One call of an endpoint, all placeholders filled in."""

    path: str
    method: str = "GET"
    headers: Mapping[str, Any] | None = None
    params: Mapping[str, Any] | None = None
    json: Mapping[str, Any] | None = None
    data: Any = None


@dataclass(frozen=True)
class Page:
    """One answer of the API, and where it stands among the pages of its call (from 1)."""

    number: int
    response: requests.Response


def is_ignored(response: requests.Response, actions: Sequence[Action]) -> bool:
    """Whether an action of the file says to ignore this answer.

    As dlt matches: all that an action names must hold; one that names nothing never holds.
    """
    return any(
        action.get("action") == "ignore"
        and (action.get("status_code") is not None or action.get("content") is not None)
        and action.get("status_code") in (None, response.status_code)
        and (action.get("content") is None or action["content"] in response.text)
        for action in actions
    )


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
    on_page: Callable[[int], None] = lambda _: None
    """Told the number of records of each page."""

    def pages(self, call: Call) -> Iterator[Records]:
        """The records of each page of a call, in order; every call starts its paginator anew.

        Raises `RequestError` if the API can't be reached, `ResponseError` if an answer is not what
        the connector file says it is.
        """
        request = self._request(call)
        paginator = deepcopy(self.paginator)
        selector = jsonpath.compile_path(self.data_selector) if self.data_selector else None
        number = 0
        if paginator:
            paginator.init_request(request)
        while paginator is None or number == 0 or paginator.has_next_page:
            number += 1
            page = Page(number, self._send(request, number))
            if is_ignored(page.response, self.actions):
                return
            body = self._body(page)
            selector = selector or _detect_selector(body)
            records = self._records(page, body, selector)
            paginator = paginator or _detect_paginator(page.response)
            self._turn(paginator, request, page, records)
            self.on_page(len(records))
            yield records

    def _request(self, call: Call) -> requests.Request:
        absolute = urlsplit(call.path).scheme in ("http", "https")
        return requests.Request(
            method=call.method.upper(),
            url=call.path if absolute else join_url(self.base_url, call.path),
            headers={**(self.headers or {}), **(call.headers or {})},
            params=dict(call.params or {}),
            json=dict(call.json) if call.json else None,
            data=call.data,
            auth=self.auth,
        )

    def _send(self, request: requests.Request, number: int) -> requests.Response:
        try:
            prepared = self.session.prepare_request(request)
            settings = self.session.merge_environment_settings(prepared.url, {}, None, None, None)
            return self.session.send(prepared, **settings)
        except requests.HTTPError as error:
            if error.response is None:
                raise
            raise self._unexpected(
                "the API refused a token", Page(number, error.response)
            ) from None
        except requests.RequestException as error:
            raise RequestError(
                resource=self.resource,
                page=number,
                url=self.redactor(str(request.url)),
                cause=self.redactor(f"{type(error).__name__}: {error}"),
            ) from None

    def _body(self, page: Page) -> Any:
        response = page.response
        if response.status_code >= 400:
            raise self._unexpected(f"the API refused ({response.reason})", page)
        if not response.content.strip():
            raise self._unexpected("the answer is empty", page)
        try:
            return response.json()
        except requests.exceptions.JSONDecodeError as error:
            raise self._unexpected(f"the answer is not JSON ({error})", page) from None

    def _records(self, page: Page, body: Any, selector: JSONPath) -> Records:
        found = jsonpath.find_values(selector, body)
        if not found and body and not _leads_to_an_empty_list(selector, body):
            raise self._unexpected(f"data_selector {self.data_selector!r} finds nothing", page)
        records = found[0] if len(found) == 1 else found
        if records is None:
            return []
        return records if isinstance(records, list) else [records]

    def _turn(
        self, paginator: BasePaginator, request: requests.Request, page: Page, records: Records
    ) -> None:
        try:
            paginator.update_state(page.response, records)
            paginator.update_request(request)
        except (ValueError, TypeError, KeyError) as error:
            raise self._unexpected(
                f"the paginator can't read the answer ({error})", page
            ) from error

    def _unexpected(self, reason: str, page: Page) -> ResponseError:
        return ResponseError(
            reason,
            resource=self.resource,
            page=page.number,
            response=page.response,
            redactor=self.redactor,
        )

    def with_paginator(self, paginator: BasePaginator | None) -> "Endpoint":
        """The same endpoint, paged in another way."""
        return replace(self, paginator=paginator)


def _detect_selector(body: Any) -> JSONPath:
    """Where dlt's detection finds the records; fields are quoted by construction, not by text."""
    path, _ = find_response_page_data(body)
    selector: JSONPath = Root()
    for field in path:
        selector = selector if field == "$" else Child(selector, Fields(field))
    return selector


def _detect_paginator(response: requests.Response) -> BasePaginator:
    paginator, _ = PaginatorFactory().create_paginator(response)
    if paginator is None:  # the factory's last resort is the single page
        raise ValueError("no paginator fits the answer")
    return paginator


def _leads_to_an_empty_list(selector: JSONPath, body: Any) -> bool:
    """Whether a selector such as `data[*].item` finds nothing because `data` is empty."""
    while isinstance(selector, Child):
        if isinstance(selector.right, Slice):
            found = jsonpath.find_values(selector.left, body)
            return any(value == [] or value is None for value in found)
        selector = selector.left
    return False
