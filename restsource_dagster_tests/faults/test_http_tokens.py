"""Row 7: OAuth tokens that end, are refused, or are not given."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials

from restsource_dagster.engine.errors import IngestError, ResponseError, TokenError
from restsource_dagster.engine.http.tokens import RenewingToken
from restsource_dagster.engine.paging.pages import Call
from restsource_dagster.engine.redaction import Redactor
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import (
    FakeTime,
    connector_of,
    endpoint_for,
    failure_of,
    items,
    session_for,
)
from restsource_dagster_tests.making import load
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply

pytestmark = pytest.mark.faults(row=7)

SECRET = "canary-client-secret"


class Desk:
    """Gives out tokens and, on the same server, guards four pages of an API with them."""

    def __init__(self, server: FaultServer, *, lifetime: Any = 3600) -> None:
        self.server = server
        self.answer: dict[str, Any] = {"expires_in": lifetime}
        self.good = ""
        self.given = 0
        self.refusals = 0
        """How many requests with a good token are refused all the same."""
        server.plan |= {"/token": self.give, "/items": self.guard}

    def give(self, seen: Arrival) -> Any:
        self.given += 1
        self.good = f"token-{self.given:04d}"
        return {"access_token": self.good, **self.answer}

    def guard(self, seen: Arrival) -> Any:
        if seen.headers.get("authorization") != f"Bearer {self.good}" or self.refusals > 0:
            self.refusals -= 1
            return Reply({"message": "token expired"}, status=401)
        page = int(seen.query.get("page", 1))
        return {
            "data": [{"id": page}],
            "next": f"/items?page={page + 1}" if page < 4 else None,
        }

    @property
    def auth(self) -> dict[str, Any]:
        return {
            "type": "oauth2_client_credentials",
            "access_token_url": f"{self.server.url}/token",
            "client_id": "me",
            "client_secret": "${SECRET}",
        }


@pytest.fixture
def desk(server: FaultServer) -> Desk:
    return Desk(server)


def token_of(server: FaultServer, fake: FakeTime, **rules: Any) -> RenewingToken:
    credentials = OAuth2ClientCredentials(
        access_token_url=f"{server.url}/token",
        client_id="me",
        client_secret=SECRET,
        session=session_for(server, time=fake, **rules),
    )
    return RenewingToken(credentials, Redactor([SECRET]), clock=fake.clock)


def send(token: RenewingToken, server: FaultServer) -> str:
    request = requests.Request("GET", f"{server.url}/items", auth=token).prepare()
    return str(request.headers["Authorization"])


def error_of(token: RenewingToken, server: FaultServer) -> str:
    with pytest.raises(TokenError) as caught:
        send(token, server)
    return str(caught.value)


@pytest.mark.parametrize(
    ("lifetime", "still_good", "renewed"),
    [(3600, 3539, 3541), (100, 79, 81), ("100", 79, 81), (10.0, 7.9, 8.1)],
)
def test_a_token_is_renewed_ahead_of_its_end(
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
def test_a_token_without_a_lifetime_is_taken_to_live_for_an_hour(
    server: FaultServer, lifetime: Any
) -> None:
    desk, fake = Desk(server, lifetime=lifetime), FakeTime()
    token = token_of(server, fake)
    send(token, server)
    fake.now += 3500
    send(token, server)
    assert desk.given == 1


def test_a_token_that_ends_in_mid_run_is_renewed_on_the_401_and_the_page_asked_for_again(
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


def test_a_401_that_the_file_knows_of_is_left_to_the_file(server: FaultServer, desk: Desk) -> None:
    desk.refusals = 1
    endpoint = endpoint_for(
        server,
        auth=token_of(server, FakeTime()),
        actions=({"status_code": 401, "action": "ignore"},),
    )
    assert list(endpoint.pages(Call("items"))) == []
    assert desk.given == 1


def test_a_401_without_oauth_is_not_asked_for_again(server: FaultServer, desk: Desk) -> None:
    with pytest.raises(ResponseError, match="check client.auth"):
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


def test_parallel_children_whose_token_ends_renew_it_once(
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


def test_a_token_endpoint_that_fails_for_a_moment_is_tried_again(
    server: FaultServer, desk: Desk
) -> None:
    server.plan["/token"] = (Reply(status=503), Reply(reset=True), desk.give)
    assert send(token_of(server, FakeTime()), server) == "Bearer token-0001"


def test_a_slow_token_endpoint_is_given_up_in_time(
    server: FaultServer, desk: Desk, settings: Settings
) -> None:
    server.plan["/token"] = Reply({"access_token": "x"}, delay=30)
    fake = FakeTime()
    started = time.monotonic()
    message = error_of(token_of(server, fake, timeout_seconds=0.2), server)
    assert time.monotonic() - started < 5
    assert "no complete answer within 0.2 s" in message
    assert len(fake.slept) == 4


def test_threads_that_wait_for_a_token_share_the_failure(server: FaultServer) -> None:
    server.plan["/token"] = Reply({"error": "invalid_client"}, status=401, delay=0.3)
    token = token_of(server, FakeTime())
    with ThreadPoolExecutor(8) as pool:
        errors = set(pool.map(lambda _: error_of(token, server), range(8)))
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
