"""A response that is not what the file says it is raises an error."""

import json
import re
from typing import Any

import pytest

from restsource_dagster.engine.errors import ResponseError
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import connector_of, failure_of, items, rows_of
from restsource_dagster_tests.making import load, query
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply

pytestmark = pytest.mark.faults(row=3)

HTML = Reply(b"<html><h1>Sorry</h1></html>", headers={"Content-Type": "text/html"})
NOT_ROWS = {
    "error body": Reply({"error": "no such customer"}),
    "graphql errors": Reply({"data": None, "errors": [{"message": "boom"}]}),
    "failure and an empty list": Reply({"success": False, "data": []}),
    "html": HTML,
    "empty": Reply(b""),
    "blank": Reply(b" \n"),
    "204": Reply(status=204),
    "304": Reply(status=304),
    "truncated": Reply(b'{"data": [{"id": 1}'),
    "text": Reply("maintenance"),
    "number": Reply(5),
    "too deep": Reply(b"[" * 100_000),
    "moved to nowhere": Reply({"data": [{"id": 1}]}, status=302),
}
FIRST = {"data": [{"id": 7}]}


def rows(settings: Settings) -> list[Any]:
    return [row[0] for row in query(settings, "SELECT id FROM shop.items ORDER BY id")]


@pytest.mark.parametrize("answer", NOT_ROWS)
def test_a_response_without_rows_is_an_error_without_a_selector_too(
    server: FaultServer, answer: str
) -> None:
    server.plan["/items"] = NOT_ROWS[answer]
    with pytest.raises(ResponseError, match="resource items, page 1: "):
        rows_of(server)


@pytest.mark.parametrize("answer", NOT_ROWS)
def test_a_response_without_rows_is_an_error_and_the_replaced_table_keeps_its_rows(
    server: FaultServer, settings: Settings, answer: str
) -> None:
    connector = connector_of(server.url, items(data_selector="data"))
    assert connector.resource("items").disposition.value == "replace"
    server.plan["/items"] = FIRST
    load(connector, settings)
    reply = server.plan["/items"] = NOT_ROWS[answer]
    message = failure_of(load(connector, settings)["items"])
    assert message.startswith("resource items, page 1: ")
    kind = reply.headers.get("Content-Type", "application/json")
    assert f"GET {server.url}/items answered {reply.status} ({kind})" in message
    assert rows(settings) == [7]


@pytest.mark.parametrize(
    "body",
    [
        {"error": "boom", "status": 500, "timestamp": "2026-01-01", "path": "/items"},
        {"message": "Not found", "code": 5},
        {"detail": "Not found."},
        {"type": "about:blank", "title": "Oops", "status": 400, "detail": "no", "instance": "/x"},
        {"errors": [{"code": 1, "message": "no"}]},
        {"message": "Validation failed", "details": [{"field": "since"}]},
        {"status": "error", "data": None, "message": "no"},
        {"errorMessage": "no", "errorCode": 12},
        {"error": {"values": ["a"]}},
    ],
    ids="+".join,
)
def test_an_error_message_with_status_200_is_no_row(
    server: FaultServer, body: dict[str, Any]
) -> None:
    server.plan["/items"] = body
    with pytest.raises(ResponseError, match=re.escape(f"Body: {json.dumps(body)}")):
        rows_of(server)


@pytest.mark.parametrize(
    ("selector", "body"),
    [
        ("data", {}),
        ("data", []),
        ("data", None),
        ("data", {"data": []}),
        ("data", {"data": None}),
        ("data", {"data": {}}),
        ("data", {"total": 0}),
        ("data", {"meta": {"total_count": 0, "page": 1}, "next": None}),
        ("data", {"resultSizeEstimate": 0}),
        ("data[*].item", {"data": []}),
        ("data[0]", {"data": []}),
        ("data[?(@.kind=='b')]", {"data": [{"kind": "a"}]}),
        ("data", {"data": [], "errors": []}),
        (None, {}),
        (None, []),
        (None, {"data": []}),
        (None, {"orders": [], "count": 0}),
        (None, {"items": None, "total": 0, "next": None}),
        (None, {"data": [], "message": "OK", "success": True}),
    ],
    ids=str,
)
def test_an_empty_page_is_0_rows(server: FaultServer, selector: str | None, body: Any) -> None:
    server.plan["/items"] = body
    assert rows_of(server, selector=selector) == []


def test_an_empty_page_replaces_the_table_by_an_empty_one(
    server: FaultServer, settings: Settings
) -> None:
    connector = connector_of(server.url, items(data_selector="data"))
    server.plan["/items"] = (FIRST, {"data": []})
    load(connector, settings)
    outcome = load(connector, settings)["items"]
    assert (outcome.failed, outcome.rows_loaded, outcome.row_count) == (False, 0, 0)
    assert rows(settings) == []


