"""Calls that are foreseen and made later in the run."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from restsource_dagster.engine.paging.endpoint_reader import Call
from restsource_dagster.engine.prefetch.prefetcher import Prefetcher
from restsource_dagster_tests.engine.prefetch.reading import session_of
from restsource_dagster_tests.faults.http_parts import endpoint_for
from restsource_dagster_tests.servers.faults import Arrival, FaultServer
from restsource_dagster_tests.waiting import wait_until

LINK = {"type": "json_link", "next_url_path": "next"}


class Later:
    """A call that is foreseen, and wanted later."""

    def __init__(self, server: FaultServer, room_bytes: int = 64_000_000) -> None:
        self.late = 0.0
        session = session_of(server, 4)
        self.ahead = Prefetcher(
            4, session.rules.rate_limiter, room_bytes, lambda: time.monotonic() + self.late
        )
        self.endpoint = endpoint_for(
            server, session=session, ahead=self.ahead, selector="data", paginator=LINK
        )
        self.endpoint.foresee_for_later(Call("items"), may_stop=False)

    def wait_until_it_stands(self) -> None:
        wait_until(lambda: self.ahead.is_idle, "the end of what can be fetched ahead")


@pytest.fixture
def later(server: FaultServer) -> Iterator[Later]:
    """With plenty of room."""
    server.plan["/items"] = large
    made = Later(server)
    yield made
    made.ahead.close()


@pytest.fixture
def cramped(server: FaultServer) -> Iterator[Later]:
    """With room for a few pages."""
    server.plan["/items"] = large
    made = Later(server, 4_000_000)
    yield made
    made.ahead.close()


def large(seen: Arrival) -> Any:
    page = int(seen.query.get("page", 1))
    rows = [{"id": 10 * page + n, "text": "x" * 10_000} for n in range(10)]
    return {"data": rows, "next": f"/items?page={page + 1}" if page < 20 else None}


def rows(later: Later, call: Call | None = None) -> list[int]:
    return [row["id"] for page in later.endpoint.pages(call or Call("items")) for row in page]


def test_what_comes_later_takes_only_its_share_of_the_room(
    server: FaultServer, cramped: Later
) -> None:
    cramped.wait_until_it_stands()
    assert 0 < cramped.ahead.held <= 1_000_000
    assert 1 < len(server.arrivals) < 20
    assert rows(cramped) == list(range(10, 210))
    assert len(server.arrivals) == 20


def test_what_stood_still_for_too_long_is_asked_for_anew(
    server: FaultServer, cramped: Later
) -> None:
    cramped.wait_until_it_stands()
    asked, cramped.late = len(server.arrivals), 60.0
    assert rows(cramped) == list(range(10, 210))
    assert len(server.arrivals) == 20 + asked


def test_what_was_read_to_its_end_is_good_whenever_it_is_wanted(
    server: FaultServer, later: Later
) -> None:
    later.wait_until_it_stands()
    later.late = 10_000.0
    assert rows(later) == list(range(10, 210))
    assert len(server.arrivals) == 20


def test_another_call_than_the_foreseen_one_is_made_as_if_nothing_had_been_foreseen(
    later: Later,
) -> None:
    assert rows(later, Call("items", params={"page": 18})) == list(range(180, 210))
    later.ahead.end_family("items")
    assert later.ahead.held == 0
