"""The template `shopify` leaves the tables that the API has, run after run."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from graphql import parse, validate

from restsource_dagster.connector.loader import load_file
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.templates import find_shipped_template
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, query
from restsource_dagster_tests.servers.api import ApiServer
from restsource_dagster_tests.templates.histories import Difference, Tables
from restsource_dagster_tests.templates.shopify import FAMILIES, Shopify
from restsource_dagster_tests.templates.shopify_engine import SCHEMA

QUERIES = sorted((Path(__file__).parents[2] / "restsource_dagster/templates").glob("*.graphql"))


def connector_of(shop: Shopify, settings: Settings, **inputs: Any) -> Connector:
    """The connector of a file that uses the template at the server's address."""
    file = {**shop.file, "inputs": {**shop.file["inputs"], **inputs}}
    settings.configs.mkdir(exist_ok=True)
    (settings.configs / "history.json").write_text(json.dumps(file))
    connector = load_file(settings.configs / "history.json").connector
    assert connector is not None
    return connector


def run(connector: Connector, settings: Settings, *resources: str) -> None:
    outcomes = load(connector, settings, resources=resources or None)
    assert [outcome.failure for outcome in outcomes.values() if outcome.failed] == []


def tables(settings: Settings, shop: Shopify) -> Tables:
    return {
        table: query(settings, f"SELECT {columns} FROM history.{table}")
        for table, columns in shop.columns.items()
    }


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.stem)
def test_each_query_is_one_that_the_schema_allows(path: Path) -> None:
    assert validate(SCHEMA, parse(path.read_text())) == []


def test_a_resource_of_each_kind_is_looked_at() -> None:
    known = {name for names in FAMILIES.values() for name in names}
    assert set(find_shipped_template("shopify").resources) == known
    assert set(find_shipped_template("shopify_bulk").resources) < known


def test_bulk_operations_load_whole_tables(api: ApiServer, settings: Settings) -> None:
    shop = Shopify(api, 2, families=list(FAMILIES))
    file = {**shop.file, "template": "shopify_bulk", "resources": ["*"]}
    settings.configs.mkdir()
    (settings.configs / "history.json").write_text(json.dumps(file))
    connector = load_file(settings.configs / "history.json").connector
    assert connector is not None
    shop.change(20)
    for resource in connector.resources:
        # what the mutation asks for is a query of its own
        (bulk,) = re.findall(r'"""(.*)"""', resource.endpoint.json_["query"], re.DOTALL)
        lines, problem = shop.server.lines(bulk.replace("{{", "{").replace("}}", "}"))
        assert (bool(lines), problem) == (True, ""), resource.name
    shop.expires_links = True
    names = ("orders", "order_line_items", "collection_products", "inventory_levels")
    outcomes = ingest(
        connector, settings=settings, environment={}, resources=names, sleep=lambda _: None
    )
    assert [outcome.failure for outcome in outcomes] == [None] * len(names)
    expected = {table: rows for table, rows in shop.expected().items() if table in names}
    found = {
        table: query(settings, f"SELECT {shop.columns[table]} FROM history.{table}")
        for table in names
    }
    assert Difference.between(expected, found) == []
    # the files are at another origin, which gets no token
    files = [seen for seen in api.seen if seen.path.startswith("/bulk/")]
    assert files
    assert not any("x-shopify-access-token" in seen.headers for seen in files)


