"""GraphQL: the query as it is, its paging, its errors and its budget."""

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

QUERY = """
query ($first: Int!, $after: String) {
  orders(first: $first, after: $after) { nodes { id } pageInfo { endCursor hasNextPage } }
}
"""


def run(
    api: ApiServer, settings: Settings, answer: Any, http: Any = None, **graphql: Any
) -> Outcome:
    api.answers["/graphql"] = answer
    resource = {
        "name": "orders",
        "primary_key": "id",
        "endpoint": {
            "path": "graphql",
            "data_selector": "data.orders.nodes",
            "graphql": {"query": QUERY, "variables": {"first": 2, "after": None}, **graphql},
            "paginator": {
                "type": "cursor",
                "cursor_path": "data.orders.pageInfo.endCursor",
                "cursor_body_path": "variables.after",
            },
        },
    }
    return load(make_connector(api.url, resource, http=http), settings)["orders"]


def ids(settings: Settings) -> list[int]:
    return [row[0] for row in query(settings, "SELECT id FROM shop.orders ORDER BY 1")]


def page(*found: int, after: str | None = None, **beside: Any) -> Mapping[str, Any]:
    info = {"endCursor": after, "hasNextPage": after is not None}
    return {
        "data": {"orders": {"nodes": [{"id": one} for one in found], "pageInfo": info}},
        **beside,
    }


def body_of(seen: Seen) -> Any:
    return json.loads(seen.body)


def test_the_query_is_sent_as_it_is_and_the_cursor_as_a_variable(
    api: ApiServer, settings: Settings
) -> None:
    def answer(seen: Seen) -> Any:
        return page(3) if body_of(seen)["variables"]["after"] == "c1" else page(1, 2, after="c1")

    assert run(api, settings, answer).failure is None
    assert ids(settings) == [1, 2, 3]
    assert [seen.method for seen in api.seen] == ["POST", "POST"]
    assert [body_of(seen) for seen in api.seen] == [
        {"query": QUERY, "variables": {"first": 2, "after": None}},
        {"query": QUERY, "variables": {"first": 2, "after": "c1"}},
    ]


def test_variables_take_the_cursor_and_a_parents_field(api: ApiServer, settings: Settings) -> None:
    api.answers["/shops"] = [{"id": "s1", "at": "2026-01-02"}]
    api.answers["/graphql"] = page(1)
    shops = {
        "name": "shops",
        "endpoint": {
            "path": "shops",
            "paginator": "single_page",
            "incremental": {"cursor_path": "at", "initial_value": "2026-01-01"},
        },
    }
    orders = {
        "name": "orders",
        "endpoint": {
            "path": "graphql",
            "paginator": "single_page",
            "data_selector": "data.orders.nodes",
            "graphql": {
                "query": "query ($q: String) { orders(query: $q) { nodes { id } } }",
                "variables": {"q": "shop:{resources.shops.id}", "n": {"deep": [1, True, None]}},
            },
        },
    }
    outcomes = load(make_connector(api.url, shops, orders), settings)
    assert outcomes["orders"].failure is None
    assert body_of(api.seen[-1])["variables"] == {"q": "shop:s1", "n": {"deep": [1, True, None]}}


ERROR = {"message": "Field 'x' doesn't exist", "path": ["orders", "nodes", 0, "x"]}


@pytest.mark.parametrize("status", [200, 400])
def test_the_error_is_told_in_the_words_of_graphql(
    api: ApiServer, settings: Settings, status: int
) -> None:
    outcome = run(api, settings, Answer({"errors": [ERROR], "data": None}, status))
    assert outcome.failure is not None
    assert "Field 'x' doesn't exist" in outcome.failure.message
    if status == 200:
        assert "(at orders.nodes.0.x)" in outcome.failure.message


