"""Whatever an API does, the pages are the same with and without prefetching."""

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as at_most
from hypothesis import strategies as st

from restsource_dagster.engine.paging.calls import Call
from restsource_dagster.engine.prefetch.prefetcher import MEMORY_BUDGET_BYTES
from restsource_dagster_tests.engine.prefetch.reading import Read, read
from restsource_dagster_tests.faults.shape_resources import PAGES
from restsource_dagster_tests.faults.shapes import Shapes
from restsource_dagster_tests.faults.test_endless_paging import REPEATING
from restsource_dagster_tests.faults.test_stated_totals import TOTALS, api, offset, pages
from restsource_dagster_tests.servers.api import ApiServer
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply

CONCURRENCIES = [2, 16]
EXAMPLES = int(os.environ.get("PREFETCH_EXAMPLES", "30"))


def apart_from_ports(seen: Read, server: Any) -> Read:
    seen.error = seen.error and seen.error.replace(server.url, "")
    return seen


def assert_same(server: Any, max_concurrency: int, **endpoint: Any) -> Read:
    sequential = apart_from_ports(read(server, 1, **endpoint), server)
    assert apart_from_ports(read(server, max_concurrency, **endpoint), server) == sequential
    return sequential


@pytest.mark.parametrize("case", REPEATING)
@pytest.mark.parametrize("max_concurrency", CONCURRENCIES)
def test_paging_that_repeats_ends_at_the_same_page(
    server: FaultServer, case: str, max_concurrency: int
) -> None:
    server.plan["/items"], paginator, *_ = REPEATING[case]
    assert (
        assert_same(server, max_concurrency, selector="data", paginator=paginator).error is not None
    )


@pytest.mark.parametrize("resource", PAGES, ids=[page["name"] for page in PAGES])
@pytest.mark.parametrize("max_concurrency", CONCURRENCIES)
def test_a_well_behaved_api_gives_the_same_pages(
    api: ApiServer, resource: dict[str, Any], max_concurrency: int
) -> None:
    Shapes(api)
    endpoint = resource["endpoint"]
    call = Call(endpoint["path"], endpoint.get("method", "GET"), json=endpoint.get("json"))
    selector, paginator = endpoint.get("data_selector"), endpoint.get("paginator", "auto")
    seen = assert_same(api, max_concurrency, call=call, selector=selector, paginator=paginator)
    assert seen.pages
    assert seen.error is None


@pytest.mark.parametrize("total", TOTALS)
@pytest.mark.parametrize("paginator", [offset(), offset(30), pages()], ids=str)
@pytest.mark.parametrize("past_the_end", [200, 404])
def test_whatever_total_the_api_names_the_same_pages_come(
    server: FaultServer, total: str, paginator: Any, past_the_end: int
) -> None:
    server.plan["/items"] = api(250, cap=60, total=TOTALS[total], past_the_end=past_the_end)
    assert_same(server, 8, selector="data", paginator=paginator)


def html(seen: Arrival) -> Reply:
    return Reply(b"<html>sorry</html>", headers={"Content-Type": "text/html"})


TROUBLES: dict[str, Callable[[Arrival], Any]] = {
    "a 404": lambda seen: Reply({"error": "gone"}, status=404),
    "a 500": lambda seen: Reply({"error": "sorry"}, status=500),
    "a 429 that asks to wait too long": lambda seen: Reply(
        status=429, headers={"Retry-After": "9999"}
    ),
    "html": html,
    "an empty body": lambda seen: Reply(b""),
    "an error with 200": lambda seen: {"error": "no such page"},
    "no data": lambda seen: {"total": 250},
    "nulls": lambda seen: {"data": [None, {"id": -1}, None], "total": 250},
    "an empty page": lambda seen: {"data": [], "total": 250},
    "a page that came before": lambda seen: {"data": [{"id": n} for n in range(10)], "total": 250},
    "a redirect elsewhere": lambda seen: Reply(
        status=302, headers={"Location": "http://127.0.0.1:9/items"}
    ),
    "a list": lambda seen: [{"id": -1}],
    "a reset": lambda seen: Reply(reset=True),
}


def link(seen: Arrival, page: int, body: Any) -> Any:
    if isinstance(body, dict) and "data" in body and page < 25:
        return {**body, "next": f"/items?page={page + 1}"}
    return body


@given(
    trouble=st.sampled_from(sorted(TROUBLES)),
    at=st.integers(1, 12),
    paginator=st.sampled_from(
        [
            offset(10, stop_after_empty_page=False),
            offset(10, total_path=None),
            pages(),
            pages(total_path=None, maximum_page=9),
            {"type": "json_link", "next_url_path": "next"},
            "auto",
        ]
    ),
    total=st.sampled_from(["null", "a text", "shrinking", "true", "growing"]),
    max_concurrency=st.sampled_from(CONCURRENCIES),
    actions=st.sampled_from([(), ({"status_code": 404, "action": "ignore"},)]),
    may_stop_early=st.booleans(),
    memory_bytes=st.sampled_from([600_000, MEMORY_BUDGET_BYTES]),
    delays=st.lists(st.sampled_from([0.0, 0.001, 0.01]), min_size=7, max_size=7),
)
@at_most(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_page_in_trouble_fails_with_and_without_prefetch(
    server: FaultServer,
    trouble: str,
    at: int,
    paginator: Any,
    total: str,
    max_concurrency: int,
    actions: Any,
    may_stop_early: bool,
    memory_bytes: int,
    delays: list[float],
) -> None:
    well = api(250, cap=10, total=TOTALS[total])

    def answer(seen: Arrival) -> Any:
        number = int(seen.query.get("offset", 0)) // 10 + int(seen.query.get("page", 1))
        reply = TROUBLES[trouble](seen) if number == at else well(seen)
        if isinstance(reply, dict) and "offset" not in seen.query:
            reply = link(seen, number, reply)
        return reply if isinstance(reply, Reply) else Reply(reply, delay=delays[number % 7])

    server.plan["/items"] = answer
    assert_same(
        server,
        max_concurrency,
        selector="data",
        paginator=paginator,
        actions=actions,
        may_stop_early=may_stop_early,
        memory_bytes=memory_bytes,
    )


@pytest.mark.parametrize("stop_after", [1, 2, 7])
def test_a_reader_that_stops_early_gets_the_same_pages(
    server: FaultServer, stop_after: int
) -> None:
    server.plan["/items"] = api(250, cap=10)
    seen = assert_same(server, 8, selector="data", paginator=offset(10), stop_after=stop_after)
    assert len(seen.pages) == stop_after


def test_pages_by_a_number_in_the_body_are_the_same(server: FaultServer) -> None:
    def answer(seen: Arrival) -> Any:
        asked = json.loads(seen.body)
        start, size = asked["page"]["offset"], asked["page"]["limit"]
        return {"data": [{"id": n} for n in range(start, min(start + size, 95))], "total": 95}

    server.plan["/items"] = answer
    in_body = {"offset_body_path": "page.offset", "limit_body_path": "page.limit"}
    call = Call("items", "POST", json={"filter": {"all": True}})
    seen = assert_same(server, 8, call=call, selector="data", paginator=offset(10, **in_body))
    assert sum(map(len, seen.pages)) == 95
    bodies = [json.loads(arrival.body)["page"]["offset"] for arrival in server.arrivals]
    assert sorted(bodies) == sorted([*range(0, 100, 10)] * 2)
