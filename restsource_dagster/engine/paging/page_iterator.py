"""Track the paging of one call: which request comes next, and what a response means for it.

It sends nothing itself, so that the page loop and a prefetch of the same call take the same steps.
"""

import hashlib
import json
import marshal
from collections.abc import Generator, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import requests
from dlt.sources.helpers.rest_client.paginators import BasePaginator

from restsource_dagster.connector.models.paginators import PagingRules
from restsource_dagster.connector.models.response_action import ActionName, ResponseAction
from restsource_dagster.engine.dlt_compat import jsonpath
from restsource_dagster.engine.errors import (
    PagingError,
    ParentGoneError,
    ResponseError,
    SkippedResourceError,
)
from restsource_dagster.engine.http.json_body import ApiResponse
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.paging.place import Place, go_to_place, read_place
from restsource_dagster.engine.paging.records import (
    RecordReader,
    Selection,
    UnusableBodyError,
    check_status,
    extract_records,
    parse_body,
)
from restsource_dagster.engine.paging.response_checks import matching_action
from restsource_dagster.engine.paging.safe_paginators import (
    TolerantRangePaginator,
    detect_paginator,
    spelled_path,
)

if TYPE_CHECKING:
    from restsource_dagster.engine.http.body_file import BodyFile
    from restsource_dagster.engine.paging.file_records import FileFormat, FileRecords

__all__ = ["BOUNDARY_ROWS", "Page", "PageGuard", "PageIterator", "PageResponse", "copy_request"]

Records = list[Any]

# what APIs answer to a page after the last one
_PAST_END_STATUSES = frozenset({400, 404, 416, 422})
_PAGINATOR_REASON_CHARS = 300
# A digest of all records of a large page takes as long as parsing it. Fifty records nearly always show
# that a page is new. If their digest is known, all records are digested, so that no page is taken for
# another. A page that does repeat is then recognised when it comes once more.
_SAMPLE_SIZE = 50
# the last version before marshal writes references, by which equal values differ
_MARSHAL_VERSION = 2


@dataclass(frozen=True)
class PageResponse:
    """The response to the request of a page."""

    response: requests.Response
    digest: bytes | None = None
    """The digest of its records, if they were read before."""


@dataclass(frozen=True)
class Page:
    """The content of a response."""

    response: requests.Response
    body: Any
    records: Records
    listed: Sequence[Any]
    """The items before a filter in the selector (`Selection.listed`): what the API calls a page."""
    digest: bytes | None
    """Equal pages have equal digests. None if there are no items."""
    file: "FileRecords | None" = None
    """A body on the disk, whose first batch `records` is. The paging goes on once it is read."""


BOUNDARY_ROWS = 100
"""So many rows at the end of a page are compared with the beginning of the next one."""


class CountedRows(Sequence[Any]):
    """Stands for the rows of a body on the disk: their number, and `BOUNDARY_ROWS` at each end."""

    def __init__(self, rows: Records) -> None:
        self._count = 0
        self._first: Records = []
        self._last: Records = []
        self.add(rows)

    def add(self, rows: Records) -> None:
        """Add the next batch of rows."""
        self._count += len(rows)
        self._first += rows[: BOUNDARY_ROWS - len(self._first)]
        self._last = (self._last + rows[-BOUNDARY_ROWS:])[-BOUNDARY_ROWS:]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        start = index.start or 0 if isinstance(index, slice) else index
        return self._last[index] if start < 0 else self._first[index]


