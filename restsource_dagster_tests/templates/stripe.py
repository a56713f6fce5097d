"""A small Stripe: customers and invoices that are created, changed and deleted, and the events of it.

As in https://docs.stripe.com/api: lists are newest first, page by the id of their last object, and filter by
`created` only. Events are kept for 30 days. A deleted customer is told as such, a deleted invoice is not found.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, ClassVar

from restsource_dagster_tests.servers.api import Answer, Seen
from restsource_dagster_tests.templates.histories import Api
from restsource_dagster_tests.templates.stand_ins import PAGE, TOKEN, Record, StandIn

__all__ = ["Stripe"]

_OBJECTS = {"customers": "customer", "invoices": "invoice"}
_LISTS = (*_OBJECTS, "events", "balance_transactions")
_PARAMS = {"limit", "starting_after", "created[gte]", "type"}
_NOT_FOUND = Answer({"error": {"type": "invalid_request_error", "code": "resource_missing"}}, 404)


class Stripe(StandIn):
    """The server's truth, by list, in order of creation."""

    template = "stripe"
    inputs: ClassVar[Mapping[str, Any]] = {
        "key": TOKEN,
        "event_days": 25,
        "requests_per_second": 10_000,
    }
    base_path = "/v1"
    headers: ClassVar[Mapping[str, str]] = {"stripe-version": "2026-04-22.dahlia"}
    # no Retry-After: Stripe doesn't say how long to wait
    too_many = Answer(
        {"error": {"type": "rate_limit_error"}}, 429, {"Stripe-Rate-Limited-Reason": "global-rate"}
    )
    bad_request = Answer({"error": {"type": "invalid_request_error"}}, 400)

    def __init__(self, api: Api, seed: int) -> None:
        super().__init__(api, seed)
        self.now = datetime.now(UTC).replace(microsecond=0) - timedelta(days=20)
        self.lists: dict[str, dict[str, Record]] = {name: {} for name in _LISTS}
        for name in _LISTS:
            self.serve(f"/{name}", partial(self._list, name), _PARAMS)
            if name in _OBJECTS:
                self.expect(name, "id, name", partial(self._living, name))
        self.expect("events", "id, type", partial(self._rows, "events", "type"))
        transactions = partial(self._rows, "balance_transactions", "status")
        self.expect("balance_transactions", "id, status", transactions)

    @property
    def file(self) -> Mapping[str, Any]:
        """The file, with the lists that this server has."""
        names = [f"{kind}{name}" for kind in ("", "deleted_", "changed_") for name in _OBJECTS]
        return {**super().file, "resources": ["balance_transactions", "events", *names]}

    def change_one(self) -> None:
        """Create, change or delete an object, with its event, or let money become available."""
        name, kind = self.random.choice(list(_OBJECTS)), self.random.random()
        living = [key for key, one in self.lists[name].items() if not one.get("deleted")]
        if kind < 0.2:
            self._settle()
        elif living and kind < 0.35:
            key = self.random.choice(living)
            self.lists[name][key]["deleted"] = True
            self._tell(name, key, "deleted")
        elif living and kind < 0.7:
            key = self.random.choice(living)
            self.lists[name][key]["name"] = self.text()
            self._tell(name, key, "updated")
        else:
            key = f"{name[:3]}_{self.new_id()}"
            kinds = {"id": key, "object": _OBJECTS[name]}
            self.lists[name][key] = {**kinds, "created": self.epoch, "name": self.text()}
            self.serve(f"/{name}/{key}", partial(self._one, name, key))
            self._tell(name, key, "created")

    def _tell(self, name: str, key: str, change: str) -> None:
        event = f"evt_{self.new_id()}"
        shown = {field: v for field, v in self.lists[name][key].items() if field != "deleted"}
        told = {"type": f"{_OBJECTS[name]}.{change}", "data": {"object": shown}}
        self.lists["events"][event] = {"id": event, "created": self.epoch, **told}

    def _settle(self) -> None:
        transactions = self.lists["balance_transactions"]
        for one in transactions.values():
            one["status"] = "available"
        key = f"txn_{self.new_id()}"
        transactions[key] = {"id": key, "created": self.epoch, "status": "pending"}

    def _living(self, name: str) -> Iterable[tuple[str, str]]:
        found = self.lists[name].items()
        return [(key, one["name"]) for key, one in found if not one.get("deleted")]

    def _rows(self, name: str, field: str) -> Iterable[tuple[str, str]]:
        return [(key, one[field]) for key, one in self.lists[name].items()]

    def _one(self, name: str, key: str, _: Seen) -> Answer:
        found = self.lists[name][key]
        if not found.get("deleted"):
            return Answer(found)
        stub = {"id": key, "object": _OBJECTS[name], "deleted": True}
        return Answer(stub) if name == "customers" else _NOT_FOUND

    def _list(self, name: str, seen: Seen) -> Answer:
        since, size = int(seen.query.get("created[gte]", 0)), int(seen.query.get("limit", 10))
        found = [
            one
            for one in reversed(self.lists[name].values())
            if one["created"] >= since
            and not one.get("deleted")
            and seen.query.get("type", one.get("type")) == one.get("type")
        ]
        after = seen.query.get("starting_after")
        places = [at for at, one in enumerate(found, 1) if one["id"] == after]
        if not 0 < size <= 100 or (after and not places):
            return self.bad_request
        shown, following = self.by_offset(found, places[0] if places else 0, min(size, PAGE))
        return Answer({"object": "list", "data": shown, "has_more": following is not None})
