"""Read the pages of one resource's endpoint: send each request and yield the records of each page.

`EndpointReader.pages` stands in the place of dlt's `RESTClient.paginate` and uses dlt's paginators,
selectors and detection. Unlike there, a response that is not what the file says it is raises an error
and is never an empty page, and paging that does not end is stopped.
"""

from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import requests
from dlt.sources.helpers.rest_client.paginators import BasePaginator
from jsonpath_ng import JSONPath
from requests.auth import AuthBase

from restsource_dagster.connector.models.paginators import PagingRules
from restsource_dagster.connector.models.response_action import ResponseAction
from restsource_dagster.engine.dlt_compat import join_url, jsonpath
from restsource_dagster.engine.errors import (
    IngestError,
    PlaceRefusedError,
    RequestError,
    ResponseError,
)
from restsource_dagster.engine.http.json_body import ApiResponse, UnverifiedRecords
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.http.session import ApiSession, proxy_variable
from restsource_dagster.engine.paging.calls import (
    Call,
    CallToFetch,
    FetchPage,
    PageFetcher,
    PagePrefetch,
)
from restsource_dagster.engine.paging.page_iterator import (
    BOUNDARY_ROWS,
    Page,
    PageGuard,
    PageIterator,
    PageResponse,
    Records,
)
from restsource_dagster.engine.paging.paging_watch import PagingWatch
from restsource_dagster.engine.paging.place import CallProgress
from restsource_dagster.engine.paging.records import (
    RecordReader,
    check_status,
    selects_every_record,
)
from restsource_dagster.engine.paging.response_checks import (
    describe_failure,
    failure_beside_records,
    failure_field,
    matching_action,
)
from restsource_dagster.engine.paging.safe_paginators import TolerantRangePaginator, spelled_path
from restsource_dagster.engine.paging.totals import CallTotals

if TYPE_CHECKING:
    from restsource_dagster.engine.http.oauth import RenewingToken
    from restsource_dagster.engine.paging.file_records import FileFormat, FileRecords

__all__ = ["EndpointReader", "PageListener"]


@dataclass(frozen=True)
class _RequestSender:
    """Sends the requests of one resource."""

    resource: str
    session: ApiSession
    redactor: Redactor
    auth: AuthBase | None
    actions: Sequence[ResponseAction]

    def send(self, request: requests.Request, page: int) -> requests.Response:
        """Return the response to a request, whatever its status.

        If the API refuses the token, it is renewed once. Raises `RequestError` without a response,
        another `IngestError` for what the session's rules forbid, and `ResponseError` if the API
        refuses the new token, too.
        """
        try:
            response = self._send(request)
            token = self._refused_token(response)
            if token is None:
                return response
            # once: a second refusal is not about the age of the token
            token.renew(response.request)
            second = self._send(request)
        except IngestError as error:
            error.locate(self.resource, page, self.redactor)
            raise
        except (requests.RequestException, ValueError) as error:
            cause = self.redactor(f"{type(error).__name__}: {error}")
            advice = _advice_for(error, str(request.url))
        else:
            return self._check_renewed_token(second, page)
        # outside the `except`: the error must not keep the request and its secrets in its context
        raise RequestError(
            resource=self.resource,
            page=page,
            url=self.redactor(str(request.url)),
            cause=cause,
            advice=advice,
        )

    def _send(self, request: requests.Request) -> requests.Response:
        # as `requests.Session.request` does, which takes no request object
        prepared = self.session.prepare_request(request)
        settings = self.session.merge_environment_settings(prepared.url, {}, None, None, None)
        return self.session.send(prepared, **settings)

    def _refused_token(self, response: requests.Response) -> "RenewingToken | None":
        """Return the token if the API refused it and the file has no action for that response."""
        # a 401 that the file ignores or retries says nothing about the token
        if response.status_code != requests.codes.unauthorized:
            return None
        from restsource_dagster.engine.http.oauth import RenewingToken

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


def _advice_for(error: Exception, url: str) -> str | None:
    """Return what to do about a request without an answer, if that is not the API's fault."""
    # http.client refuses a header with a ValueError, before anything is sent
    if not isinstance(error, requests.RequestException) or isinstance(
        error, requests.exceptions.InvalidHeader
    ):
        return (
            "Nothing was sent. A header holds a line break, or a character that no header can have: "
            "check the headers and the auth of the file, and the variables that they name"
        )
    if variable := proxy_variable(url):
        return (
            f"The request went to the proxy of the environment variable {variable}. Is that proxy "
            "up? Else unset the variable, or add the API's host to NO_PROXY"
        )
    return None