@dataclass
class PageGuard:
    """Finds paging that does not end: a request or a page that is repeated, or too many pages.

    It keeps a digest of every request and page, not the pages. Each check returns the problem in
    words, or None.
    """

    max_pages: int
    _requests: dict[bytes, int] = field(default_factory=dict)
    _pages: dict[bytes, int] = field(default_factory=dict)
    _digests: set[bytes] = field(default_factory=set)

    def check_request(self, request: requests.Request, page: int) -> str | None:
        """Return a problem if the next request was sent before or is one too many."""
        if page > self.max_pages:
            return (
                f"there are more than {self.max_pages} pages (http.max_pages); if that is right, "
                "raise it"
            )
        earlier = self._requests.setdefault(_digest_of_request(request), page)
        if earlier == page:
            return None
        return (
            f"page {page} would ask for what page {earlier} asked for: the next link or cursor "
            "that the API gave does not move"
        )

    def knows_request(self, request: requests.Request) -> bool:
        """True if a request was sent before."""
        return _digest_of_request(request) in self._requests

    def check_records(
        self, records: list[Any], page: int, digest: bytes | None = None
    ) -> tuple[str | None, bytes | None]:
        """Return a problem if a page has the records of an earlier one; and the records' digest.

        A page of one or two records may equal an earlier one by chance, so it counts only if it
        equals the page directly before it. Pass the `digest` of the records if it is known.
        """
        if not records:
            return None, None
        if digest is None:
            digest = self._digest_of(records)
        self._digests.add(digest)
        earlier = self._pages.get(digest)
        self._pages[digest] = page
        if earlier is None or (earlier != page - 1 and len(records) <= 2):
            return None, digest
        problem = (
            f"page {page} has the very records of page {earlier}: the API seems to ignore the "
            "paging parameters; check the paginator, or use `single_page` if it does not page"
        )
        return problem, digest

    def _digest_of(self, records: list[Any]) -> bytes:
        if len(records) > _SAMPLE_SIZE:
            step = (len(records) - 1) // (_SAMPLE_SIZE - 1)
            sample = [*records[: step * (_SAMPLE_SIZE - 1) : step], records[-1]]
            digest = _digest(marshal.dumps([len(records), sample], _MARSHAL_VERSION))
            if digest not in self._digests:
                return digest
        # a list, not `UnverifiedRecords`: marshal writes no subclasses
        return _digest(marshal.dumps(list(records), _MARSHAL_VERSION))


def _digest_of_request(request: requests.Request) -> bytes:
    parts = (request.method, request.url, request.params, request.json, request.data)
    text = json.dumps(parts, sort_keys=True, default=str)
    return _digest(text.encode("utf-8", "surrogatepass"))


_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _flag_at(body: Any, path: str | None, name: str, *, default: bool | None) -> bool:
    """Return the flag at a path; `default` if there is none, True without a path for `has_more_path`.

    Raises `ValueError` if it is no flag, or is absent without a default.
    """
    if not path:
        return default is None
    found = jsonpath.find_values(spelled_path(jsonpath.compile_path(path), body), body)
    if not found or found[0] is None:
        if default is None:
            raise ValueError(f"`{name}` {path} finds nothing")
        return default
    flag = _FLAGS.get(str(found[0]).lower())
    if flag is None:
        raise ValueError(f"`{name}` {path} gives {found[0]!r}, neither true nor false")
    return flag


def copy_request(request: requests.Request) -> requests.Request:
    """Return a copy that stays as it is when a paginator changes the request in place."""
    copied = copy(request)
    copied.headers = dict(request.headers or {})
    copied.params = deepcopy(request.params)
    copied.json = deepcopy(request.json)
    copied.data = deepcopy(request.data)
    return copied


def _digest(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=16).digest()