def test_an_error_beside_rows_fails_unless_its_path_is_allowed(
    api: ApiServer, settings: Settings
) -> None:
    answer = page(1, errors=[ERROR])
    assert run(api, settings, answer).failure is not None
    assert run(api, settings, answer, allow_errors=["orders.edges"]).failure is not None
    other = page(1, errors=[ERROR, {"message": "no"}])
    assert run(api, settings, other, allow_errors=["orders.nodes"]).failure is not None
    assert run(api, settings, answer, allow_errors=["orders.nodes.x"]).failure is None
    assert ids(settings) == [1]


def cost(requested: int, available: float) -> Any:
    status = {"maximumAvailable": 1000, "currentlyAvailable": available, "restoreRate": 100}
    return {"cost": {"requestedQueryCost": requested, "throttleStatus": status}}


def test_a_throttled_query_is_sent_again_when_the_budget_allows_it(
    api: ApiServer, settings: Settings
) -> None:
    throttled = {
        "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
        "extensions": cost(50, 20),
    }

    times: list[float] = []

    def answer(_: Seen) -> Any:
        times.append(time.monotonic())
        return throttled if len(times) == 1 else page(1)

    outcome = run(api, settings, answer)
    assert outcome.failure is None
    assert outcome.usage.retries == 1
    assert times[1] - times[0] >= 0.3


def test_the_next_query_waits_until_it_is_affordable(api: ApiServer, settings: Settings) -> None:
    """So that none is refused."""

    times: list[float] = []

    def answer(_: Seen) -> Any:
        times.append(time.monotonic())
        return page(1, after="c1", extensions=cost(50, 10)) if len(times) == 1 else page(2)

    outcome = run(api, settings, answer)
    assert outcome.failure is None
    assert outcome.usage.retries == 0
    assert times[1] - times[0] >= 0.4


def test_the_budget_has_room_for_the_dearest_query_of_each_request_under_way(
    api: ApiServer, settings: Settings
) -> None:
    """So that a dear query after a cheap one is not refused, nor one of two at the same time."""
    times: list[float] = []
    answers = [
        page(1, after="c1", extensions=cost(50, 110)),
        page(2, after="c2", extensions=cost(10, 60)),
        page(3, extensions=cost(50, 50)),
    ]

    def answer(_: Seen) -> Any:
        times.append(time.monotonic())
        return answers[len(times) - 1]

    assert run(api, settings, answer, http={"max_concurrency": 2}).failure is None
    assert times[2] - times[1] >= 0.35
    assert ids(settings) == [1, 2, 3]


def test_variables_take_each_value_of_a_list_and_batches(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/orders"] = [
        {"id": 1, "refunds": [{"id": "r1"}, {"id": "r2"}]},
        {"id": 2, "refunds": []},
    ]
    api.answers["/graphql"] = lambda seen: {"data": [{"id": str(body_of(seen)["variables"]["of"])}]}
    orders = {"name": "orders", "primary_key": "id", "endpoint": {"paginator": "single_page"}}
    param = {"type": "resolve", "resource": "orders", "field": "refunds[*].id"}
    lines, batched = (
        {
            "name": name,
            "primary_key": "id",
            "endpoint": {
                "path": "graphql",
                "params": {"of": {**param, **more}, "v": 1},
                "graphql": {"query": QUERY, "variables": {"of": "{of}"}},
                "data_selector": "data",
                "paginator": "single_page",
            },
        }
        for name, more in (("lines", {}), ("batched", {"batch": 10, "separator": None}))
    )
    outcomes = load(make_connector(api.url, orders, lines, batched), settings)
    assert [outcome.failure for outcome in outcomes.values()] == [None] * 3
    sent = [body_of(seen)["variables"]["of"] for seen in api.asked("/graphql")]
    assert sorted(map(str, sent)) == ["['r1', 'r2']", "r1", "r2"]
    # what stands in the body is not sent in the query, too
    assert [seen.query for seen in api.asked("/graphql")] == [{"v": "1"}] * 3
