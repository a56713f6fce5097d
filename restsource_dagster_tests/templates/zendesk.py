"""A small Zendesk: tickets, comments, events, users, organizations and lists that change between runs.

As in https://developer.zendesk.com/api-reference/ticketing/: incremental exports leave out the last minute and
refuse to start in it; metrics are put into each ticket if they are asked for (`include`); by cursor or by time they end with `end_of_stream`, and pages by time overlap where
several records have one second. Lists come in pages with `meta.has_more` and `links.next`. Deleted tickets
are exported with the status `deleted`, and their comments answer 404; they may be restored. Deleted groups are listed
with `deleted`, unless `exclude_deleted` is true. Custom objects have records, and go with them.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from random import Random
from typing import Any
from urllib.parse import urlencode

from restsource_dagster_tests.servers.api import Answer, Seen
from restsource_dagster_tests.templates.histories import Api, Tables

__all__ = ["ACCESS_TOKEN", "START", "Zendesk"]

START = 1_767_225_600
LISTS = (
    "satisfaction_ratings",
    "groups",
    "group_memberships",
    "ticket_fields",
    "macros",
    "views",
    "brands",
)
_PARTS = (
    ("tickets", "ticket_comments", "ticket_events"),
    (
        *("ticket_metric_events", "users", "organizations", *LISTS),
        *("custom_objects", "custom_object_records"),
    ),
)
"""The resources that histories load, one part for each seed."""
_PAGE = 7
"""The most that the server puts into a page, so that small histories have several."""
ACCESS_TOKEN = "acc3ss"
"""What OAuth gives, and the API takes in place of an API token."""
_LOGIN = "Basic " + b64encode(b"ann@acme.example/token:t0ken").decode()
Record = dict[str, Any]


class Zendesk:
    """The server's truth, by the id of the record."""

    def __init__(self, api: Api, seed: int) -> None:
        self.random = Random(seed)
        self._resources = _PARTS[seed % len(_PARTS)]
        self._next_id = 1
        self.now = START + 3600
        self.tickets: dict[int, Record] = {}
        self.comments: dict[int, list[Record]] = {}
        """By ticket."""
        self.events: dict[int, Record] = {}
        self.metric_events: dict[int, Record] = {}
        self.users: dict[int, Record] = {}
        self.organizations: dict[int, Record] = {}
        self.lists = {name: {1: {"id": 1, "title": "the first one"}} for name in LISTS}
        self._api = api
        exports: Mapping[str, Callable[[Seen], Answer]] = {
            "tickets/cursor": self._by_cursor("tickets", self.tickets, "generated_timestamp"),
            "users/cursor": self._by_cursor("users", self.users, "changed"),
            "ticket_events": self._by_time("ticket_events", self.events, "timestamp"),
            "ticket_metric_events": self._by_time(
                "ticket_metric_events", self.metric_events, "changed"
            ),
            "organizations": self._by_time("organizations", self.organizations, "changed"),
        }
        for name, answer in exports.items():
            api.answers[f"/api/v2/incremental/{name}.json"] = self._allowed(answer)
        for name, records in self.lists.items():
            api.answers[f"/api/v2/{name}.json"] = self._allowed(self._lister(name, records))
        forms: Record = {"ticket_forms": [{"id": 1}], "next_page": None}
        api.answers["/api/v2/ticket_forms.json"] = self._allowed(lambda _: Answer(forms))
        self.objects: dict[str, dict[int, Record]] = {}
        """The records of custom objects, by the key of the object."""
        api.answers["/api/v2/custom_objects.json"] = self._allowed(
            lambda _: Answer({"custom_objects": [{"key": key} for key in self.objects]})
        )
        tags = {"tags": [{"name": "vip", "count": 3}], "meta": {"has_more": False}, "links": {}}
        api.answers["/api/v2/tags.json"] = self._allowed(lambda _: Answer(tags))

    @property
    def file(self) -> Mapping[str, Any]:
        """A file that uses the template at the server's address."""
        return {
            "template": "zendesk",
            "inputs": {
                "subdomain": "acme",
                "email": "ann@acme.example",
                "token": "t0ken",
                "start": START,
                "requests_per_minute": 10_000,
                "exports_per_minute": 10_000,
            },
            "client": {"base_url": f"{self._api.url}/api/v2"},
            "schedule": {"mode": "manual"},
            "resources": self._resources,
        }

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns of each table that show whether a row is there and new."""
        columns = {
            "tickets": "id, subject",
            "ticket_comments": "id, body",
            "ticket_events": "id, ticket_id",
            "ticket_metric_events": "id, ticket_id",
            "users": "id, name",
            "organizations": "id, name",
            **dict.fromkeys(LISTS, "id, title"),
            "custom_objects": "key",
            "custom_object_records": "id, name, custom_object_fields->>'size'",
        }
        return {name: columns[name] for name in self._resources}

    def expected(self) -> Tables:
        """The rows of each table."""
        living = {key: one for key, one in self.tickets.items() if one["status"] != "deleted"}
        named = ("users", "organizations")
        rows: dict[str, list[tuple[Any, ...]]] = {
            "tickets": [(key, one["subject"]) for key, one in living.items()],
            "ticket_comments": [
                (one["id"], one["body"]) for key in living for one in self.comments[key]
            ],
            "ticket_events": list(self.child_events.items()),
            "ticket_metric_events": [
                (key, one["ticket_id"]) for key, one in self.metric_events.items()
            ],
            **{
                table: [(key, one["name"]) for key, one in getattr(self, table).items()]
                for table in named
            },
            **{
                table: [(key, one["title"]) for key, one in self.living(table).items()]
                for table in LISTS
            },
            "custom_objects": [(key,) for key in self.objects],
            "custom_object_records": [
                (key, one["name"], one["custom_object_fields"]["size"])
                for records in self.objects.values()
                for key, one in records.items()
            ],
        }
        return {name: rows[name] for name in self._resources}

    def living(self, table: str) -> dict[int, Record]:
        """The records of a list without those that were deleted and are still told, by id."""
        return {key: one for key, one in self.lists[table].items() if not one.get("deleted")}

    @property
    def child_events(self) -> dict[int, int]:
        """The ids of child events, with the ticket of each."""
        return {
            child["id"]: event["ticket_id"]
            for event in self.events.values()
            for child in event["child_events"]
        }

    def change(self, changes: int) -> None:
        """Create, change and delete records; then more than a minute passes."""
        for _ in range(changes):
            self.now += self.random.choice([0, 0, 1, 5])
            self.random.choice(
                [self._change_ticket, self._change_ticket, self._change_other, self._change_list]
            )()
        self.now += 120

    def _change_ticket(self) -> None:
        living = [key for key, ticket in self.tickets.items() if ticket["status"] != "deleted"]
        kind = self.random.random()
        deleted = [key for key in self.tickets if key not in living]
        if living and kind < 0.15:
            self._touch_ticket(self.random.choice(living), "deleted")
        elif deleted and kind < 0.2:
            self._touch_ticket(self.random.choice(deleted), "open")
        elif living and kind < 0.6:
            key = self.random.choice(living)
            self.comments[key].append({"id": self._new_id(), "body": self._text()})
            self._touch_ticket(key, self.random.choice(["open", "solved", "closed"]))
        else:
            key = self._new_id()
            self.comments[key] = [{"id": self._new_id(), "body": self._text()}]
            self._api.answers[f"/api/v2/tickets/{key}/comments.json"] = self._allowed(
                lambda seen: self._comments_of(key, seen)
            )
            self._touch_ticket(key, "new")

    def _touch_ticket(self, key: int, status: str) -> None:
        ticket = {"id": key, "status": status, "subject": self._text()}
        self.tickets[key] = {**ticket, "generated_timestamp": self.now}
        event, children = self._new_id(), [{"id": self._new_id(), "event_type": "Change"}]
        self.events[event] = {
            "id": event,
            "ticket_id": key,
            "timestamp": self.now,
            "child_events": children,
        }
        metric = self._new_id()
        self.metric_events[metric] = {"id": metric, "ticket_id": key, "changed": self.now}

    def _change_other(self) -> None:
        records = self.random.choice([self.users, self.organizations])
        key = self.random.choice([*records, self._new_id()])
        records[key] = {"id": key, "name": self._text(), "changed": self.now}

    def _change_list(self) -> None:
        name = self.random.choice((*LISTS, "custom_object_records"))
        if name == "custom_object_records":
            self._change_object()
            return
        records = self.lists[name]
        if records and self.random.random() < 0.3:
            gone = self.random.choice(list(records))
            if name == "groups":
                records[gone] = {**records[gone], "deleted": True}
            else:
                del records[gone]
        key = self._new_id()
        records[key] = {"id": key, "title": self._text()}

    def _change_object(self) -> None:
        """Create, change or delete records of a custom object, or the object as a whole."""
        key = self.random.choice([*self.objects, f"object_{self._new_id()}"])
        if key in self.objects and self.random.random() < 0.05:
            del self.objects[key]
            return
        records = self.objects.setdefault(key, {})
        path = f"/api/v2/custom_objects/{key}/records.json"
        self._api.answers[path] = self._allowed(lambda seen: self._records_of(key, seen))
        for _ in range(self.random.randrange(9)):
            fields = {"size": self._text()}
            is_old = records and self.random.random() < 0.5
            one = self.random.choice(list(records)) if is_old else self._new_id()
            records[one] = {"id": one, "name": self._text(), "custom_object_fields": fields}
        if records and self.random.random() < 0.5:
            del records[self.random.choice(list(records))]

    def _records_of(self, key: str, seen: Seen) -> Answer:
        if key not in self.objects:
            return Answer({"error": "RecordNotFound", "description": "Not found"}, 404)
        return self._page("custom_object_records", list(self.objects[key].values()), seen)

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _text(self) -> str:
        return f"text {self.random.randrange(1_000_000)}"

    def _allowed(self, answer: Callable[[Seen], Answer]) -> Callable[[Seen], Answer]:
        def checked(seen: Seen) -> Answer:
            if seen.headers.get("authorization") not in (_LOGIN, f"Bearer {ACCESS_TOKEN}"):
                return Answer({"error": "Couldn't authenticate you"}, 401)
            return answer(seen)

        return checked

    def _visible(self, records: Mapping[int, Record], field: str) -> list[Record]:
        found = [record for record in records.values() if record[field] <= self.now - 60]
        return sorted(found, key=lambda record: (record[field], record["id"]))

    def _by_cursor(
        self, name: str, records: Mapping[int, Record], field: str
    ) -> Callable[[Seen], Answer]:
        def answer(seen: Seen) -> Answer:
            if "cursor" in seen.query and "start_time" in seen.query:
                return Answer({"error": "InvalidValue", "description": "one of the two"}, 400)
            if "cursor" in seen.query:
                at, _, key = seen.query["cursor"].partition("-")
                after = (int(at), int(key))
            else:
                start = int(seen.query["start_time"])
                if start > self.now - 60:
                    return Answer({"error": "InvalidValue", "description": "Too recent"}, 400)
                after = (start, -1)
            found = [
                record
                for record in self._visible(records, field)
                if (record[field], record["id"]) > after
            ]
            shown = found[: min(_PAGE, int(seen.query["per_page"]))]
            if name == "tickets" and "metric_sets" in seen.query.get("include", ""):
                shown = [{**one, "metric_set": {"reopens": one["id"] % 5}} for one in shown]
            last = (shown[-1][field], shown[-1]["id"]) if shown else after
            cursor = f"{last[0]}-{last[1]}"
            body = {"after_cursor": cursor, "end_of_stream": len(shown) == len(found)}
            return Answer({name: shown, **body})

        return answer

    def _by_time(
        self, name: str, records: Mapping[int, Record], field: str
    ) -> Callable[[Seen], Answer]:
        def answer(seen: Seen) -> Answer:
            start = int(seen.query["start_time"])
            if start > self.now - 60:
                return Answer({"error": "InvalidValue", "description": "Too recent"}, 400)
            found = [record for record in self._visible(records, field) if record[field] >= start]
            size = min(_PAGE, int(seen.query["per_page"]))
            # those of the second that is asked for come again, and would fill every page alone
            later = [record for record in found if record[field] > start]
            end = later[size - 1][field] if len(later) > size else None
            # records of one second are never in two pages
            shown = [record for record in found if end is None or record[field] <= end]
            latest = shown[-1][field] if shown else start
            query = urlencode({**seen.query, "start_time": latest})
            return Answer(
                {
                    name: shown,
                    "count": len(shown),
                    "end_time": latest,
                    "next_page": f"{self._api.url}{seen.path}?{query}",
                    "end_of_stream": len(shown) == len(found),
                }
            )

        return answer

    def _lister(self, name: str, records: Mapping[int, Record]) -> Callable[[Seen], Answer]:
        def answer(seen: Seen) -> Answer:
            is_short = seen.query.get("exclude_deleted") == "true"
            told = [one for one in records.values() if not (is_short and one.get("deleted"))]
            return self._page(name, told, seen)

        return answer

    def _comments_of(self, key: int, seen: Seen) -> Answer:
        if self.tickets[key]["status"] == "deleted":
            return Answer({"error": "RecordNotFound", "description": "Not found"}, 404)
        return self._page("comments", self.comments[key], seen)

    def _page(self, name: str, records: list[Record], seen: Seen) -> Answer:
        if not seen.query.get("page[size]"):
            return Answer({"error": "paging by offset is not for whole lists"}, 400)
        start = int(seen.query.get("page[after]", 0))
        shown = records[start : start + _PAGE]
        has_more = start + _PAGE < len(records)
        query = urlencode({**seen.query, "page[after]": start + _PAGE})
        links = {"next": f"{self._api.url}{seen.path}?{query}" if has_more else None}
        return Answer({name: shown, "meta": {"has_more": has_more}, "links": links})
