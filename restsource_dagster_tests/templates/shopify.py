"""A small Shopify: orders, customers, products, inventory and more, which change between runs.

What is deleted leaves an event, which the API keeps for a year. Rows of one second are common, and pages are
short, so that small histories have several. See `shopify_engine` for queries, costs and pages.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any

from restsource_dagster_tests.servers.api import Answer, Seen
from restsource_dagster_tests.templates.histories import Api, Tables
from restsource_dagster_tests.templates.shopify_engine import GraphQLServer, Record, connection

__all__ = ["FAMILIES", "VERSION", "Shopify"]

_START = datetime(2026, 1, 1, tzinfo=UTC)
_TOKEN = "shpat_t0ken"
VERSION = "2026-10"
_WITH_METAFIELDS = ("orders", "customers", "products")
_KINDS = {
    "orders": "Order",
    "customers": "Customer",
    "products": "Product",
    "collections": "Collection",
    "draft_orders": "DraftOrder",
}
"""What is deleted with an event, by its table."""
FAMILIES: Mapping[str, Sequence[str]] = {
    "orders": (
        "orders",
        "order_line_items",
        "order_metafields",
        "refund_line_items",
        "fulfillment_line_items",
    ),
    "customers": ("customers", "customer_metafields"),
    "products": ("products", "product_variants", "product_metafields"),
    "collections": ("collections", "collection_products"),
    "draft_orders": ("draft_orders", "draft_order_line_items"),
    "inventory": ("inventory_items", "inventory_levels", "locations"),
    "others": ("discounts", "events", "shop_metafields"),
}
"""The resources of the template, those together that depend on one another."""
_PARTS = (
    ("orders",),
    ("products", "collections"),
    ("customers", "draft_orders"),
    ("inventory", "others"),
)
# the lines of an order that is gone stay, as the template says
_REFUND_LINES = "refund_line_items WHERE refund_id IN (SELECT id FROM history.orders__refunds)"
_FULFILLMENT_LINES = (
    "fulfillment_line_items WHERE fulfillment_id IN (SELECT id FROM history.orders__fulfillments)"
)
_SUBJECTS = {"draft_orders": "DRAFT_ORDER"}


class Shopify:
    """The server's truth, by the id of the record."""

    def __init__(
        self,
        api: Api,
        seed: int,
        rate: float = 50_000,
        page: int = 7,
        families: Sequence[str] = (),
    ) -> None:
        """`rate` is how many points of its budget the server restores in a second, `page` its longest page.

        A history loads some of the `families`, others for each seed; all of them would take long.
        """
        chosen = _PARTS[seed % len(_PARTS)]
        self._families = families or chosen
        self._page = page
        self.random, self._api = Random(seed), api
        self._now, self._next_id = _START, 100
        self.records: dict[str, dict[str, Record]] = {name: {} for name in _KINDS}
        self.items: dict[str, Record] = {}
        self.levels: dict[str, Record] = {}
        self.locations: dict[str, Record] = {}
        self.discounts: dict[str, Record] = {}
        self.events: dict[str, Record] = {}
        self.hidden_events: set[str] = set()
        """Events that happened, and that the API does not tell yet."""
        self.shop_metafields: dict[str, Record] = {}
        self.fulfillments: dict[str, Record] = {}
        self.bulk: dict[str, Record] = {}
        self.expires_links = False
        """True if the first link of each bulk operation has expired."""
        self.server = GraphQLServer(self._root(), rate)
        api.answers[f"/admin/api/{VERSION}/graphql.json"] = self._answer
        for _ in range(2):
            self._add_location()

    def _answer(self, seen: Seen) -> Answer:
        if seen.headers.get("x-shopify-access-token") != _TOKEN:
            return Answer({"errors": "[API] Invalid API key or access token"}, 401)
        return self.server.answer(seen)

    def _root(self) -> Mapping[str, Callable[..., Any]]:
        lists = {
            "orders": "orders",
            "customers": "customers",
            "products": "products",
            "collections": "collections",
            "draftOrders": "draft_orders",
        }
        return {
            **{field: self._rows_of(self.records[table]) for field, table in lists.items()},
            **{
                field.removesuffix("s"): self._one_of(self.records[table])
                for field, table in lists.items()
            },
            "inventoryItems": self._rows_of(self.items),
            "locations": self._rows_of(self.locations),
            "location": self._one_of(self.locations),
            "fulfillment": self._one_of(self.fulfillments),
            "discountNodes": self._rows_of(self.discounts),
            "events": self._rows_of(self._told_events),
            "shop": lambda: {
                "id": "gid://shopify/Shop/1",
                "metafields": self._rows_of(self.shop_metafields),
            },
            "node": self._node,
            "bulkOperationRunQuery": self._start_bulk,
        }

    def _start_bulk(self, *, query: str, **_: Any) -> Record:
        if any(one["status"] != "COMPLETED" for one in self.bulk.values()):
            problem = "A bulk query operation for this app and shop is already in progress"
            return {"bulkOperation": None, "userErrors": [{"message": problem}]}
        content, problem = self.server.lines(query)
        if problem:
            return {"bulkOperation": None, "userErrors": [{"message": problem}]}
        key = self._gid("BulkOperation")
        one = {"__typename": "BulkOperation", "id": key, "status": "CREATED", "content": content}
        self.bulk[key] = {**one, "links": 0}
        return {"bulkOperation": self.bulk[key], "userErrors": []}

    def _ask_bulk(self, one: Record) -> Record:
        """Return a bulk operation: each time it is asked for it has come further, or has another link."""
        one["status"] = {"CREATED": "RUNNING"}.get(one["status"], "COMPLETED")
        if one["status"] == "COMPLETED" and one["content"]:
            one["links"] += 1
            path = f"/bulk/{one['id'].rpartition('/')[2]}/{one['links']}"
            is_expired = self.expires_links and one["links"] == 1
            self._api.answers[path] = Answer(b"", 403) if is_expired else Answer(one["content"])
            one["url"] = f"{self._api.url.replace('127.0.0.1', 'localhost')}{path}?sig=secret"
        return one

    def _rows_of(
        self,
        records: Mapping[str, Record] | Callable[[], Iterable[Record]],
    ) -> Callable[..., Record]:
        """Return a field with the pages of records as they are when it is asked for."""
        found = records if callable(records) else records.values
        return connection(found, self._page)

    @staticmethod
    def _one_of(records: Mapping[str, Record]) -> Callable[..., Record | None]:
        def answer(id: str) -> Record | None:  # noqa: A002 - the argument's name in the API
            return records.get(id)

        return answer

    def _node(self, id: str) -> Record | None:  # noqa: A002 - the argument's name in the API
        if id in self.bulk:
            return self._ask_bulk(self.bulk[id])
        refunds = {
            one["id"]: one for each in self.records["orders"].values() for one in each["refunds"]()
        }
        return next((table[id] for table in (*self.records.values(), refunds) if id in table), None)

    def _told_events(self) -> list[Record]:
        return [one for key, one in self.events.items() if key not in self.hidden_events]

    # what a history asks

    @property
    def file(self) -> Mapping[str, Any]:
        """The file that uses the template at the server's address."""
        return {
            "template": "shopify",
            "inputs": {"shop": "acme", "token": _TOKEN},
            "client": {"base_url": f"{self._api.url}/admin/api/{VERSION}"},
            "schedule": {"mode": "manual"},
            "resources": [name for family in self._families for name in FAMILIES[family]],
        }

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns to compare, by table; the first is the key."""
        loaded = {name for family in self._families for name in FAMILIES[family]}
        return {
            table: columns
            for table, columns in self._columns.items()
            if table.split(" ")[0].split("__")[0] in loaded
        }

    _columns: Mapping[str, str] = {
        **dict.fromkeys((*_KINDS, "inventory_items"), "id, updated_at::TEXT"),
        "order_line_items": "id, _orders_id, quantity",
        "draft_order_line_items": "id, _draft_orders_id, quantity",
        "product_variants": "id, _products_id, price",
        "collection_products": "_collections_id || ' ' || id",
        **{f"{name[:-1]}_metafields": f"id, _{name}_id, value" for name in _WITH_METAFIELDS},
        "orders__refunds": "id",
        "orders__fulfillments": "id, status",
        "orders__transactions": "id",
        _REFUND_LINES: "id, refund_id, quantity",
        _FULFILLMENT_LINES: "id, fulfillment_id",
        "inventory_levels": "id, is_active, updated_at::TEXT",
        "locations": "id, name",
        "discounts": "id, discount__title",
        "events": "id, action",
        "shop_metafields": "id, value",
    }

    def expected(self) -> Tables:
        """What the tables should hold."""
        rows: dict[str, list[tuple[Any, ...]]] = {
            **{
                name: [(one["id"], _as_stored(one["updatedAt"])) for one in table.values()]
                for name, table in (*self.records.items(), ("inventory_items", self.items))
            },
            **self._expected_children(),
            **self._expected_of_orders(),
            "collection_products": [
                (f"{key} {product['id']}",)
                for key, one in self.records["collections"].items()
                for product in self._members(one)
            ],
            "inventory_levels": [
                (one["id"], one["isActive"], _as_stored(one["updatedAt"]))
                for one in self.levels.values()
            ],
            "locations": [(one["id"], one["name"]) for one in self.locations.values()],
            "discounts": [(one["id"], one["discount"]["title"]) for one in self.discounts.values()],
            "events": [(one["id"], one["action"]) for one in self._told_events()],
            "shop_metafields": [(one["id"], one["value"]) for one in self.shop_metafields.values()],
        }
        return {name: rows[name] for name in self.columns}

    def _expected_children(self) -> dict[str, list[tuple[Any, ...]]]:
        return {
            table: [
                (child["id"], key, child[column])
                for key, one in self.records[parent].items()
                for child in one[field].values()
            ]
            for table, parent, field, column in (
                ("order_line_items", "orders", "lines", "quantity"),
                ("draft_order_line_items", "draft_orders", "lines", "quantity"),
                ("product_variants", "products", "variant", "price"),
                *((f"{name[:-1]}_metafields", name, "metas", "value") for name in _WITH_METAFIELDS),
            )
        }

    def _expected_of_orders(self) -> dict[str, list[tuple[Any, ...]]]:
        orders = self.records["orders"].values()
        refunds = [each for one in orders for each in one["refunds"]()]
        sent = [each for one in orders for each in one["fulfillments"]()]
        return {
            "orders__refunds": [(each["id"],) for each in refunds],
            "orders__fulfillments": [(each["id"], each["status"]) for each in sent],
            "orders__transactions": [
                (each["id"],) for one in orders for each in one["transactions"]()
            ],
            _REFUND_LINES: [line for each in refunds for line in each["told"]],
            _FULFILLMENT_LINES: [line[:2] for each in sent for line in each["told"]],
        }

    def change(self, changes: int) -> None:
        """Create, change and delete so many records at random, or a few more."""
        for _ in range(changes):
            self._change_something()
        # a table without rows would not exist
        while changes and not all(self.expected().values()):
            self._change_something()

    def _change_something(self) -> None:
        self.wait(self.random.choice([0, 0, 1, 5]))
        dice = self.random.random()
        if dice < 0.75:
            self._change_record(self.random.choice([*_KINDS, "orders", "products"]))
        elif dice < 0.9:
            self._change_level()
        else:
            self._change_other()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)

    @property
    def stamp(self) -> str:
        """The present time, as the API writes it."""
        return self._now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def _gid(self, kind: str) -> str:
        self._next_id += 1
        return f"gid://shopify/{kind}/{self._next_id}"

    # changes

    def _change_record(self, name: str) -> None:
        table = self.records[name]
        dice = self.random.random()
        if table and dice < 0.15:
            self.delete(name, self.random.choice(list(table)))
        elif table and dice < 0.6:
            self._touch(name, table[self.random.choice(list(table))])
        else:
            self.add(name)

    def add(self, name: str) -> str:
        """Create a record; return its id."""
        key = self._gid(_KINDS[name])
        one: Record = {
            "__typename": _KINDS[name],
            "id": key,
            "createdAt": self.stamp,
            "metas": {},
            "lines": {},
            "variant": {},
            "members": {},
            "money": {"refunds": [], "fulfillments": [], "transactions": []},
        }
        one["metafields"] = self._rows_of(one["metas"])
        one["lineItems"] = self._rows_of(one["lines"])
        one["variants"] = self._rows_of(one["variant"])
        one["products"] = self._rows_of(lambda: self._members(one))
        for field in one["money"]:
            one[field] = lambda field=field, **_: one["money"][field]
        self.records[name][key] = one
        self._tell(name, key, "create")
        self._touch(name, one)
        return key

    def delete(self, name: str, key: str, *, is_told: bool = True) -> None:
        """Delete a record. The event may come later than those of what happens after it."""
        one = self.records[name].pop(key)
        for variant in one["variant"].values():
            self._forget_item(variant["inventoryItem"]["id"])
        event = self._tell(name, key, "destroy")
        if not is_told:
            self.hidden_events.add(event)
        if name == "products":
            for collection in self.records["collections"].values():
                if collection["members"].pop(key, None) is not None:
                    collection["updatedAt"] = self.stamp

    def _forget_item(self, item: str) -> None:
        """Inventory of a deleted variant is gone without a trace: the tables keep it, as the template says."""
        self.items[item]["is_gone"] = True

    def _tell(self, name: str, key: str, action: str) -> str:
        event = self._gid("BasicEvent")
        self.events[event] = {
            "__typename": "BasicEvent",
            "id": event,
            "action": action,
            "createdAt": self.stamp,
            "subjectId": key,
            "subjectType": _SUBJECTS.get(name, _KINDS[name].upper()),
        }
        return event

    def _touch(self, name: str, one: Record) -> None:
        """Change a record and what is below it."""
        one["updatedAt"] = self.stamp
        if name in _WITH_METAFIELDS:
            self._change_children(one["metas"], "Metafield", "value", most=3)
        if name in ("orders", "draft_orders"):
            self._change_children(one["lines"], "LineItem", "quantity", most=9)
        if name == "orders":
            self._change_money(one["money"])
        if name == "products":
            self._change_variants(one)
        if name == "collections":
            products = list(self.records["products"])
            one["members"].clear()
            one["members"].update(
                dict.fromkeys(
                    self.random.sample(products, self.random.randrange(len(products) + 1))
                )
            )

    def _change_children(
        self, children: dict[str, Record], kind: str, field: str, *, most: int
    ) -> None:
        for key in list(children):
            if self.random.random() < 0.3:
                del children[key]
        for _ in range(self.random.randrange(most + 1)):
            key = self._gid(kind)
            children[key] = {"__typename": kind, "id": key}
        for one in children.values():
            number = self.random.randrange(1000)
            one[field] = number if field == "quantity" else str(number)

    def _change_variants(self, product: Record) -> None:
        before = set(product["variant"])
        self._change_children(product["variant"], "ProductVariant", "price", most=4)
        for key, one in product["variant"].items():
            if key not in before:
                item = self._gid("InventoryItem")
                one["inventoryItem"] = {"id": item}
                self.items[item] = {"id": item, "updatedAt": self.stamp}
                self.items[item]["inventoryLevels"] = self._rows_of(partial(self._levels_of, item))
                for location in self.locations:
                    level = f"gid://shopify/InventoryLevel/{location[-3:]}?inventory_item_id={item[-6:]}"
                    self.levels[level] = {
                        "id": level,
                        "isActive": True,
                        "item": {"id": item},
                        "location": {"id": location},
                        "updatedAt": self.stamp,
                    }

    def _change_money(self, money: dict[str, list[Record]]) -> None:
        for field, kind in (
            ("refunds", "Refund"),
            ("fulfillments", "Fulfillment"),
            ("transactions", "OrderTransaction"),
        ):
            if self.random.random() < 0.4:
                key = self._gid(kind)
                money[field].append({"__typename": kind, "id": key, "status": "SUCCESS"})
                self._add_money_lines(field, money[field][-1])
        for one in money["fulfillments"]:
            self.fulfillments[one["id"]] = one
            if self.random.random() < 0.2:
                one["status"] = "CANCELLED"

    def _add_money_lines(self, field: str, one: Record) -> None:
        """Add the lines of a refund or a fulfillment, which never change."""
        lines = {}
        for _ in range(self.random.randrange(12)):
            key = self._gid("Line")
            lines[key] = {"id": key, "quantity": self.random.randrange(9)}
        one["told"] = [(key, one["id"], line["quantity"]) for key, line in lines.items()]
        name = "refundLineItems" if field == "refunds" else "fulfillmentLineItems"
        one[name] = self._rows_of(lines)

    def _change_level(self) -> None:
        if self.levels:
            level = self.levels[self.random.choice(list(self.levels))]
            level |= {"updatedAt": self.stamp, "isActive": self.random.random() < 0.8}
        if self.items:
            self.items[self.random.choice(list(self.items))]["updatedAt"] = self.stamp

    def _change_other(self) -> None:
        kind = self.random.choice(["discount", "metafield", "location"])
        if kind == "location":
            name = f"Berlin {self.random.randrange(1000)}"
            self.random.choice(list(self.locations.values()))["name"] = name
        elif kind == "metafield":
            self._change_children(self.shop_metafields, "Metafield", "value", most=2)
        else:
            if self.discounts and self.random.random() < 0.3:
                del self.discounts[self.random.choice(list(self.discounts))]
            key = self._gid("DiscountNode")
            node = {"__typename": "DiscountCodeBasic", "title": f"Code {self._next_id}"}
            self.discounts[key] = {"id": key, "discount": node}

    def _add_location(self) -> None:
        key = self._gid("Location")
        self.locations[key] = {"id": key, "name": "Berlin"}
        self.locations[key]["inventoryLevels"] = self._rows_of(
            lambda: [one for one in self.levels.values() if one["location"]["id"] == key]
        )

    def _levels_of(self, item: str) -> list[Record]:
        return [one for one in self.levels.values() if one["item"]["id"] == item]

    def _members(self, one: Record) -> Iterator[Record]:
        products = self.records["products"]
        yield from (products[key] for key in one["members"] if key in products)


def _as_stored(stamp: str) -> str:
    """Return a time as DuckDB writes it."""
    return stamp.replace("T", " ").replace("Z", "+00")
