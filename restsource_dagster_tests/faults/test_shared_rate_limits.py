"""`http.rate_limits`, limits of one resource and limits that processes share, measured at the server."""

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as at_most
from hypothesis import strategies as st

from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.http.request_log import RequestLog
from restsource_dagster.engine.http.waits import RequestLimit, SentRequest, full_bucket_seconds
from restsource_dagster.settings import Settings
from restsource_dagster.state.request_table import SqliteRequests
from restsource_dagster_tests.faults.http_parts import FakeTime, connector_of, failure_of
from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.making import load, query
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply

pytestmark = pytest.mark.faults(row=9)

MOST, SECONDS = 10, 2.0
LIMIT = {"requests": MOST, "per": "2s"}


def strict(server: FaultServer, path: str) -> Any:
    """Refuse a request if there were ten within two seconds before it, over all paths."""

    def answer(arrival: Arrival) -> Any:
        before = [one for one in server.arrivals if arrival.at - SECONDS < one.at < arrival.at]
        return Reply({}, 429) if len(before) >= MOST else [{"id": path}]

    return answer


def test_two_connectors_in_two_processes_never_exceed_a_shared_limit(
    server: FaultServer, tmp_path: Path
) -> None:
    paths = [f"/{name}{number}" for name in "ab" for number in range(16)]
    server.plan |= {path: strict(server, path) for path in paths}

    def file_of(name: str) -> dict[str, Any]:
        return {
            "name": f"shop_{name}",
            "schedule": {"mode": "manual"},
            "http": {"rate_limits": [LIMIT], "shared": "acme"},
            "client": {"base_url": server.url},
            "resources": [path.lstrip("/") for path in paths if path.startswith(f"/{name}")],
        }

    with Nursery() as one, Nursery() as two:
        runs = [one.start(file_of("a"), tmp_path), two.start(file_of("b"), tmp_path)]
        for run in runs:
            run.finish()
    assert len(server.arrivals) == 32  # no retry, so no 429
    assert server.most_within(SECONDS) <= MOST


def test_only_requests_that_match_are_limited(server: FaultServer, settings: Settings) -> None:
    server.plan |= {f"/v1/{kind}/{n}": [{"id": n}] for kind in ("slow", "fast") for n in range(6)}
    resources = [
        {"name": f"{kind}{n}", "endpoint": {"path": f"{kind}/{n}"}}
        for n in range(6)
        for kind in ("slow", "fast")
    ]
    limit = {"requests": 2, "per": "1s", "match": "slow/*"}
    connector = connector_of(f"{server.url}/v1", *resources, http={"rate_limits": [limit]})
    assert not any(outcome.failed for outcome in load(connector, settings).values())
    slow = sorted(one.at for one in server.arrivals if "slow" in one.path)
    assert all(later - earlier > 0.9 for earlier, later in zip(slow, slow[2:], strict=False))
    assert slow[-1] - slow[0] > 1.8
    assert len(server.arrivals) == 12


def test_a_resource_has_limits_and_timeouts_of_its_own(
    server: FaultServer, settings: Settings
) -> None:
    """Numbered pages, which the other resource reads without a limit."""

    def pages(arrival: Arrival) -> Any:
        number = int(arrival.query["page"])
        return [{"id": number}] if number < 5 else []

    numbered = {"paginator": {"type": "page_number", "total_path": None}}
    server.plan |= {"/few": pages, "/many": pages, "/late": Reply([{"id": 1}], delay=1.5)}
    connector = connector_of(
        server.url,
        {
            "name": "few",
            "endpoint": {"path": "few", **numbered},
            "http": {"rate_limits": [{"requests": 2, "per": "1s"}]},
        },
        {"name": "many", "endpoint": {"path": "many", **numbered}, "http": {"max_pages": 3}},
        {"name": "late", "http": {"timeout_seconds": 0.3, "max_wait_seconds": 0.5}},
    )
    outcomes = load(connector, settings)
    assert outcomes["few"].rows_loaded == 5
    few = sorted(one.at for one in server.asked("/few"))
    assert few[-1] - few[0] > 1.8
    assert "more than 3 pages" in failure_of(outcomes["many"])
    assert "0.3 s (http.timeout_seconds)" in failure_of(outcomes["late"])


# --- the log of requests ------------------------------------------------------------------------


def test_requests_of_a_process_that_died_count(tmp_path: Path) -> None:
    """It notes no response and closes nothing."""
    dead, log = (RequestLog(SqliteRequests(time.time, tmp_path / "log.sqlite")) for _ in range(2))
    limits = [RequestLimit(2, 60)]
    assert dead.take(SentRequest(), limits)[1] == 0
    assert log.take(SentRequest(), limits)[1] == 0
    _, wait = log.take(SentRequest(), limits)
    assert 30 < wait <= 65


