"""A shop of orders and lines below them, and connectors that read it."""

from collections import defaultdict
from typing import Any

import pytest

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.watching import Notes
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

__all__ = ["CURSOR", "KEYS", "Row", "Shop", "both_ways", "lines", "run", "shop_connector", "since"]

Row = dict[str, Any]

both_ways = pytest.mark.parametrize("merged", [True, False], ids=["merge", "append"])


class Shop:
    """Orders with a cursor, lines below them with a cursor of their own; both APIs filter."""

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        self.orders: list[Row] = []
        self.lines: dict[int, list[Row]] = defaultdict(list)
        self.broken: dict[int, Answer] = {}
        api.answers["/orders"] = lambda seen: since(self.orders, seen)

    def order(self, number: int, at: int = 0, **more: Any) -> None:
        self.orders = [order for order in self.orders if order["id"] != number]
        self.orders.append({"id": number, "at": at, **more})
        self.api.answers[f"/orders/{number}/lines"] = lambda seen: self._lines(number, seen)

    def line(self, number: int, n: int, at: int = 0) -> None:
        self.lines[number].append({"n": n, "at": at, "order": number})

    def asked(self, number: int) -> int:
        return len(self.api.asked(f"/orders/{number}/lines"))

    def _lines(self, number: int, seen: Seen) -> Any:
        return self.broken.get(number) or since(self.lines[number], seen)


def since(rows: list[Row], seen: Seen) -> list[Row]:
    start = int(seen.query.get("since") or 0)
    return [row for row in rows if row["at"] >= start]


CURSOR = {"cursor_path": "at", "initial_value": 0, "start_param": "since"}
KEYS: dict[str, Any] = {"orders": {"primary_key": "id"}, "lines": {"primary_key": ["order", "n"]}}


def shop_connector(
    api: ApiServer,
    *,
    merged: bool = True,
    orders_cursor: bool = False,
    lines_cursor: bool = True,
    http: Row | None = None,
    **lines: Any,
) -> Connector:
    orders: Row = {"name": "orders", "endpoint": {"path": "orders"}, **KEYS["orders"]}
    below: Row = {"path": "orders/{resources.orders.id}/lines"}
    if orders_cursor:
        orders["endpoint"]["incremental"] = CURSOR
    if lines_cursor:
        below["incremental"] = CURSOR
    key = KEYS["lines"] if merged else {"write_disposition": "append"}
    resource = {"name": "lines", "endpoint": below, **key, **lines}
    return make_connector(api.url, orders, resource, http=http)


def run(
    connector: Connector, settings: Settings, *names: str, notes: Notes | None = None
) -> dict[str, Outcome]:
    outcomes = load(connector, settings, resources=names or None, observer=notes)
    assert not any(outcome.failed for outcome in outcomes.values()), outcomes
    return outcomes


def lines(settings: Settings) -> list[tuple[Any, ...]]:
    return query(settings, 'SELECT "order", n FROM shop.lines ORDER BY 1, 2')
