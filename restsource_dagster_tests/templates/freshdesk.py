"""A small Freshdesk: tickets with conversations, contacts, both deleted and restored, and lists.

As in https://developers.freshdesk.com/api/: pages have a number and a header Link, and there are so many of them only;
deleted tickets and contacts are in lists of their own.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

from restsource_dagster_tests.servers.api import Answer, Seen
from restsource_dagster_tests.templates.histories import Api
from restsource_dagster_tests.templates.stand_ins import PAGE, TOKEN, Record, StandIn

__all__ = ["Freshdesk"]

_PAGING = {"page", "per_page"}
_MOST_PAGES = 2
"""Freshdesk's 300: the pages of tickets."""


class Freshdesk(StandIn):
    """The server's truth, by id."""

    template = "freshdesk"
    inputs: ClassVar[Mapping[str, Any]] = {
        "domain": "acme",
        "key": TOKEN,
        "requests_per_minute": 10_000,
    }
    base_path = "/api/v2"
    login = ("authorization", "Basic " + b64encode(f"{TOKEN}:{TOKEN}".encode()).decode())
    unauthorized = Answer({"code": "invalid_credentials"}, 401)
    too_many = Answer(
        {"message": "You have exceeded the limit"},
        429,
        {"Retry-After": "0", "X-RateLimit-Total": "100", "X-RateLimit-Remaining": "0"},
    )
    bad_request = Answer({"description": "Validation failed"}, 400)

    def __init__(self, api: Api, seed: int) -> None:
        super().__init__(api, seed)
        self.tickets: dict[int, Record] = {}
        self.contacts: dict[int, Record] = {}
        self.conversations: dict[int, dict[int, Record]] = {}
        """By ticket."""
        self.companies: dict[int, Record] = {}
        params = {"updated_since", "filter", "include", "order_by", "order_type"}
        self.serve("/tickets", self._listed_tickets, _PAGING | params)
        self.serve("/contacts", self._listed_contacts, _PAGING | {"_updated_since", "state"})
        companies = partial(self._page, self.companies.values())
        self.serve("/companies", companies, _PAGING)
        self.expect("tickets", "id, name", partial(_living, self.tickets))
        self.expect("contacts", "id, name", partial(_living, self.contacts))
        self.expect("companies", "id, name", partial(_living, self.companies))
        # tickets with an even id are not deleted: the conversations of a deleted one stay
        conversations = "conversations WHERE _tickets_id % 2 = 0"
        self.expect(conversations, "id, _tickets_id", self._conversation_rows)

    @property
    def file(self) -> Mapping[str, Any]:
        """The file, with the lists and the number of pages of this server."""
        paginator = {"type": "header_link", "max_rows": PAGE * _MOST_PAGES}
        tickets = {"name": "tickets", "endpoint": {"paginator": paginator}}
        names = ("conversations", "deleted_tickets", "contacts", "deleted_contacts", "companies")
        return {**super().file, "resources": [tickets, *names]}

    def change_one(self) -> None:
        """Create, change, delete or restore a ticket or a contact; create or delete a company."""
        kind = self.random.random()
        if kind < 0.2:
            if self.companies and kind < 0.07:
                del self.companies[self.random.choice(list(self.companies))]
            key = self.new_id()
            self.companies[key] = {"id": key, "name": self.text()}
        elif kind < 0.4:
            self._write(self.contacts)
        else:
            self._change_ticket()

    def _write(self, records: dict[int, Record]) -> int:
        key = self.old_or_new(records, self.new_id())
        was_deleted = records.get(key, {}).get("deleted", False)
        is_deleted = key in records and not was_deleted and key % 2 and self.random.random() < 0.4
        moment = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        records[key] = {
            "id": key,
            "name": self.text(),
            "updated_at": moment,
            **({"deleted": True} if is_deleted else {}),
        }
        return key

    def _change_ticket(self) -> None:
        key = self._write(self.tickets)
        rows = self.conversations.setdefault(key, {})
        if rows and self.random.random() < 0.3:
            del rows[self.random.choice(list(rows))]
        else:
            one = self.new_id()
            rows[one] = {"id": one}
        self.serve(f"/tickets/{key}/conversations", partial(self._listed_rows, key), _PAGING)

    def _conversation_rows(self) -> Iterable[tuple[int, int]]:
        for ticket, rows in self.conversations.items():
            if ticket % 2 == 0:
                yield from ((key, ticket) for key in rows)

    def _listed_rows(self, ticket: int, seen: Seen) -> Answer:
        return self._page(self.conversations[ticket].values(), seen)

    def _listed_tickets(self, seen: Seen) -> Answer:
        is_deleted = seen.query.get("filter") == "deleted"
        found = self._chosen(self.tickets, is_deleted, seen.query.get("updated_since", ""))
        if not is_deleted:
            if seen.query.get("order_by") != "updated_at" or seen.query.get("order_type") != "asc":
                return self.bad_request
            if int(seen.query.get("page", 1)) > _MOST_PAGES:
                return self.bad_request
        return self._page(found, seen)

    def _listed_contacts(self, seen: Seen) -> Answer:
        is_deleted = seen.query.get("state") == "deleted"
        since = seen.query.get("_updated_since", "")
        return self._page(self._chosen(self.contacts, is_deleted, since), seen)

    def _chosen(
        self, records: Mapping[int, Record], is_deleted: bool, since: str
    ) -> Iterable[Record]:
        found = [
            one
            for one in records.values()
            if one.get("deleted", False) == is_deleted and one["updated_at"] >= since
        ]
        return sorted(found, key=lambda one: (one["updated_at"], one["id"]))

    def _page(self, records: Iterable[Record], seen: Seen) -> Answer:
        number, size = int(seen.query.get("page", 1)), int(seen.query.get("per_page", 30))
        if not 0 < size <= 100:
            return self.bad_request
        shown, following = self.by_offset(records, PAGE * (number - 1))
        link = f'<{self.link_of(seen, page=number + 1)}>; rel="next"'
        return Answer(shown, headers={"Link": link} if following else {})


def _living(records: Mapping[int, Record]) -> Iterable[tuple[Any, ...]]:
    return [(key, one["name"]) for key, one in records.items() if not one.get("deleted")]
