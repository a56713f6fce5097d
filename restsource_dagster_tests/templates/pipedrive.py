"""A small Pipedrive: deals with products and participants, and lists, all of which change between runs.

As in https://developers.pipedrive.com/docs/api/v1: version 2 pages by an opaque cursor, refuses params that
it doesn't know and pages of more than 500; version 1 pages by an offset; what version 2 replaces has ended.
Deleted deals are listed if their status is asked for, archived ones have a list of their own. Fields of one's
own have codes, and their labels are in a list. Too many requests are refused for a moment, requests that cost more
than the day's tokens until midnight, and who goes on asking is locked out.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from restsource_dagster_tests.servers.api import Answer, Seen
from restsource_dagster_tests.templates.histories import Api, Tables

__all__ = ["LISTS", "REGION", "Pipedrive"]

Record = dict[str, Any]
REGION, OTHER_REGION = "a" * 40, "b" * 40
_V2_LISTS = ("persons", "organizations", "products", "activities", "pipelines", "stages")
_V1_LISTS = ("leads", "archived_leads", "notes", "files", "users")
LISTS = (*_V2_LISTS, *_V1_LISTS)
_FIELDS = {
    "deal_fields": "dealFields",
    "person_fields": "personFields",
    "organization_fields": "organizationFields",
    "product_fields": "productFields",
    "activity_fields": "activityFields",
}
_PARTS = (
    ("deals", "deal_products", "deal_participants", "archived_deals", "deal_fields"),
    (
        *("persons", "organizations", "leads", "archived_leads"),
        *("deal_fields", "person_fields", "organization_fields"),
    ),
    ("products", "activities", "notes", "files", "pipelines", "stages", "users"),
)
"""The resources that histories load, one part for each seed."""
_PAGE = 7
"""The most that the server puts into a page, so that small histories have several."""
_PATIENCE = 10
"""How many requests in a row may come without tokens, before all are forbidden."""
_PARAMS = frozenset(
    {"limit", "cursor", "updated_since", "updated_until", "sort_by", "sort_direction"}
)


class Pipedrive:
    """The server's truth, by the id of the record."""

    def __init__(self, api: Api, seed: int, resources: Sequence[Any] = ()) -> None:
        """`resources` are those of the file; others for each seed if left out, as all of them take long."""
        self.random, self._api = Random(seed), api
        self._resources = resources or _PARTS[seed % len(_PARTS)]
        self._now = datetime(2026, 1, 1, tzinfo=UTC)
        self._next_id = 1
        self.deals: dict[int, Record] = {}
        self.products: dict[int, dict[int, Record]] = {}
        """By deal."""
        self.participants: dict[int, dict[int, Record]] = {}
        """By deal."""
        self.busy = 0
        """How many of the next requests are too many."""
        self.tokens = 1_000_000
        """What may be spent today: a page costs 10 (version 2) or 20 (version 1)."""
        self.refused_in_a_row = 0
        self.access_tokens: set[str] = set()
        """Those of OAuth that are taken beside the API token."""
        self._had_children: set[int] = set()
        self.lists: dict[str, dict[Any, Record]] = {name: {} for name in LISTS}
        self.labels = {REGION: "Region", OTHER_REGION: "region"}
        self._serve()
        for name in LISTS:
            self._create(name)
        self._attach(self._new_deal())

    @property
    def file(self) -> Mapping[str, Any]:
        """A file that uses the template at the server's address."""
        return {
            "template": "pipedrive",
            "inputs": {
                "company_domain": "acme",
                "token": "t0ken",
                "requests_per_2_seconds": 10_000,
                "tokens_per_day": 100_000_000,
            },
            "client": {"base_url": self._api.url},
            "schedule": {"mode": "manual"},
            "resources": self._resources,
        }

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns of each table that show whether a row is there and new."""
        columns = {
            "deals": "id, title, custom_fields__region, custom_fields__region_bbbbbbbb",
            "deal_products": "id, deal_id, quantity",
            "deal_participants": "id, _deals_id",
            **dict.fromkeys(LISTS, "id, name"),
            **dict.fromkeys(("persons", "organizations"), "id, name, custom_fields__region"),
            "leads": "id, name, region",
            "deal_fields": "field_code, field_name",
        }
        return {
            name: text
            for name, text in columns.items()
            if name in self._resources or "*" in self._resources
        }

    def expected(self) -> Tables:
        """The rows of each table."""
        living = {key: one for key, one in self.deals.items() if one["status"] != "deleted"}
        custom = ("persons", "organizations")
        rows: dict[str, list[tuple[Any, ...]]] = {
            "deals": [
                (key, one["title"], *one["custom_fields"].values()) for key, one in living.items()
            ],
            "deal_products": [
                (key, deal, one["quantity"])
                for deal in living
                for key, one in self.products[deal].items()
            ],
            "deal_participants": [
                (key, deal) for deal in living for key in self.participants[deal]
            ],
            **{
                name: [(key, one["name"]) for key, one in self.lists[name].items()]
                for name in LISTS
            },
            **{
                name: [
                    (key, one["name"], one["custom_fields"][REGION])
                    for key, one in self.lists[name].items()
                ]
                for name in custom
            },
            "leads": [(key, one["name"], one[REGION]) for key, one in self.lists["leads"].items()],
            "deal_fields": [("title", "Title"), *self.labels.items()],
        }
        return {name: rows[name] for name in self.columns}

    def change(self, changes: int) -> None:
        """Create, change, delete, restore, archive and merge records."""
        for _ in range(changes):
            # several records may have one moment, as those of an import do
            self._now += timedelta(seconds=self.random.choice([0, 0, 1, 60]))
            change = self.random.choice([self._change_deal, self._change_deal, self._change_list])
            change()

    def _change_deal(self) -> None:
        key = self.random.choice([*self.deals, self._new_deal()])
        deal, kind = self.deals[key], self.random.random()
        if deal["status"] == "deleted":
            deal["status"] = "open"
        elif deal["is_archived"] or (kind < 0.1 and key not in self._had_children):
            # a deal that is archived before a run is a limit of the template: its products are not read
            deal["is_archived"] = not deal["is_archived"]
        elif kind < 0.2:
            deal["status"] = "deleted"
        elif kind < 0.3:
            self._merge_into(key)
        elif kind < 0.6:
            self._attach(key)
        elif kind < 0.8:
            self._detach(key)
        else:
            deal |= {"title": self._text(), "custom_fields": self._custom()}
        self._touch(key)

    def _merge_into(self, key: int) -> None:
        """Another deal becomes a part of this one: it is deleted, and its products move."""
        other = self.random.choice(list(self.deals))
        if (
            other == key
            or self.deals[other]["status"] == "deleted"
            or self.deals[other]["is_archived"]
        ):
            return
        self.products[key] |= {
            one: {**row, "deal_id": key} for one, row in self.products[other].items()
        }
        self.products[other] = {}
        self._had_children |= {key, other}
        self.deals[other]["status"] = "deleted"
        self._touch(other)

    def _new_deal(self) -> int:
        key = self._new_id()
        deal = {"id": key, "title": self._text(), "status": "open", "custom_fields": self._custom()}
        self.deals[key] = {**deal, "is_archived": False, "is_deleted": False}
        self.products[key], self.participants[key] = {}, {}
        self._api.answers[f"/api/v1/deals/{key}/participants"] = self._v1(
            lambda _: self._participants_of(key)
        )
        self._touch(key)
        return key

    def _attach(self, deal: int) -> None:
        key, person = self._new_id(), self._new_id()
        self._had_children.add(deal)
        self.products[deal][key] = {"id": key, "deal_id": deal, "quantity": key % 5}
        self.participants[deal][person] = {"id": person}
        self._touch(deal)

    def _detach(self, deal: int) -> None:
        for rows in (self.products[deal], self.participants[deal]):
            if rows:
                del rows[self.random.choice(list(rows))]

    def _touch(self, deal: int) -> None:
        self.deals[deal]["update_time"] = self._stamp
        self.deals[deal]["is_deleted"] = self.deals[deal]["status"] == "deleted"

    def _change_list(self) -> None:
        name = self.random.choice(LISTS)
        records = self.lists[name]
        kind = self.random.random()
        if records and kind < 0.3:
            del records[self.random.choice(list(records))]
        elif records and kind < 0.6:
            self._write(name, self.random.choice(list(records)))
        else:
            self._create(name)

    def _create(self, name: str) -> None:
        key: Any = self._new_id()
        self._write(name, f"lead-{key}" if name.endswith("leads") else key)

    def _write(self, name: str, key: Any) -> None:
        record = {"id": key, "name": self._text(), "update_time": self._stamp}
        own: Record = {REGION: self._text()}
        own = {"custom_fields": own} if name in ("persons", "organizations") else own
        extra = own if name in ("persons", "organizations", "leads") else {}
        self.lists[name][key] = {**record, **extra}

    def _custom(self) -> Record:
        return {REGION: self._text(), OTHER_REGION: self._text()}

    @property
    def _stamp(self) -> str:
        return self._now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _text(self) -> str:
        return f"text {self.random.randrange(1_000_000)}"

    def _serve(self) -> None:
        answers = self._api.answers
        answers["/api/v2/deals"] = self._v2(self._listed_deals, {"status"})
        answers["/api/v2/deals/archived"] = self._v2(
            lambda _: [one for one in self.deals.values() if one["is_archived"]]
        )
        answers["/api/v2/deals/products"] = self._v2(self._products_of, {"deal_ids"})
        for name in _V2_LISTS:
            answers[f"/api/v2/{name}"] = self._v2(self._lister(name))
            answers[f"/api/v1/{name}"] = Answer({"success": False, "error": "Gone"}, 410)
        answers["/api/v1/deals"] = Answer({"success": False, "error": "Gone"}, 410)
        for name in _V1_LISTS:
            path = "leads/archived" if name == "archived_leads" else name
            answers[f"/api/v1/{path}"] = self._v1(self._lister(name))
        for path in _FIELDS.values():
            answers[f"/api/v2/{path}"] = self._v2(lambda _: self._field_rows())

    def _lister(self, name: str) -> Callable[[Seen], Iterable[Record]]:
        return lambda _: self.lists[name].values()

    def _field_rows(self) -> list[Record]:
        rows = {"title": "Title", **self.labels}
        return [{"field_code": code, "field_name": label} for code, label in rows.items()]

    def _listed_deals(self, seen: Seen) -> Iterable[Record]:
        wanted = seen.query.get("status", "open,won,lost").split(",")
        return [
            one
            for one in self.deals.values()
            if one["status"] in wanted and (not one["is_archived"] or one["status"] == "deleted")
        ]

    def _products_of(self, seen: Seen) -> Iterable[Record] | None:
        deals = [int(deal) for deal in seen.query["deal_ids"].split(",")]
        if len(deals) > 100:
            return None
        return [
            row
            for deal in deals
            if self.deals[deal]["status"] != "deleted"
            for row in self.products[deal].values()
        ]

    def _participants_of(self, deal: int) -> Iterable[Record] | None:
        if self.deals[deal]["status"] == "deleted":
            return None
        return self.participants[deal].values()

    def _refusal(self, seen: Seen) -> Answer | None:
        bearer = seen.headers.get("authorization", "").removeprefix("Bearer ")
        if seen.headers.get("x-api-token") != "t0ken" and bearer not in self.access_tokens:
            return Answer({"success": False, "error": "unauthorized access"}, 401)
        if self.busy:
            self.busy -= 1
            moment = {"Retry-After": "0", "x-ratelimit-limit": "20", "x-ratelimit-remaining": "0"}
            return Answer({"success": False, "error": "Rate limit exceeded"}, 429, moment)
        cost = 20 if seen.path.startswith("/api/v1/") else 10
        if self.tokens >= cost:
            self.tokens -= cost
            self.refused_in_a_row = 0
            return None
        self.refused_in_a_row += 1
        if self.refused_in_a_row > _PATIENCE:
            return Answer(b"<html>Access denied</html>", 403, {"content-type": "text/html"})
        until_midnight = {"Retry-After": "3600", "x-daily-ratelimit-token-remaining": "0"}
        return Answer({"success": False, "error": "Rate limit exceeded"}, 429, until_midnight)

    def _v2(
        self, find: Callable[[Seen], Iterable[Record] | None], params: Iterable[str] = ()
    ) -> Callable[[Seen], Answer]:
        def answer(seen: Seen) -> Answer:
            if refusal := self._refusal(seen):
                return refusal
            limit, found = int(seen.query.get("limit", 100)), find(seen)
            unknown = seen.query.keys() - _PARAMS - set(params)
            if unknown or not 0 < limit <= 500 or found is None:
                problem = f"Validation failed: {sorted(unknown)}"
                return Answer({"success": False, "error": problem}, 400)
            return self._page_by_cursor(seen, list(found), limit)

        return answer

    def _page_by_cursor(self, seen: Seen, rows: list[Record], limit: int) -> Answer:
        since = seen.query.get("updated_since", "")
        rows = [row for row in rows if row.get("update_time", "") >= since]
        rows.sort(key=_place_of)
        if "cursor" in seen.query:
            after = json.loads(b64decode(seen.query["cursor"]))
            # the last row comes again: pages overlap
            rows = [row for row in rows if list(_place_of(row)) >= after]
        shown = rows[: min(_PAGE, limit)]
        following = None
        if len(rows) > len(shown):
            following = b64encode(json.dumps(_place_of(shown[-1])).encode()).decode()
        more = {"next_cursor": following}
        return Answer({"success": True, "data": shown, "additional_data": more})

    def _v1(self, find: Callable[[Seen], Iterable[Record] | None]) -> Callable[[Seen], Answer]:
        def answer(seen: Seen) -> Answer:
            if refusal := self._refusal(seen):
                return refusal
            found = find(seen)
            if found is None:
                return Answer({"success": False, "error": "Deal not found"}, 404)
            if "cursor" in seen.query or int(seen.query.get("limit", 100)) > 100:
                return Answer({"success": False, "error": "Bad request"}, 400)
            rows, start = list(found), int(seen.query.get("start", 0))
            if seen.path == "/api/v1/users":
                return Answer({"success": True, "data": rows})
            size = int(seen.query.get("limit", 100))
            shown, more = rows[start : start + size], start + size < len(rows)
            paging = {"start": start, "limit": size, "more_items_in_collection": more}
            body = {"success": True, "data": shown or None}
            return Answer({**body, "additional_data": {"pagination": paging}})

        return answer


def _place_of(row: Record) -> tuple[str, str]:
    return str(row.get("update_time", "")), f"{row.get('id', row.get('field_code'))!s:>20}"
