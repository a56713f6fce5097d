"""Airbyte's manifests: streams with cursors, slices, paging, filters, transformations and logins."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from restsource_dagster.authoring.importing.airbyte_components import as_python, condition_of
from restsource_dagster.authoring.importing.source_files import SourceError, SourceFile, parse_data
from restsource_dagster.connector.models.processing_steps import compile_jq
from restsource_dagster_tests.authoring.importing.sources import (
    imported,
    loaded,
    paths_of,
    resources_of,
    unaccounted,
)
from restsource_dagster_tests.making import query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

SHOP = (Path(__file__).parent / "shop.airbyte.yaml").read_text()
REQUESTER = {"type": "HttpRequester", "url_base": "https://api.example.com/v1", "path": "/orders"}
TOKEN = {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "next"}


def stream(**retriever: Any) -> dict[str, Any]:
    """A stream of the records in `data`, with these parts of its retriever."""
    extractor = {"type": "DpathExtractor", "field_path": ["data"]}
    return {
        "type": "DeclarativeStream",
        "name": "orders",
        "retriever": {
            "type": "SimpleRetriever",
            "requester": REQUESTER,
            "record_selector": {"type": "RecordSelector", "extractor": extractor},
            **retriever,
        },
    }


def orders_of(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The endpoint of a manifest's only stream, and what is not mapped; all leaves are accounted for."""
    manifest = {"check": {}, "streams": [given]}
    made = imported(yaml.safe_dump(manifest))
    assert unaccounted(manifest, made) == []
    return resources_of(made)["orders"], paths_of(made, "not_mapped")


def test_a_manifest_becomes_a_connector() -> None:
    made = imported(SHOP, name="shop")
    assert made.kind == "airbyte"
    assert unaccounted(parse_data(SourceFile("", SHOP)), made) == []
    expected = parse_data(
        SourceFile("", (Path(__file__).parent / "shop.airbyte.expected.json").read_text())
    )
    assert made.draft.value == expected
    told = paths_of(made, "not_mapped")
    assert "CustomRecordExtractor" in told["/definitions/odd"]
    assert told["/definitions/orders/transformations/2"].startswith("this transformation")


def cursor_paging(value: str, stop: str | None = None, option: Any = None) -> dict[str, Any]:
    strategy = {"type": "CursorPagination", "cursor_value": value}
    if stop:
        strategy["stop_condition"] = stop
    return {
        "type": "DefaultPaginator",
        "page_token_option": option or TOKEN,
        "pagination_strategy": strategy,
    }


def counted(kind: str, **strategy: Any) -> dict[str, Any]:
    return {
        "type": "DefaultPaginator",
        "page_token_option": TOKEN,
        "page_size_option": {**TOKEN, "field_name": "size"},
        "pagination_strategy": {"type": kind, **strategy},
    }


CURSOR = {"type": "cursor", "cursor_path": "meta.next", "cursor_param": "next"}
BODY = {"type": "RequestOption", "inject_into": "body_json", "field_path": ["page", "after"]}


@pytest.mark.parametrize(
    ("paginator", "expected"),
    [
        (cursor_paging("{{ response['meta']['next'] }}"), CURSOR),
        (
            cursor_paging("{{ response.meta.next }}", "{{ not response.meta.more }}"),
            {**CURSOR, "has_more_path": "meta.more"},
        ),
        (
            cursor_paging("{{ response.meta.next }}", "{{ response['meta']['last'] }}"),
            {**CURSOR, "end_path": "meta.last"},
        ),
        (
            cursor_paging("{{ response.meta.next }}", "{{ response.meta.more == false }}"),
            {**CURSOR, "has_more_path": "meta.more"},
        ),
        (cursor_paging("{{ response.meta.next }}", "{{ not response.meta.next }}"), CURSOR),
        (
            cursor_paging(
                '{{ response.get("meta", {}).get("next", {}) }}', "{{ response.a >= 1 }}"
            ),
            CURSOR,
        ),
        (
            cursor_paging("{{ last_records[-1]['id'] }}", "{{ not response.more }}"),
            {**CURSOR, "cursor_path": "data[-1].id", "has_more_path": "more"},
        ),
        (
            cursor_paging("{{ response.meta.next }}", option=BODY),
            {"type": "cursor", "cursor_path": "meta.next", "cursor_body_path": "page.after"},
        ),
        (
            cursor_paging("{{ response['next'] }}", option={"type": "RequestPath"}),
            {"type": "json_link", "next_url_path": "next"},
        ),
        (
            cursor_paging("{{ headers['link']['next']['url'] }}", option={"type": "RequestPath"}),
            {"type": "header_link", "links_next_key": "next"},
        ),
        (
            cursor_paging("{{ headers['X-Next'] }}"),
            {"type": "header_cursor", "cursor_key": "x-next", "cursor_param": "next"},
        ),
        (
            counted("OffsetIncrement", page_size=50),
            {
                "type": "offset",
                "limit": 50,
                "offset_param": "next",
                "limit_param": "size",
                "total_path": None,
            },
        ),
        (
            counted("PageIncrement", start_from_page=1),
            {"type": "page_number", "base_page": 1, "page_param": "next", "total_path": None},
        ),
        ({"type": "NoPagination"}, {"type": "single_page"}),
        (cursor_paging("{{ response.a + 1 }}"), None),
        ({"type": "DefaultPaginator", "pagination_strategy": {"type": "Custom"}}, None),
    ],
)
def test_each_paginator_is_mapped_or_reported(paginator: Any, expected: Any) -> None:
    resource, told = orders_of(stream(paginator=paginator))
    assert resource["endpoint"].get("paginator") == expected
    assert ("/streams/0/retriever/paginator" in told) == (expected is None)