def test_a_shared_log_has_the_limits_and_the_pauses_of_all(tmp_path: Path) -> None:
    fake = FakeTime()
    one, two = (RequestLog(SqliteRequests(fake.clock, tmp_path / "log.sqlite")) for _ in range(2))
    tight, loose = RequestLimit(1, 10, "a/*"), RequestLimit(3, 10)
    number, _ = one.take(SentRequest("a/1"), [tight, loose])
    one.note_response(number)
    assert two.take(SentRequest("a/2"), [tight, loose])[1] == pytest.approx(10)
    assert two.take(SentRequest("b/1"), [tight, loose])[1] == 0
    one.pause(4)
    assert two.take(SentRequest("b/2"), [loose])[1] == pytest.approx(4)
    fake.now += 4
    assert two.take(SentRequest("b/2"), [loose])[1] == 0
    # the clock is set back: what lies in the future is none of our time
    fake.now -= 100_000
    assert two.take(SentRequest("b/2"), [loose])[1] == 0


@given(
    sent=st.lists(
        st.tuples(st.sampled_from(["dear/1", "dear/2", "cheap"]), st.floats(0, 20)), max_size=40
    )
)
@at_most(max_examples=40, deadline=None)
def test_no_period_has_requests_that_cost_more_than_it_allows(
    sent: list[tuple[str, float]],
) -> None:
    fake = FakeTime()
    log = RequestLog(SqliteRequests(fake.clock))
    limit = RequestLimit(7, 10.0, costs=(("dear/*", 5), ("*", 1)))
    arrived: list[tuple[float, int]] = []
    for path, pause in sent:
        request = SentRequest(path)
        number, wait = log.take(request, [limit])
        if wait:
            spent = sum(cost for at, cost in arrived if at > fake.now - 10.0)
            assert spent + limit.cost_of(request) > 7  # it waits for a reason
            fake.now += wait
            number, wait = log.take(request, [limit])
            assert wait == 0
        log.note_response(number)
        arrived.append((fake.now, limit.cost_of(request)))
        fake.now += pause
    log.close()
    for at, _ in arrived:
        assert sum(cost for other, cost in arrived if at <= other < at + 10.0 - 1e-6) <= 7


def test_a_budget_that_is_used_up_fails_the_run_and_the_next_one_goes_on(
    server: FaultServer, settings: Settings
) -> None:
    """Pages that cost ten each, of a budget for four in a run: it is counted in memory, as nothing is shared."""

    def pages(arrival: Arrival) -> Any:
        since = int(arrival.query["since"])
        after = int(arrival.query.get("after", since - 1))
        shown = [{"id": number, "at": number} for number in range(after + 1, 10)][:1]
        more = shown[-1]["id"] if shown and shown[-1]["id"] < 9 else None
        return {"data": shown, "after": more}

    server.plan["/items"] = pages
    budget = {"requests": 45, "per": "1d", "costs": {"*": 10}, "when_used_up": "fail"}
    connector = connector_of(
        server.url,
        {
            "name": "items",
            "primary_key": "id",
            "write_disposition": "merge",
            "endpoint": {
                "path": "items",
                "data_selector": "data",
                "params": {"since": "{incremental.start_value}"},
                "paginator": {"type": "cursor", "cursor_path": "after", "cursor_param": "after"},
                "incremental": {"cursor_path": "at", "initial_value": 1, "row_order": "asc"},
            },
        },
        http={"rate_limits": [budget]},
    )
    sent = []
    for _ in range(8):
        server.arrivals.clear()
        (outcome,) = load(connector, settings).values()
        sent.append(len(server.arrivals))
        if not outcome.failed:
            break
        assert "the limit of 45 in 86,400 s (http.rate_limits) leaves no room" in failure_of(
            outcome
        )
    assert not outcome.failed
    assert len(sent) > 1
    assert max(sent) <= 4
    assert query(settings, f"SELECT id FROM {connector.name}.items ORDER BY id") == [
        (number,) for number in range(1, 10)
    ]


def test_a_file_that_is_no_log_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    path.write_text("this is no database, however long it may be")
    with pytest.raises(IngestError, match=r"log\.sqlite can't be used"):
        RequestLog(SqliteRequests(time.time, path)).take(SentRequest(), [])


@pytest.mark.parametrize(
    ("header", "text", "seconds"),
    [
        ("X-Shopify-Shop-Api-Call-Limit", "32/40", 0.0),
        ("X-Shopify-Shop-Api-Call-Limit", "36/40", 2.0),
        ("x-shopify-shop-api-call-limit", "80/80", 2.0),
        ("X-Shop-Call-Limit", "3/2", 30.0),
        ("X-Shop-Call-Limit", "often", 0.0),
        ("X-Other", "40/40", 0.0),
    ],
)
def test_a_bucket_of_calls_is_given_time_to_empty(header: str, text: str, seconds: float) -> None:
    assert full_bucket_seconds({header: text}, 8) == pytest.approx(seconds)


def test_a_bucket_that_is_nearly_full_pauses_the_run(
    server: FaultServer, settings: Settings
) -> None:
    header = {"X-Shopify-Shop-Api-Call-Limit": "40/40"}
    server.plan |= {"/first": Reply([{"id": 1}], headers=header), "/second": [{"id": 2}]}
    connector = connector_of(server.url, "first", "second", http={"max_concurrency": 1})
    assert not any(outcome.failed for outcome in load(connector, settings).values())
    first, second = server.arrivals
    assert second.at - first.at >= 0.5
