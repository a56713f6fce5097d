"""The first pages of each call of a resource, and what they show of its paging."""

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import requests
from dlt.sources.helpers.rest_client.paginators import SinglePagePaginator

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.errors import (
    IngestError,
    ParentGoneError,
    PlaceRefusedError,
    SkippedResourceError,
    SyncTokenRefusedError,
)
from restsource_dagster.engine.http.cancellation import RequestCancelled, Sleep
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.http.token_store import TokenStore
from restsource_dagster.engine.paging.calls import Call
from restsource_dagster.engine.paging.endpoint_reader import EndpointReader
from restsource_dagster.engine.paging.paging_watch import (
    PagingWatch,
    describe_full_page,
    describe_more_pages,
    signs_of_next_page,
)
from restsource_dagster.engine.paging.place import CallProgress
from restsource_dagster.engine.paging.response_checks import ID_KEYS
from restsource_dagster.engine.paging.totals import stated_total
from restsource_dagster.engine.plan.resource_plan import ResourcePlan
from restsource_dagster.engine.preview.preview_limits import PreviewLimits, PreviewWatch
from restsource_dagster.engine.preview.previewed import PagingVerdict, PreviewedPaging
from restsource_dagster.engine.run_progress import Progress
from restsource_dagster.engine.source.endpoint_factory import EndpointFactory
from restsource_dagster.state.store import FolderStore

__all__ = ["PreviewEndpoints", "SeenPages"]

_FOR_THE_ENGINE = (ParentGoneError, PlaceRefusedError, SyncTokenRefusedError)
"""Errors by which the engine finds its way; the others end a call of a preview."""


@dataclass
class _SeenCall:
    """The pages of one call: what tells the rows of each from one another."""

    pages: list[list[str]] = field(default_factory=list)
    has_ended: bool = False
    more: str | None = None
    """Why more pages must exist although the first answer was read as the last one."""
    full: str | None = None
    """That the only page is full."""
    total: int | None = None
    is_single_page: bool = False
    """True if the file says that there are no more pages."""


@dataclass
class SeenPages:
    """What was read of one resource. Used in the thread that extracts."""

    resource: str
    limits: PreviewLimits
    watch: PreviewWatch
    may_skip: bool = False
    """True if the file lets the engine skip parents whose call fails."""
    calls_left: int = 0
    received: int = 0
    records: list[Any] = field(default_factory=list)
    """The first rows, as they came."""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _calls: list[_SeenCall] = field(default_factory=list)

    def may_call(self) -> bool:
        """Return True if one more call may be made; if not, count it as left."""
        if len(self._calls) < self.limits.calls:
            return True
        self.calls_left += 1
        return False

    def begin_call(self) -> bool:
        """Begin a call, and return True, if one more may be made."""
        if not self.may_call():
            return False
        self._calls.append(_SeenCall())
        return True

    def add_page(self, records: Sequence[Any], endpoint: EndpointReader, call: Call) -> None:
        """Add a page of the last call. Call it before its records are changed."""
        # copies: the steps of the file change the records in place
        texts = [json.dumps(record, sort_keys=True, default=str) for record in records]
        self.received += len(texts)
        missing = self.limits.rows - len(self.records)
        self.records += [json.loads(text) for text in texts[: max(0, missing)]]
        self._calls[-1].pages.append(_identities(records, texts))
        # a later page is followed in any case
        if len(self._calls[-1].pages) == 1 and texts:
            self._look_for_more(records, endpoint, call)

    def _look_for_more(self, records: Sequence[Any], endpoint: EndpointReader, call: Call) -> None:
        response = self.watch.responses.get(self.resource)
        if response is None:
            return
        seen, rows = self._calls[-1], len(records)
        try:
            body = response.json()
        except (ValueError, requests.RequestException):  # a file of rows has no pages beside them
            return
        total = stated_total(response, body, rows, is_filtered=call.is_filtered)
        seen.total = total
        # the total of another paginator counts what that paginator says
        seen.more = describe_more_pages(signs_of_next_page(response, body, records), rows, total)
        seen.full = describe_full_page(response, rows)
        seen.is_single_page = isinstance(endpoint.paginator, SinglePagePaginator)

    @property
    def is_full(self) -> bool:
        """True if the last call has as many pages as it may have."""
        return len(self._calls[-1].pages) >= self.limits.pages

    def end_call(self) -> None:
        """Note that the paging of the last call has ended by itself."""
        seen = self._calls[-1]
        seen.has_ended = True
        if len(seen.pages) == 1 and seen.more:
            self.problems.append(f"the first page is read as the last one, although {seen.more}")

    def fail(self, error: IngestError) -> None:
        """Note the error that has ended the last call."""
        self.problems.append(str(error))

    def paging(self) -> PreviewedPaging:
        """Return what the first call with rows shows; the first one with two pages comes first."""
        calls = [one for one in self._calls if any(one.pages)]
        if not calls:
            return PreviewedPaging("failed" if self.problems else "not proved", "no rows were read")
        seen = next((one for one in calls if len(one.pages) > 1), calls[0])
        rows = tuple(len(page) for page in seen.pages)
        verdict, evidence = self._judge(seen)
        return PreviewedPaging(verdict, evidence, len(rows), rows, seen.total, seen.has_ended)

    @property
    def calls(self) -> int:
        """The calls that were made."""
        return len(self._calls)

    def _judge(self, seen: _SeenCall) -> tuple[PagingVerdict, str]:
        if len(seen.pages) > 1:
            return self._compare(seen.pages[0], seen.pages[1])
        if not seen.has_ended and self.problems:
            return "failed", self.problems[-1].partition("\n")[0]
        if not seen.has_ended:
            return "not proved", "only one page was asked for"
        if seen.more:
            return "failed", f"the first page is read as the last one, although {seen.more}"
        if seen.full and not seen.is_single_page:
            return "not proved", f"the first page is read as the last one, and {seen.full}"
        return "single page", "the first answer is the last one, and nothing in it says otherwise"

    def _compare(self, first: Sequence[str], second: Sequence[str]) -> tuple[PagingVerdict, str]:
        if not second:
            return (
                "proved",
                f"the second page is empty: the first, of {_rows(len(first))}, was the last",
            )
        again = len(set(second) & set(first))
        if again == len(second):
            evidence = "the second page has only rows of the first"
            # a cursor that includes its own row ends with a short page of rows that came before
            if len(second) < len(first):
                return "not proved", evidence
            self.problems.append(evidence)
            return "failed", evidence
        if again:
            self.notes.append(f"{again} of {len(second)} rows of page 2 were on page 1, too")
        new = len(second) - again
        return "proved", f"the second page was asked for: {_rows(len(second))}, {new} of them new"


