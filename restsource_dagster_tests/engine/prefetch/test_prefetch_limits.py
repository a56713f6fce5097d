"""What prefetching may cost at most: requests, slots of the rate limit, memory, threads."""

import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from dlt.sources.helpers.rest_client.paginators import SinglePagePaginator

from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.http.session import ApiSession, SessionRules
from restsource_dagster.engine.http.waits import RateLimiter
from restsource_dagster.engine.paging.calls import Call
from restsource_dagster.engine.paging.endpoint_reader import EndpointReader
from restsource_dagster.engine.prefetch.prefetcher import Prefetcher
from restsource_dagster_tests.engine.prefetch.reading import prefetch_threads, read, session_of
from restsource_dagster_tests.faults.http_parts import endpoint_for
from restsource_dagster_tests.faults.test_stated_totals import api, offset, pages
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply
from restsource_dagster_tests.waiting import PATIENCE_SECONDS, wait_for

LINK = {"type": "json_link", "next_url_path": "next"}


def numbers(server: FaultServer, name: str = "page") -> list[int]:
    return sorted(int(arrival.query.get(name, 1)) for arrival in server.arrivals)


@pytest.mark.parametrize("max_concurrency", [2, 8, 16])
def test_with_a_known_total_no_unneeded_request_is_sent(
    server: FaultServer, max_concurrency: int
) -> None:
    server.plan["/items"] = api(250, cap=10)
    read(server, max_concurrency, selector="data", paginator=offset(10))
    assert numbers(server, "offset") == list(range(0, 250, 10))


@pytest.mark.parametrize("max_concurrency", [2, 8, 16])
@pytest.mark.parametrize("pages_in_all", [5, 12, 40])
def test_a_total_counts_pages_once_more_rows_than_that_have_arrived(
    server: FaultServer, max_concurrency: int, pages_in_all: int
) -> None:
    """At first it may be one of rows: 12 may be two pages of ten rows, or twelve."""

    def answer(seen: Arrival) -> Any:
        page = int(seen.query.get("page", 1))
        rows = [{"id": 10 * page + n} for n in range(10 if page <= pages_in_all else 0)]
        return Reply({"data": rows, "total": pages_in_all})

    server.plan["/items"] = answer
    numbered = {"type": "page_number", "base_page": 1, "total_path": "total"}
    read(server, max_concurrency, selector="data", paginator=numbered)
    assert numbers(server) == list(range(1, pages_in_all + 1))


@pytest.mark.parametrize("max_concurrency", [2, 8, 16])
def test_without_a_total_at_most_max_concurrency_requests_are_unneeded(
    server: FaultServer, max_concurrency: int
) -> None:
    server.plan["/items"] = api(250)
    read(server, max_concurrency, selector="data", paginator=offset(10, total_path=None))
    assert set(range(0, 260, 10)) <= set(numbers(server, "offset"))
    assert len(server.arrivals) <= 25 + max_concurrency


@pytest.mark.parametrize("paginator", [offset(100, total_path=None), offset(100)], ids=str)
def test_one_page_takes_the_same_requests_with_and_without_prefetch(
    server: FaultServer, paginator: Any
) -> None:
    server.plan["/items"] = api(7)
    read(server, 1, selector="data", paginator=paginator)
    sequential = len(server.arrivals)
    read(server, 16, selector="data", paginator=paginator)
    assert len(server.arrivals) == 2 * sequential


def test_a_total_of_rows_for_page_numbers_predicts_no_pages(
    server: FaultServer,
) -> None:
    server.plan["/items"] = api(7)
    read(server, 16, selector="data", paginator=pages())
    assert numbers(server) == [1, 2]


def linked(seen: Arrival) -> Any:
    page = int(seen.query.get("page", 1))
    rows = [{"id": 10 * page + n} for n in range(10)]
    return {"data": rows, "next": f"/items?page={page + 1}" if page < 40 else None}


