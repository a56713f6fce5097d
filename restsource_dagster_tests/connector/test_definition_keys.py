"""A definition key changes with what decides the rows of a window, and with nothing else."""

import json
from copy import deepcopy
from typing import Any

import pytest

from restsource_dagster_tests.connector.helpers import connector

CURSOR = {
    "cursor_path": "updated_at",
    "initial_value": "2020-01-01T00:00:00Z",
    "start_param": "since",
}
ORDERS = {
    "name": "orders",
    "primary_key": ["id", "shop"],
    "backfill": {"start": "2024-01-01", "partition": "monthly"},
    "endpoint": {
        "path": "orders",
        "params": {"status": "any", "per_page": 100},
        "headers": {"Accept": "application/json", "X-Api-Key": "${KEY}"},
        "data_selector": "data",
        "paginator": {"type": "offset", "limit": 100},
        "incremental": CURSOR,
    },
}
LINES = {
    "name": "lines",
    "primary_key": "id",
    "endpoint": {"path": "orders/{resources.orders.id}/lines"},
}
FILE = {
    "schedule": {"mode": "manual"},
    "client": {"base_url": "https://a.example", "headers": {"X-Version": "2", "User-Agent": "a"}},
    "resources": [ORDERS, LINES],
}


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    """The file with values put at paths such as `resources.0.endpoint.path`; None takes out."""
    value: dict[str, Any] = deepcopy(FILE)
    for path, new in changes:
        *steps, last = path.split(".")
        target: Any = value
        for step in steps:
            target = target[int(step)] if isinstance(target, list) else target.setdefault(step, {})
        if new is None:
            del target[last]
        elif isinstance(target, list):
            target[int(last)] = deepcopy(new)
        else:
            target[last] = deepcopy(new)
    return value


def key(value: dict[str, Any], name: str = "orders") -> str:
    return connector(**value).resource(name).definition_key


def test_a_key_is_short_and_does_not_change_between_versions_of_this_project() -> None:
    assert key(FILE) == "ecc62a17f801304b"
    assert key(FILE, "lines") == "c6eb61fbc7623f30"


ORDER = "resources.0"
AT = "resources.0.endpoint"


@pytest.mark.parametrize(
    "changes",
    [
        [("description", "Orders")],
        [("schedule", {"mode": "hours"})],
        [("http", {"timeout_seconds": 5})],
        [("tags", {"tier": "gold"})],
        [("client.auth", {"type": "bearer", "token": "${TOKEN}"})],
        [("client.headers.User-Agent", "b")],
        [("client.headers.Authorization", "${TOKEN}")],
        [(f"{AT}.headers.X-Api-Key", "${OTHER}")],
        [(f"{AT}.headers.Accept", None), (f"{AT}.headers.accept", "application/json")],
        [(f"{AT}.params.per_page", 500)],
        [(f"{AT}.params.api_key", "${KEY}")],
        [(f"{AT}.paginator.limit", 500)],
        [(f"{AT}.incremental.initial_value", "2023-05-06T07:08:09Z")],
        [(f"{AT}.incremental.lag", 3600)],
        [(f"{AT}.incremental.range_start", "open")],
        [(f"{AT}.incremental.row_order", "asc")],
        [(f"{AT}.incremental.last_value_func", "max")],
        [(f"{AT}.incremental.on_cursor_value_missing", "raise")],
        [(f"{AT}.method", "GET")],
        [(f"{ORDER}.primary_key", ["shop", "id"])],
        [(f"{ORDER}.write_disposition", "merge")],
        [(f"{ORDER}.write_disposition", {"disposition": "merge", "strategy": "delete-insert"})],
        [(f"{ORDER}.table_name", "orders")],
        [(f"{ORDER}.columns", {"id": {"description": "The id"}})],
        [(f"{ORDER}.parallelized", True)],
        [(f"{ORDER}.backfill.start", "2020-01-01")],
        [(f"{ORDER}.backfill.end", "2024-06-01")],
        [(f"{ORDER}.backfill.max_parallel", 4)],
        [(f"{ORDER}.backfill.auto", False)],
        [("resources.1.endpoint", "orders/{resources.orders.id}/lines")],
        [("resources.0", LINES), ("resources.1", ORDERS)],
    ],
    ids=lambda changes: " ".join(path for path, _ in changes),
)
def test_what_does_not_decide_the_rows_leaves_the_key(changes: list[tuple[str, Any]]) -> None:
    assert key(changed(*changes)) == key(FILE)