def _identities(records: Sequence[Any], texts: list[str]) -> list[str]:
    """Return the ids of a page's rows if each has one of its own, else the rows as texts.

    A row that comes again may differ in a count of views or a time of the answer.
    """
    first = records[0] if records else None
    name = (
        next((key for key in first if str(key).lower() in ID_KEYS), None)
        if isinstance(first, dict)
        else None
    )
    if name is None or not all(isinstance(record, dict) for record in records):
        return texts
    ids = [record.get(name) for record in records]
    if any(value is None or isinstance(value, bool | float | list | dict) for value in ids):
        return texts
    found = [f"id {value}" for value in ids]
    return found if len(set(found)) == len(found) else texts


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class _PreviewEndpoint(EndpointReader):
    """An endpoint that reads the first pages of the first calls, and ends a call at its error."""

    seen: SeenPages | None = None

    def pages(
        self,
        call: Call,
        *,
        may_stop_early: bool = False,
        watch: PagingWatch | None = None,
        progress: CallProgress | None = None,
    ) -> Generator[Any, None, None]:
        """Yield the records of each page, as `EndpointReader.pages` does, up to the limits."""
        seen, progress = self.seen, progress or CallProgress()
        if seen is None or not seen.begin_call():
            return
        try:
            for records in super().pages(
                call, may_stop_early=may_stop_early, watch=watch, progress=progress
            ):
                seen.add_page(records, self, call)
                yield records
                # a paging that has ended is concluded: its last checks need no request
                if seen.is_full and not progress.has_ended:
                    return
            seen.end_call()
        except SkippedResourceError as error:
            seen.notes.append(f"{error}: it would be left as it is")
        except RequestCancelled:
            return
        except IngestError as error:
            if isinstance(error, _FOR_THE_ENGINE) or seen.may_skip:
                raise
            seen.fail(error)


class PreviewEndpoints(EndpointFactory):
    """Builds the endpoints of a preview; `seen` has what each resource has read."""

    def __init__(
        self,
        connector: Connector,
        redactor: Redactor,
        progress: Progress,
        sleep: Sleep | None,
        folder: Path,
        tokens: TokenStore,
        *,
        limits: PreviewLimits,
        watch: PreviewWatch,
    ) -> None:
        """`folder` is for downloads, and for the jobs of exports: the project's state stays as it is.

        The tokens are the project's: a refresh token that an API replaces is not lost with the preview.
        """
        super().__init__(
            connector, redactor, progress, sleep, folder, FolderStore(folder), tokens, watch
        )
        self._limits, self._preview_watch = limits, watch
        self.seen: dict[str, SeenPages] = {}

    def endpoint(self, plan: ResourcePlan) -> EndpointReader:
        """Return the endpoint of a resource, the same one for the whole preview."""
        made = super().endpoint(plan)
        if isinstance(made, _PreviewEndpoint):
            return made
        name = plan.resource.name
        may_skip = plan.resource.parent is not None and self._http.on_child_error != "fail"
        seen = SeenPages(name, self._limits, self._preview_watch, may_skip)
        given = {part.name: getattr(made, part.name) for part in fields(made)}
        self.seen[name] = seen
        self._endpoints[name] = _PreviewEndpoint(**given, seen=seen)
        return self._endpoints[name]
