"""A small Intercom: contacts and conversations that change, conversations with parts, and companies.

As in https://developers.intercom.com/docs/references/rest-api/api.intercom.io/contacts/searchcontacts: a search is
sent by POST, pages by `starting_after` in the body, and compares days for contacts. Companies are read by a scroll
that ends with an empty page, and of which there is one at a time.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

from restsource_dagster_tests.servers.api import Answer, Seen
from restsource_dagster_tests.templates.histories import Api
from restsource_dagster_tests.templates.stand_ins import TOKEN, Record, StandIn, body_of

__all__ = ["Intercom"]

_DAY = 86_400


def _error(code: str) -> dict[str, Any]:
    return {"type": "error.list", "errors": [{"code": code}]}


class Intercom(StandIn):
    """The server's truth, by id."""

    template = "intercom"
    inputs: ClassVar[Mapping[str, Any]] = {"token": TOKEN, "requests_per_10_seconds": 10_000}
    headers: ClassVar[Mapping[str, str]] = {"intercom-version": "2.15"}
    unauthorized = Answer(_error("unauthorized"), 401)
    too_many = Answer(
        _error("rate_limit_exceeded"), 429, {"X-RateLimit-Limit": "1666", "Retry-After": "0"}
    )
    bad_request = Answer(_error("parameter_invalid"), 400)
    expired_cursor = Answer(_error("not_found"), 404)

    def __init__(self, api: Api, seed: int) -> None:
        super().__init__(api, seed)
        self.contacts: dict[str, Record] = {}
        self.conversations: dict[str, Record] = {}
        self.parts: dict[str, list[Record]] = {}
        """By conversation."""
        self.companies: dict[str, Record] = {}
        self.serve("/contacts/search", partial(self._search, "data", self.contacts))
        search = partial(self._search, "conversations", self.conversations)
        self.serve("/conversations/search", search)
        self.serve("/companies/scroll", self._scroll, {"scroll_param"})
        tags = {"type": "list", "data": [{"type": "tag", "id": "1", "name": "vip"}]}
        self.serve("/tags", lambda _: Answer(tags))
        self.expect("contacts", "id, name", partial(_names, self.contacts))
        self.expect("conversations", "id, name", partial(_names, self.conversations))
        self.expect("conversation_parts", "id, _conversations_id", self._part_rows)
        self.expect("companies", "id, name", partial(_names, self.companies))
        self.expect("tags", "id", lambda: [("1",)])

    @property
    def file(self) -> Mapping[str, Any]:
        """The file, with the lists that this server has."""
        return {**super().file, "resources": list(self.columns)}

    def change_one(self) -> None:
        """Create or change a contact or a conversation, or create or delete a company."""
        kind = self.random.random()
        if kind < 0.3:
            living = list(self.companies)
            if living and kind < 0.05:
                del self.companies[self.random.choice(living)]
            self._write(self.companies)
        elif kind < 0.6:
            self._write(self.contacts)
        else:
            key = self._write(self.conversations)
            self.parts.setdefault(key, []).append({"id": str(self.new_id()), "body": self.text()})
            self.serve(f"/conversations/{key}", partial(self._conversation, key))

    def _write(self, records: dict[str, Record]) -> str:
        key = self.old_or_new(records, str(self.new_id()))
        records[key] = {"id": key, "name": self.text(), "updated_at": self.epoch}
        return key

    def _part_rows(self) -> Iterable[tuple[str, str]]:
        for key, parts in self.parts.items():
            yield from ((one["id"], key) for one in parts)

    def _search(self, name: str, records: Mapping[str, Record], seen: Seen) -> Answer:
        body = body_of(seen)
        asked = {one["operator"]: int(one["value"]) for one in body["query"]["value"]}
        unit = _DAY if name == "data" else 1  # contacts are compared by days
        found = [
            one
            for one in records.values()
            if one["updated_at"] // unit == asked["="] // unit
            or one["updated_at"] // unit > asked[">"] // unit
        ]
        found.sort(key=lambda one: (one["updated_at"], one["id"]))
        paging = body["pagination"]
        page = self.by_cursor(found, paging.get("starting_after"))
        if page is None or paging["per_page"] > 150 or body["query"]["operator"] != "OR":
            return self.bad_request
        shown, following = page
        pages = {"next": {"starting_after": following}} if following else {}
        return Answer({"type": "list", name: shown, "total_count": len(found), "pages": pages})

    def _conversation(self, key: str, _: Seen) -> Answer:
        parts = {"conversation_parts": self.parts[key], "total_count": len(self.parts[key])}
        return Answer({**self.conversations[key], "conversation_parts": parts})

    def _scroll(self, seen: Seen) -> Answer:
        token = seen.query.get("scroll_param")
        if token and self.has_expired:
            return self.expired_cursor
        start = int(token.partition("-")[2]) if token else 0
        shown, _ = self.by_offset(self.companies.values(), start)
        # the page after the last one is empty, and names no other
        more = {"scroll_param": f"scroll-{start + len(shown)}"} if shown else {}
        return Answer({"type": "list", "data": shown, **more})


def _names(records: Mapping[str, Record]) -> Iterable[tuple[str, str]]:
    return [(key, one["name"]) for key, one in records.items()]
