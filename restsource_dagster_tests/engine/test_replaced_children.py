"""`children`: the rows that a call returns replace those that the table has of its parent."""

from typing import Any

import pytest

from restsource_dagster.connector.model import Connector
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

CURSOR = {"cursor_path": "at", "initial_value": 0, "start_param": "since"}


class Deals:
    """Deals with a cursor, and their products: asked for by deal, or for several deals at once."""

    def __init__(self, api: ApiServer) -> None:
        self.at: dict[int, int] = {}
        self.products: dict[int, list[Any]] = {}
        self.gone: set[int] = set()
        self.removed: set[int] = set()
        self._api = api
        api.answers["/deals"] = self._deals
        api.answers["/products"] = self._of_several

    def set(self, deal: int, at: int, *products: Any) -> None:
        """Change a deal: it has these products now."""
        self.at[deal], self.products[deal] = at, list(products)
        self._api.answers[f"/deals/{deal}/products"] = lambda seen: self._of_one(deal, seen)

    def _deals(self, seen: Seen) -> Any:
        start = int(seen.query.get("since", 0))
        return [
            {"id": deal, "at": at, "is_deleted": deal in self.removed}
            for deal, at in self.at.items()
            if at >= start
        ]

    def _of_one(self, deal: int, seen: Seen) -> Any:
        if deal in self.gone:
            return Answer({}, 404)
        page = int(seen.query.get("page", 0))
        rows = [{"id": f"{deal}-{product}", "tags": ["a", "b"]} for product in self.products[deal]]
        more = (
            {"next": f"{self._api.url}{seen.path}?page={page + 1}"}
            if page * 2 + 2 < len(rows)
            else {}
        )
        return {"data": rows[page * 2 : page * 2 + 2], **more}

    def _of_several(self, seen: Seen) -> Any:
        deals = [int(deal) for deal in seen.query["deal_ids"].split(",")]
        return [{"id": product, "deal": deal} for deal in deals for product in self.products[deal]]


def connector_of(api: ApiServer, mode: str) -> Connector:
    products = {
        "name": "products",
        "primary_key": "id",
        "mode": mode,
        "nested": "tables",
        "include_from_parent": ["id", "at"],
        "children": "replace",
        "endpoint": {
            "path": "deals/{resources.deals.id}/products",
            "data_selector": "data",
            "paginator": {"type": "json_link", "next_url_path": "next"},
            "response_actions": [{"status_code": 404, "action": "ignore"}],
        },
    }
    of_several = {
        "name": "of_several",
        "primary_key": ["deal", "id"],
        "mode": mode,
        "children": {"replace_by": "deal"},
        "endpoint": {
            "path": "products",
            "paginator": "single_page",
            "params": {
                "deal_ids": {"type": "resolve", "resource": "deals", "field": "id", "batch": 2}
            },
        },
    }
    deals: dict[str, Any] = {"name": "deals", "primary_key": "id"}
    deals["endpoint"] = {"path": "deals", "paginator": "single_page", "incremental": CURSOR}
    deals["columns"] = {"is_deleted": {"data_type": "bool", "hard_delete": True}}
    return make_connector(api.url, deals, products, of_several)


def found(settings: Settings) -> dict[int, list[str]]:
    """The products of each deal, the same in all tables."""
    rows = query(settings, "SELECT _deals_id, id FROM shop.products ORDER BY ALL")
    several = query(
        settings, "SELECT deal, concat(deal, '-', id) FROM shop.of_several ORDER BY ALL"
    )
    assert rows == several
    tags = query(
        settings,
        "SELECT p.id FROM shop.products__tags t LEFT JOIN shop.products p "
        "ON p._dlt_id = t._dlt_parent_id ORDER BY ALL",
    )
    assert tags == sorted((key,) for _, key in rows for _ in range(2))
    deals: dict[int, list[str]] = {}
    for deal, key in rows:
        deals.setdefault(deal, []).append(key)
    return deals


@pytest.mark.parametrize("mode", ["auto", "rows"])
def test_a_row_that_a_parent_no_longer_has_is_removed_also_the_last_one(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    connector, deals = connector_of(api, mode), Deals(api)
    deals.set(1, 1, 1, 2, 3)
    deals.set(2, 1, 4)
    deals.set(3, 0, 5)
    load(connector, settings)
    assert found(settings) == {1: ["1-1", "1-2", "1-3"], 2: ["2-4"], 3: ["3-5"]}
    # a changed row stays one row, a key moves to another deal, and deal 3 is not asked for
    deals.set(1, 2, 2, 4)
    deals.set(2, 2)
    deals.products[3] = []
    load(connector, settings)
    assert found(settings) == {1: ["1-2", "1-4"], 3: ["3-5"]}
    # a deal whose call has no rows has none, and one that has rows again has them again
    deals.set(1, 3)
    deals.gone.add(1)
    deals.set(2, 3, 4)
    load(connector, settings)
    assert found(settings) == {2: ["2-4"], 3: ["3-5"]}


@pytest.mark.parametrize("mode", ["auto", "rows"])
def test_the_rows_below_a_removed_parent_go_without_a_request(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    connector, deals = connector_of(api, mode), Deals(api)
    deals.set(1, 1, 1, 2)
    deals.set(2, 1, 4)
    load(connector, settings)
    api.seen.clear()
    deals.set(1, 2, 1, 2)
    deals.removed.add(1)
    load(connector, settings)
    assert found(settings) == {2: ["2-4"]}
    assert not api.asked("/deals/1/products")
    assert [seen.query["deal_ids"] for seen in api.asked("/products")] == ["2"]
    # it comes back
    deals.set(1, 3, 1)
    deals.removed.clear()
    load(connector, settings)
    assert found(settings) == {1: ["1-1"], 2: ["2-4"]}


def test_rows_of_one_parent_are_replaced_at_once_in_a_load_of_many_parts(
    api: ApiServer, settings: Settings
) -> None:
    connector, deals = connector_of(api, "auto"), Deals(api)
    parts = settings.model_copy(update={"checkpoint_seconds": 0.000_001})
    for deal in range(3):
        deals.set(deal, 1, *range(3))
    load(connector, parts)
    for deal in range(3):
        deals.set(deal, 2, *range(2, 3 + deal))
    outcomes = load(connector, parts)
    assert outcomes["products"].checkpoints
    assert found(settings) == {
        deal: [f"{deal}-{product}" for product in range(2, 3 + deal)] for deal in range(3)
    }


def test_a_call_that_fails_removes_nothing(api: ApiServer, settings: Settings) -> None:
    connector, deals = connector_of(api, "auto"), Deals(api)
    deals.set(1, 1, 1, 2)
    load(connector, settings)
    deals.set(1, 2, 2)
    api.answers["/products"] = Answer({}, 400)
    outcomes = load(connector, settings)
    assert outcomes["products"].failed
    assert found(settings) == {1: ["1-1", "1-2"]}