@pytest.mark.parametrize(
    ("stop_after", "most_asked"), [(1, 1), (2, 2), (3, 3), (4, 5), (5, 7), (6, 10)]
)
def test_few_pages_are_prefetched_for_a_reader_that_may_stop_early(
    server: FaultServer, stop_after: int, most_asked: int
) -> None:
    server.plan["/items"] = linked
    read(server, 8, selector="data", paginator=LINK, may_stop_early=True, stop_after=stop_after)
    assert stop_after <= len(server.arrivals) <= most_asked


@pytest.mark.parametrize(("method", "ahead"), [("GET", True), ("POST", True), ("PUT", False)])
def test_a_request_that_may_change_data_is_not_prefetched(
    server: FaultServer, method: str, ahead: bool
) -> None:
    server.plan["/items"] = api(250, cap=10)
    call = Call("items", method)
    read(server, 8, call, selector="data", paginator=offset(10), stop_after=2)
    assert (len(server.arrivals) > 2) == ahead


@pytest.mark.parametrize("max_concurrency", [2, 5])
def test_no_more_requests_are_in_flight_than_allowed(
    server: FaultServer, max_concurrency: int
) -> None:
    well = api(400, cap=10)

    def answer(seen: Arrival) -> Reply:
        # Only the first page tells that there are others.
        is_first = seen.query["offset"] == "0"
        return Reply(well(seen), delay=0.02, together=1 if is_first else max_concurrency)

    server.plan["/items"] = answer
    read(server, max_concurrency, selector="data", paginator=offset(10))
    assert server.peak == max_concurrency


def test_with_one_request_at_a_time_nothing_is_prefetched(server: FaultServer) -> None:
    server.plan["/items"] = api(50, cap=10)
    read(server, 1, selector="data", paginator=offset(10), stop_after=2)
    assert numbers(server, "offset") == [0, 10]
    assert prefetch_threads() == {}


def test_a_call_of_one_page_starts_no_thread(server: FaultServer) -> None:
    server.plan["/items"] = api(7)
    session = session_of(server, 8)
    prefetcher = Prefetcher(8, session.rules.rate_limiter)
    endpoint = endpoint_for(
        server, session=session, prefetcher=prefetcher, selector="data", paginator="single_page"
    )
    assert [len(page) for page in endpoint.pages(Call("items"))] == [7]
    assert prefetch_threads() == {}
    prefetcher.close()


class MemoryWatch:
    """Reads slowly while pages are prefetched, and notes the most memory that is reserved."""

    def __init__(self, server: FaultServer, memory_bytes: int) -> None:
        self.session = session_of(server, 8)
        self.prefetcher = Prefetcher(8, self.session.rules.rate_limiter, memory_bytes)
        self.peak_bytes = 0

    def look(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self.prefetcher.held_bytes)

    def read(self, server: FaultServer, paginator: Any) -> int:
        endpoint = endpoint_for(
            server,
            session=self.session,
            prefetcher=self.prefetcher,
            selector="data",
            paginator=paginator,
        )
        rows = 0
        for page in endpoint.pages(Call("items")):
            rows += len(page)
            time.sleep(0.01)
            self.look()
        self.prefetcher.close()
        self.session.close()
        return rows