@dataclass
class PageIterator:
    """The paging of one call. Single-threaded.

    `request` is the next request; it is changed in place from page to page. `paginator` belongs to
    this call alone.
    """

    resource: str
    redactor: Redactor
    actions: Sequence[ResponseAction]
    request: requests.Request
    paginator: BasePaginator | None
    record_reader: RecordReader
    guard: PageGuard
    rules: PagingRules = field(default_factory=PagingRules)
    """What ends the paging beside the paginator's own end."""
    file_format: "FileFormat | None" = None
    """How bodies on the disk are read."""
    place: Place | None = None
    """Where an earlier call ended; None to begin at the first page."""
    page_number: int = 0
    """The page whose request was returned last; pages count from 1."""
    is_detected: bool = False
    """True if the file names no paginator, so that the first response decides."""
    has_advanced: bool = False
    """True once a page was read."""
    is_ended_by_rule: bool = False
    """True if a rule of the file ended the paging, whatever the paginator says."""
    is_end_certain: bool = False
    """True if the answer to a numbered page is the end by the file's `end`: no number expires."""
    is_ended_by_ignore: bool = False
    """True if the paging ended at a response that the file ignores, which may be no end of the rows."""
    _ends_by_action: bool = False
    """True if the response of this page is the last one by the file's `end`."""
    rows: int = 0
    """The rows that were read, those of earlier parts of the load included."""
    is_capped: bool = False
    """True if the paging ended because the API returns no more rows to one query (`max_rows`)."""
    _has_ended: bool = False

    def __post_init__(self) -> None:
        self.is_detected = self.paginator is None
        if self.place is not None:
            self._drop_first_page_params()
            self.paginator = go_to_place(self.paginator, self.place, self.request)
        elif self.paginator:
            self.paginator.init_request(self.request)

    def copy(self) -> "PageIterator":
        """Return an iterator that stands at the same page and goes on by itself."""
        made = copy(self)  # not `replace`, which would begin the paging anew
        made.request, made.paginator = copy_request(self.request), deepcopy(self.paginator)
        made.guard, made.record_reader = deepcopy(self.guard), copy(self.record_reader)
        return made

    @property
    def has_next_page(self) -> bool:
        """True if there is a page to request."""
        if self._has_ended:
            return False
        return self.paginator is None or not self.has_advanced or self.paginator.has_next_page

    @property
    def next_place(self) -> Place | None:
        """The place of the next page; None if there is none, or if it can't be stored."""
        if not self.has_advanced:
            return self.place
        if not self.has_next_page:
            return None
        return read_place(self.paginator, is_detected=self.is_detected, redactor=self.redactor)

    def next_request(self) -> requests.Request:
        """Return the request of the next page. Raises `PagingError` if it repeats an earlier one."""
        self.page_number += 1
        self._raise_if(self.guard.check_request(self.request, self.page_number))
        return self.request

    def advance(self, received: PageResponse) -> Page | None:
        """Read a page and prepare the request of the next one; None if the response is the end.

        Raises `ResponseError` if the response is not what the connector file says it is,
        `PagingError` if the page repeats an earlier one, `SkippedResourceError` and `ParentGoneError` if
        the file says so.
        """
        response = received.response
        action = matching_action(response, self.actions)
        self._raise_if_left_out(response, action)
        is_past_the_end = self._is_past_the_end(response)
        if action == "ignore" or is_past_the_end or self._is_end(response, action):
            self._has_ended = True
            self.is_ended_by_ignore = action == "ignore" and not is_past_the_end
            self.is_end_certain = action == "end" and isinstance(
                self.paginator, TolerantRangePaginator
            )
            return None
        self._ends_by_action = action == "end" and response.ok
        action = None if self._ends_by_action else action
        if isinstance(response, ApiResponse) and (file := self._stored_rows(response)):
            return self._begin_file(response, file, action)
        selection, body = self._read(response, action)
        listed = selection.listed
        problem, digest = self.guard.check_records(listed, self.page_number, received.digest)
        if problem and self.rules.stop_when_repeated:
            self._end_by_rule()
            return None
        self._raise_if(problem)
        return self.finish(Page(response, body, selection.records, listed, digest))

    def finish(self, page: Page) -> Page:
        """Prepare the request of the page after this one, and return this one."""
        response, body = page.response, page.body
        # the items before the filter: a page whose records are all filtered out is not the last one
        self.paginator = self._advance_paginator(response, body, page.listed)
        self.has_advanced = True
        if self._ends_by_action or (self.paginator.has_next_page and self._is_last(response, body)):
            self._end_by_rule()
        self.rows += len(page.listed)
        if not self._ends_by_action and self._is_at_cap(len(page.listed)):
            self._has_ended = self.is_capped = True
        return page

    def _is_at_cap(self, page_rows: int) -> bool:
        """True if the API has no more rows for this query, or would refuse the next page."""
        most = self.rules.max_rows
        if most is None or not page_rows:
            return False
        # with as many rows as it has at most, an API may name no next page, as if there were no more
        return self.rows >= most or (self.has_next_page and self.rows + page_rows > most)

    def _stored_rows(self, response: ApiResponse) -> "BodyFile | None":
        """Return the body on the disk; None if there is none. JSON is read into memory then."""
        file, file_format = response.file, self.file_format
        if file is None or file_format is None or not file_format.is_json(response):
            return file
        from restsource_dagster.engine.http.body_file import BodyError

        try:
            response.use_text(file_format.read_json(response, file))
        except BodyError as error:
            reason = str(error)
        else:
            return None
        finally:
            file.close()
        raise self.response_error(reason, response)

    def _begin_file(
        self, response: ApiResponse, file: "BodyFile", action: ActionName | None
    ) -> Page | None:
        """Return the page of a body on the disk. Return None at the end: the body repeats an earlier page."""
        from restsource_dagster.engine.http.body_file import BodyError
        from restsource_dagster.engine.paging.file_records import FileFormat, FileRecords

        try:
            check_status(response, action)
            records = FileRecords(response, file, self.file_format or FileFormat())
            first = records.next_batch() or []
        except (BodyError, UnusableBodyError) as error:
            reason = str(error)
        else:
            problem, digest = self.guard.check_records(first, self.page_number, file.digest)
            if problem and self.rules.stop_when_repeated:
                self._end_by_rule()
                return None
            self._raise_if(problem)
            return Page(response, {}, first, CountedRows(first), digest, records)
        file.close()
        raise self.response_error(reason, response)

    def read_file(self, page: Page, file: "FileRecords") -> Generator[Records, None, Page]:
        """Yield all but the last batch of a body on the disk; return the page with the last one.

        Raises `ResponseError`, with the line, row or byte, for a body that is broken.
        """
        last, counted = page.records, CountedRows(page.records)
        try:
            while (batch := file.next_batch()) is not None:
                yield last
                last = batch
                counted.add(batch)
            self.record_reader.check_beside(file.beside, len(counted))
        except ValueError as error:
            reason = str(error)
        else:
            if isinstance(page.response, ApiResponse):
                page.response.use_parsed(file.beside)
            return self.finish(Page(page.response, file.beside, last, counted, page.digest))
        finally:
            file.close()
        raise self.response_error(reason, page.response)

    def _is_last(self, response: requests.Response, body: Any) -> bool:
        """True if the file's rules say that no page follows this one."""
        rules = self.rules
        if rules.stop_when_repeated and self.guard.knows_request(self.request):
            return True
        try:
            return _flag_at(body, rules.end_path, "end_path", default=False) or not _flag_at(
                body, rules.has_more_path, "has_more_path", default=None
            )
        except ValueError as error:
            reason = str(error)
        raise self.response_error(reason, response)

    def _end_by_rule(self) -> None:
        self._has_ended = self.is_ended_by_rule = True

    def _drop_first_page_params(self) -> None:
        for name in self.rules.first_page_params or ():
            if isinstance(self.request.params, dict):
                self.request.params.pop(name, None)

    def _is_past_the_end(self, response: requests.Response) -> bool:
        """True if the newest total says that this page need not exist, and the API refuses it."""
        paginator = self.paginator
        return (
            isinstance(paginator, TolerantRangePaginator)
            and paginator.may_be_past_the_end
            and response.status_code in _PAST_END_STATUSES
        )

    def _is_end(self, response: requests.Response, action: ActionName | None) -> bool:
        """True if `end` matches a response without rows. An error as the first answer is none."""
        if action != "end":
            return False
        if not response.ok:
            return self.page_number > 1
        is_stored = isinstance(response, ApiResponse) and response.file is not None
        return not is_stored and not response.content.strip()

    def _raise_if_left_out(self, response: requests.Response, action: ActionName | None) -> None:
        """Raise what the file says of this response, if its rows are not wanted."""
        answer = f"the API answered {response.status_code} ({response.reason})"
        if action == "gone":
            raise ParentGoneError(f"resource {self.resource}: {answer}")
        # after the first page the resource can't be left as it is
        if action == "skip" and self.page_number == 1:
            raise SkippedResourceError(self.resource, answer)

    def _read(
        self, response: requests.Response, action: ActionName | None
    ) -> tuple[Selection, Any]:
        try:
            return extract_records(response, self.record_reader, parse_body(response, action))
        except ValueError as error:
            reason = str(error)
        # outside the `except`: the body in the error's context may hold a secret
        raise self.response_error(reason, response)

    def _advance_paginator(
        self, response: requests.Response, body: Any, listed: Sequence[Any]
    ) -> BasePaginator:
        """Return the paginator, detected at the first page, with its request at the next page."""
        try:
            paginator = self.paginator or detect_paginator(response, body)
            # paginators need no more than the number of the rows
            paginator.update_state(response, cast("Records", listed))
            self._drop_first_page_params()
            paginator.update_request(self.request)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # dlt's errors quote the whole response; redacted before it is cut, so that no half of a
            # secret is left
            reason = self.redactor(f"the paginator can't read the answer: {error}")[
                :_PAGINATOR_REASON_CHARS
            ]
        else:
            return paginator
        raise self.response_error(reason, response)

    def _raise_if(self, problem: str | None) -> None:
        if problem:
            error = PagingError(problem)
            error.locate(self.resource, self.page_number, self.redactor)
            raise error

    def response_error(self, reason: str, response: requests.Response) -> ResponseError:
        """Return the error of the current page."""
        return ResponseError(
            reason,
            resource=self.resource,
            page=self.page_number,
            response=response,
            redact=self.redactor,
        )
