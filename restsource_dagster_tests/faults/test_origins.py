"""Links that lead to another origin get no request and no credentials."""

import pytest
import requests

from restsource_dagster.engine.errors import ForeignOriginError, IngestError
from restsource_dagster.engine.http.origins import Origin, OriginPolicy
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import (
    connector_of,
    failure_of,
    items,
    rows_of,
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


LINKS = [
    "port",
    "no scheme",
    "own host as user",
    "login",
    "backslash",
    "https",
    "other name of the host",
    "trailing dot",
    "upper case",
    "host as a number",
]


def assert_refused(message: str, server: FaultServer, other: FaultServer, link: str) -> None:
    assert other.connections == 0
    assert len(server.arrivals) == 1
    assert message.startswith("resource items, page 2: ")
    assert not any(secret in message for secret in SECRETS.values())
    if link != "backslash":
        assert server.url in message
        assert "another origin; nothing was sent there" in message


@pytest.mark.parametrize("link", LINKS)
def test_a_next_link_to_another_origin_fails_and_nothing_arrives_there(
    server: FaultServer, other: FaultServer, settings: Settings, link: str
) -> None:
    server.plan["/items"] = first_page(links(server, other)[link], "json_link")
    connector = connector_of(
        server.url, KEYED, client={**CLIENT, "paginator": PAGINATORS["json_link"]}
    )
    message = failure_of(load(connector, settings, environment=SECRETS)["items"])
    assert_refused(message, server, other, link)


@pytest.mark.parametrize("paginator", ["header_link", "auto"])
@pytest.mark.parametrize("link", LINKS)
def test_a_link_header_and_a_detected_link_are_no_exception(
    server: FaultServer, other: FaultServer, paginator: str, link: str
) -> None:
    server.plan["/items"] = first_page(links(server, other)[link], paginator)
    with pytest.raises(IngestError) as caught:
        rows_of(server, selector="data", paginator=paginator)
    assert_refused(str(caught.value), server, other, link)


def test_the_error_names_both_origins_and_how_to_allow_the_other_host(
    server: FaultServer, other: FaultServer, settings: Settings
) -> None:
    link = f"http://localhost:{other.port}/items"
    server.plan["/items"] = first_page(link, "json_link")
    connector = connector_of(server.url, items(), client={"paginator": PAGINATORS["json_link"]})
    message = failure_of(load(connector, settings)["items"])
    assert f"the API at {server.url} leads to http://localhost:{other.port}" in message
    assert '"allowed_hosts": ["localhost"]' in message


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
    # The two families are asked side by side, so either may arrive first.
    rates, bare = sorted(other.arrivals, key=lambda seen: len(seen.query))
    assert (rates.query, bare.query) == ({}, {"q": "1"})
    assert rates.headers["x-own"] == "own-key-4711"
    assert "x-own" not in bare.headers
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
def test_a_listed_host_gets_requests_but_never_less_safely(
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
