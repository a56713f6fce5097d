"""A shop whose orders and lines grow from run to run, with lists in both, read in three ways."""

import threading
from collections.abc import Callable
from typing import Any

from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import query
from restsource_dagster_tests.servers.api import ApiServer, Seen
from restsource_dagster_tests.servers.faults import Arrival, FaultServer
from restsource_dagster_tests.waiting import PATIENCE_SECONDS

__all__ = ["DISPOSITIONS", "GrowingShop"]

DISPOSITIONS = ("append", "merge", "replace")
Row = dict[str, Any]
Request = Seen | Arrival
Answering = Callable[[Any], Any]
Tables = dict[str, list[tuple[Any, ...]]]

_TABLES = {
    "orders": "SELECT id FROM shop.orders",
    "orders__items": "SELECT o.id, i.value FROM shop.orders__items i "
    "LEFT JOIN shop.orders o ON o._dlt_id = i._dlt_parent_id",
    "lines": "SELECT order_id, n FROM shop.lines",
    "lines__tags": "SELECT l.order_id, l.n, t.name FROM shop.lines__tags t "
    "LEFT JOIN shop.lines l ON l._dlt_id = t._dlt_parent_id",
}


class GrowingShop:
    """Orders with a list of items; below each, lines with a list of tags. All have a cursor.

    `flat` ones have no lists: a run is much quicker.
    """

    def __init__(
        self, api: ApiServer | FaultServer, disposition: str, *, flat: bool = False
    ) -> None:
        self.disposition = disposition
        self._flat = flat
        self.orders: list[Row] = []
        self.lines: list[Row] = []
        self.held = threading.Event()
        self._free = threading.Event()
        self._free.set()
        self._api = api
        self._clock = 0
        self.serve("/orders", lambda request: self._page(self.orders, request))

    def serve(self, path: str, answer: Answering) -> None:
        """Let the server answer requests for a path."""
        plan: dict[str, Any] = (
            self._api.answers if isinstance(self._api, ApiServer) else self._api.plan
        )
        plan[path] = answer

    @property
    def file(self) -> Row:
        """The connector file."""
        orders: Row = {"path": "orders", "data_selector": "data"}
        lines: Row = {"path": "orders/{resources.orders.id}/lines", "data_selector": "data"}
        hints: list[Row] = [{}, {}]
        if self.disposition != "replace":
            for endpoint in (orders, lines):
                endpoint["incremental"] = {"cursor_path": "at", "initial_value": 0}
                endpoint["incremental"]["start_param"] = "since"
        if self.disposition == "merge":
            hints = [{"primary_key": "id"}, {"primary_key": ["order_id", "n"]}]
        return {
            "name": "shop",
            "schedule": {"mode": "manual"},
            "client": {
                "base_url": self._api.url,
                "paginator": {"type": "offset", "limit": 10, "total_path": "total"},
            },
            "resources": [
                {"name": "orders", "endpoint": orders, **hints[0]},
                {"name": "lines", "endpoint": lines, **hints[1]},
            ],
        }

    def grow(self) -> None:
        """Add orders, lines below new and old ones; with merge, change an order, too."""
        self._clock += 1
        first = len(self.orders) + 1
        for number in range(first, first + 3):
            items = [f"{number}-{item}" for item in range(0 if self._flat else number % 4)]
            self.orders.append({"id": number, "at": self._clock, "items": items})
            self.serve(f"/orders/{number}/lines", self._lines_of(number))
        if self.disposition == "merge":
            changed = self.orders[first // 2]
            more = [] if self._flat else [f"again {self._clock}"]
            changed |= {"at": self._clock, "items": [*changed["items"], *more]}
        # an order's lines are asked for when it comes; with append and merge it comes by its cursor
        for order in self.orders if self.disposition == "replace" else self.orders[-3:]:
            tags = [{"name": f"tag {n}"} for n in range(0 if self._flat else order["id"] % 3)]
            known = sum(line["order_id"] == order["id"] for line in self.lines)
            line = {"order_id": order["id"], "n": known, "at": self._clock, "tags": tags}
            self.lines.append(line)

    def hold(self) -> None:
        """Let the next answer to a call for lines wait."""
        self.held.clear()
        self._free.clear()

    def release(self) -> None:
        """Answer again."""
        self._free.set()

    def expected(self) -> Tables:
        """What the tables should hold."""
        tables: Tables = {
            "orders": sorted((order["id"],) for order in self.orders),
            "orders__items": sorted(
                (order["id"], item) for order in self.orders for item in order["items"]
            ),
            "lines": sorted((line["order_id"], line["n"]) for line in self.lines),
            "lines__tags": sorted(
                (line["order_id"], line["n"], tag["name"])
                for line in self.lines
                for tag in line["tags"]
            ),
        }
        return {name: tables[name] for name in self._tables}

    @property
    def _tables(self) -> list[str]:
        return [name for name in _TABLES if not (self._flat and "__" in name)]

    def found(self, settings: Settings, dataset: str = "shop") -> Tables:
        """What the tables hold; a nested row without its parent shows as None."""
        return {
            name: sorted(
                query(settings, _TABLES[name].replace("shop.", f"{dataset}.")),
                key=lambda row: [part is not None and part for part in row],
            )
            for name in self._tables
        }

    def _lines_of(self, number: int) -> Any:
        def answer(seen: Request) -> Any:
            if not self._free.is_set():
                self.held.set()
                self._free.wait(PATIENCE_SECONDS)
            return self._page([line for line in self.lines if line["order_id"] == number], seen)

        return answer

    def _page(self, rows: list[Row], seen: Request) -> Any:
        since, offset = int(seen.query.get("since", 0)), int(seen.query["offset"])
        rows = [row for row in rows if row["at"] >= since]
        return {"data": rows[offset : offset + 10], "total": len(rows)}