@pytest.mark.parametrize(
    ("login", "auth"),
    [
        (
            {"type": "BasicHttpAuthenticator", "username": "{{ config['user'] }}", "password": ""},
            {"type": "http_basic", "username": "${EXAMPLE_USER}", "password": ""},
        ),
        (
            {
                "type": "ApiKeyAuthenticator",
                "api_token": "Key {{ config.key }}",
                "inject_into": {
                    "type": "RequestOption",
                    "inject_into": "request_parameter",
                    "field_name": "k",
                },
            },
            {"type": "api_key", "name": "k", "api_key": "Key ${EXAMPLE_KEY}", "location": "query"},
        ),
        (
            {
                "type": "OAuthAuthenticator",
                "token_refresh_endpoint": "https://api.example.com/token",
                "client_id": "{{ config['id'] }}",
                "client_secret": "{{ config['secret'] }}",
                "refresh_token": "{{ config['refresh'] }}",
                "scopes": ["a", "b"],
            },
            {
                "type": "oauth2_refresh_token",
                "access_token_url": "https://api.example.com/token",
                "client_id": "${EXAMPLE_ID}",
                "client_secret": "${EXAMPLE_SECRET}",
                "access_token_request_data": {"scope": "a b"},
                "refresh_token": "${EXAMPLE_REFRESH}",
            },
        ),
        ({"type": "NoAuth"}, None),
        ({"type": "CustomAuthenticator", "class_name": "a.B"}, None),
    ],
)
def test_each_login_is_mapped_or_reported(login: Any, auth: Any) -> None:
    manifest = {
        "check": {},
        "streams": [stream(requester={**REQUESTER, "authenticator": login})],
    }
    made = imported(yaml.safe_dump(manifest))
    assert made.draft.value["client"].get("auth") == auth
    assert unaccounted(manifest, made) == []


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("record['a'] == 1", [1]),
        ("record.a != 1 and not record.b", [0, 2]),
        ("record.get('b') or record.a in [2, 3]", [1, 2]),
        ("record.a >= 1", [1, 2]),
        ("record.a > config['x']", None),
        ("record.a | length", None),
        ("not " * 100 + "record.a", None),
        ("(" * 3000 + "1" + ")" * 3000, None),
    ],
)
def test_conditions_become_jq_with_the_truth_of_jinja(condition: str, kept: Any) -> None:
    node = as_python(condition)
    program = condition_of(node) if node is not None else None
    rows: list[dict[str, Any]] = [{"a": 0, "b": ""}, {"a": 1, "b": "x"}, {"a": 2, "b": None}]
    if program is None:
        assert kept is None
    else:
        keep = compile_jq(program, "%s")
        assert [row["a"] for row in rows if keep.input_value(row).first()] == kept


@pytest.mark.parametrize(
    "given",
    [
        {
            "streams": [{"$ref": "#/definitions/a"}],
            "definitions": {"a": {"$ref": "#/definitions/a"}},
        },
        {"streams": [{"$ref": "#/nowhere"}], "check": 1},
        {"streams": [1, None, [], {"type": "DeclarativeStream"}], "check": 1},
        {"streams": [stream(requester=5)], "check": 1},
        {"streams": [stream(partition_router={"type": "CustomPartitionRouter"})], "check": 1},
    ],
)
def test_what_can_not_be_mapped_is_told(given: Any) -> None:
    with pytest.raises(SourceError, match="no stream"):
        imported(yaml.safe_dump(given), "airbyte")


def test_an_imported_manifest_loads_what_the_streams_say(tmp_path: Path) -> None:
    customers = [{"id": n, "name": f"c{n}"} for n in range(1, 4)]
    orders = [
        {
            "id": n,
            "updated_at": f"2026-01-0{n}T00:00:00Z",
            "price": n,
            "note": "x",
            "total": {"gross": 9},
        }
        for n in (1, 2, 3)
    ]

    def paged(rows: list[Any]) -> Any:
        def answer(seen: Seen) -> Any:
            assert seen.query["per_page"] == "2"
            start = (int(seen.query["page"]) - 1) * 2
            is_login = seen.headers.get("authorization") == "Bearer s3cr3t"
            return {"data": rows[start : start + 2]} if is_login else Answer({}, status=401)

        return answer

    def notes(n: int) -> Any:
        def answer(seen: Seen) -> Any:
            kind = seen.query["kind"]
            return {"rows": [{"customer": n, "n": i, "kind": kind} for i in (1, 2)], "next": None}

        return answer

    answers: dict[str, Any] = {"/v1/customers": paged(customers), "/v1/orders": paged(orders)}
    for n in (1, 2):
        answers[f"/v1/customers/{n}/notes"] = notes(n)
    with ApiServer(answers) as server:
        made = imported(SHOP, name="shop")
        environment = {"SHOP_API_KEY": "s3cr3t", "SHOP_BASE_URL": server.url}
        settings = loaded(made, tmp_path, **environment)
    loaded_orders = query(settings, "select id, shop, total__net from shop.orders order by id")
    assert loaded_orders == [(n, "main", n) for n in (1, 2, 3)]
    rows = query(settings, "select customer, n, count(*) from shop.notes group by 1, 2 order by 1")
    # the third customer has no notes: the manifest ignores a 404
    assert rows == [(1, 2, 1), (2, 2, 1)]
    tables = query(settings, "select table_name from information_schema.tables")
    assert ("customers",) not in tables
