"""How resources are read: bound paths, parents' fields, cursors, credentials of other origins."""

from copy import deepcopy
from typing import Any

import pytest
from dlt.sources.rest_api.config_setup import build_resource_dependency_graph, expand_placeholders
from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.engine.incremental.window_filter import api_filters_of
from restsource_dagster.engine.plan.resource_plan import ResourcePlan, build_resource_plans
from restsource_dagster_tests.connector.helpers import connector
from restsource_dagster_tests.connector.stock_dlt import for_dlt, resolve_for_dlt


def plans_of(*resources: Any, environment: Any = None, **parts: Any) -> dict[str, ResourcePlan]:
    resolved = connector(resources=list(resources), **parts).resolved(environment or {})
    return {
        plan.resource.name: plan
        for family in resolved.families
        for plan in build_resource_plans(family, resolved, family.names)
    }


def plan_of(resource: Any, **parts: Any) -> ResourcePlan:
    return next(iter(plans_of(resource, **parts).values()))


@pytest.mark.parametrize(
    ("endpoint", "lower"),
    [
        ({"incremental": {"cursor_path": "ts"}}, False),
        ({"incremental": {"cursor_path": "ts", "start_param": "since"}}, True),
        ({"params": {"since": {"type": "incremental", "cursor_path": "ts"}}}, True),
        (
            {
                "params": {"q": "x>{incremental.start_value}"},
                "incremental": {"cursor_path": "t", "initial_value": 0},
            },
            True,
        ),
        (
            {
                "json": {"a": [{"b": "{incremental.last_value}"}]},
                "incremental": {"cursor_path": "t", "initial_value": 0},
            },
            True,
        ),
        (
            {
                "path": "d/{day}",
                "params": {"day": "{incremental.start_value}"},
                "incremental": {"cursor_path": "t", "initial_value": 0},
            },
            True,
        ),
    ],
)
def test_it_is_known_whether_the_api_filters_by_the_start(endpoint: Any, lower: bool) -> None:
    assert api_filters_of(plan_of({"name": "a", "endpoint": endpoint}))[0] is lower


def test_the_fields_of_a_parent_are_always_in_the_same_order() -> None:
    fields = [f"field{number}" for number in range(9)]
    params = {f"p{field}": f"{{resources.a.{field}}}" for field in fields}
    path = "a/{id}/b/{resources.a.last}"
    bound = {"id": {"type": "resolve", "resource": "a", "field": "id"}}
    child = {"name": "b", "endpoint": {"path": path, "params": {**params, **bound}}}
    plan = plans_of("a", child)["b"]

    found = [param.resolve_config["field"] for param in plan.parent_params]
    assert found == ["id", "last", *fields]


DEFAULTS = {
    "columns": {"id": {"data_type": "bigint"}, "at": {"nullable": False}, "z": {"unique": True}},
    "endpoint": {
        "headers": {"X-Api-Key": "k"},
        "json": {"a": 1, "b": {"c": 2}},
        "params": {"size": 100, "shop": "eu", "id": 7},
        "paginator": "single_page",
    },
}
RESOURCES: list[Any] = [
    "plain",
    {"name": "short", "endpoint": "things/{{{{x}}}}"},
    {"name": "takes_it", "endpoint": {"path": "shops/{shop}/x"}},
    {"name": "after_it", "endpoint": {"path": "y"}},
    {"name": "own", "endpoint": {"path": "z/{id}", "params": {"size": 5}}},
    {"name": "body", "endpoint": {"json": {"b": 3}, "params": {"page": "${P}"}}},
    {"name": "typed", "columns": [{"name": "at", "data_type": "timestamp", "x-unit": "s"}]},
    {"name": "child", "endpoint": "plain/{resources.plain.id}", "columns": {}},
]


def test_defaults_are_merged_as_dlt_merges_them() -> None:
    parts = {"resource_defaults": DEFAULTS, "resources": RESOURCES}
    plans = plans_of(*RESOURCES, environment={"P": "{1}"}, resource_defaults=DEFAULTS)
    config = resolve_for_dlt(for_dlt(parts), {"P": "{1}"})
    _, stock, _ = build_resource_dependency_graph(config["resource_defaults"], config["resources"])

    assert plans.keys() == stock.keys()
    for name, plan in plans.items():
        expected: Any = stock[name]
        endpoint = {"json": {}, "params": {}, **expected["endpoint"]}
        assert plan.endpoint.path == endpoint["path"]
        assert plan.endpoint.params == endpoint["params"], name
        assert plan.endpoint.json_ == endpoint["json"]
        assert plan.endpoint.headers == endpoint["headers"]


