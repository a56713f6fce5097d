"""The page loop.

It stands where `RESTClient.paginate` stands in dlt and uses dlt's paginators, selectors and
detection, but an answer that is not what the file says is an error, never an empty page, and paging
that does not end is stopped.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
from dlt.common import jsonpath
from dlt.sources.helpers.rest_client.paginators import BasePaginator
from dlt.sources.helpers.rest_client.utils import join_url
from jsonpath_ng import JSONPath
from requests.auth import AuthBase

from restsource_dagster.engine.ahead.readahead import Fetch, ReadAhead
from restsource_dagster.engine.ahead.twins import key_of
from restsource_dagster.engine.http.session import ApiSession
from restsource_dagster.engine.paging.actions import Action
from restsource_dagster.engine.paging.asking import Asker
from restsource_dagster.engine.paging.course import Answer, Course, Records
from restsource_dagster.engine.paging.guards import PageGuard
from restsource_dagster.engine.paging.selectors import RecordReader, counts_rows
from restsource_dagster.engine.paging.totals import Account
from restsource_dagster.engine.parsing import FreshRecords
from restsource_dagster.engine.redaction import Redactor

__all__ = ["Call", "Endpoint", "PageListener"]


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
    def only_reads(self) -> bool:
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
    ahead: ReadAhead | None = None
    """Fetches pages before they are wanted; without it they are fetched one by one."""

    def pages(self, call: Call, *, may_stop: bool = False) -> Generator[Records, None, None]:
        """The records of each page of a call, in order; every call starts its paginator anew.

        `may_stop` tells that the caller may stop before the last page: less is fetched ahead then.
        Raises `RequestError` if the API can't be reached, `ResponseError` if an answer is not what
        the connector file says it is, `PagingError` if the paging does not end.
        """
        course, account = self._course(call), Account(self._counts_rows)
        with self._fetching(call, course, may_stop=may_stop) as fetch:
            while course.goes_on:
                request = course.next()
                page = course.turn(fetch(request, course.number))
                if page is None:
                    break
                account.page(page.response, page.body, len(page.records))
                yield self._told(page.records)
        if self.listener:
            self.listener.end(account.promised(course.paginator), account.rows)
            if missing := account.missing_pages(course.paginator):
                self.listener.note(missing)

    @cached_property
    def _asker(self) -> Asker:
        return Asker(self.resource, self.session, self.redactor, self.auth, self.actions)

    @property
    def looks_ahead(self) -> int:
        """How many calls may be foreseen at a time."""
        return self.ahead.most_foreseen if self.ahead else 0

    def foresee(self, call: Call, *, may_stop: bool, group: object) -> None:
        """Fetch the pages of a call that is about to be made, one of a group of such calls."""
        if self.ahead is not None and call.only_reads:
            course = self._course(call)
            self.ahead.foresee(
                self.resource, course, self._asker.ask, may_stop=may_stop, group=group
            )

    def foresee_for_later(self, call: Call, *, may_stop: bool) -> None:
        """Fetch the pages of a call that will be made later in the run."""
        if self.ahead is not None and call.only_reads:
            course = self._course(call)
            self.ahead.foresee_for_later(self.resource, course, self._asker.ask, may_stop=may_stop)

    def withdraw(self, group: object) -> None:
        """Calls of this group that were not made are not made any more."""
        if self.ahead is not None:
            self.ahead.withdraw(group)

    def _fetching(
        self, call: Call, course: Course, *, may_stop: bool
    ) -> AbstractContextManager[Fetch]:
        ask = self._asker.ask
        if self.ahead is None or not call.only_reads:
            return nullcontext(lambda request, page: Answer(ask(request, page)))
        return self.ahead.fetching(
            self.resource,
            key_of(course.request),
            lambda: self._course(call),
            ask,
            may_stop=may_stop,
        )

    @cached_property
    def _selector(self) -> JSONPath | None:
        return jsonpath.compile_path(self.data_selector) if self.data_selector else None

    @cached_property
    def _counts_rows(self) -> bool:
        return counts_rows(self.data_selector)

    def _course(self, call: Call) -> Course:
        return Course(
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
        if isinstance(records, FreshRecords):
            return records.without_nulls()
        return [record for record in records if record is not None]
