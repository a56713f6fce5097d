"""Requests per second and in flight stay within the limits, measured at the server."""

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as at_most
from hypothesis import strategies as st

from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.http.request_log import RequestLog
from restsource_dagster.engine.http.waits import RateLimiter
from restsource_dagster.settings import Settings
from restsource_dagster.state.request_table import SqliteRequests
from restsource_dagster_tests.faults.http_parts import FakeTime, connector_of
from restsource_dagster_tests.making import load
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply
from restsource_dagster_tests.waiting import Background

pytestmark = pytest.mark.faults(row=9)

NEARLY_A_SECOND = 0.75
"""A request counts as arrived half a second after its start; on a busy machine it may take longer."""


def fan_out(
    server: FaultServer, children: int, *, delay: float = 0.0, together: int = 0, **http: Any
) -> Any:
    """A connector whose dependent makes one call for each parent, from several threads.

    No call gets a response before so many requests are in flight `together`.
    """
    server.plan["/parents"] = [{"id": number} for number in range(children)]
    for number in range(children):
        server.plan[f"/parents/{number}"] = Reply({"id": number}, delay=delay, together=together)
    child = {
        "name": "children",
        "parallelized": True,
        "endpoint": {"path": "parents/{resources.parents.id}"},
    }
    return connector_of(server.url, "parents", child, http=http)


def loaded(connector: Any, settings: Settings) -> int:
    outcomes = load(connector, settings)
    assert not any(outcome.failed for outcome in outcomes.values()), outcomes
    return outcomes["children"].rows_loaded


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.8])
def test_no_second_has_more_requests_than_the_file_allows(
    server: FaultServer, settings: Settings, delay: float
) -> None:
    connector = fan_out(server, 24, delay=delay, requests_per_second=10, max_concurrency=16)
    assert loaded(connector, settings) == 24
    assert server.most_within(NEARLY_A_SECOND) <= 10
    # and the rate is used: 25 requests take three windows, not twenty-five
    times = [arrival.at for arrival in server.arrivals]
    assert max(times) - min(times) < 20


def test_the_rate_holds_over_retries_redirects_and_token_requests(
    server: FaultServer, settings: Settings
) -> None:
    server.plan |= {
        "/token": {"access_token": "a-token", "expires_in": 1},
        "/items": (
            Reply(status=503, headers={"Retry-After": "0"}),
            Reply(status=302, headers={"Location": "/moved"}),
        ),
        "/moved": [{"id": 1}],
        "/others": [{"id": 2}],
    }
    auth = {
        "type": "oauth2_client_credentials",
        "access_token_url": f"{server.url}/token",
        "client_id": "me",
        "client_secret": "a-secret",
    }
    connector = connector_of(
        server.url, "items", "others", client={"auth": auth}, http={"requests_per_second": 2}
    )
    outcomes = load(connector, settings)
    assert not any(outcome.failed for outcome in outcomes.values())
    assert len(server.arrivals) >= 5
    assert server.most_within(NEARLY_A_SECOND) <= 2


@pytest.mark.parametrize("max_concurrency", [1, 3])
def test_no_more_requests_are_in_flight_than_the_file_allows(
    server: FaultServer, settings: Settings, max_concurrency: int
) -> None:
    connector = fan_out(
        server, 12, delay=0.05, together=max_concurrency, max_concurrency=max_concurrency
    )
    assert loaded(connector, settings) == 12
    assert server.peak == max_concurrency


def test_by_default_eight_requests_are_in_flight_and_then_up_to_twenty(
    server: FaultServer, settings: Settings
) -> None:
    connector = fan_out(server, 80, together=8)
    # only the first eight get a response before nine are in flight: slow ones can't take growth back
    for number in range(8, 80):
        server.plan[f"/parents/{number}"] = Reply({"id": number}, delay=0.02, together=9)
    assert loaded(connector, settings) == 80
    assert 9 <= server.peak <= 20


@pytest.mark.parametrize(
    "http",
    [
        {"requests_per_second": 1000},
        {"rate_limits": [{"requests": 1000, "per": "1s"}]},
        {"shared": "account", "requests_per_second": 1000},
    ],
    ids=str,
)
def test_a_file_that_limits_the_rate_has_eight_requests_in_flight(
    server: FaultServer, settings: Settings, http: dict[str, Any]
) -> None:
    assert loaded(fan_out(server, 60, delay=0.01, together=8, **http), settings) == 60
    assert server.peak == 8