@pytest.mark.parametrize(
    "change",
    [
        ("client.base_url", "https://b.example"),
        ("client.headers.X-Version", "3"),
        (f"{AT}.path", "v2/orders"),
        (f"{AT}.method", "POST"),
        (f"{AT}.params.status", "open"),
        (f"{AT}.params.shop", 7),
        (f"{AT}.json", {"status": "open"}),
        (f"{AT}.headers.Accept", "text/plain"),
        (f"{AT}.data_selector", "items"),
        (f"{AT}.paginator", {"type": "json_link"}),
        (f"{AT}.paginator.maximum_offset", 1000),
        (f"{AT}.response_actions", [{"status_code": 404, "action": "ignore"}]),
        (f"{AT}.incremental.cursor_path", "created_at"),
        (f"{AT}.incremental.initial_value", "2020-01-01T00:00:00.000Z"),
        (f"{AT}.incremental.initial_value", 1577836800),
        (f"{AT}.incremental.end_param", "until"),
        (f"{AT}.incremental.on_cursor_value_missing", "exclude"),
        (f"{ORDER}.table_name", "sales"),
        (f"{ORDER}.primary_key", "id"),
        (f"{ORDER}.write_disposition", "append"),
        (f"{ORDER}.columns", {"total": {"data_type": "decimal"}}),
        (f"{ORDER}.max_table_nesting", 0),
        (f"{ORDER}.selected", False),
        (f"{ORDER}.backfill.partition", "daily"),
        ("resources.1.endpoint.path", "orders/{resources.orders.id}/items"),
        ("resources.1.include_from_parent", ["shop"]),
        ("resources.1.primary_key", "line"),
        ("resources.1", "lines"),
    ],
    ids=lambda change: change[0],
)
def test_what_decides_the_rows_changes_the_key(change: tuple[str, Any]) -> None:
    assert key(changed(change)) != key(FILE)


@pytest.mark.parametrize(
    "changes",
    [
        [(f"{AT}.paginator", None), ("client.paginator", {"type": "offset", "limit": 9})],
        [(f"{AT}.data_selector", None), ("resource_defaults.endpoint.data_selector", "data")],
        [(f"{ORDER}.primary_key", None), ("resource_defaults.primary_key", ["id", "shop"])],
    ],
    ids=lambda changes: " ".join(path for path, _ in changes),
)
def test_a_default_counts_as_if_the_resource_said_it(changes: list[tuple[str, Any]]) -> None:
    alone = ("resources", [ORDERS])

    assert key(changed(alone, *changes)) == key(changed(alone))


def test_a_parent_does_not_change_the_key_of_its_dependents() -> None:
    assert key(changed((f"{AT}.params.status", "open")), "lines") == key(FILE, "lines")


def test_the_size_of_a_page_counts_where_there_is_only_one() -> None:
    single = (f"{AT}.paginator", {"type": "single_page"})

    assert key(changed(single)) != key(changed(single, (f"{AT}.params.per_page", 500)))


def test_order_and_spelling_of_the_file_leave_the_key() -> None:
    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: turned(item) for name, item in reversed(value.items())}
        return value

    shuffled = {**turned(FILE), "resources": [turned(ORDERS), turned(LINES)]}
    written = json.loads(json.dumps(FILE, indent=7))

    assert key(shuffled) == key(written) == key(FILE)


def test_a_param_that_the_path_takes_decides_the_rows_unless_it_is_a_credential() -> None:
    shop = key(changed((f"{AT}.path", "shops/{shop}/orders"), (f"{AT}.params.shop", "eu")))
    other = key(changed((f"{AT}.path", "shops/{shop}/orders"), (f"{AT}.params.shop", "us")))
    token = key(changed((f"{AT}.path", "{token}/orders"), (f"{AT}.params.token", "a")))
    renewed = key(changed((f"{AT}.path", "{token}/orders"), (f"{AT}.params.token", "b")))

    assert shop != other
    assert token == renewed
