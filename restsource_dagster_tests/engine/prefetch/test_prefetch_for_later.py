"""Calls that are prefetched and made later in the run."""

import math
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from restsource_dagster.engine.paging.calls import Call
from restsource_dagster.engine.prefetch.prefetcher import Prefetcher
from restsource_dagster_tests.engine.prefetch.reading import session_of
from restsource_dagster_tests.faults.http_parts import endpoint_for
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply
from restsource_dagster_tests.waiting import wait_until

LINK = {"type": "json_link", "next_url_path": "next"}


class Later:
    """A call that is prefetched and made later."""

    def __init__(
        self, server: FaultServer, memory_bytes: int = 64_000_000, *, first_page_only: bool = False
    ) -> None:
        self.late = 0.0
        session = session_of(server, 4)
        self.prefetcher = Prefetcher(
            4, session.rules.rate_limiter, memory_bytes, lambda: time.monotonic() + self.late
        )
        self.endpoint = endpoint_for(
            server, session=session, prefetcher=self.prefetcher, selector="data", paginator=LINK
        )
        self.endpoint.prefetch_for_later(Call("items"), first_page_only=first_page_only)

    def wait_until_it_stops(self) -> None:
        wait_until(lambda: self.prefetcher.is_idle, "the end of what can be fetched ahead")


@pytest.fixture
def later(server: FaultServer) -> Iterator[Later]:
    """A call with memory for all its pages."""
    server.plan["/items"] = large
    made = Later(server)
    yield made
    made.prefetcher.close()


@pytest.fixture
def small(server: FaultServer) -> Iterator[Later]:
    """A call with memory for a few pages."""
    server.plan["/items"] = large
    made = Later(server, 4_000_000)
    yield made
    made.prefetcher.close()


@pytest.fixture
def first(server: FaultServer) -> Iterator[Later]:
    """A call whose first page alone is prefetched."""
    server.plan["/items"] = large
    made = Later(server, first_page_only=True)
    yield made
    made.prefetcher.close()


def large(seen: Arrival) -> Any:
    page = int(seen.query.get("page", 1))
    rows = [{"id": 10 * page + n, "text": "x" * 10_000} for n in range(10)]
    return {"data": rows, "next": f"/items?page={page + 1}" if page < 20 else None}


def rows(later: Later, call: Call | None = None) -> list[int]:
    return [row["id"] for page in later.endpoint.pages(call or Call("items")) for row in page]


def test_a_call_that_failed_before_it_was_kept_for_the_next_part_is_made_anew(
    server: FaultServer,
) -> None:
    refusals = [Reply({"error": "busy"}, status=400)]
    server.plan["/items"] = lambda _: refusals.pop() if refusals else {"data": [{"id": 7}]}
    later = Later(server)
    with closing(later.prefetcher):
        later.wait_until_it_stops()
        assert not refusals
        later.prefetcher.keep_group(None, object())
        assert rows(later) == [7]


def test_a_later_call_uses_only_its_share_of_the_memory(server: FaultServer, small: Later) -> None:
    small.wait_until_it_stops()
    assert 0 < small.prefetcher.held_bytes <= 1_000_000
    assert 1 < len(server.arrivals) < 20
    assert rows(small) == list(range(10, 210))
    assert len(server.arrivals) == 20


def test_a_prefetch_that_stopped_too_long_ago_is_made_anew(
    server: FaultServer, small: Later
) -> None:
    small.wait_until_it_stops()
    requested, small.late = len(server.arrivals), 60.0
    assert rows(small) == list(range(10, 210))
    assert len(server.arrivals) == 20 + requested


def test_a_complete_prefetch_is_used_however_late(server: FaultServer, later: Later) -> None:
    later.wait_until_it_stops()
    later.late = 10_000.0
    assert rows(later) == list(range(10, 210))
    assert len(server.arrivals) == 20


def test_a_call_that_differs_from_the_prefetched_one_gets_its_own_rows(
    later: Later,
) -> None:
    assert rows(later, Call("items", params={"page": 18})) == list(range(180, 210))
    later.prefetcher.cancel_family("items")
    assert later.prefetcher.held_bytes == 0


def test_the_first_page_alone_is_requested_and_its_call_goes_on_from_there(
    server: FaultServer, first: Later
) -> None:
    first.wait_until_it_stops()
    assert len(server.arrivals) == 1
    assert rows(first) == list(range(10, 210))
    assert len(server.arrivals) == 20


def test_the_pages_after_the_first_one_are_requested_once_someone_waits_for_it(
    server: FaultServer, first: Later
) -> None:
    first.prefetcher.wait_for_first_page("items", math.inf)
    first.wait_until_it_stops()
    assert first.prefetcher.is_complete("items")
    assert rows(first) == list(range(10, 210))
    assert len(server.arrivals) == 20