@pytest.mark.parametrize("paginator", [offset(10), LINK], ids=str)
def test_memory_is_bounded_though_pages_suddenly_grow(server: FaultServer, paginator: Any) -> None:
    watch = MemoryWatch(server, 2_000_000)

    def growing(seen: Arrival) -> Any:
        watch.look()  # the request has reserved memory for its response
        page = int(seen.query.get("offset", 0)) // 10 + int(seen.query.get("page", 1))
        size = 1_000 if page < 20 else 400_000
        rows = [{"id": 10 * page + n, "text": "x" * (size // 10)} for n in range(10)]
        following = f"/items?page={page + 1}" if page < 40 else None
        return {"data": rows, "total": 400, "next": following}

    server.plan["/items"] = growing
    assert watch.read(server, paginator) == 400
    assert 0 < watch.peak_bytes <= 2_000_000
    assert watch.prefetcher.held_bytes == 0


def test_a_page_larger_than_the_memory_budget_is_fetched_by_the_page_loop(
    server: FaultServer,
) -> None:
    def large(seen: Arrival) -> Any:
        start = int(seen.query.get("offset", 0))
        rows = [{"id": start + n, "text": "x" * 50_000} for n in range(10)]
        return {"data": rows, "total": 60}

    server.plan["/items"] = large
    watch = MemoryWatch(server, 300_000)
    assert watch.read(server, offset(10)) == 60
    assert watch.peak_bytes <= 300_000


def test_parents_leave_memory_and_threads_for_their_dependents(server: FaultServer) -> None:
    """The parents have many pages, and all of them could be prefetched at once."""
    server.plan["/items"] = api(1000, cap=10)
    server.plan |= {f"/items/{n}": [{"id": n}] for n in range(1000)}
    session = session_of(server, 8)
    prefetcher = Prefetcher(8, session.rules.rate_limiter, 1_000_000)
    above = endpoint_for(
        server, session=session, prefetcher=prefetcher, selector="data", paginator=offset(10)
    )
    below = replace(above, resource="below", paginator=SinglePagePaginator(), data_selector="$")
    for number, page in enumerate(above.pages(Call("items"))):
        if number == 20:
            # The size of the pages is known now: all threads are used, for dependents too.
            server.peak = 0
            together = {f"/items/{n}": Reply([{"id": n}], together=8) for n in range(1000)}
            server.plan |= together
        if number == 40:
            break
        calls = [Call(f"items/{row['id']}") for row in page]
        for call in calls:
            below.prefetch(call, may_stop_early=False, group=page)
        for call in calls:
            assert len(list(below.pages(call))) == 1
        assert prefetcher.held_bytes <= 1_000_000
    prefetcher.close()
    assert server.peak == 8


def waiting_endpoint(server: FaultServer) -> tuple[EndpointReader, Prefetcher]:
    """An endpoint that really waits before a retry."""
    rules = SessionRules(
        origins=session_of(server, 8).rules.origins,
        rate_limiter=RateLimiter(),
        usage_counter=session_of(server, 8).rules.usage_counter,
    )
    prefetcher = Prefetcher(8, rules.rate_limiter)
    endpoint = endpoint_for(
        server,
        session=ApiSession(rules),
        prefetcher=prefetcher,
        selector="data",
        paginator=offset(10),
    )
    return endpoint, prefetcher


@pytest.mark.parametrize(
    "trouble",
    [
        Reply(status=503, headers={"Retry-After": "200"}),
        Reply(status=429, headers={"Retry-After": "200"}),
        Reply({"data": []}, delay=PATIENCE_SECONDS),
        Reply({"data": []}, drip_body=PATIENCE_SECONDS),
    ],
    ids=["a retry", "a pause of all", "no answer yet", "half an answer"],
)
@pytest.mark.parametrize("ending", ["closed", "failed"])
def test_no_request_goes_on_after_the_end_of_a_run(
    server: FaultServer, trouble: Reply, ending: str
) -> None:
    well = api(250, cap=10)
    requested = threading.Event()

    def answer(seen: Arrival) -> Any:
        page = int(seen.query["offset"]) // 10
        if page >= 4:
            requested.set()
            return trouble
        if page == 3:
            return Reply(status=404, delay=0.3)
        return well(seen)

    server.plan["/items"] = answer
    endpoint, prefetcher = waiting_endpoint(server)
    before = time.monotonic()
    pages = endpoint.pages(Call("items"))
    next(pages)
    wait_for(requested, "a request for a page in trouble")
    if ending == "failed":
        with pytest.raises(IngestError):
            list(pages)
    pages.close()
    threads = list(prefetch_threads().values())
    assert threads
    prefetcher.close()
    assert not any(thread.is_alive() for thread in threads)
    assert time.monotonic() - before < 60


def test_threads_are_gone_after_a_call_that_succeeded(server: FaultServer) -> None:
    server.plan["/items"] = api(250, cap=10)
    read(server, 8, selector="data", paginator=offset(10))
    assert prefetch_threads() == {}
