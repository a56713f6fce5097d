"""A response with rows that says that something failed fails the resource, unless the file allows it."""

from typing import Any

import pytest

from restsource_dagster.engine.errors import ResponseError
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import (
    Notes,
    connector_of,
    failure_of,
    items,
    rows_of,
)
from restsource_dagster_tests.making import load, query
from restsource_dagster_tests.servers.faults import FaultServer

pytestmark = pytest.mark.faults(row=3)

ROWS = [{"id": 1}, {"id": 2}]
GRAPHQL_ERROR = [{"message": "order 2 timed out", "path": ["orders", "nodes", 2]}]


@pytest.mark.parametrize(
    ("selector", "body"),
    [
        ("data.orders.nodes", {"data": {"orders": {"nodes": ROWS}}, "errors": GRAPHQL_ERROR}),
        (
            "data.orders.edges[*].node",
            {"data": {"orders": {"edges": [{"node": {"id": 1}}]}}, "errors": GRAPHQL_ERROR},
        ),
        ("data", {"data": ROWS, "errors": ["shard 3 is down"]}),
        ("data", {"data": ROWS, "errors": {"shard": "down"}}),
        ("data", {"data": ROWS, "error": "shard 3 is down"}),
        ("data", {"data": ROWS, "error": {"code": 500, "message": "down"}}),
        ("data", {"data": ROWS, "error": True}),
        ("data", {"data": ROWS, "success": False}),
        ("data", {"data": ROWS, "ok": False}),
        ("data", {"data": ROWS, "isSuccess": False}),
        ("data", {"data": ROWS, "ok": 0}),
        ("data", {"data": ROWS, "hasErrors": True}),
        ("data", {"data": ROWS, "meta": {"errors": [{"message": "shard 3 is down"}]}}),
        ("data", {"data": ROWS, "metadata": {"success": False}}),
        ("data", {"data": ROWS, "status": "error"}),
        ("data", {"data": ROWS, "errorCode": "E17"}),
        ("data", {"data": ROWS, "id": "request-1", "success": False}),
        ("data", {"data": ROWS, "status": 500}),
        ("data", {"data": ROWS, "statusCode": "503"}),
        ("data", {"data": ROWS, "code": 429, "message": "slow down"}),
        ("data", {"data": ROWS, "status": {"code": 500, "text": "down"}}),
        ("data", {"data": ROWS, "status": "partial"}),
        ("data", {"data": ROWS, "result": "failure"}),
        ("data", {"data": ROWS, "failed": True}),
        ("data", {"data": ROWS, "incomplete_results": True}),
        ("data", {"data": ROWS, "timed_out": True}),
        ("data.items", {"data": {"items": ROWS, "errors": ["shard 3 is down"]}}),
        ("data.items", {"data": {"items": ROWS, "success": False}, "meta": {}}),
        ("result.page.rows", {"result": {"error": "down", "page": {"rows": ROWS}}, "v": 1}),
        ("result", {"jsonrpc": "2.0", "id": 1, "result": ROWS, "error": {"code": -32000}}),
        ("response.rows", {"response": {"rows": ROWS, "success": False}}),
        ("data[?(@.id > 1)]", {"data": ROWS, "errors": ["down"]}),
        ("data[?(@.id > 5)]", {"data": ROWS, "errors": ["down"]}),
        (None, {"data": ROWS, "errors": ["down"]}),
        (None, {"items": ROWS, "success": False}),
        ("order", {"order": {"id": 1}, "error": "its lines timed out"}),
    ],
    ids=str,
)
def test_an_error_beside_rows_is_an_error(
    server: FaultServer, selector: str | None, body: dict[str, Any]
) -> None:
    server.plan["/items"] = body
    with pytest.raises(
        ResponseError, match=r"says in `.*` that something failed|looks like an error"
    ):
        rows_of(server, selector=selector)


