"""Row 1: links and redirects that lead to another origin."""

from pathlib import Path
from typing import Any

import pytest
import requests

from restsource_dagster.engine.errors import ForeignOriginError
from restsource_dagster.engine.http.origins import Origin, OriginPolicy
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import (
    connector_of,
    failure_of,
    items,
    session_for,
)
from restsource_dagster_tests.making import load, query
from restsource_dagster_tests.servers.faults import FaultServer, Reply

pytestmark = pytest.mark.faults(row=1)

SECRETS = {"TOKEN": "canary-token-5f2c", "STATIC": "canary-static-77aa", "KEY": "canary-key-0b1d"}
CLIENT = {
    "auth": {"type": "bearer", "token": "${TOKEN}"},
    "headers": {"X-Static": "${STATIC}"},
}
KEYED = items(params={"key": "${KEY}"})
PAGE_2 = {"data": [{"id": 2}], "next": None}
PAGINATORS = {
    "json_link": {"type": "json_link", "next_url_path": "next"},
    "header_link": "header_link",
    "auto": "auto",
}


def first_page(link: str, paginator: str) -> Reply:
    body = {"data": [{"id": 1}], "next": None if paginator == "header_link" else link}
    headers = {"Link": f'<{link}>; rel="next"'} if paginator == "header_link" else {}
    return Reply(body, headers=headers)


def links(server: FaultServer, other: FaultServer) -> dict[str, str]:
    """Ways to write a link that leads away from `server`, most of them to `other`."""
    return {
        "port": f"{other.url}/items?page=2",
        "no scheme": f"//127.0.0.1:{other.port}/items",
        "own host as user": f"http://127.0.0.1:{server.port}@127.0.0.1:{other.port}/items",
        "login": f"http://me:pw@127.0.0.1:{other.port}/items",
        "backslash": f"http://127.0.0.1:{other.port}\\@127.0.0.1:{server.port}/items",
        "https": f"https://127.0.0.1:{server.port}/items",
        "other name of the host": f"http://localhost:{server.port}/items",
        "trailing dot": f"http://127.0.0.1.:{server.port}/items",
        "upper case": f"http://LOCALHOST:{other.port}/items",
        "host as a number": f"http://2130706433:{other.port}/items",
    }


LINKS = sorted(["port", "no scheme", "own host as user", "login", "backslash", "https"]) + [
    "other name of the host",
    "trailing dot",
    "upper case",
    "host as a number",
]


@pytest.mark.parametrize("paginator", PAGINATORS)
@pytest.mark.parametrize("link", LINKS)
def test_a_next_link_to_another_origin_fails_and_nothing_arrives_there(
    server: FaultServer, other: FaultServer, settings: Settings, paginator: str, link: str
) -> None:
    server.plan["/items"] = first_page(links(server, other)[link], paginator)
    connector = connector_of(
        server.url, KEYED, client={**CLIENT, "paginator": PAGINATORS[paginator]}
    )
    message = failure_of(load(connector, settings, environment=SECRETS)["items"])
    assert other.connections == 0
    assert len(server.arrivals) == 1
    assert "resource items, page 2" in message
    assert not any(secret in message for secret in SECRETS.values())
    if link != "backslash":
        assert server.url in message
        assert "another origin; nothing was sent there" in message


def test_the_error_names_both_origins_and_how_to_allow_the_other_host(
    server: FaultServer, other: FaultServer, settings: Settings
) -> None:
    link = f"http://localhost:{other.port}/items"
    server.plan["/items"] = first_page(link, "json_link")
    connector = connector_of(server.url, items(), client={"paginator": PAGINATORS["json_link"]})
    message = failure_of(load(connector, settings)["items"])
    assert f"the API at {server.url} leads to http://localhost:{other.port}" in message
    assert '"allowed_hosts": ["localhost"]' in message


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_redirect_to_another_origin_fails_and_nothing_arrives_there(
    server: FaultServer, other: FaultServer, settings: Settings, status: int, method: str
) -> None:
    server.plan["/items"] = Reply(status=status, headers={"Location": f"{other.url}/items"})
    body: dict[str, Any] = {"json": {"key": "${KEY}"}} if method == "POST" else {}
    connector = connector_of(server.url, items(method=method, **body), client=CLIENT)
    message = failure_of(load(connector, settings, environment=SECRETS)["items"])
    assert other.connections == 0
    assert server.url in message
    assert other.url in message


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


@pytest.mark.parametrize("link", ["/items?page=2", "?page=2", "//HOST/items?page=2", "FULL"])
def test_a_link_within_the_origin_is_followed_with_credentials(
    server: FaultServer, settings: Settings, link: str
) -> None:
    full = f"HTTP://127.0.0.1:{server.port}/items?page=2"
    link = link.replace("FULL", full).replace("HOST", f"127.0.0.1:{server.port}")
    server.plan["/items"] = lambda seen: (
        PAGE_2 if "page" in seen.query else first_page(link, "json_link")
    )
    connector = connector_of(
        server.url, items(), client={**CLIENT, "paginator": PAGINATORS["json_link"]}
    )
    assert load(connector, settings, environment=SECRETS)["items"].rows_loaded == 2
    assert all(seen.has(SECRETS["TOKEN"]) for seen in server.arrivals)


