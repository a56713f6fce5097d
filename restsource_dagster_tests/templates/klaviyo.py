"""A small Klaviyo: profiles that change, events, lists and campaigns.

As in https://developers.klaviyo.com/en/reference/get_profiles: JSON:API with the URL of the next page, a header with
the revision, a filter of profiles that takes later times only, and campaigns for a channel.
"""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

from restsource_dagster_tests.servers.api import Answer, Seen
from restsource_dagster_tests.templates.histories import Api
from restsource_dagster_tests.templates.stand_ins import TOKEN, Record, StandIn

__all__ = ["Klaviyo"]

_PAGING = {"page[size]", "page[cursor]", "sort", "filter"}


def _error(status: int, code: str) -> Answer:
    return Answer({"errors": [{"status": status, "code": code}]}, status)


class Klaviyo(StandIn):
    """The server's truth, by id."""

    template = "klaviyo"
    inputs: ClassVar[Mapping[str, Any]] = {
        "key": TOKEN,
        "requests_per_second": 10_000,
        "profile_requests_per_minute": 10_000,
    }
    base_path = "/api"
    login = ("authorization", f"Klaviyo-API-Key {TOKEN}")
    headers: ClassVar[Mapping[str, str]] = {"revision": "2026-10-15"}
    unauthorized = _error(401, "not_authenticated")
    too_many = Answer(
        {"errors": [{"status": 429, "code": "throttled"}]},
        429,
        {"Retry-After": "0", "RateLimit-Limit": "75, 75;w=1, 750;w=60"},
    )
    bad_request = _error(400, "invalid")
    expired_cursor = _error(400, "invalid")

    def __init__(self, api: Api, seed: int) -> None:
        super().__init__(api, seed)
        self.profiles: dict[str, Record] = {}
        self.events: dict[str, Record] = {}
        self.lists: dict[str, Record] = {}
        profiles = partial(self._filtered, self.profiles, "greater-than", "updated")
        self.serve("/profiles", profiles, _PAGING)
        events = partial(self._filtered, self.events, "greater-or-equal", "datetime")
        self.serve("/events", events, _PAGING)
        self.serve("/lists", lambda seen: self._page(self.lists.values(), seen), _PAGING)
        self.serve("/campaigns", self._campaigns, _PAGING)
        self.expect("profiles", "id, attributes__name", partial(_names, self.profiles))
        self.expect("events", "id, attributes__name", partial(_names, self.events))
        self.expect("lists", "id, attributes__name", partial(_names, self.lists))
        campaigns = [("email-1", "email"), ("sms-1", "sms"), ("mobile_push-1", "mobile_push")]
        self.expect("campaigns", "id, _each_channel", lambda: campaigns)

    @property
    def file(self) -> Mapping[str, Any]:
        """The file, with the lists that this server has."""
        return {**super().file, "resources": list(self.columns)}

    def change_one(self) -> None:
        """Create or change a profile or a list, delete a list, or let an event happen."""
        kind = self.random.random()
        if kind < 0.2:
            self._write(self.events, str(self.new_id()), datetime=self._moment())
        elif kind < 0.35:
            if self.lists and kind < 0.25:
                del self.lists[self.random.choice(list(self.lists))]
            self._write(self.lists, str(self.new_id()))
        else:
            key = self.old_or_new(self.profiles, str(self.new_id()))
            self._write(self.profiles, key, updated=self._moment())

    def _write(self, records: dict[str, Record], key: str, **attributes: str) -> None:
        records[key] = {
            "type": "thing",
            "id": key,
            "attributes": {"name": self.text(), **attributes},
        }

    def _moment(self) -> str:
        return self.now.strftime("%Y-%m-%dT%H:%M:%S+00:00")

    def _filtered(
        self, records: Mapping[str, Record], operator: str, field: str, seen: Seen
    ) -> Answer:
        asked = re.fullmatch(rf"{operator}\({field},([^)]+)\)", seen.query["filter"])
        if asked is None or seen.query["sort"] != field:
            return self.bad_request
        found = [
            one
            for one in records.values()
            if one["attributes"][field] > asked[1]
            or (one["attributes"][field] == asked[1] and operator == "greater-or-equal")
        ]
        return self._page(sorted(found, key=lambda one: one["attributes"][field]), seen)

    def _campaigns(self, seen: Seen) -> Answer:
        asked = re.fullmatch(r"equals\(messages\.channel,'(\w+)'\)", seen.query.get("filter", ""))
        if asked is None:
            return self.bad_request
        return self._page([{"type": "campaign", "id": f"{asked[1]}-1"}], seen)

    def _page(self, records: Iterable[Record], seen: Seen) -> Answer:
        page = self.by_cursor(records, seen.query.get("page[cursor]"))
        if page is None:
            return self.expired_cursor or self.bad_request
        shown, following = page
        link = self.link_of(seen, **{"page[cursor]": following}) if following else None
        return Answer({"data": shown, "links": {"next": link, "prev": None}})


def _names(records: Mapping[str, Record]) -> Iterable[tuple[str, str]]:
    return [(key, one["attributes"]["name"]) for key, one in records.items()]
