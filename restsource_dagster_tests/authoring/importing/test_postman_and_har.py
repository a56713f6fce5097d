"""Postman collections and HAR files: folders, variables, logins that are inherited, answers to guess from."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.authoring.importing.source_files import SourceError
from restsource_dagster_tests.authoring.importing.sources import (
    imported,
    loaded,
    paths_of,
    resources_of,
    unaccounted,
)
from restsource_dagster_tests.making import query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen


def orders(start: int, count: int, following: str | None) -> dict[str, Any]:
    """A page of orders with a cursor."""
    rows = [{"id": n, "note": f"n{n}"} for n in range(start, start + count)]
    return {"data": rows, "meta": {"next_cursor": following}}


def collection(**changes: Any) -> dict[str, Any]:
    """Two folders: orders with a saved answer, and reports with a login of their own."""
    answer = {
        "name": "a page",
        "code": 200,
        "header": [{"key": "Content-Type", "value": "application/json"}],
        "body": json.dumps(orders(1, 3, "c2")),
        "originalRequest": {"url": {"raw": "{{baseUrl}}/v1/acme/orders?limit=3&cursor=c1"}},
    }
    order_query = [
        {"key": "limit", "value": "3"},
        {"key": "cursor", "value": "c1"},
        {"key": "status", "value": "open", "disabled": True},
    ]
    return {
        "info": {"name": "Shop", "schema": "https://schema.getpostman.com/json/v2.1.0/"},
        "auth": {"type": "bearer", "bearer": [{"key": "token", "value": "{{shopToken}}"}]},
        "variable": [
            {"key": "baseUrl", "value": "https://api.example.com"},
            {"key": "shopToken", "value": "s3cr3t"},
            {"key": "unused", "value": "x"},
        ],
        "item": [
            {
                "name": "Selling",
                "item": [
                    {
                        "name": "All orders",
                        "event": [{"listen": "test", "script": {"exec": ["x"]}}],
                        "request": {
                            "method": "GET",
                            "header": [{"key": "X-Shop", "value": "{{shop}}"}],
                            "url": {
                                "raw": "{{baseUrl}}/v1/:tenant/orders?limit=3&cursor=c1",
                                "host": ["{{baseUrl}}"],
                                "path": ["v1", ":tenant", "orders"],
                                "query": order_query,
                                "variable": [{"key": "tenant", "value": "acme"}],
                            },
                        },
                        "response": [answer],
                    },
                    {"name": "New", "request": {"method": "PUT", "url": "{{baseUrl}}/v1/orders"}},
                ],
            },
            {
                "name": "Reports",
                "auth": {"type": "apikey", "apikey": {"key": "X-Key", "value": "k3y"}},
                "item": [
                    {
                        "name": "Search",
                        "request": {
                            "method": "POST",
                            "header": "Accept: application/json",
                            "body": {"mode": "raw", "raw": '{"kind": "{{kind}}", "text": "{x}"}'},
                            "url": "{{baseUrl}}/v1/reports",
                        },
                    }
                ],
            },
        ],
        **changes,
    }


def test_a_collection_becomes_a_connector() -> None:
    value = collection()
    made = imported(json.dumps(value))
    assert made.kind == "postman"
    assert made.draft.value["client"] == {
        "base_url": "https://api.example.com/v1",
        "auth": {"type": "bearer", "token": "${SHOP_TOKEN}"},
    }
    assert made.draft.value["resources"] == [
        {
            "name": "orders",
            "primary_key": "id",
            "endpoint": {
                "path": "acme/orders",
                "headers": {"X-Shop": "${SHOP}"},
                "params": {"limit": 3},
                "paginator": {
                    "type": "cursor",
                    "cursor_path": "meta.next_cursor",
                    "cursor_param": "cursor",
                },
                "data_selector": "data",
            },
        },
        {
            "name": "reports",
            "endpoint": {
                "path": "reports",
                "method": "POST",
                "headers": {"Accept": "application/json"},
                "json": {"kind": "${KIND}", "text": "{{x}}"},
                "auth": {
                    "type": "api_key",
                    "name": "X-Key",
                    "api_key": "${SHOP_X_KEY}",
                    "location": "header",
                },
            },
        },
    ]
    assert unaccounted(value, made) == []
    assert made.draft.variables.values() == {
        "SHOP_TOKEN": "s3cr3t",
        "SHOP": "",
        "KIND": "",
        "SHOP_X_KEY": "k3y",
    }
    told = paths_of(made, "not_mapped")
    assert told["/item/0/item/0/request/url/query/2"] == "disabled in the collection"
    assert told["/item/0/item/0/event"].startswith("a script")
    assert told["/item/0/item/1"].startswith("PUT changes data")
    evidence = [fate for fate in made.fates if fate.state == "guessed"]
    assert {fate.path for fate in evidence} == {("item", 0, "item", 0, "response", 0, "body")}


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        (
            {"type": "basic", "basic": {"username": "bob", "password": "pw"}},
            {
                "type": "http_basic",
                "username": "${SHOP_USERNAME}",
                "password": "${SHOP_PASSWORD}",
            },
        ),
        (
            {
                "type": "apikey",
                "apikey": [
                    {"key": "key", "value": "k"},
                    {"key": "value", "value": "v"},
                    {"key": "in", "value": "query"},
                ],
            },
            {"type": "api_key", "name": "k", "api_key": "${SHOP_K}", "location": "query"},
        ),
        (
            {
                "type": "oauth2",
                "oauth2": [
                    {"key": "grant_type", "value": "client_credentials"},
                    {"key": "accessTokenUrl", "value": "https://api.example.com/token"},
                    {"key": "clientId", "value": "id"},
                    {"key": "clientSecret", "value": "secret"},
                ],
            },
            {
                "type": "oauth2_client_credentials",
                "access_token_url": "https://api.example.com/token",
                "client_id": "${SHOP_CLIENT_ID}",
                "client_secret": "${SHOP_CLIENT_SECRET}",
            },
        ),
        ({"type": "noauth"}, None),
        ({"type": "hawk", "hawk": [{"key": "authId", "value": "x"}]}, None),
    ],
)
def test_each_login_of_a_collection_is_mapped_or_reported(auth: Any, expected: Any) -> None:
    value = collection(
        auth=auth, item=[{"name": "a", "request": {"url": "https://api.example.com/a"}}]
    )
    made = imported(json.dumps(value))
    assert made.draft.value["client"].get("auth") == expected
    assert unaccounted(value, made) == []


def entry(url: str, body: Any, **changes: Any) -> dict[str, Any]:
    """An entry of a HAR file: a GET with a JSON answer."""
    content = {"mimeType": "application/json", "text": json.dumps(body)}
    path, _, pairs = url.partition("?")
    del path
    listed = [pair.split("=") for pair in pairs.split("&") if pair]
    return {
        "request": {
            "method": "GET",
            "url": url,
            "headers": [
                {"name": "Authorization", "value": "Bearer s3cr3t"},
                {"name": "User-Agent", "value": "x"},
            ],
            "queryString": [{"name": name, "value": value} for name, value in listed],
            "cookies": [],
        },
        "response": {"status": 200, "headers": [], "content": content},
        "time": 1,
    }


def archive(*entries: Any) -> dict[str, Any]:
    return {"log": {"version": "1.2", "creator": {"name": "x"}, "entries": list(entries)}}


def test_a_har_file_becomes_a_connector() -> None:
    """Two pages are one resource, and its key is unique over both; the page itself is none."""
    base = "https://api.example.com/api/v2"
    page = entry(f"{base}/index", {})
    page["response"]["content"] = {"mimeType": "text/html", "text": "<html>"}
    packed = entry(f"{base}/colors", None)
    packed["response"]["content"] = {
        "mimeType": "application/json; charset=utf-8",
        "encoding": "base64",
        "text": base64.b64encode(b'[{"code": "red"}, {"code": "blue"}]').decode(),
    }
    value = archive(
        page,
        entry(f"{base}/orders?limit=3", orders(1, 3, "c2")),
        entry(f"{base}/orders?limit=3&cursor=c2", orders(4, 3, None)),
        packed,
        entry("https://ads.example.net/x", [{"id": 1}]),
    )
    made = imported(json.dumps(value))
    assert made.kind == "har"
    assert unaccounted(value, made) == []
    assert made.draft.value["client"] == {
        "base_url": base,
        "auth": {"type": "bearer", "token": "${EXAMPLE_TOKEN}"},
    }
    found = resources_of(made)
    assert set(found) == {"orders", "colors"}
    assert found["orders"]["primary_key"] == "id"
    assert found["orders"]["endpoint"]["paginator"]["cursor_path"] == "meta.next_cursor"
    told = paths_of(made, "not_mapped")
    assert told["/log/entries/0"] == "answers with no JSON, or with an error"
    assert told["/log/entries/2"].startswith("asks for the same")
    assert told["/log/entries/4"].startswith("another server")


@pytest.mark.parametrize(
    "value",
    [
        {"info": {}, "item": []},
        {"info": {}, "item": [None, 1, {"request": None}, {"request": {"url": 5}}]},
        {"info": {}, "item": [{"name": "a", "request": {"url": {"raw": "", "query": 7}}}]},
        {"log": {"entries": []}},
        {"log": {"entries": [None, {}, {"request": {"url": 1}}, {"response": []}]}},
        {"log": {"entries": [{"response": {"status": 200, "content": {"text": "{"}}}]}},
    ],
)
def test_what_has_no_request_to_load_is_told(value: Any) -> None:
    with pytest.raises(SourceError, match="no "):
        imported(json.dumps(value), "har" if "log" in value else "postman")


def test_folders_below_folders_and_variables_of_variables_end() -> None:
    item: dict[str, Any] = {"name": "a", "request": {"url": "https://{{a}}.example.com/x"}}
    for _ in range(40):
        item = {"name": "f", "item": [item]}
    circle = [{"key": "a", "value": "{{b}}{{b}}"}, {"key": "b", "value": "{{a}}{{a}}"}]
    made = imported(json.dumps(collection(item=[item], variable=circle, auth=None)))
    assert len(made.text) < 5_000
    assert set(resources_of(made)) == {"x"}


def test_an_imported_collection_loads_what_its_requests_get(tmp_path: Path) -> None:
    def pages(seen: Seen) -> Any:
        if seen.headers.get("authorization") != "Bearer s3cr3t":
            return Answer({}, status=401)
        at = {"": 0, "c2": 3, "c4": 6}[seen.query.get("cursor", "")]
        return orders(at + 1, 3 if at < 6 else 1, {0: "c2", 3: "c4", 6: None}[at])

    def report(seen: Seen) -> Any:
        is_asked = json.loads(seen.body) == {"kind": "all", "text": "{x}"}
        return [{"n": 1}] if is_asked and seen.headers["x-key"] == "k3y" else Answer({}, 400)

    with ApiServer({"/v1/acme/orders": pages, "/v1/reports": report}) as server:
        value = collection()
        value["variable"][0]["value"] = server.url
        made = imported(json.dumps(value))
        settings = loaded(made, tmp_path, SHOP="main", KIND="all")
    assert query(settings, "select id from shop.orders order by id") == [(n,) for n in range(1, 8)]
    assert query(settings, "select n from shop.reports") == [(1,)]


def test_an_imported_har_file_loads_what_its_requests_got(tmp_path: Path) -> None:
    def pages(seen: Seen) -> Any:
        assert seen.headers["authorization"] == "Bearer s3cr3t"
        at = 0 if "cursor" not in seen.query else 3
        return orders(at + 1, 3, None if at else "c2")

    with ApiServer({"/v1/orders": pages}) as server:
        recorded = entry(f"{server.url}/v1/orders?limit=3", orders(1, 3, "c2"))
        following = entry(f"{server.url}/v1/orders?limit=3&cursor=c2", orders(4, 3, None))
        made = imported(json.dumps(archive(recorded, following)), name="shop")
        settings = loaded(made, tmp_path)
    assert query(settings, "select id from shop.orders order by id") == [(n,) for n in range(1, 7)]