class PageListener(Protocol):
    """Handles the progress of a resource's calls. Called from any thread."""

    def on_page(self, rows: int, nulls: int, *, ends_page: bool = True) -> None:
        """Handle a page, or a part of it before its last one. `nulls` of its `rows` items are null."""

    def on_call_end(self, stated_total: int | None, received: int) -> None:
        """Handle the end of a call with `received` items. `stated_total` is the API's last total."""

    def on_message(self, text: str) -> None:
        """Handle a sentence about the resource, for the user."""


def _why_cut_off(pages: PageIterator, last: Page | None) -> str | None:
    """Return why rows may follow the last page of a call; None if the paging came to its end.

    `last` is None if the last response had no page.
    """
    if pages.is_ended_by_ignore:
        return (
            f"the answer to page {pages.page_number} is one that the file ignores. If it is the end of the "
            "pages, write the action `end`"
        )
    paginator = pages.paginator
    if (
        last
        and last.listed
        and isinstance(paginator, TolerantRangePaginator)
        and paginator.is_cut_off
    ):
        return f"the paging ends at its maximum, {paginator.maximum_value}"
    return None


@dataclass(frozen=True)
class EndpointReader:
    """Reads one resource: holds everything about its requests that is the same for all calls."""

    resource: str
    base_url: str
    session: ApiSession
    redactor: Redactor
    headers: Mapping[str, str] | None = None
    auth: AuthBase | None = None
    paginator: BasePaginator | None = None
    rules: PagingRules = field(default_factory=PagingRules)
    """What ends the paging beside the paginator's own end."""
    file_format: "FileFormat | None" = None
    """How bodies on the disk are read; None if none goes there."""
    token_path: str | None = None
    """Where an answer has the token for the next run; None if there is none."""
    data_selector: str | None = None
    is_selector_from_file: bool = True
    """False if dlt chose the selector, as it does for a path that ends in an id."""
    actions: Sequence[ResponseAction] = ()
    allows_errors: bool = False
    """True if rows are loaded although the answer says beside them that something failed."""
    allowed_error_paths: Collection[str] = ()
    """Where GraphQL errors beside rows are allowed."""
    max_pages: int = 100_000  # above any real API: a guard against paging without an end
    listener: PageListener | None = None
    prefetcher: PagePrefetch | None = None
    """Fetches pages ahead; None: each page is fetched when the page loop asks for it."""

    def pages(
        self,
        call: Call,
        *,
        may_stop_early: bool = False,
        watch: PagingWatch | None = None,
        progress: CallProgress | None = None,
    ) -> Generator[Records, None, None]:
        """Yield the records of each page of a call, in order.

        Fewer pages are prefetched if the caller `may_stop_early`, before the last page. `watch`
        observes the end of the call. The call starts at the place of `progress`, else at its first
        page, and keeps `progress` up to date. Raises `RequestError` if the API can't be reached,
        `ResponseError` if a response is not what the connector file says it is, `PagingError` if the
        paging does not end, `PlaceRefusedError` if the API does not answer at the place any more.
        """
        progress = progress or CallProgress()
        pages = self._page_iterator(call, progress)
        totals = progress.totals = CallTotals(
            self._selects_every_record, is_filtered=call.is_filtered, carried=progress.carried
        )
        # a function: the place changes with each page, and is asked for at a checkpoint only
        progress.read_place = lambda: pages.next_place
        page: Page | None = None
        has_next = True
        tail: Sequence[Any] = ()
        with self._page_fetcher(call, pages, progress, may_stop_early=may_stop_early) as fetcher:
            while has_next:
                page = self._next_page(pages, fetcher.fetch)
                if page is None:
                    break
                progress.rows_before = 0
                if page.file is not None:
                    page = yield from self._read_file(page, page.file, pages, progress)
                has_next = pages.has_next_page
                # before the rows are used: the next page is on its way while these are processed
                if has_next:
                    fetcher.prefetch_after(page)
                totals.add_page(page.response, page.body, len(page.listed), pages.paginator)
                if watch and page.listed:
                    watch.observe_boundary(tail, page.listed, pages.page_number)
                    tail = page.listed[-BOUNDARY_ROWS:]
                said = self._report_errors(page, pages.page_number)
                if watch and said:
                    watch.doubt = said
                self._note_token(page, progress)
                progress.pages, progress.has_ended = pages.page_number, not has_next
                progress.is_capped = pages.is_capped
                yield self._report_page(page.records)
        # also if a response action said so, and no page came
        progress.has_ended = True
        # not reached if the caller stops early: the total of an incomplete call shows nothing
        self._report_end(pages, page, totals, watch)

    def _report_end(
        self,
        pages: PageIterator,
        page: Page | None,
        totals: CallTotals,
        watch: PagingWatch | None,
    ) -> None:
        """Report the end of a call, with what its total and its last page show of rows that are missing."""
        if pages.is_capped:
            return  # the total is of more rows than the call can have
        total = totals.total_records(pages.paginator)
        missing = totals.describe_missing_pages(pages.paginator)
        if watch:
            watch.doubt = watch.doubt or _why_cut_off(pages, page) or missing
        if watch and page:
            watch.observe_end(pages, page, totals, total)
        if self.listener:
            self.listener.on_call_end(total, totals.rows)
            if missing:
                self.listener.on_message(missing)

    def exchange(self, call: Call) -> tuple[requests.Response, Any]:
        """Send a request that is not for rows, and return the response and its JSON; {} for no body.

        Raises `ResponseError` for an error, and as `pages` does.
        """
        response = self._sender.send(self._request(call), 1)
        try:
            check_status(response, matching_action(response, self.actions))
            if not response.content.strip():
                return response, {}
            # the fast parser rounds long numbers, which ids may be
            if isinstance(response, ApiResponse):
                return response, response.parse_strictly()
            return response, response.json()
        except ValueError as error:
            reason = str(error)
        raise self.refusal(reason, response, {})

    def refusal(self, reason: str, response: requests.Response, body: Any) -> ResponseError:
        """Return the error of a response that is not for rows, with what its body says of an error."""
        field = failure_field(body)
        said = describe_failure(body, field) if field else ""
        return ResponseError(
            f"{reason}{said}",
            resource=self.resource,
            page=1,
            response=response,
            redact=self.redactor,
        )

    def full_url(self, path: str) -> str:
        """Return the URL of a path after `base_url`; a URL as it is."""
        is_absolute = urlsplit(path).scheme.lower() in ("http", "https")
        return path if is_absolute else join_url(self.base_url, path)

    def is_own(self, url: str) -> bool:
        """True if a URL has the origin that the credentials are for."""
        return self.session.rules.origins.is_own(url)

    def _read_file(
        self, page: Page, file: "FileRecords", pages: PageIterator, progress: CallProgress
    ) -> Generator[Records, None, Page]:
        """Yield all but the last batch of a body on the disk; return the page with the last one."""
        progress.pages, progress.is_within_page = pages.page_number, True
        reading = pages.read_file(page, file)
        try:
            while True:
                try:
                    batch = next(reading)
                except StopIteration as end:
                    read: Page = end.value
                    progress.is_within_page = False
                    return read
                yield self._report_page(batch, ends_page=False)
                progress.rows_before += len(batch)
        finally:
            reading.close()
            file.close()

    def _note_token(self, page: Page, progress: CallProgress) -> None:
        if self.token_path is None:
            return
        path = spelled_path(jsonpath.compile_path(self.token_path), page.body)
        for token in jsonpath.find_values(path, page.body)[:1]:
            progress.has_token_place = True
            progress.token = token if token not in (None, "") else progress.token

    def _next_page(self, pages: PageIterator, fetch: FetchPage) -> Page | None:
        """Return the next page; None if the answer is the end. See `pages` for what it raises."""
        request = pages.next_request()
        # an error of the first request at a stored place may mean that the place is gone, not the
        # rows
        is_at_place = pages.place is not None and not pages.has_advanced
        try:
            page = pages.advance(fetch(request, pages.page_number))
        except ResponseError as error:
            if not is_at_place or error.is_wall:
                raise
            raise PlaceRefusedError(self.resource, str(error)) from None
        if is_at_place and page is None and not pages.is_end_certain:
            # an action of the file, or a total, takes the answer for the end: here it may be no page
            raise PlaceRefusedError(self.resource, "the answer has no page")
        return page

    @property
    def max_prefetched_calls(self) -> int:
        """How many calls may be prefetched at a time; 0 without a prefetcher."""
        return self.prefetcher.max_prefetched_calls if self.prefetcher else 0

    def prefetch(self, call: Call, *, may_stop_early: bool, group: object) -> None:
        """Fetch the pages of a call that is about to be made, one of a group of such calls."""
        if self.prefetcher is not None and call.is_prefetchable:
            pages = self._page_iterator(call)
            self.prefetcher.prefetch(
                CallToFetch(self.resource, pages, self._sender.send, may_stop_early), group
            )

    def prefetch_for_later(
        self,
        call: Call,
        *,
        may_stop_early: bool = False,
        first_page_only: bool = False,
        progress: CallProgress | None = None,
    ) -> None:
        """Fetch the pages of a call that will be made later in the run, or its first page.

        The call starts at the place of `progress`.
        """
        if self.prefetcher is not None and call.is_prefetchable:
            send, pages = self._sender.send, self._page_iterator(call, progress)
            self.prefetcher.prefetch_for_later(
                CallToFetch(self.resource, pages, send, may_stop_early, first_page_only)
            )

    def cancel_prefetches(self, group: object) -> None:
        """Cancel this group's pending prefetches."""
        if self.prefetcher is not None:
            self.prefetcher.cancel_group(group)

    def keep_prefetches(self, group: object, part: object) -> None:
        """Keep this group's pending prefetches for the part of a load that follows `part`."""
        if self.prefetcher is not None:
            self.prefetcher.keep_group(group, part)

    def _page_fetcher(
        self, call: Call, pages: PageIterator, progress: CallProgress, *, may_stop_early: bool
    ) -> AbstractContextManager[PageFetcher]:
        send = self._sender.send
        if self.prefetcher is None or not call.is_prefetchable:
            return nullcontext(PageFetcher(lambda request, page: PageResponse(send(request, page))))
        return self.prefetcher.page_fetcher(
            CallToFetch(
                self.resource, pages, send, may_stop_early, is_kept=lambda: progress.goes_on
            )
        )

    # The cached properties below cost more than the rest of a small call, and a family may make
    # one call for each of thousands of parents.

    @cached_property
    def _sender(self) -> _RequestSender:
        return _RequestSender(self.resource, self.session, self.redactor, self.auth, self.actions)

    @cached_property
    def _selector(self) -> JSONPath | None:
        return jsonpath.compile_path(self.data_selector) if self.data_selector else None

    @cached_property
    def _selects_every_record(self) -> bool:
        return selects_every_record(self.data_selector)

    def _page_iterator(self, call: Call, progress: CallProgress | None = None) -> PageIterator:
        start = progress or CallProgress()
        return PageIterator(
            resource=self.resource,
            redactor=self.redactor,
            actions=self.actions,
            request=self._request(call),
            # a paginator keeps its position in itself
            paginator=deepcopy(self.paginator),
            record_reader=RecordReader(
                self.data_selector,
                is_from_file=self.is_selector_from_file,
                compiled=self._selector,
                allows_errors=self.allows_errors,
                allowed_error_paths=self.allowed_error_paths,
            ),
            guard=PageGuard(self.max_pages),
            rules=self.rules,
            file_format=self.file_format,
            place=start.place,
            page_number=start.pages,
            rows=start.carried.rows,
        )

    def _request(self, call: Call) -> requests.Request:
        return requests.Request(
            method=call.method.upper(),
            url=self.full_url(call.path),
            headers={**(self.headers or {}), **(call.headers or {})},
            params=dict(call.params or {}),
            json=deepcopy(dict(call.json)) if call.json else None,  # paginators write into it
            data=call.data,
            auth=self.auth,
        )

    def _report_errors(self, page: Page, number: int) -> str | None:
        """Report an error beside rows that the file allows, and return it in words; None without one."""
        if not (self.allows_errors or self.allowed_error_paths):
            return None
        field = failure_beside_records(page.body, page.listed)
        if field is None:
            return None
        said = f"page {number} says in `{field}` that something failed"
        if self.listener:
            setting = "partial_errors" if self.allows_errors else "allow_errors"
            self.listener.on_message(f"{said}; its rows are loaded ({setting})")
        return said

    def _report_page(self, records: Records, *, ends_page: bool = True) -> Records:
        """Report a page to the listener and return its records without nulls."""
        nulls = sum(record is None for record in records)
        if self.listener:
            self.listener.on_page(len(records), nulls, ends_page=ends_page)
        if not nulls:
            return records
        if isinstance(records, UnverifiedRecords):
            return records.without_nulls()
        return [record for record in records if record is not None]