def test_bulk_operations_are_the_first_load_of_the_live_template(
    api: ApiServer, settings: Settings
) -> None:
    shop = Shopify(api, 1, families=["products", "collections", "inventory"])
    inputs, picked = shop.file["inputs"], shop.file["resources"]
    in_bulk = [name for name in picked if name != "locations"]
    file = {**shop.file, "template": "shopify_bulk", "resources": in_bulk}
    settings.configs.mkdir()
    path = settings.configs / "history.json"
    path.write_text(json.dumps(file))
    bulk = load_file(path).connector
    assert bulk is not None
    shop.change(40)
    begun = shop.stamp
    # the operations of one load don't see the same data
    for names in (in_bulk[::2], in_bulk[1::2]):
        shop.wait(1)
        shop.change(15)
        outcomes = ingest(
            bulk, settings=settings, environment={}, resources=names, sleep=lambda _: None
        )
        assert [outcome.failure for outcome in outcomes if outcome.failed] == []
    shop.change(15)
    path.write_text(json.dumps({**shop.file, "inputs": {**inputs, "start": begun}}))
    live = load_file(path).connector
    assert live is not None
    for changes in (15, 0):
        run(live, settings)
        assert Difference.between(shop.expected(), tables(settings, shop)) == []
        shop.change(changes)
    # the rows of both have the id of the row above in one column, by which the live ones are replaced
    columns = query(
        settings,
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'history'",
    )
    assert ("product_variants", "_products_id") in columns
    assert ("product_variants", "product_id") not in columns


def test_tables_are_those_of_the_api_and_no_query_is_refused(
    api: ApiServer, settings: Settings
) -> None:
    # random histories load orders, and tests of deleted rows customers
    families = [name for name in FAMILIES if name not in ("orders", "customers")]
    # a budget that is used up after a few queries, so that they have to wait
    shop = Shopify(api, 2, rate=2_000, families=families)
    connector = connector_of(shop, settings)
    shop.change(10)
    run(connector, settings)
    assert Difference.between(shop.expected(), tables(settings, shop)) == []
    assert not shop.server.refused


def test_a_connection_of_more_than_250_rows_is_complete(api: ApiServer, settings: Settings) -> None:
    shop = Shopify(api, 0, page=250)
    key = shop.add("orders")
    shop.records["orders"][key]["lines"].update(
        {f"gid://shopify/LineItem/9{n:05}": {"id": f"9{n:05}", "quantity": 1} for n in range(601)}
    )
    run(connector_of(shop, settings), settings, "order_line_items")
    lines = len(shop.records["orders"][key]["lines"])
    assert lines > 600
    assert query(settings, "SELECT count(*) FROM history.order_line_items") == [(lines,)]
    assert not shop.server.refused


def test_deleted_rows_may_stay_and_are_told_by_the_events(
    api: ApiServer, settings: Settings
) -> None:
    shop = Shopify(api, 3, families=["customers", "others"])
    gone, left = shop.add("customers"), shop.add("customers")
    for _ in range(2):
        run(connector_of(shop, settings, deleted=None), settings, "customers", "events")
        if gone in shop.records["customers"]:
            shop.delete("customers", gone)
    assert query(settings, "SELECT id FROM history.customers ORDER BY 1") == [(gone,), (left,)]
    told = "SELECT subject_id FROM history.events WHERE action = 'destroy'"
    assert query(settings, told) == [(gone,)]


def test_an_event_that_comes_late_removes_its_row(api: ApiServer, settings: Settings) -> None:
    shop = Shopify(api, 3, families=["customers"])
    first, second, third = (shop.add("customers") for _ in range(3))
    connector = connector_of(shop, settings)
    run(connector, settings, "customers")
    shop.delete("customers", first, is_told=False)
    shop.wait(120)
    shop.delete("customers", second)
    run(connector, settings, "customers")
    assert query(settings, "SELECT id FROM history.customers ORDER BY 1") == [(first,), (third,)]
    shop.hidden_events.clear()
    run(connector, settings, "customers")
    assert query(settings, "SELECT id FROM history.customers") == [(third,)]


def test_a_wrong_token_is_said(api: ApiServer, settings: Settings) -> None:
    shop = Shopify(api, 3)
    connector = connector_of(shop, settings, token="wrong")
    (outcome,) = load(connector, settings, resources=["locations"]).values()
    assert outcome.failure is not None
    assert "Invalid API key or access token" in outcome.failure.message
