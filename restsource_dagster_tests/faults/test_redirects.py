"""Redirects to another origin, the token endpoint's origin, and credentials from the environment."""

from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import connector_of, failure_of, items
from restsource_dagster_tests.making import load
from restsource_dagster_tests.servers.faults import FaultServer, Reply

pytestmark = pytest.mark.faults(row=1)

SECRETS = {"TOKEN": "canary-token-5f2c", "STATIC": "canary-static-77aa", "KEY": "canary-key-0b1d"}
CLIENT = {
    "auth": {"type": "bearer", "token": "${TOKEN}"},
    "headers": {"X-Static": "${STATIC}"},
}
KEYED = items(params={"key": "${KEY}"})


def test_a_redirect_to_another_origin_fails_and_nothing_arrives_there(
    server: FaultServer, other: FaultServer, settings: Settings
) -> None:
    made = []
    for status in (301, 302, 303, 307, 308):
        for method in ("GET", "POST"):
            name = f"{method.lower()}{status}"
            server.plan[f"/{name}"] = Reply(status=status, headers={"Location": f"{other.url}/x"})
            body: dict[str, Any] = {"json": {"key": "${KEY}"}} if method == "POST" else {}
            made.append({**items(path=name, method=method, **body), "name": name})
    outcomes = load(connector_of(server.url, *made, client=CLIENT), settings, environment=SECRETS)
    assert other.connections == 0
    for name, outcome in outcomes.items():
        message = failure_of(outcome)
        assert server.asked(f"/{name}"), name
        assert server.url in message, name
        assert other.url in message, name


def test_a_redirect_within_the_origin_keeps_credentials(
    server: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = Reply(status=302, headers={"Location": "/moved"})
    server.plan["/moved"] = {"data": [{"id": 1}]}
    outcome = load(connector_of(server.url, items(), client=CLIENT), settings, environment=SECRETS)[
        "items"
    ]
    assert outcome.rows_loaded == 1
    [moved] = server.asked("/moved")
    assert moved.headers["authorization"] == f"Bearer {SECRETS['TOKEN']}"
    assert moved.headers["x-static"] == SECRETS["STATIC"]


@pytest.mark.parametrize(
    "auth",
    [
        {"type": "bearer", "token": "${TOKEN}"},
        {"type": "api_key", "name": "X-Api-Key", "api_key": "${KEY}"},
        {"type": "http_basic", "username": "me", "password": "${KEY}"},
    ],
    ids=lambda auth: auth["type"],
)
def test_a_redirect_to_a_listed_host_takes_along_no_header_of_the_file(
    server: FaultServer, other: FaultServer, settings: Settings, auth: dict[str, str]
) -> None:
    server.plan["/items"] = Reply(
        status=302, headers={"Location": f"{other.url}/items", "Set-Cookie": "sid=canary-cookie"}
    )
    other.plan["/items"] = [{"id": 1}]
    connector = connector_of(
        server.url,
        items(headers={"X-Endpoint": "${KEY}"}, params={"key": "${KEY}"}),
        client={"headers": {"X-Static": "${STATIC}"}, "auth": auth},
        http={"allowed_hosts": ["127.0.0.1"]},
    )
    assert load(connector, settings, environment=SECRETS)["items"].rows_loaded == 1
    [arrived] = other.arrivals
    neutral = {"accept", "accept-encoding", "connection", "host", "user-agent"}
    assert set(arrived.headers) <= neutral
    assert not any(arrived.has(secret) for secret in (*SECRETS.values(), "canary-cookie"))


@pytest.fixture
def desk(other: FaultServer) -> dict[str, Any]:
    """The auth of a client whose tokens come from another origin."""
    other.plan["/token"] = {"access_token": "given-token-1", "expires_in": 3600}
    return {
        "type": "oauth2_client_credentials",
        "access_token_url": f"{other.url}/token",
        "client_id": "me",
        "client_secret": "${TOKEN}",
    }


def test_the_token_endpoint_gets_only_what_it_needs(
    server: FaultServer, other: FaultServer, settings: Settings, desk: dict[str, Any]
) -> None:
    server.plan["/items"] = Reply(
        {"data": [{"id": 1}]}, headers={"Set-Cookie": "sid=canary-cookie; Path=/"}
    )
    connector = connector_of(
        server.url, KEYED, "items2", client={"auth": desk, "headers": {"X-Static": "${STATIC}"}}
    )
    assert load(connector, settings, environment=SECRETS)["items"].rows_loaded == 1
    [asked] = other.arrivals
    assert not any(asked.has(secret) for secret in (SECRETS["STATIC"], SECRETS["KEY"]))
    assert "cookie" not in asked.headers
    assert not any(seen.has(SECRETS["TOKEN"]) for seen in server.arrivals)


@pytest.mark.parametrize("status", [302, 307])
def test_a_token_endpoint_that_redirects_elsewhere_gets_no_secret_sent_there(
    server: FaultServer, other: FaultServer, settings: Settings, desk: dict[str, Any], status: int
) -> None:
    with FaultServer() as third:
        other.plan["/token"] = Reply(status=status, headers={"Location": f"{third.url}/token"})
        connector = connector_of(
            server.url, items(), client={"auth": desk}, http={"allowed_hosts": ["127.0.0.1"]}
        )
        message = failure_of(load(connector, settings, environment=SECRETS)["items"])
        assert third.connections == 0
        assert third.url in message
        assert "no access token" in message
    assert server.arrivals == []


def test_netrc_gives_no_credentials(
    server: FaultServer, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password canary-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server.plan["/items"] = Reply(status=302, headers={"Location": "/moved"})
    server.plan["/moved"] = [{"id": 1}]
    assert load(connector_of(server.url, items()), settings)["items"].rows_loaded == 1
    assert all("authorization" not in seen.headers for seen in server.arrivals)


def test_a_proxy_of_the_environment_is_used(
    other: FaultServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", other.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    other.plan["/items"] = [{"id": 1}]
    outcome = load(connector_of("http://api.invalid", items()), settings)["items"]
    assert outcome.rows_loaded == 1
    assert other.arrivals[0].target == "http://api.invalid/items"
