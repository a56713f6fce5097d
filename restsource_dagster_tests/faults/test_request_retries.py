"""Requests are retried, and wait as long as the API asks."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import requests

from restsource_dagster.engine.errors import RateLimitedError, RequestError, ResponseError
from restsource_dagster.engine.http.session import ApiSession
from restsource_dagster.engine.http.waits import (
    RateLimiter,
    is_transient,
    rate_limit_resets_in,
    retry_after,
)
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import (
    FakeTime,
    Notes,
    connector_of,
    failure_of,
    items,
    rows_of,
    session_for,
)
from restsource_dagster_tests.making import load
from restsource_dagster_tests.servers.faults import FaultServer, Reply

pytestmark = pytest.mark.faults(row=8)

GOOD = [{"id": 1}]
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SOON = NOW + timedelta(seconds=30)


def busy(status: int = 429, **headers: str) -> Reply:
    return Reply(
        {"message": "slow down"},
        status=status,
        headers={name.replace("_", "-"): text for name, text in headers.items()},
    )


def in_seconds(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def waits_of(server: FaultServer, *replies: Any, **rules: Any) -> list[float]:
    """The waits before a good response, which follows these replies."""
    server.plan["/items"] = (*replies, GOOD)
    fake = FakeTime()
    session = session_for(server, time=fake, **rules)
    assert rows_of(server, session=session) == GOOD
    assert session.rules.usage_counter.usage.retries == len(replies)
    assert session.rules.usage_counter.usage.requests == len(replies) + 1
    return fake.slept


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_is_waited_for(server: FaultServer, status: int) -> None:
    replies = [busy(status, Retry_After=text) for text in ("7", "250")]
    assert waits_of(server, *replies) == [7.0, 250.0]


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_as_a_date_is_waited_for(server: FaultServer, status: int) -> None:
    date = format_datetime(in_seconds(290), usegmt=True)
    [wait] = waits_of(server, busy(status, Retry_After=date))
    assert 30 < wait <= 290  # the response may be late


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("as_a_date", [False, True])
def test_a_wait_of_20_minutes_fails_at_once_and_says_so(
    server: FaultServer, settings: Settings, status: int, as_a_date: bool
) -> None:
    text = format_datetime(in_seconds(1200), usegmt=True) if as_a_date else "1200"
    server.plan["/items"] = busy(status, Retry_After=text)
    outcome = load(connector_of(server.url, items()), settings)["items"]
    message = failure_of(outcome)
    assert "asks to wait 1" in message
    assert "more than http.max_wait_seconds (300) allows" in message
    assert outcome.usage.requests == 1


def test_a_wait_of_20_minutes_is_waited_for_if_the_file_allows_it(server: FaultServer) -> None:
    assert waits_of(server, busy(Retry_After="1200"), max_wait_seconds=3600) == [1200.0]


def test_the_waits_of_a_request_count_together(server: FaultServer) -> None:
    server.plan["/items"] = busy(Retry_After="120")
    fake = FakeTime()
    with pytest.raises(RateLimitedError, match="asks to wait 120 s after 240 s of waiting"):
        rows_of(server, session=session_for(server, time=fake))
    assert fake.slept == [120.0, 120.0]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 520])
def test_without_retry_after_the_waits_double_up_to_five_attempts(
    server: FaultServer, status: int
) -> None:
    server.plan["/items"] = busy(status)
    fake = FakeTime()
    with pytest.raises(ResponseError, match=f"answered {status}"):
        rows_of(server, session=session_for(server, time=fake))
    assert [int(wait) for wait in fake.slept] == [1, 2, 4, 8]
    assert len(server.arrivals) == 5


def test_a_wait_of_0_is_taken_literally_once(server: FaultServer) -> None:
    waits = waits_of(server, *[busy(Retry_After="0")] * 4)
    assert [int(wait) for wait in waits] == [0, 2, 4, 8]


@pytest.mark.parametrize("text", ["", "soon", "-5", "nan", "Fri, 99 Foo 2026", "1e999"])
def test_a_retry_after_that_says_nothing_counts_as_absent(server: FaultServer, text: str) -> None:
    assert [int(wait) for wait in waits_of(server, busy(Retry_After=text))] == [1]


@pytest.mark.parametrize("status", [400, 403, 404, 410, 501])
def test_other_statuses_are_not_retried(server: FaultServer, status: int) -> None:
    server.plan["/items"] = busy(status)
    with pytest.raises(ResponseError, match=f"answered {status}"):
        rows_of(server)
    assert len(server.arrivals) == 1


@pytest.mark.parametrize(
    ("remaining", "reset", "wait"),
    [
        ("0", "30", 30),
        ("0", str(int(SOON.timestamp())), 30),
        ("0", str(int(SOON.timestamp() * 1000)), 30),
        ("0", format_datetime(SOON, usegmt=True), 30),
        ("0", SOON.isoformat(), 30),
        ("0", str(int(NOW.timestamp() - 30)), 0),
        ("3", "30", None),
        ("0", "", None),
        ("", "30", None),
        ("0", "soon", None),
    ],
)
@pytest.mark.parametrize("prefix", ["X-RateLimit", "RateLimit", "X-Rate-Limit"])
def test_a_limit_that_is_used_up_says_when_it_resets(
    prefix: str, remaining: str, reset: str, wait: float | None
) -> None:
    headers = requests.structures.CaseInsensitiveDict(
        {f"{prefix}-Remaining": remaining, f"{prefix}-Reset": reset}
    )
    assert rate_limit_resets_in(headers, NOW) == wait


def test_a_429_with_rate_limit_headers_waits_until_the_reset(server: FaultServer) -> None:
    reply = busy(X_RateLimit_Remaining="0", X_RateLimit_Reset="40")
    assert waits_of(server, reply) == [40.0]


def test_a_response_that_uses_up_the_limit_delays_the_next_request(
    server: FaultServer, settings: Settings
) -> None:
    used_up = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}
    server.plan["/items"] = Reply(GOOD, headers=used_up)
    server.plan["/others"] = GOOD
    notes = Notes()
    one_by_one = connector_of(server.url, items(), "others", http={"max_concurrency": 1})
    outcomes = load(one_by_one, settings, observer=notes)
    assert notes.texts == ["items: the API's rate limit is used up for another 1 s"]
    assert not any(outcome.failed for outcome in outcomes.values())
    first, second = server.arrivals
    assert second.at - first.at >= 1.0


def test_a_reset_beyond_the_longest_wait_is_left_to_the_api(server: FaultServer) -> None:
    server.plan["/items"] = Reply(
        GOOD, headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "86400"}
    )
    session = session_for(server)
    assert rows_of(server, session=session) == GOOD
    assert rows_of(server, session=session) == GOOD


@pytest.mark.parametrize(("status", "held"), [(429, 30.0), (503, 0.0)])
def test_a_429_pauses_all_threads_and_a_503_only_its_own(
    server: FaultServer, status: int, held: float
) -> None:
    fake = FakeTime()
    limiter = RateLimiter(clock=fake.clock, wait=fake.wait)

    def another_thread(seconds: float) -> None:
        with limiter.slot():
            fake.slept.append(fake.now)

    server.plan["/items"] = (busy(status, Retry_After="30"), GOOD)
    started = fake.now
    rules = session_for(server).rules
    session = ApiSession(replace(rules, rate_limiter=limiter, sleep=another_thread))
    assert rows_of(server, session=session) == GOOD
    assert fake.slept == [started + held]


@pytest.mark.parametrize(
    "broken",
    [
        Reply(reset=True),
        Reply(GOOD, cut=3),
        Reply(b"nonsense", headers={"Content-Encoding": "gzip"}),
        Reply(b"xyz\r\n", headers={"Transfer-Encoding": "chunked", "Content-Length": ""}),
    ],
    ids=["reset", "cut", "bad gzip", "bad chunks"],
)
def test_an_exchange_that_breaks_is_retried_and_counted(server: FaultServer, broken: Reply) -> None:
    assert [int(wait) for wait in waits_of(server, broken, broken)] == [1, 2]


def test_a_server_that_always_resets_is_a_clear_error(
    server: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = Reply(reset=True)
    fake = FakeTime()
    with pytest.raises(RequestError) as caught:
        rows_of(server, session=session_for(server, time=fake))
    assert f"resource items, page 1: no answer from {server.url}/items" in str(caught.value)
    assert "ConnectionError" in str(caught.value)
    assert len(server.arrivals) == 5


def test_a_certificate_that_is_not_trusted_is_not_retried() -> None:
    error = requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED: self-signed certificate")
    assert not is_transient(error)
    assert is_transient(requests.exceptions.SSLError("EOF occurred in violation of protocol"))


def test_the_usage_counts_each_attempt_and_the_bytes(
    server: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = (busy(503, Retry_After="0"), Reply(b'[{"id": 1}]'))
    usage = load(connector_of(server.url, items()), settings)["items"].usage
    assert (usage.requests, usage.retries) == (2, 1)
    assert usage.bytes == len(b'[{"id": 1}]') + len(b'{"message": "slow down"}')


def test_a_date_without_a_zone_is_utc() -> None:
    assert retry_after({"Retry-After": "Thu, 01 Jan 2026 12:01:00"}, NOW) == 60.0