@pytest.mark.parametrize("listed", ["127.0.0.1", "127.0.0.1:{port}"])
def test_a_link_to_a_listed_host_is_followed_with_credentials(
    server: FaultServer, other: FaultServer, settings: Settings, listed: str
) -> None:
    server.plan["/items"] = first_page(f"{other.url}/items", "json_link")
    other.plan["/items"] = PAGE_2
    connector = connector_of(
        server.url,
        items(),
        client={**CLIENT, "paginator": PAGINATORS["json_link"]},
        http={"allowed_hosts": [listed.format(port=other.port)]},
    )
    assert load(connector, settings, environment=SECRETS)["items"].rows_loaded == 2
    assert other.arrivals[0].headers["authorization"] == f"Bearer {SECRETS['TOKEN']}"


def test_a_host_that_is_listed_with_another_port_is_not_listed(
    server: FaultServer, other: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = first_page(f"{other.url}/items", "json_link")
    connector = connector_of(
        server.url,
        items(),
        client={"paginator": PAGINATORS["json_link"]},
        http={"allowed_hosts": [f"127.0.0.1:{other.port + 1}"]},
    )
    failure_of(load(connector, settings)["items"])
    assert other.connections == 0


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


def test_a_full_url_of_another_origin_gets_the_resources_own_credentials_only(
    server: FaultServer, other: FaultServer, settings: Settings
) -> None:
    other.plan["/rates"] = [{"id": 1}]
    own = {"type": "api_key", "name": "X-Own", "api_key": "own-key-4711"}
    connector = connector_of(
        server.url,
        {"name": "rates", "endpoint": {"path": f"{other.url}/rates", "auth": own}},
        {"name": "bare", "endpoint": {"path": f"{other.url}/rates", "params": {"q": 1}}},
        client=CLIENT,
        defaults={
            "endpoint": {
                "params": {"key": "${KEY}"},
                "headers": {"X-Default": "${STATIC}"},
                "auth": {"type": "bearer", "token": "${TOKEN}"},
            }
        },
    )
    outcomes = load(connector, settings, environment=SECRETS)
    assert [outcome.rows_loaded for outcome in outcomes.values()] == [1, 1]
    rates, bare = other.arrivals
    assert rates.headers["x-own"] == "own-key-4711"
    assert (rates.query, bare.query) == ({}, {"q": "1"})
    assert not any(seen.has(secret) for seen in (rates, bare) for secret in SECRETS.values())


def test_a_full_url_that_the_api_gave_is_no_exception(
    server: FaultServer, other: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = [{"id": 1, "url": f"{other.url}/details"}]
    details = {"name": "details", "endpoint": {"path": "{resources.items.url}"}}
    connector = connector_of(server.url, items(), details, client=CLIENT)
    message = failure_of(load(connector, settings, environment=SECRETS)["details"])
    assert other.connections == 0
    assert other.url in message


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


def test_a_failing_link_keeps_the_table(
    server: FaultServer, other: FaultServer, settings: Settings
) -> None:
    connector = connector_of(server.url, items(), client={"paginator": PAGINATORS["json_link"]})
    server.plan["/items"] = {"data": [{"id": 7}], "next": None}
    load(connector, settings)
    server.plan["/items"] = first_page(f"{other.url}/items", "json_link")
    failure_of(load(connector, settings)["items"])
    assert query(settings, "SELECT id FROM shop.items") == [(7,)]


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("https://api.example.com", "https://API.example.com:443/x", True),
        ("http://api.example.com", "http://api.example.com:80", True),
        ("https://api.example.com", "http://api.example.com", False),
        ("https://api.example.com", "https://api.example.com:8443", False),
        ("https://api.example.com", "https://api.example.com.", False),
        ("https://api.example.com", "https://example.com", False),
        ("https://bücher.example", "https://xn--bcher-kva.example", True),
        ("http://[::1]:80", "http://[::1]/x", True),
        ("http://[::1]:80", "http://[::1]:0", False),
    ],
)
def test_an_origin_is_scheme_host_and_port(one: str, two: str, same: bool) -> None:
    assert (Origin.of(one) == Origin.of(two)) is same


@pytest.mark.parametrize("url", ["http://[::1", "http://a:99999", "http://a:x"])
def test_a_url_without_a_clear_origin_is_refused(url: str) -> None:
    with pytest.raises(requests.exceptions.InvalidURL):
        Origin.of(url)


@pytest.mark.parametrize(
    ("own", "listed", "url", "may"),
    [
        ("https://a.example", "b.example", "https://b.example:8443/x", True),
        ("https://a.example", "b.example", "http://b.example/x", False),
        ("http://a.example", "b.example", "https://b.example/x", True),
        ("https://a.example", "b.example:8443", "https://b.example/x", False),
        ("https://a.example", "b.example", "https://c.b.example/x", False),
        ("http://a.example", "[::1]:81", "http://[::1]:81/x", True),
    ],
)
def test_a_listed_host_may_be_asked_but_never_less_safely(
    own: str, listed: str, url: str, may: bool
) -> None:
    policy = OriginPolicy.for_url(own, [listed])
    if may:
        policy.check(url)
        return
    with pytest.raises(ForeignOriginError, match="another origin"):
        policy.check(url)


def test_the_session_itself_refuses_another_origin(server: FaultServer, other: FaultServer) -> None:
    with session_for(server) as session, pytest.raises(ForeignOriginError):
        session.get(f"{other.url}/items")
    assert other.connections == 0
