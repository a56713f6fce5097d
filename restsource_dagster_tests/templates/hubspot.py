"""A small HubSpot: CRM objects with associations that change, and are archived and restored.

As in https://developers.hubspot.com/docs/api-reference/2026-03/crm/search-the-crm: a search finds no archived
records, pages by an integer and refuses to go beyond so many results; lists page by a cursor, and give archived
records if they are asked for.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

from restsource_dagster_tests.servers.api import Answer, Seen
from restsource_dagster_tests.templates.histories import Api
from restsource_dagster_tests.templates.stand_ins import TOKEN, Record, StandIn, body_of

__all__ = ["HubSpot"]

_OBJECTS = ("contacts", "deals")
"""Those that are loaded here; the template has all others in the same way."""
_ALL_OBJECTS = (*_OBJECTS, "companies", "tickets", "products", "line_items")
_MOST_RESULTS = 14
"""HubSpot's 10,000: the results of one query."""


class HubSpot(StandIn):
    """The server's truth, by object and id."""

    template = "hubspot"
    inputs: ClassVar[Mapping[str, Any]] = {
        "token": TOKEN,
        "requests_per_10_seconds": 10_000,
        "searches_per_second": 10_000,
    }
    too_many = Answer(
        {"status": "error", "errorType": "RATE_LIMIT", "policyName": "TEN_SECONDLY_ROLLING"},
        429,
        {"X-HubSpot-RateLimit-Interval-Milliseconds": "10000", "Retry-After": "0"},
    )
    bad_request = Answer({"status": "error", "category": "VALIDATION_ERROR"}, 400)

    def __init__(self, api: Api, seed: int) -> None:
        super().__init__(api, seed)
        self.objects: dict[str, dict[str, Record]] = {name: {} for name in _OBJECTS}
        self.contacts_of: dict[str, set[str]] = {}
        """By deal."""
        for name, records in self.objects.items():
            path = f"/crm/objects/2026-03/{name}"
            self.serve(f"{path}/search", partial(self._search, name))
            params = {"archived", "limit", "after", "properties", "associations"}
            self.serve(path, partial(self._list, name), params)
            self.expect(name, "id, properties__name", partial(_living, records))
        self.expect("deal_associations", "from_id, to_id", self._pairs)
        for path in ("owners/2026-03", "pipelines/2026-03/deals"):
            self.serve(f"/crm/{path}", lambda _: Answer({"results": [{"id": "1"}]}), {"limit"})
        for table in ("owners", "deal_pipelines"):
            self.expect(table, "id", lambda: [("1",)])
        found = {"results": [{"name": "name", "type": "string"}]}
        for name in _ALL_OBJECTS:
            self.serve(f"/crm/properties/2026-03/{name}", lambda _: Answer(found))
        names = [(name, "name") for name in _ALL_OBJECTS]
        self.expect("properties", "_each_object, name", lambda: names)

    @property
    def file(self) -> Mapping[str, Any]:
        """The file, with the number of results that this server gives to one query."""
        paginator = {
            "type": "cursor",
            "cursor_path": "paging.next.after",
            "cursor_body_path": "after",
            "max_rows": _MOST_RESULTS,
        }
        searches = [{"name": name, "endpoint": {"paginator": paginator}} for name in _OBJECTS]
        archived = [f"archived_{name}" for name in _OBJECTS]
        others = ("deal_associations", "owners", "deal_pipelines", "properties")
        return {**super().file, "resources": [*searches, *archived, *others]}

    def change_one(self) -> None:
        """Create, change, archive or restore an object, or associate it with another."""
        name = self.random.choice(_OBJECTS)
        records, kind = self.objects[name], self.random.random()
        key = self.random.choice(list(records)) if records and kind < 0.5 else str(self.new_id())
        is_archived = key in records and records[key]["archived"]
        records[key] = {
            "id": key,
            "archived": not is_archived and kind < 0.1,
            "properties": {"name": self.text(), _modified(name): self.moment()},
        }
        contacts = list(self.objects["contacts"])
        if name == "deals" and contacts and kind > 0.3:  # an association changes no record
            self.contacts_of.setdefault(key, set()).add(self.random.choice(contacts))

    def _pairs(self) -> Iterable[tuple[str, str]]:
        for key, contacts in self.contacts_of.items():
            if not self.objects["deals"][key]["archived"]:
                yield from ((key, contact) for contact in contacts)

    def _search(self, name: str, seen: Seen) -> Answer:
        body = body_of(seen)
        chosen = body["filterGroups"][0]["filters"][0]
        field = _modified(name)
        start, size = int(body.get("after", 0)), body.get("limit", 10)
        asked = (chosen["propertyName"], chosen["operator"], body["sorts"][0]["direction"])
        if asked != (field, "GTE", "ASCENDING") or size > 200 or start >= _MOST_RESULTS:
            return self.bad_request
        found = [
            one
            for one in self.objects[name].values()
            if not one["archived"]
            and _milliseconds(one["properties"][field]) >= int(chosen["value"])
        ]
        found.sort(key=lambda one: (one["properties"][field], one["id"]))
        shown, following = self.by_offset(found, start, size)
        paging = {"paging": {"next": {"after": str(following)}}} if following else {}
        return Answer({"total": len(found), "results": shown, **paging})

    def _list(self, name: str, seen: Seen) -> Answer:
        wants_archived = seen.query.get("archived") == "true"
        records = [one for one in self.objects[name].values() if one["archived"] == wants_archived]
        page = self.by_cursor(records, seen.query.get("after"), int(seen.query.get("limit", 10)))
        if page is None or int(seen.query["limit"]) > 100:
            return self.bad_request
        shown, following = page
        if seen.query.get("associations"):
            shown = [{**one, **self._associations(one["id"])} for one in shown]
        paging = {"paging": {"next": {"after": following}}} if following else {}
        return Answer({"results": shown, **paging})

    def _associations(self, deal: str) -> Record:
        contacts = self.contacts_of.get(deal, set())
        rows = [{"id": contact, "type": "deal_to_contact"} for contact in contacts]
        return {"associations": {"contacts": {"results": rows}}} if rows else {}


def _modified(name: str) -> str:
    return "lastmodifieddate" if name == "contacts" else "hs_lastmodifieddate"


def _milliseconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)


def _living(records: Mapping[str, Record]) -> Iterable[tuple[Any, ...]]:
    return [(key, one["properties"]["name"]) for key, one in records.items() if not one["archived"]]