def test_an_empty_page_makes_the_table_if_its_columns_are_declared(
    server: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = {"data": []}
    resource = {**items(data_selector="data"), "columns": {"id": {"data_type": "bigint"}}}
    assert load(connector_of(server.url, resource), settings)["items"].row_count == 0
    assert rows(settings) == []


@pytest.mark.parametrize(
    "body",
    [
        {"total": 0, "error": "boom"},
        {"total": 3},
        {"page": 0},
        {"retry_count": 0},
        {"items": [{"id": 1}]},
        {"data": "gone"},
        {"data": False},
        {"data": 0},
        {"data": [], "error": "partial"},
        {"data": None, "status": "error"},
    ],
    ids=str,
)
def test_a_selector_that_finds_nothing_is_an_error_unless_the_response_says_there_is_nothing(
    server: FaultServer, body: dict[str, Any]
) -> None:
    server.plan["/items"] = body
    with pytest.raises(ResponseError, match="resource items, page 1: "):
        rows_of(server, selector="data")


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ([{"id": 1}], [1]),
        ({"results": [{"id": 1}], "tags": ["a"]}, [1]),
        ({"id": 5, "data": [{"id": 1}]}, [1]),
        ({"response": {"values": [{"id": 1}]}}, [1]),
        ({"orders": [{"id": 1}], "columns": ["id"]}, [1]),
        ({"count": 1, "response": {"orders": [{"id": 1}]}}, [1]),
        ({"a.b c": [{"id": 1}]}, [1]),
        ({"id": 1, "name": "x"}, [1]),
        ({"id": 1, "error": "broken part"}, [1]),
        ({"id": 1, "message": "hello", "status": "failed"}, [1]),
    ],
    ids=str,
)
def test_the_rows_are_found_without_a_selector(
    server: FaultServer, body: Any, found: list[int]
) -> None:
    server.plan["/items"] = body
    assert [row["id"] for row in rows_of(server)] == found


@pytest.mark.parametrize(
    "body",
    [
        {"id": 1, "tags": ["a", "b"]},
        {"id": 1, "lines": [{"n": 1}]},
        {"order": {"id": 1, "lines": [{"n": 1}]}},
        {"orders": [{"id": 1}], "customers": [{"id": 2}]},
        {"orders": [], "included": [{"id": 2}]},
        {"names": ["a", "b"]},
    ],
    ids=str,
)
def test_an_ambiguous_list_is_an_error_that_names_data_selector(
    server: FaultServer, body: dict[str, Any]
) -> None:
    server.plan["/items"] = body
    with pytest.raises(ResponseError, match="say it with data_selector"):
        rows_of(server)
    assert rows_of(server, selector="$") == [body]


def test_an_error_message_is_a_row_if_the_file_says_so(server: FaultServer) -> None:
    server.plan["/items"] = {"message": "hello", "code": 5}
    assert len(rows_of(server, selector="$")) == 1


def test_an_error_message_for_a_single_object_below_a_parent_is_no_row(
    server: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = [{"id": 1}]
    server.plan["/items/1"] = {"error": "try later"}
    details = {"name": "details", "endpoint": {"path": "items/{resources.items.id}"}}
    outcome = load(connector_of(server.url, items(), details), settings)["details"]
    assert "looks like an error message" in failure_of(outcome)


@pytest.mark.parametrize("second", [{"error": "boom"}, {"items": []}, HTML.body], ids=str)
def test_a_later_page_that_is_no_page_fails_naming_it(
    server: FaultServer, settings: Settings, second: Any
) -> None:
    def answer(seen: Arrival) -> Any:
        return second if seen.query["offset"] != "0" else [{"id": 1}, {"id": 2}]

    server.plan["/items"] = answer
    paginator = {"type": "offset", "limit": 2, "total_path": None}
    connector = connector_of(server.url, items(paginator=paginator))
    message = failure_of(load(connector, settings)["items"])
    assert message.startswith("resource items, page 2: ")


def test_the_error_shows_the_redacted_url_and_the_first_500_characters(
    server: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = Reply(
        b"canary-key-0b1d " + b"x" * 2000 + b"\x00END", headers={"Content-Type": "text/plain"}
    )
    connector = connector_of(server.url, items(params={"appid": "${KEY}"}))
    environment = {"KEY": "canary-key-0b1d"}
    message = failure_of(load(connector, settings, environment=environment)["items"])
    assert f"GET {server.url}/items?appid=[secret] answered 200 (text/plain)" in message
    body = message.partition("\nBody: ")[2]
    assert body == ("[secret] " + "x" * 2000)[:500]