@pytest.mark.parametrize(
    ("selector", "body", "rows"),
    [
        ("data", {"data": ROWS, "errors": []}, 2),
        ("data", {"data": ROWS, "errors": None}, 2),
        ("data", {"data": ROWS, "errors": {}}, 2),
        ("data", {"data": ROWS, "errors": [None]}, 2),
        ("data", {"data": ROWS, "error": ""}, 2),
        ("data", {"data": ROWS, "error": False}, 2),
        ("data", {"data": ROWS, "error": "none"}, 2),
        ("data", {"data": ROWS, "error": {"code": 0, "message": "OK"}}, 2),
        ("data", {"data": ROWS, "errorCode": 0, "errorMessage": "Success"}, 2),
        ("data", {"data": ROWS, "status": 200, "code": 0, "message": "fine"}, 2),
        ("data", {"data": ROWS, "status": "active", "result": "complete"}, 2),
        ("data", {"data": ROWS, "timed_out": False, "partial": False}, 2),
        ("cities", {"code": 415, "name": "San Francisco", "cities": ROWS}, 2),
        ("report.lines", {"report": {"status": "failed", "lines": ROWS}, "v": 1}, 2),
        ("job.steps", {"job": {"id": 7, "error": "step 3", "steps": ROWS}}, 2),
        ("data", {"data": ROWS, "errorCode": "0000", "errorMessage": "No error"}, 2),
        ("data", {"data": [], "errorCode": "0", "errorMessage": "SUCCESS"}, 0),
        ("data", {"data": ROWS, "success": True, "status": "ok", "ok": None}, 2),
        ("data", {"data": ROWS, "success": 1, "status": 200, "messages": ["hello"]}, 2),
        ("data", {"data": ROWS, "error_count": 3, "warnings": ["old"]}, 2),
        ("data", {"data": ROWS, "hasErrors": False, "isSuccess": True}, 2),
        ("data", {"data": ROWS, "meta": {"errors": [], "status": 200, "count": 0}}, 2),
        # a row's own fields, and an object that is the row
        ("data", {"data": [{"id": 1, "errors": ["x"], "success": False}]}, 1),
        ("$", {"id": 1, "error": "out of memory", "status": "failed"}, 1),
        ("$", {"error": "x"}, 1),
        ("$", [{"error": "x"}], 1),
        ("job", {"job": {"id": 1, "errors": ["x"]}}, 1),
        # an object that the rows belong to
        ("steps", {"id": 5, "status": "failed", "error": "oom", "steps": ROWS}, 2),
        ("steps", {"id": 5, "status": "failed", "steps": []}, 0),
        ("data.job.steps", {"data": {"job": {"errors": ["x"], "steps": ROWS}}}, 2),
    ],
    ids=str,
)
def test_what_says_no_error_and_what_is_data_is_loaded(
    server: FaultServer, selector: str, body: Any, rows: int
) -> None:
    server.plan["/items"] = body
    assert len(rows_of(server, selector=selector)) == rows


@pytest.mark.parametrize("max_concurrency", [1, 8])
def test_an_error_beside_rows_leaves_the_table_and_the_cursor(
    server: FaultServer, settings: Settings, max_concurrency: int
) -> None:
    first = [{"id": 1, "t": 1}, {"id": 2, "t": 2}]
    cursor = {"cursor_path": "t", "initial_value": 0}
    endpoint = {"path": "items", "data_selector": "data", "paginator": "single_page"}
    sent = {"params": {"since": "{incremental.start_value}"}, "incremental": cursor}
    merged = {"name": "merged", "primary_key": "id", "endpoint": {**endpoint, **sent}}
    connector = connector_of(
        server.url,
        {"name": "replaced", "endpoint": endpoint},
        merged,
        http={"max_concurrency": max_concurrency},
    )
    server.plan["/items"] = {"data": first, "errors": []}
    load(connector, settings)
    server.plan["/items"] = {"data": [{"id": 3, "t": 9}], "errors": GRAPHQL_ERROR}
    for outcome in load(connector, settings).values():
        assert "order 2 timed out" in failure_of(outcome)
    for table in ("replaced", "merged"):
        assert query(settings, f"SELECT id FROM shop.{table} ORDER BY id") == [(1,), (2,)]
    server.plan["/items"] = {"data": [{"id": 3, "t": 2}]}
    load(connector, settings)
    assert server.asked("/items")[-1].query["since"] == "2"


def test_rows_beside_an_error_are_loaded_if_the_file_says_so(
    server: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = {"data": ROWS, "errors": GRAPHQL_ERROR}
    notes = Notes()
    endpoint = {"data_selector": "data", "paginator": "single_page", "partial_errors": "load"}
    outcome = load(connector_of(server.url, items(**endpoint)), settings, observer=notes)["items"]
    assert outcome.rows_loaded == 2
    assert notes.texts == [
        "items: page 1 says in `errors` that something failed; its rows are loaded (partial_errors)"
    ]
    # without a row there is nothing to load
    server.plan["/items"] = {"data": [], "errors": GRAPHQL_ERROR}
    assert "no rows" in failure_of(
        load(connector_of(server.url, items(**endpoint)), settings)["items"]
    )


def test_an_error_beside_the_rows_of_a_parent_may_be_skipped(
    server: FaultServer, settings: Settings
) -> None:
    server.plan |= {
        "/items": [{"id": 1}, {"id": 2}],
        "/items/1/lines": {"lines": ROWS, "errors": ["down"]},
        "/items/2/lines": {"lines": ROWS},
    }
    lines = {
        "name": "lines",
        "endpoint": {"path": "items/{resources.items.id}/lines", "data_selector": "lines"},
    }
    skip = {"on_child_error": {"skip_up_to": 1}}
    connector = connector_of(server.url, items(), lines, http=skip)
    outcome = load(connector, settings)["lines"]
    assert (outcome.rows_loaded, len(outcome.skipped)) == (2, 1)
