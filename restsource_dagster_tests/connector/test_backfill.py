"""The `backfill` block: what it becomes, and what it can't be."""

from datetime import UTC, datetime
from typing import Any

import pytest

from restsource_dagster.connector.validation.connector_builder import parse_connector
from restsource_dagster_tests.connector.helpers import SHOP, connector, from_corpus

BLOCK = {"start": "2024-01-01", "partition": "monthly"}


def orders(cursor: Any = None, **parts: Any) -> dict[str, Any]:
    given = {"cursor_path": "updated_at", "initial_value": "2020-01-01T00:00:00Z"}
    endpoint = {"path": "orders", "incremental": {**given, **(cursor or {})}}
    return {"name": "orders", "endpoint": endpoint, "backfill": BLOCK, **parts}


def refusals(*resources: Any) -> list[str]:
    value = {"schedule": {"mode": "manual"}, "client": {"base_url": "https://a.example"}}
    _, findings = parse_connector({**value, "resources": list(resources)}, SHOP)
    return [finding.code or finding.pointer for finding in findings if finding.severity == "error"]


def test_a_block_is_kept_with_its_defaults_and_times_in_utc() -> None:
    months, hours, *_, none = from_corpus("backfill").resources

    assert months.backfill
    assert hours.backfill
    assert dict(months.backfill) == {
        "start": datetime(2024, 1, 1, tzinfo=UTC),
        "end": None,
        "partition": "monthly",
        "max_parallel": 1,
        "max_attempts": 3,
        "auto": True,
    }
    assert dict(hours.backfill) == {
        "start": datetime(2024, 1, 1, 6, tzinfo=UTC),
        "end": datetime(2024, 3, 1, 6, tzinfo=UTC),
        "partition": "hourly",
        "max_parallel": 2,
        "max_attempts": 5,
        "auto": False,
    }
    assert none.backfill is None


def test_only_the_root_of_a_family_has_the_block() -> None:
    family = from_corpus("backfill_family").family_of("comments")

    assert [member.backfill is not None for member in family.members] == [True, False]


@pytest.mark.parametrize(
    "resource",
    [
        orders(),
        orders(primary_key="id", write_disposition="append"),
        orders({"cursor_path": "meta.updated_at"}, primary_key="id"),
        orders({"cursor_path": "updated-at"}),
        orders({"lag": 60, "row_order": "desc", "range_start": "open", "last_value_func": None}),
        orders(primary_key="id", write_disposition={"disposition": "merge", "strategy": "upsert"}),
        orders(merge_key=["customer", "updated_at"], write_disposition="merge"),
        orders(primary_key="id", selected=False),
        orders({"initial_value": "1704067200.5"}),
    ],
)
def test_a_history_that_can_be_loaded_again_is_accepted(resource: Any) -> None:
    assert connector(resources=[resource]).resources[0].backfill is not None


@pytest.mark.parametrize(
    ("resources", "codes"),
    [
        ([orders({"cursor_path": "a.b"})], ["backfill-no-key"]),
        ([orders({"cursor_path": "a.b"}, write_disposition="skip")], ["skip", "backfill-replace"]),
        ([orders({"cursor_path": "$['a']"}, primary_key="id")], []),
        (
            [orders({"cursor_path": "a.b", "end_value": "2021-01-01T00:00:00Z"})],
            ["backfill-end-value", "backfill-no-key"],
        ),
        (
            [orders(primary_key="id", merge_key="day")],
            ["backfill-merge-key"],
        ),
        (
            [orders({"initial_value": 99}), {**orders(), "name": "orders_history"}],
            ["backfill-cursor", "backfill-name"],
        ),
        (
            [
                orders(primary_key="id"),
                {"name": "lines", "endpoint": "orders/{resources.orders.id}/lines"},
                {
                    "name": "taxes",
                    "primary_key": "id",
                    "write_disposition": "append",
                    "endpoint": "lines/{resources.lines.id}/taxes",
                },
            ],
            ["backfill-child-no-key", "backfill-child-no-key"],
        ),
        (
            [
                orders(primary_key="id"),
                {
                    "name": "lines",
                    "primary_key": "id",
                    "endpoint": "orders/{resources.orders.id}/lines",
                },
                "lines_history",
            ],
            ["backfill-name"],
        ),
    ],
)
def test_a_history_that_cannot_be_loaded_again_is_refused(
    resources: list[Any], codes: list[str]
) -> None:
    assert refusals(*resources) == [f"deliberate:{code}" for code in codes]


def test_a_broken_key_of_a_dependent_leads_to_no_second_finding_at_its_root() -> None:
    lines = {
        "name": "lines",
        "primary_keys": "id",
        "endpoint": "orders/{resources.orders.id}/lines",
    }

    assert refusals(orders(primary_key="id"), lines) == ["/resources/1/primary_keys"]


def test_broken_defaults_lead_to_no_second_finding() -> None:
    value = {
        "schedule": {"mode": "manual"},
        "client": {"base_url": "https://a.example"},
        "resource_defaults": {"primary_key": 5},
        "resources": [orders({"cursor_path": "a.b"})],
    }
    _, findings = parse_connector(value, SHOP)

    assert [finding.pointer for finding in findings] == ["/resource_defaults/primary_key"]
