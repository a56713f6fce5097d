"""OpenAPI 3 and Swagger 2: lists become resources with login, paging, key, cursor and parents."""

import json
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.authoring.importing.import_source import import_source
from restsource_dagster.authoring.importing.source_files import (
    SourceError,
    SourceFile,
    parse_data,
)
from restsource_dagster_tests.authoring.importing.sources import (
    imported,
    loaded,
    paths_of,
    resources_of,
    unaccounted,
)
from restsource_dagster_tests.making import query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

SHOP = (Path(__file__).parent / "shop.openapi.yaml").read_text()
SHARED = (Path(__file__).parent / "shop.schemas.yaml").read_text()
OTHERS = [SourceFile("shop.schemas.yaml", SHARED)]


def document(**changes: Any) -> dict[str, Any]:
    """The least document: one path `/orders` that answers with a list of objects with an id."""
    operation = {"responses": {"200": {"content": {"application/json": {"schema": LIST}}}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Shop", "version": "1"},
        "servers": [{"url": "https://api.example.com/v1"}],
        "paths": {"/orders": {"get": operation}},
        **changes,
    }


LIST = {
    "type": "array",
    "items": {"type": "object", "properties": {"id": {"type": "integer"}}},
}


def with_get(params: Any = (), schema: Any = LIST, **changes: Any) -> dict[str, Any]:
    """The least document with these params and this answer."""
    answer = {"content": {"application/json": {"schema": schema}}}
    operation = {"parameters": list(params), "responses": {"200": answer}}
    return document(paths={"/orders": {"get": operation}}, **changes)


def number(name: str, **schema: Any) -> dict[str, Any]:
    """A param in the query that is a whole number."""
    return {"name": name, "in": "query", "schema": {"type": "integer", **schema}}


def text(name: str, **schema: Any) -> dict[str, Any]:
    """A param in the query that is a text."""
    return {"name": name, "in": "query", "schema": {"type": "string", **schema}}


def answer(**fields: Any) -> dict[str, Any]:
    """An answer with a list `data` and these fields."""
    return {"type": "object", "properties": {"data": LIST, **fields}}


def orders_of(value: dict[str, Any]) -> dict[str, Any]:
    """The endpoint of the resource `orders` that a document becomes; all its leaves are accounted for."""
    made = imported(json.dumps(value))
    assert unaccounted(value, made) == []
    endpoint: dict[str, Any] = resources_of(made)["orders"]["endpoint"]
    return endpoint


def test_a_document_becomes_a_connector() -> None:
    """Servers with variables, a header as login, `$ref` to another file, combined schemas, three levels."""
    made = imported(SHOP, others=OTHERS)
    assert made.kind == "openapi"
    value = made.draft.value
    expected = json.loads((Path(__file__).parent / "shop.openapi.expected.json").read_text())
    assert value == expected
    assert set(made.draft.variables.values()) == {"SHOP_REGION", "SHOP_API_KEY", "SHOP_TENANT"}
    whole = {**parse_data(SourceFile("", SHOP)), "file shop.schemas.yaml": parse_data(OTHERS[0])}
    assert unaccounted(whole, made) == []


def test_a_file_that_is_not_given_is_never_read(tmp_path: Path) -> None:
    (tmp_path / "shop.schemas.yaml").write_text(SHARED)
    made = imported(SHOP)
    missing = [why for why in paths_of(made, "not_mapped").values() if "name that file" in why]
    assert missing
    for reference in ("file:///etc/passwd", "http://127.0.0.1:9/x.yaml#/a", "../../etc/passwd#/a"):
        value = with_get(schema={"$ref": reference})
        with pytest.raises(SourceError, match="no GET"):
            imported(json.dumps(value))


def test_circles_of_references_and_schemas_end() -> None:
    circle = {"$ref": "#/components/schemas/a"}
    deep = {"allOf": [{"$ref": "#/components/schemas/deep"}], "properties": {"id": LIST}}
    tree = {
        "type": "object",
        "properties": {"id": {"type": "integer"}, "children": {"type": "array", "items": {}}},
    }
    tree["properties"]["children"]["items"] = {"$ref": "#/components/schemas/tree"}  # type: ignore[index]
    schemas = {
        "a": {"$ref": "#/components/schemas/b"},
        "b": {"$ref": "#/components/schemas/a"},
        "deep": deep,
        "tree": tree,
    }
    components = {"schemas": schemas}
    with pytest.raises(SourceError, match="no GET"):
        imported(json.dumps(with_get(schema=circle, components=components)))
    of_trees = {"type": "array", "items": {"$ref": "#/components/schemas/tree"}}
    assert orders_of(with_get(schema=of_trees, components=components))["data_selector"] == "$"
    of_deep = {"type": "array", "items": {"$ref": "#/components/schemas/deep"}}
    assert orders_of(with_get(schema=of_deep, components=components))["data_selector"] == "$"


PAGE = {"type": "page_number", "base_page": 1, "page_param": "page", "total_path": None}
CURSOR = {"type": "cursor", "cursor_path": "meta.next_cursor", "cursor_param": "cursor"}
LINK = {"type": "json_link", "next_url_path": "links.next"}
OFFSET = {"type": "offset", "limit": 100, "offset_param": "offset", "limit_param": "limit"}
STRING, FLAG, WHOLE = {"type": "string"}, {"type": "boolean"}, {"type": "integer"}
CALL_IT = {"type": "object", "properties": {"next_cursor": STRING}}
LINKS = {"type": "object", "properties": {"next": {"type": "string", "format": "uri"}}}
DESCRIBED = {
    **text("cursor"),
    "description": "Set the `cursor` to a `next_cursor` of a previous request's `response_metadata`.",
}
CALLED = {
    **text("cursor"),
    "description": "Use it with `limit`: the `next_cursor` of a previous `ListOrders` call.",
}
STARTING = {
    "type": "cursor",
    "cursor_path": "data[-1].id",
    "cursor_param": "starting_after",
    "has_more_path": "has_more",
}


@pytest.mark.parametrize(
    ("params", "schema", "paginator", "sent"),
    [
        ([number("page")], LIST, PAGE, {}),
        ([number("page", minimum=0)], LIST, {**PAGE, "base_page": 0}, {}),
        (
            [number("page"), number("per_page", maximum=250)],
            answer(total_pages=WHOLE),
            {**PAGE, "total_path": "total_pages"},
            {"per_page": 250},
        ),
        ([number("page")], answer(has_more=FLAG), {**PAGE, "has_more_path": "has_more"}, {}),
        ([number("page")], answer(is_last=FLAG), {**PAGE, "end_path": "is_last"}, {}),
        (
            [number("page")],
            answer(next_page=WHOLE),
            {"type": "cursor", "cursor_path": "next_page", "cursor_param": "page"},
            {},
        ),
        (
            [number("offset"), number("limit", maximum=100)],
            answer(total=WHOLE),
            {**OFFSET, "total_path": "total"},
            {},
        ),
        (
            [number("offset"), number("limit", default=20)],
            LIST,
            {**OFFSET, "limit": 20, "total_path": None},
            {},
        ),
        ([text("cursor"), number("limit")], answer(meta=CALL_IT), CURSOR, {}),
        # as Slack's document has it, whose schema lacks the field
        ([DESCRIBED], LIST, {**CURSOR, "cursor_path": "response_metadata.next_cursor"}, {}),
        ([CALLED], LIST, {**CURSOR, "cursor_path": "next_cursor"}, {}),
        ([text("starting_after")], answer(has_more=FLAG), STARTING, {}),
        ([number("limit", default=10)], answer(links=LINKS), LINK, {"limit": 10}),
        (
            [{**number("limit"), "description": "Page size, 1-200. Default 20."}],
            answer(links=LINKS),
            LINK,
            {"limit": 200},
        ),
        ([text("q")], LIST, None, {}),
    ],
)
def test_paging_is_guessed_of_params_and_fields(
    params: Any, schema: Any, paginator: Any, sent: Any
) -> None:
    endpoint = orders_of(with_get(params, schema))
    assert endpoint.get("paginator") == paginator
    assert endpoint.get("params", {}) == sent


def test_a_cursor_that_no_answer_names_is_told() -> None:
    made = imported(json.dumps(with_get([text("cursor")])))
    assert "paginator" not in made.draft.value["resources"][0]["endpoint"]
    [told] = [fate for fate in made.fates if fate.state == "suggested"]
    assert told.target == "resources.orders.endpoint.paginator"
    assert "only the first page is loaded" in told.reason


def test_a_parent_has_no_cursor() -> None:
    """Rows below a parent that did not change would be missed."""
    made = imported(SHOP, others=OTHERS)
    assert "incremental" not in resources_of(made)["customers"]["endpoint"]
    (told,) = [fate for fate in made.fates if fate.state == "suggested"]
    assert told.target == "resources.customers.endpoint.incremental"
    assert told.reason.startswith("no cursor")
    assert '"start_param": "updated_since"' in told.reason
    alone = import_source([SourceFile("source", SHOP), *OTHERS], include=["customers"])
    assert resources_of(alone)["customers"]["endpoint"]["incremental"] == {
        "cursor_path": "updated_at",
        "initial_value": "1970-01-01T00:00:00Z",
        "start_param": "updated_since",
    }


def test_a_link_header_of_the_answer_is_followed() -> None:
    value = document()
    value["paths"]["/orders"]["get"]["responses"]["200"]["headers"] = {"Link": {"schema": STRING}}
    assert orders_of(value)["paginator"] == {"type": "header_link"}


@pytest.mark.parametrize(
    ("filter_param", "field", "cursor"),
    [
        (
            text("updated_since", format="date-time"),
            {"updated_at": STRING},
            {
                "cursor_path": "updated_at",
                "initial_value": "1970-01-01T00:00:00Z",
                "start_param": "updated_since",
            },
        ),
        (
            number("created[gte]"),
            {"created": WHOLE},
            {"cursor_path": "created", "initial_value": 0, "start_param": "created[gte]"},
        ),
        (
            text("modifiedAfter", format="date"),
            {"modifiedAt": STRING},
            {
                "cursor_path": "modifiedAt",
                "initial_value": "1970-01-01T00:00:00Z",
                "start_param": "modifiedAfter",
                "convert": "date",
            },
        ),
        (
            text("min_date", format="date", description="Rows that were modified on or after it"),
            {"modified": {"type": "string", "nullable": True}},
            {
                "cursor_path": "modified",
                "initial_value": "1970-01-01T00:00:00Z",
                "start_param": "min_date",
                "convert": "date",
                "on_cursor_value_missing": "include",
            },
        ),
        (
            text("DateUpdated>", format="date-time"),
            {"date_updated": {"type": "string", "format": "date-time-rfc-2822"}},
            {
                "cursor_path": "date_updated",
                "initial_value": "1970-01-01T00:00:00Z",
                "start_param": "DateUpdated>",
                "cursor_format": "rfc2822",
                "convert": "iso8601",
            },
        ),
        (
            number("after", description="A Unix timestamp in milliseconds"),
            {"played_at": STRING},
            {
                "cursor_path": "played_at",
                "initial_value": "1970-01-01T00:00:00Z",
                "start_param": "after",
                "convert": "epoch_milliseconds",
            },
        ),
        (text("updated_since"), {"name": STRING}, None),
        # each of these filters goes by something else than the field
        (
            number("since", description="Only rows with an ID above it"),
            {"updated_at": STRING},
            None,
        ),
        (text("start_date", format="date"), {"updated_at": STRING}, None),
        (text("updated_since"), {"amount_credited": WHOLE}, None),
    ],
)
def test_a_cursor_needs_a_filter_and_a_field(filter_param: Any, field: Any, cursor: Any) -> None:
    record = {"type": "object", "properties": {"id": WHOLE, **field}}
    endpoint = orders_of(with_get([filter_param], {"type": "array", "items": record}))
    assert endpoint.get("incremental") == cursor


@pytest.mark.parametrize(
    ("filter_param", "fields", "doubt"),
    [
        (text("created_after"), {"id": WHOLE, "created": STRING, "updated": STRING}, "missed"),
        (text("updated_since"), {"updated_at": STRING}, "no key is known"),
        (text("disposal_after"), {"id": WHOLE, "disposal_at": STRING}, "may come later"),
    ],
)
def test_a_cursor_that_could_miss_or_double_rows_is_suggested(
    filter_param: Any, fields: Any, doubt: str
) -> None:
    """The report says why, and what to write; the file loads all rows."""
    value = with_get([filter_param], {"type": "array", "items": {"properties": fields}})
    assert "incremental" not in orders_of(value)
    (told,) = [fate for fate in imported(json.dumps(value)).fates if fate.state == "suggested"]
    assert doubt in told.reason
    assert f'"start_param": "{filter_param["name"]}"' in told.reason


def test_of_two_filters_the_one_for_a_range_by_changes_is_taken() -> None:
    """`DateUpdated` beside `DateUpdated>` is for one day, and a filter by creation misses changes."""
    params = [text("created_after"), text("DateUpdated"), text("DateUpdated>")]
    fields = {"id": WHOLE, "date_created": STRING, "date_updated": STRING}
    endpoint = orders_of(with_get(params, {"type": "array", "items": {"properties": fields}}))
    assert endpoint["incremental"]["start_param"] == "DateUpdated>"


@pytest.mark.parametrize(
    ("scheme", "auth"),
    [
        ({"type": "http", "scheme": "bearer"}, {"type": "bearer", "token": "${SHOP_TOKEN}"}),
        (
            {"type": "http", "scheme": "basic"},
            {
                "type": "http_basic",
                "username": "${SHOP_USERNAME}",
                "password": "${SHOP_PASSWORD}",
            },
        ),
        (
            {"type": "apiKey", "in": "query", "name": "key"},
            {
                "type": "api_key",
                "name": "key",
                "api_key": "${SHOP_API_KEY}",
                "location": "query",
            },
        ),
        (
            {"type": "apiKey", "in": "cookie", "name": "sid"},
            {
                "type": "api_key",
                "name": "sid",
                "api_key": "${SHOP_API_KEY}",
                "location": "cookie",
            },
        ),
        (
            {
                "type": "oauth2",
                "flows": {"clientCredentials": {"tokenUrl": "https://a.example.com/t"}},
            },
            {
                "type": "oauth2_client_credentials",
                "access_token_url": "https://a.example.com/t",
                "client_id": "${SHOP_CLIENT_ID}",
                "client_secret": "${SHOP_CLIENT_SECRET}",
            },
        ),
        (
            {"type": "oauth2", "flows": {"implicit": {"authorizationUrl": "https://a"}}},
            {"type": "bearer", "token": "${SHOP_TOKEN}"},
        ),
        (
            {
                "type": "oauth2",
                "flows": {"authorizationCode": {"tokenUrl": "https://a.example.com/t"}},
            },
            {
                "type": "oauth2_refresh_token",
                "access_token_url": "https://a.example.com/t",
                "client_id": "${SHOP_CLIENT_ID}",
                "client_secret": "${SHOP_CLIENT_SECRET}",
                "refresh_token": "${SHOP_REFRESH_TOKEN}",
            },
        ),
        (
            {"type": "oauth2", "flows": {"password": {"tokenUrl": "https://a.example.com/t"}}},
            {
                "type": "oauth2_password",
                "access_token_url": "https://a.example.com/t",
                "client_id": "${SHOP_CLIENT_ID}",
                "client_secret": "${SHOP_CLIENT_SECRET}",
                "username": "${SHOP_USERNAME}",
                "password": "${SHOP_PASSWORD}",
            },
        ),
        (
            {"type": "openIdConnect", "openIdConnectUrl": "https://a.example.com"},
            {"type": "bearer", "token": "${SHOP_TOKEN}"},
        ),
        (
            {"type": "http", "scheme": "digest"},
            {"type": "digest", "username": "${SHOP_USERNAME}", "password": "${SHOP_PASSWORD}"},
        ),
        ({"type": "http", "scheme": "hoba"}, None),
        ({"type": "mutualTLS"}, None),
    ],
)
def test_each_kind_of_login_is_mapped_or_reported(scheme: Any, auth: Any) -> None:
    value = document(components={"securitySchemes": {"main": scheme}}, security=[{"main": []}])
    made = imported(json.dumps(value))
    assert made.draft.value["client"].get("auth") == auth
    assert unaccounted(value, made) == []
    reported = paths_of(made, "not_mapped")
    assert ("/components/securitySchemes/main" in reported) == (auth is None)


def test_swagger_2_has_its_own_places() -> None:
    value = {
        "swagger": "2.0",
        "info": {"title": "Shop", "version": "1"},
        "host": "api.example.com",
        "basePath": "/v2/",
        "schemes": ["http", "https"],
        "securityDefinitions": {"key": {"type": "apiKey", "in": "header", "name": "X-Key"}},
        "definitions": {"order": {"type": "object", "properties": {"order_id": {"type": "string"}}}},
        "paths": {
            "/orders.json": {
                "get": {
                    "security": [{"key": []}],
                    "parameters": [
                        {"name": "page", "in": "query", "type": "integer"},
                        {"name": "kind", "in": "query", "type": "string", "required": True,
                         "enum": ["all", "open"]},
                    ],
                    "responses": {"200": {"schema": {"properties": {"orders": {
                        "type": "array", "items": {"$ref": "#/definitions/order"}}}}}},
                }
            }
        },
    }  # fmt: skip
    made = imported(json.dumps(value))
    assert unaccounted(value, made) == []
    assert made.draft.value["client"] == {
        "base_url": "https://api.example.com/v2",
        "auth": {
            "type": "api_key",
            "name": "X-Key",
            "api_key": "${SHOP_API_KEY}",
            "location": "header",
        },
    }
    assert made.draft.value["resources"] == [
        {
            "name": "orders",
            "primary_key": "order_id",
            "endpoint": {
                "path": "orders.json",
                "params": {"kind": "all"},
                "paginator": PAGE,
                "data_selector": "orders",
            },
        }
    ]


@pytest.mark.parametrize(
    "value",
    [
        {"openapi": "3.0.0"},
        {"openapi": "3.0.0", "paths": []},
        {"openapi": "3.0.0", "paths": {"/a": None, "/b": [], "/c": {"get": 1}}},
        with_get([None, 1, {"name": 1}, {"$ref": "#/nowhere"}, {"$ref": 5}], {"type": 7}),
    ],
)
def test_what_has_no_list_is_told(value: Any) -> None:
    with pytest.raises(SourceError, match=r"no GET|no OpenAPI document"):
        imported(json.dumps(value))


def test_an_imported_document_loads_what_the_api_has(tmp_path: Path) -> None:
    """Pages by page number, orders below customers and lines below orders, with the document's key."""
    customers = [{"id": n, "updated_at": f"2026-01-0{n}T00:00:00Z"} for n in (1, 2, 3)]

    def listed(seen: Seen) -> Any:
        if seen.headers.get("x-api-key") != "s3cr3t":
            return Answer({}, status=401)
        start = (int(seen.query["page"]) - 1) * 2
        return {"data": customers[start : start + 2], "meta": {"total_pages": 2}}

    answers: dict[str, Any] = {"/v1/acme/customers": listed}
    for n in (1, 2, 3):
        answers[f"/v1/acme/customers/{n}/orders"] = [{"order_id": f"o{n}"}]
        answers[f"/v1/acme/customers/{n}/orders/o{n}/lines"] = {"items": [{"id": n, "of": n}]}
    with ApiServer(answers) as server:
        host = server.url.removeprefix("http://")
        made = imported(
            SHOP.replace("https://{region}.example.com", f"http://{host}"), others=OTHERS
        )
        settings = loaded(made, tmp_path, SHOP_API_KEY="s3cr3t", SHOP_TENANT="acme")
    assert query(settings, "select id from shop.customers order by id") == [(1,), (2,), (3,)]
    assert query(settings, "select order_id from shop.orders order by 1") == [
        ("o1",),
        ("o2",),
        ("o3",),
    ]
    assert query(settings, "select id, of from shop.lines order by 1") == [(1, 1), (2, 2), (3, 3)]
