"""Token endpoints that are slow or fail give clear errors."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from restsource_dagster.engine.errors import IngestError, TokenError
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import (
    FakeTime,
    connector_of,
    failure_of,
    items,
)
from restsource_dagster_tests.faults.token_desk import SECRET, Desk, error_of, send, token_of
from restsource_dagster_tests.making import load
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply
from restsource_dagster_tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.faults(row=7)


@pytest.fixture
def desk(server: FaultServer) -> Desk:
    return Desk(server)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply({"error": "invalid_client"}, status=401), ["it was refused", "invalid_client"]),
        (Reply({"error": "invalid_scope"}, status=400), ["400", "invalid_scope"]),
        (Reply(b"<html>login</html>"), ["no JSON object"]),
        (Reply(["token"]), ["no JSON object"]),
        (Reply({"token": "t"}), ["no `access_token`, only token"]),
        (Reply({"access_token": None}), ["no `access_token`"]),
        (Reply({"access_token": "t" * 9, "expires_in": "soon"}), ["`expires_in` is no number"]),
        (Reply(status=503), ["it was refused (Service Unavailable)"]),
        (Reply(reset=True), ["ConnectionError"]),
        (Reply(status=429, headers={"Retry-After": "1200"}), ["asks to wait 1200 s"]),
    ],
    ids=str,
)
def test_a_failing_token_endpoint_is_a_clear_error_that_names_it(
    server: FaultServer, reply: Reply, said: list[str]
) -> None:
    server.plan["/token"] = reply
    message = error_of(token_of(server, FakeTime()), server)
    assert message.startswith(f"no access token from {server.url}/token: ")
    assert all(text in message for text in said)
    assert "Check client_id, client_secret" in message


def test_a_token_endpoint_that_fails_for_a_moment_is_retried(
    server: FaultServer, desk: Desk
) -> None:
    server.plan["/token"] = (Reply(status=503), Reply(reset=True), desk.give)
    assert send(token_of(server, FakeTime()), server) == "Bearer token-0001"


def test_a_slow_token_endpoint_is_given_up_in_time(
    server: FaultServer, desk: Desk, settings: Settings
) -> None:
    server.plan["/token"] = Reply({"access_token": "x"}, delay=PATIENCE_SECONDS)
    fake = FakeTime()
    message = error_of(token_of(server, fake, timeout_seconds=0.2), server)
    assert "no complete answer within 0.2 s" in message
    assert len(fake.slept) == 4


def test_threads_that_wait_for_a_token_share_the_failure(server: FaultServer) -> None:
    # A second after the threads were let go, all of them wait for the answer to the first.
    server.plan["/token"] = Reply({"error": "invalid_client"}, status=401, delay=1.0)
    token = token_of(server, FakeTime())
    together = threading.Barrier(8)

    def ask(_: int) -> str:
        together.wait()
        return error_of(token, server)

    with ThreadPoolExecutor(8) as pool:
        errors = set(pool.map(ask, range(8)))
    assert len(errors) == 1
    assert len(server.arrivals) == 1
    error_of(token, server)
    assert len(server.arrivals) == 2


def test_a_token_error_shows_no_secret(server: FaultServer) -> None:
    def echo(seen: Arrival) -> Any:
        return Reply({"error": "bad", "you_sent": seen.body.decode()}, status=400)

    server.plan["/token"] = echo
    message = error_of(token_of(server, FakeTime()), server)
    assert "you_sent" in message
    assert SECRET not in message
    server.plan["/token"] = {"accessToken": "canary-unknown-place"}
    assert "canary-unknown-place" not in error_of(token_of(server, FakeTime()), server)


def test_a_failing_login_fails_the_resource_and_names_it(
    server: FaultServer, desk: Desk, settings: Settings
) -> None:
    server.plan["/token"] = Reply({"error": "invalid_client"}, status=401)
    connector = connector_of(server.url, items(), client={"auth": desk.auth})
    outcome = load(connector, settings, environment={"SECRET": SECRET})["items"]
    assert failure_of(outcome).startswith("resource items, page 1: no access token from ")
    assert server.asked("/items") == []


def test_a_token_error_is_one_of_the_runs_errors() -> None:
    assert issubclass(TokenError, IngestError)