@pytest.mark.parametrize(
    "own",
    [
        [{"name": "at", "data_type": "timestamp", "x-unit": "s"}],
        {"id": {"primary_key": True}, "new": {"data_type": "text"}},
        {},
        None,
    ],
)
def test_columns_are_merged_as_dlt_merges_them(own: Any) -> None:
    resource = {"name": "a", "columns": own}
    plan = plan_of(resource, resource_defaults=DEFAULTS)
    _, stock, _ = build_resource_dependency_graph(
        deepcopy(for_dlt({"resource_defaults": DEFAULTS})["resource_defaults"]),
        [deepcopy(resource)],  # type: ignore[list-item]
    )
    expected: Any = stock["a"]

    ours = plan.resource.hints.columns_by_name
    theirs = expected["columns"] or {}
    assert list(ours) == list(theirs)
    assert {name: {"name": name, **column.as_json()} for name, column in ours.items()} == {
        name: {"name": name, **column} for name, column in theirs.items()
    }


@given(st.text(alphabet="ab{}/"))
def test_a_secret_with_braces_in_a_path_reaches_the_api_as_it_is(secret: str) -> None:
    plan = plan_of({"name": "a", "endpoint": "p/${S}"}, environment={"S": secret})

    assert expand_placeholders(plan.endpoint.path, {}) == f"p/{secret}"


@given(st.text())
def test_a_secret_with_braces_reaches_the_api_as_it_is(secret: str) -> None:
    endpoint = {"path": "a", "params": {"k": "${S}"}}
    plan = plan_of({"name": "a", "endpoint": endpoint}, environment={"S": secret})

    # as it is, but for line breaks at its end
    assert expand_placeholders(plan.endpoint.params, {}) == {"k": secret.rstrip("\r\n")}


def test_braces_are_doubled_only_where_placeholders_are_filled_in() -> None:
    endpoint = {"path": "${S}", "auth": {"token": "${S}"}, "headers": {"h": "${S}"}}
    resource = {"name": "a", "table_name": "${S}", "endpoint": {**endpoint, "json": {"a": "${S}"}}}
    client = {"base_url": "${S}", "auth": {"token": "${S}"}, "headers": {"h": "${S}"}}
    resolved = connector(resources=[resource], client=client).resolved({"S": "{"})

    assert resolved.client.as_json() == {
        "base_url": "{",
        "auth": {"token": "{"},
        "headers": {"h": "{"},
    }
    assert resolved.resources[0].table == "{"
    assert resolved.resources[0].endpoint.as_json() == {
        "path": "{{{{",
        "auth": {"token": "{"},
        "headers": {"h": "{{"},
        "json": {"a": "{{"},
    }


def test_columns_of_one_resource_are_not_those_of_another() -> None:
    own = {"name": "a", "columns": {"at": {"data_type": "timestamp"}}}
    plans = plans_of("plain", own, "last", resource_defaults=DEFAULTS)

    expected = {"id": {"data_type": "bigint"}, "at": {"nullable": False}, "z": {"unique": True}}
    for name in ("plain", "last"):
        columns = plans[name].resource.hints.columns_by_name
        assert {key: column.as_json() for key, column in columns.items()} == expected


def test_a_url_of_another_origin_gets_nothing_that_the_defaults_send() -> None:
    endpoint = {"path": "https://b.example/x", "params": {"page": 1}}
    defaults = {
        "endpoint": {"headers": {"X-Api-Key": "k"}, "params": {"token": "t"}, "json": {"a": 1}}
    }
    plans = plans_of({"name": "a", "endpoint": endpoint}, "own", resource_defaults=defaults)

    assert plans["a"].is_foreign
    assert plans["a"].endpoint.as_json() == endpoint
    assert plans["own"].endpoint.headers == {"X-Api-Key": "k"}
