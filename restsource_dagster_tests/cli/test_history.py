"""`restsource history`: which partitions are loaded, in progress, failed and missing."""

import json

import pytest

from restsource_dagster_tests.cli.project import Project
from restsource_dagster_tests.cli.runner import invoke
from restsource_dagster_tests.cli.stock import write_stock
from restsource_dagster_tests.servers.api import Answer


@pytest.fixture
def stock(shop: Project) -> Project:
    write_stock(shop, block={"max_attempts": 1})
    return shop


def load(first: str, last: str) -> None:
    invoke("backfill", "shop", "orders", "--from", first, "--to", last)


def test_adjacent_partitions_are_one_range(stock: Project) -> None:
    load("2024-01-02", "2024-01-04")
    result = invoke("history", "shop")
    assert result.exit_code == 0
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        "orders  4 daily partitions, loaded only when you start them",
        "  loaded       2",
        "               2024-01-02T00:00:00Z up to 2024-01-04T00:00:00Z  (2 partitions)",
        "  missing      2",
        "               2024-01-04T00:00:00Z up to 2024-01-05T00:00:00Z",
        "               2024-01-01T00:00:00Z up to 2024-01-02T00:00:00Z",
    ]


def test_a_partition_that_is_not_tried_again_is_shown_with_the_way_to_retry_it(
    stock: Project,
) -> None:
    stock.api.answers["/orders"] = Answer({"error": "gone"}, status=410)
    load("2024-01-02", "2024-01-03")
    told = json.loads(invoke("history", "shop", "--json").stdout)
    [orders] = told["histories"]
    assert orders["failed"]["ranges"] == [
        {"from": "2024-01-02T00:00:00Z", "to": "2024-01-03T00:00:00Z", "windows": 1}
    ]
    assert orders["given_up"] == ["2024-01-02"]
    assert orders["missing"]["windows"] == 3
    shown = invoke("history", "shop").stdout
    assert "--from 2024-01-02T00:00:00Z --to 2024-01-03T00:00:00Z" in shown


def test_a_changed_definition_makes_what_was_loaded_missing(stock: Project) -> None:
    load("2024-01-03", "2024-01-05")
    before = json.loads(invoke("history", "shop", "--json").stdout)["histories"][0]
    assert before["loaded"]["windows"] == 2
    path = stock.folder / "configs" / "shop.json"
    path.write_text(path.read_text().replace('"path": "orders"', '"path": "orders/"'))
    after = json.loads(invoke("history", "shop", "--json").stdout)["histories"][0]
    assert (after["loaded"]["windows"], after["missing"]["windows"]) == (0, 4)


def test_a_connector_without_a_backfill_says_how_to_have_one(shop: Project) -> None:
    result = invoke("history", "shop")
    assert result.exit_code == 0
    assert "`backfill` block" in result.stdout
    assert json.loads(invoke("history", "shop", "--json").stdout)["histories"] == []


def test_backfills_are_not_taken_for_the_last_run_of_the_connector(stock: Project) -> None:
    invoke("run", "shop", "countries")
    load("2024-01-01", "2024-01-02")
    [listed] = json.loads(invoke("list", "--json").stdout)["connectors"]
    assert listed["last_run"]["trigger"] == "manual"
