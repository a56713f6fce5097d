"""OAuth tokens that expire or are refused are renewed."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from restsource_dagster.engine.errors import ResponseError
from restsource_dagster.engine.paging.calls import Call
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import (
    FakeTime,
    connector_of,
    endpoint_for,
    failure_of,
    items,
)
from restsource_dagster_tests.faults.token_desk import SECRET, Desk, send, token_of
from restsource_dagster_tests.making import load
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply

pytestmark = pytest.mark.faults(row=7)


@pytest.fixture
def desk(server: FaultServer) -> Desk:
    return Desk(server)


@pytest.mark.parametrize(
    ("lifetime", "still_good", "renewed"),
    [(3600, 3539, 3541), (100, 79, 81), ("100", 79, 81), (10.0, 7.9, 8.1)],
)
def test_a_token_is_renewed_before_it_expires(
    server: FaultServer, lifetime: Any, still_good: float, renewed: float
) -> None:
    desk, fake = Desk(server, lifetime=lifetime), FakeTime()
    token = token_of(server, fake)
    start = fake.now
    assert send(token, server) == "Bearer token-0001"
    fake.now = start + still_good
    assert send(token, server) == "Bearer token-0001"
    fake.now = start + renewed
    assert send(token, server) == "Bearer token-0002"
    assert desk.given == 2


@pytest.mark.parametrize("lifetime", [None, 0])
def test_a_token_without_a_lifetime_expires_after_an_hour(
    server: FaultServer, lifetime: Any
) -> None:
    desk, fake = Desk(server, lifetime=lifetime), FakeTime()
    token = token_of(server, fake)
    send(token, server)
    fake.now += 3500
    send(token, server)
    assert desk.given == 1


def test_a_token_that_expires_during_a_run_is_renewed_and_its_page_requested_again(
    server: FaultServer, desk: Desk, settings: Settings
) -> None:
    def revoke_at_page_3(seen: Arrival) -> Any:
        if seen.query.get("page") == "3" and desk.given == 1:
            desk.good = "revoked"
        return desk.guard(seen)

    server.plan["/items"] = revoke_at_page_3
    connector = connector_of(server.url, items(), client={"auth": desk.auth})
    outcome = load(connector, settings, environment={"SECRET": SECRET})["items"]
    assert outcome.rows_loaded == 4
    assert desk.given == 2
    pages = [seen.query.get("page", "1") for seen in server.asked("/items")]
    assert pages == ["1", "2", "3", "3", "4"]


def test_a_second_401_fails_and_says_that_the_new_token_was_refused_too(
    server: FaultServer, desk: Desk, settings: Settings
) -> None:
    desk.refusals = 99
    connector = connector_of(server.url, items(), client={"auth": desk.auth})
    message = failure_of(load(connector, settings, environment={"SECRET": SECRET})["items"])
    assert "refused the token and then a new one, too" in message
    assert "answered 401" in message
    assert "token expired" in message
    assert (desk.given, len(server.asked("/items"))) == (2, 2)


def test_each_page_may_have_its_401(server: FaultServer, desk: Desk) -> None:
    fake = FakeTime()

    def revoke_each_time(seen: Arrival) -> Any:
        answer = desk.guard(seen)
        desk.good = "" if isinstance(answer, dict) else desk.good
        return answer

    server.plan["/items"] = revoke_each_time
    endpoint = endpoint_for(
        server, selector="data", paginator="json_link", auth=token_of(server, fake)
    )
    assert len(list(endpoint.pages(Call("items")))) == 4
    assert desk.given == 4


def test_a_401_with_a_response_action_renews_no_token(server: FaultServer, desk: Desk) -> None:
    desk.refusals = 1
    endpoint = endpoint_for(
        server,
        auth=token_of(server, FakeTime()),
        actions=({"status_code": 401, "action": "ignore"},),
    )
    assert list(endpoint.pages(Call("items"))) == []
    assert desk.given == 1


def test_a_401_without_oauth_is_not_retried(server: FaultServer, desk: Desk) -> None:
    with pytest.raises(ResponseError, match=r"check client\.auth"):
        list(endpoint_for(server).pages(Call("items")))
    assert len(server.arrivals) == 1


def test_many_threads_renew_a_refused_token_once(server: FaultServer, desk: Desk) -> None:
    token = token_of(server, FakeTime())
    threads = 16
    together = threading.Barrier(threads)
    first = requests.Request("GET", f"{server.url}/items", auth=token).prepare()

    def refused(_: int) -> str:
        together.wait()
        token.renew(first)
        return send(token, server)

    with ThreadPoolExecutor(threads) as pool:
        sent = set(pool.map(refused, range(threads)))
    assert sent == {"Bearer token-0002"}
    assert desk.given == 2


def test_parallel_dependents_renew_an_expired_token_once(
    server: FaultServer, desk: Desk, settings: Settings
) -> None:
    def revoke(seen: Arrival) -> Any:
        desk.good = "revoked"
        return [{"id": number} for number in range(12)]

    def guard(seen: Arrival) -> Any:
        is_good = seen.headers.get("authorization") == f"Bearer {desk.good}"
        return {"id": 1} if is_good else Reply(status=401, delay=0.05)

    server.plan |= {"/parents": revoke, **{f"/parents/{n}": guard for n in range(12)}}
    child = {
        "name": "children",
        "parallelized": True,
        "endpoint": {"path": "parents/{resources.parents.id}"},
    }
    connector = connector_of(server.url, "parents", child, client={"auth": desk.auth})
    outcomes = load(connector, settings, environment={"SECRET": SECRET})
    assert outcomes["children"].rows_loaded == 12
    assert desk.given == 2