def crowded(server: FaultServer, children: int, *, allowed: int) -> tuple[Any, list[str]]:
    """A connector as `fan_out`, and the paths that the API refused: it allows so many requests at once."""
    connector, refused = fan_out(server, children), list[str]()

    def answer(seen: Arrival) -> Reply:
        if server.under_way > allowed:
            refused.append(seen.target)
            return Reply(status=429, headers={"Retry-After": "0"})
        return Reply({"id": 1}, delay=0.02)

    for number in range(children):
        server.plan[f"/parents/{number}"] = answer
    return connector, refused


def test_an_api_that_allows_twenty_requests_at_once_refuses_none(
    server: FaultServer, settings: Settings
) -> None:
    connector, refused = crowded(server, 120, allowed=20)
    assert loaded(connector, settings) == 120
    assert refused == []


def test_an_api_that_allows_fewer_at_once_refuses_few_and_every_row_is_loaded(
    server: FaultServer, settings: Settings
) -> None:
    connector, refused = crowded(server, 150, allowed=11)
    assert loaded(connector, settings) == 150
    # the first ones together, then one for each number from there down to eleven
    assert len(refused) <= 30


def test_a_rate_below_one_is_a_pause_between_requests(
    server: FaultServer, settings: Settings
) -> None:
    connector = fan_out(server, 2, requests_per_second=0.8)
    assert loaded(connector, settings) == 2
    times = [arrival.at for arrival in server.arrivals]
    assert all(after - before >= 1.25 for before, after in pairwise(times))


@given(
    rate=st.integers(1, 8),
    exchanges=st.lists(st.floats(0, 3), min_size=1, max_size=40),
    transits=st.lists(st.floats(0, 0.5), min_size=40, max_size=40),
)
@at_most(max_examples=60, deadline=None)
def test_however_long_exchanges_take_no_window_holds_too_many_arrivals(
    rate: int, exchanges: list[float], transits: list[float]
) -> None:
    fake = FakeTime()
    limiter = RateLimiter(requests_per_second=rate, clock=fake.clock, wait=fake.wait)
    arrivals = []
    for seconds, transit in zip(exchanges, transits, strict=False):
        with limiter.slot():
            arrivals.append(fake.now + min(seconds, transit))
            fake.now += seconds
    for at in arrivals:
        # a hair less than a second, because the clock is made of floats
        assert sum(at <= other < at + 1.0 - 1e-6 for other in arrivals) <= rate


def test_requests_that_take_long_do_not_use_up_the_rate_for_long() -> None:
    fake = FakeTime()
    limiter = RateLimiter(requests_per_second=1, clock=fake.clock, wait=fake.wait)
    with limiter.slot():
        started = fake.now
        with limiter.slot():
            assert fake.now - started == pytest.approx(1.5)


def test_a_slot_is_released_after_an_error() -> None:
    limiter = RateLimiter(max_concurrency=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), limiter.slot():
            raise ZeroDivisionError


def test_many_threads_share_one_rate_limiter() -> None:
    limiter = RateLimiter(requests_per_second=20, max_concurrency=4)
    lock, times, in_flight, peaks = threading.Lock(), [], [0], []

    def send(_: int) -> None:
        with limiter.slot():
            with lock:
                times.append(time.monotonic())
                in_flight[0] += 1
                peaks.append(in_flight[0])
            time.sleep(0.01)
            with lock:
                in_flight[0] -= 1

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(send, range(45)))
    assert max(peaks) <= 4
    window = NEARLY_A_SECOND
    assert max(sum(at <= other < at + window for other in times) for at in times) <= 20


def test_a_request_whose_end_can_not_be_noted_frees_its_slot(tmp_path: Path) -> None:
    """A shared log may be out of reach for a moment: later requests fail or are sent, and none waits for ever."""
    path = tmp_path / "requests.db"
    log = RequestLog(SqliteRequests(time.time, path))
    limiter = RateLimiter(max_concurrency=1, log=log)

    def lose_log() -> None:
        with limiter.slot(), closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP TABLE IF EXISTS requests")

    for _ in range(2):
        with pytest.raises(IngestError, match="can't be used"):
            Background(lose_log).result()
    limiter.close()
