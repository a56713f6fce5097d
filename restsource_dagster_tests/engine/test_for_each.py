"""Calls for each value of a list: one in the file, one in a parent's record, and batches of them."""

from collections.abc import Mapping
from typing import Any

import pytest

from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

# no request ahead of its time, so that each one counts
ONE_AT_A_TIME = {"max_concurrency": 1}
SITES = ("north", "south", "a/b")


def failures(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    return {name: one.failure.message for name, one in outcomes.items() if one.failure}


def rows(settings: Settings, sql: str) -> list[tuple[Any, ...]]:
    return query(settings, sql)


def orders_of_sites(seen: Seen) -> Any:
    """Four pages of two orders for each site, with the same ids everywhere."""
    page = int(seen.query["page"])
    first = 2 * page
    found = [{"id": n, "at": n} for n in range(first, first + 2)] if page < 4 else []
    since = int(seen.query.get("since", 0))
    return {"items": [one for one in found if one["at"] >= since]}


def sites(**more: Any) -> dict[str, Any]:
    return {
        "name": "orders",
        "primary_key": ["_each_site", "id"],
        "include_from_parent": ["each.site"],
        "endpoint": {
            "path": "sites/{each.site}/orders",
            "for_each": {"site": list(SITES)},
            "data_selector": "items",
            "paginator": {"type": "page_number", "total_path": None},
            "incremental": {"cursor_path": "at", "initial_value": 0, "start_param": "since"},
        },
        **more,
    }


def serve_sites(api: ApiServer) -> None:
    api.answers |= {f"/sites/{site}/orders": orders_of_sites for site in SITES}


@pytest.mark.parametrize(
    ("mode", "in_parts"),
    [("rows", False), ("columnar", False), ("rows", True)],
    ids=["rows", "columnar", "rows_in_parts"],
)
def test_three_sites_of_four_pages_are_all_loaded(
    api: ApiServer, settings: Settings, mode: str, in_parts: bool
) -> None:
    serve_sites(api)
    used = settings.model_copy(update={"checkpoint_seconds": 0.0}) if in_parts else settings
    loaded = load(make_connector(api.url, sites(mode=mode), http=ONE_AT_A_TIME), used)
    assert failures(loaded) == {}
    if in_parts:
        assert loaded["orders"].checkpoints > 3
    found = rows(
        settings, "SELECT _each_site, count(*), count(DISTINCT id) FROM shop.orders GROUP BY 1"
    )
    assert sorted(found) == [("a/b", 8, 8), ("north", 8, 8), ("south", 8, 8)]
    pages = [(seen.path, seen.query["page"]) for seen in api.seen]
    assert len(pages) == len(set(pages)) == 15  # the fifth page of each is empty


def test_each_value_has_a_cursor_and_one_that_fails_moves_none(
    api: ApiServer, settings: Settings
) -> None:
    serve_sites(api)
    connector = make_connector(api.url, sites(), http=ONE_AT_A_TIME)
    api.answers["/sites/south/orders"] = Answer({"error": "down"}, 400)
    assert "answered 400" in failures(load(connector, settings))["orders"]
    api.answers["/sites/south/orders"] = {"items": []}
    api.seen.clear()
    assert failures(load(connector, settings)) == {}
    assert {seen.query["since"] for seen in api.seen} == {"0"}
    serve_sites(api)
    api.seen.clear()
    assert failures(load(connector, settings)) == {}
    asked = {(seen.path.split("/")[2], seen.query["since"]) for seen in api.seen}
    assert asked == {("north", "7"), ("south", "0"), ("a", "7")}


def test_combinations_of_lists_and_parents_are_called(api: ApiServer, settings: Settings) -> None:
    api.answers |= {
        "/shops": [{"id": 1, "org": 5}, {"id": 2, "org": 6}],
        "/sales": lambda seen: [
            {"shop": seen.query["shop"], "year": seen.query["year"], "kind": seen.query["kind"]}
        ],
        "/notes/1/5": [{"n": 1}],
        "/notes/2/6": [{"n": 2}],
    }
    shops = {"name": "shops", "primary_key": "id", "endpoint": "shops"}
    sales = {
        "name": "sales",
        "write_disposition": "replace",
        "endpoint": {
            "path": "sales",
            "for_each": {"year": [2025, 2026], "kind": ["web", "till"]},
            "params": {
                "shop": "{resources.shops.id}",
                "year": "{each.year}",
                "kind": "{each.kind}",
            },
        },
    }
    notes = {
        "name": "notes",
        "write_disposition": "replace",
        "endpoint": "notes/{resources.shops.id}/{resources.shops.org}",
    }
    assert failures(load(make_connector(api.url, shops, sales, notes), settings)) == {}
    assert rows(
        settings, "SELECT count(*), count(DISTINCT (shop, year, kind)) FROM shop.sales"
    ) == [(8, 8)]


def products(count: int, per_page: int) -> Any:
    """Products of three variants; the fourth product has none, and the last repeats one."""

    def answer(seen: Seen) -> Any:
        page = int(seen.query["page"])
        numbers = range(page * per_page, min((page + 1) * per_page, count))
        return [
            {"id": n, "variants": [{"id": 10 * n + k} for k in range(3)] if n != 3 else []}
            for n in numbers
        ]

    return answer


def shop(**param: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    listed = {"type": "resolve", "resource": "products", "field": "variants[*].id", **param}
    return (
        {
            "name": "products",
            "primary_key": "id",
            "endpoint": {"path": "products", "paginator": {"type": "page_number"}},
        },
        {
            "name": "levels",
            "write_disposition": "append",
            "endpoint": {"path": "levels", "params": {"ids": listed}, "paginator": "single_page"},
        },
    )


def levels(seen: Seen) -> Any:
    return [{"variant": int(one)} for one in seen.query["ids"].split(",")]


@pytest.mark.parametrize("in_parts", [False, True], ids=["at_once", "in_parts"])
def test_a_batch_takes_the_values_of_many_parents(
    api: ApiServer, settings: Settings, in_parts: bool
) -> None:
    api.answers |= {"/products": products(401, 90), "/levels": levels}
    size = 250 if in_parts else 100
    used = settings.model_copy(update={"checkpoint_seconds": 0.0}) if in_parts else settings
    loaded = load(make_connector(api.url, *shop(batch=size), http=ONE_AT_A_TIME), used)
    assert failures(loaded) == {}
    if in_parts:
        assert loaded["products"].checkpoints > 2
    found = rows(settings, "SELECT count(*), count(DISTINCT variant) FROM shop.levels")
    assert found == [(1200, 1200)]
    sizes = [len(seen.query["ids"].split(",")) for seen in api.asked("/levels")]
    assert sum(sizes) == 1200
    if not in_parts:
        assert sizes == [100] * 12


def test_each_value_of_a_list_is_a_call(api: ApiServer, settings: Settings) -> None:
    api.answers |= {"/products": products(5, 9), "/levels": levels}
    assert failures(load(make_connector(api.url, *shop()), settings)) == {}
    assert len(api.asked("/levels")) == 12
    found = rows(settings, "SELECT count(*), count(DISTINCT variant) FROM shop.levels")
    assert found == [(12, 12)]


def test_a_batch_may_be_a_list_and_a_list_that_is_missing_is_an_error(
    api: ApiServer, settings: Settings
) -> None:
    parent, below = shop(batch=2, separator=None)
    below["endpoint"]["params_style"] = "comma"
    api.answers |= {"/products": products(1, 9), "/levels": levels}
    assert failures(load(make_connector(api.url, parent, below), settings)) == {}
    assert [seen.query["ids"] for seen in api.asked("/levels")] == ["0,1", "2"]
    api.answers["/products"] = [{"id": 1, "variant": []}]
    said = failures(load(make_connector(api.url, *shop(batch=2)), settings))
    assert "no 'variants' for the list 'variants[*].id'" in said["levels"]


def test_a_parent_hands_on_a_field_of_its_own_parent(api: ApiServer, settings: Settings) -> None:
    api.answers |= {
        "/shops": [{"id": 1}],
        "/shops/1/orders": [{"id": 7}],
        "/shops/1/orders/7": {"id": 7, "lines": 2},
    }
    shops = {"name": "shops", "primary_key": "id", "endpoint": "shops"}
    orders = {
        "name": "orders",
        "primary_key": "id",
        "include_from_parent": ["id"],
        "endpoint": "shops/{resources.shops.id}/orders",
    }
    details = {
        "name": "details",
        "primary_key": "id",
        "endpoint": "shops/{resources.orders._shops_id}/orders/{resources.orders.id}",
    }
    assert failures(load(make_connector(api.url, shops, orders, details), settings)) == {}
    assert rows(settings, "SELECT id, lines FROM shop.details") == [(7, 2)]


def test_batches_are_filled_over_parents_of_parents(api: ApiServer, settings: Settings) -> None:
    parent, below = shop(batch=4)
    parent["endpoint"] = "shops/{resources.shops.id}/products"
    shops = {"name": "shops", "primary_key": "id", "endpoint": "shops"}
    below["primary_key"] = "variant"
    below["write_disposition"] = "merge"
    api.answers |= {"/shops": [{"id": n} for n in range(3)], "/levels": levels}
    for n in range(3):
        variants = [{"id": 10 * n + k} for k in range(3)]
        api.answers[f"/shops/{n}/products"] = [{"id": n, "variants": variants}]
    assert failures(load(make_connector(api.url, shops, parent, below), settings)) == {}
    asked = [seen.query["ids"] for seen in api.asked("/levels")]
    assert asked == ["0,1,2,10", "11,12,20,21", "22"]
    assert rows(settings, "SELECT count(*) FROM shop.levels") == [(9,)]
