"""No JSON value makes the check crash, and no finding repeats a secret."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restsource_dagster.connector.validation.connector_builder import parse_connector
from restsource_dagster_tests.connector.stock_dlt import corpus, harvest, mutated, nodes, read

SHOP = Path("shop.json")
CANARY = "CANARYxq7"
VALUES = [read(path) for path in [*corpus("valid"), *corpus("invalid")]]
POOL = harvest(corpus("valid"))

odd_texts = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", "/", "~", "#bearer", "#plain", "\ud800", "{", "}", "{}", "${", "x-y", "$"]
    ),
    st.text(alphabet="{}[]<>$:.'\"\\/~", max_size=12),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | odd_texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_texts, inner, max_size=3),
    max_leaves=12,
)


def is_answered(value: Any) -> bool:
    """Whether there is a connector, or an error that says why not; each finding says something."""
    connector, findings = parse_connector(value, SHOP)
    refused = any(finding.severity == "error" for finding in findings)
    return (connector is None) == refused and all(finding.message for finding in findings)


def messages(value: Any) -> str:
    _, findings = parse_connector(value, SHOP)
    return json.dumps([finding.at(SHOP, 1, 1).as_dict() for finding in findings])


@given(json_values)
def test_any_value_is_answered(value: Any) -> None:
    assert is_answered(value)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(VALUES), st.randoms(use_true_random=False), json_values)
def test_any_value_anywhere_is_answered(base: Any, rng: random.Random, odd: Any) -> None:
    value = json.loads(json.dumps(base))
    places = list(nodes(value))
    if places:
        container, key = rng.choice(places)
        container[key] = odd
    assert is_answered(value)


@pytest.mark.parametrize("depth", [99, 100, 101, 900])
@pytest.mark.parametrize("field", ["resources", "client", "tags", "schedule", "unknown"])
def test_deep_nesting_is_refused_and_nothing_crashes(depth: int, field: str) -> None:
    deep: Any = "end"
    for level in range(depth):
        deep = [deep] if level % 2 else {"a": deep}

    connector, findings = parse_connector({**VALUES[0], field: deep}, SHOP)

    assert connector is None
    assert (findings[0].code == "deliberate:depth") is (depth >= 100)


@pytest.mark.parametrize(
    "number", [10**30, 10**6000, -(10**6000), 1e308], ids=["30", "6000", "-6000", "float"]
)
@pytest.mark.parametrize("path", ["a/{n}", "a"])
def test_huge_numbers_are_no_trouble(number: float, path: str) -> None:
    endpoint = {
        "path": path,
        "params": {"n": number},
        "paginator": {"type": "offset", "limit": number},
    }
    scd2 = {"disposition": "merge", "strategy": "scd2", "boundary_timestamp": number}
    lag = {"incremental": {"cursor_path": "ts", "lag": number, "initial_value": number}}
    value = {
        "schedule": {"mode": "days", "interval": number},
        "http": {"timeout_seconds": number},
        "client": {"base_url": number},
        "resources": [
            number,
            {"name": "a", "max_table_nesting": number, "endpoint": endpoint},
            {"name": "b", "write_disposition": scd2, "endpoint": lag},
        ],
    }

    assert len(messages(value)) < 10_000


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_no_json_are_refused(number: float) -> None:
    value = {**VALUES[0], "resources": [{"name": "a", "endpoint": {"params": {"x": number}}}]}

    _, findings = parse_connector(value, SHOP)

    assert [finding.code for finding in findings] == ["deliberate:not-json"]
    assert findings[0].pointer == "/resources/0/endpoint/params/x"


@pytest.mark.parametrize("odd", ["\ud800", {"\udfff": 1}])
def test_half_characters_are_refused(odd: Any) -> None:
    value = {**VALUES[0], "resources": [{"name": "a", "endpoint": {"json": {"x": odd}}}]}

    _, findings = parse_connector(value, SHOP)

    assert [finding.code for finding in findings] == ["deliberate:not-unicode"]
    messages(value).encode()


@pytest.mark.parametrize("value", [None, 1, "x", [], [{}], True, {}])
def test_a_file_that_holds_no_connector_is_refused(value: Any) -> None:
    assert parse_connector(value, SHOP)[0] is None


SHAPES: list[Any] = [
    CANARY,
    "{" + CANARY + "}",
    "{resources." + CANARY + ".id}",
    "{resources." + CANARY + "}",
    "{incremental." + CANARY + "}",
    "${" + CANARY + "-}",
    "{{ secrets.x }}",
    [CANARY],
    {"type": CANARY},
    {"type": "resolve", "resource": CANARY, "field": CANARY},
    {"type": "resolve", "resource": "items", "field": CANARY + "["},
    {"type": "incremental", "cursor_path": CANARY + "["},
]


def plant(value: Any, rng: random.Random) -> None:
    """Puts the canary into places where secrets stand."""
    client = value.get("client")
    resources = value.get("resources")
    holders = [client, *(resources if isinstance(resources, list) else [])]
    for holder in holders:
        if not isinstance(holder, dict):
            continue
        endpoint = holder.get("endpoint")
        target = endpoint if isinstance(endpoint, dict) else holder
        auth = rng.choice(["token", "api_key", "name", "location", "passwrd", "session"])
        target["auth"] = rng.choice(
            [CANARY, {auth: CANARY}, {auth: [CANARY]}, {auth: {"x": CANARY}}]
        )
        for part in ("headers", "params"):
            name = rng.choice(["Authorization", "X-Api-Key", "api_key", "access_token", "Cookie"])
            target[part] = {name: rng.choice(SHAPES)}


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(VALUES), st.randoms(use_true_random=False))
def test_no_finding_shows_a_secret_wherever_it_stands(base: Any, rng: random.Random) -> None:
    if not isinstance(base, dict):
        return
    value = mutated(base, rng, POOL)
    plant(value, rng)

    assert CANARY not in messages(value)
