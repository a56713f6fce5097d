"""Families below an incremental parent, and runs of a part of a family."""

import pytest

from restsource_dagster.settings import Settings
from restsource_dagster_tests.connector.stock_dlt import rest_api_config
from restsource_dagster_tests.faults.shop_of_lines import (
    CURSOR,
    KEYS,
    Shop,
    both_ways,
    lines,
    run,
    shop_connector,
)
from restsource_dagster_tests.faults.watching import Notes
from restsource_dagster_tests.making import make_connector, query
from restsource_dagster_tests.servers.api import ApiServer

# --- below an incremental parent ----------------------------------------------------------------


@pytest.mark.faults(row=10)
def test_children_without_a_key_are_appended_once_when_their_parent_is_read_again(
    api: ApiServer, settings: Settings
) -> None:
    shop = Shop(api)
    connector = shop_connector(api, merged=False, orders_cursor=True, lines_cursor=False)
    shop.order(1, at=1)
    shop.order(2, at=2)
    shop.line(1, 1)
    shop.line(2, 1)
    run(connector, settings)
    run(connector, settings)
    assert lines(settings) == [(1, 1), (2, 1)]
    shop.order(3, at=2)
    shop.line(3, 1)
    run(connector, settings)
    run(connector, settings)
    assert lines(settings) == [(1, 1), (2, 1), (3, 1)]


@pytest.mark.faults(row=10)
def test_grandchildren_without_a_key_are_appended_once(api: ApiServer, settings: Settings) -> None:
    shop = Shop(api)
    orders = {
        "name": "orders",
        "primary_key": "id",
        "endpoint": {"path": "orders", "incremental": CURSOR},
    }
    below = {"path": "orders/{resources.orders.id}/lines"}
    middle = {"name": "lines", "endpoint": below, **KEYS["lines"]}
    last = {"name": "notes", "endpoint": "notes/{resources.lines.order}/{resources.lines.n}"}
    connector = make_connector(api.url, orders, middle, last)
    shop.order(1, at=1)
    shop.line(1, 1)
    api.answers["/notes/1/1"] = [{"text": "a"}]
    for _ in range(3):
        run(connector, settings)
    assert query(settings, "SELECT text FROM shop.notes") == [("a",)]


@pytest.mark.faults(row=10)
def test_a_parent_that_comes_twice_in_a_run_has_its_children_requested_once(
    api: ApiServer, settings: Settings
) -> None:
    shop = Shop(api)
    shop.order(1)
    shop.line(1, 1)
    shop.orders.append(dict(shop.orders[0]))
    run(shop_connector(api, merged=False, lines_cursor=False), settings)
    assert shop.asked(1) == 1
    assert lines(settings) == [(1, 1)]


# --- a subset of a family -----------------------------------------------------------------------


@pytest.mark.faults(row=15)
@both_ways
def test_a_dependent_alone_requests_its_parent_with_a_message_and_does_not_load_it(
    api: ApiServer, settings: Settings, merged: bool
) -> None:
    shop, notes = Shop(api), Notes()
    connector = shop_connector(api, merged=merged, orders_cursor=True, lines_cursor=False)
    shop.order(1, at=1)
    shop.line(1, 1)
    assert set(run(connector, settings, "lines", notes=notes)) == {"lines"}
    assert any("orders is requested because lines depends on it" in line for line in notes.messages)
    tables = query(settings, "SELECT table_name FROM information_schema.tables")
    assert ("orders",) not in tables
    run(connector, settings)
    assert query(settings, "SELECT id FROM shop.orders") == [(1,)]
    assert lines(settings) == [(1, 1)]


@pytest.mark.faults(row=15)
@both_ways
def test_a_parent_loaded_alone_loses_no_children(
    api: ApiServer, settings: Settings, merged: bool
) -> None:
    shop = Shop(api)
    connector = shop_connector(api, merged=merged, orders_cursor=True, lines_cursor=False)
    shop.order(1, at=1)
    shop.line(1, 1)
    run(connector, settings)
    shop.order(2, at=2)
    shop.line(2, 1)
    shop.order(3, at=3)
    shop.line(3, 1)
    run(connector, settings, "orders")
    run(connector, settings)
    assert lines(settings) == [(1, 1), (2, 1), (3, 1)]
    assert shop.asked(1) == (2 if merged else 1)
    run(connector, settings)
    assert lines(settings) == [(1, 1), (2, 1), (3, 1)]


@pytest.mark.faults(row=15)
def test_a_dependent_that_is_added_later_loads_the_children_of_all_parents(
    api: ApiServer, settings: Settings
) -> None:
    shop = Shop(api)
    connector = shop_connector(api, orders_cursor=True, lines_cursor=False)
    for number in (1, 2):
        shop.order(number, at=number)
        shop.line(number, 1)
    run(make_connector(api.url, rest_api_config(connector)["resources"][0]), settings)
    run(connector, settings)
    assert lines(settings) == [(1, 1), (2, 1)]
