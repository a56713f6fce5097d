"""A small Jira: issues with comments, worklogs that are changed and deleted, and lists.

As in https://developer.atlassian.com/cloud/jira/platform/rest/v3/: a search takes bounded JQL with minutes in the
user's time zone and pages by a token, worklogs are told by their ids, and lists page by `startAt`. A board for
Kanban has no sprints.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from restsource_dagster_tests.servers.api import Answer, Seen
from restsource_dagster_tests.templates.histories import Api
from restsource_dagster_tests.templates.stand_ins import TOKEN, Record, StandIn, body_of

__all__ = ["Jira"]

_ZONE = "Europe/Berlin"
_JQL = re.compile(r'\(project is not EMPTY\) AND updated >= "([^"]+)" ORDER BY updated ASC')
_OFFSET = {"startAt", "maxResults"}


class Jira(StandIn):
    """The server's truth, by id."""

    template = "jira"
    inputs: ClassVar[Mapping[str, Any]] = {
        "site": "acme",
        "email": "ann@acme.example",
        "token": TOKEN,
        "timezone": _ZONE,
        "requests_per_second": 10_000,
    }
    base_path = "/rest"
    login = (
        "authorization",
        "Basic " + b64encode(f"ann@acme.example:{TOKEN}".encode()).decode(),
    )
    too_many = Answer(
        {"errorMessages": ["Too many"]},
        429,
        {"Retry-After": "0", "RateLimit-Reason": "jira-burst-based"},
    )
    bad_request = Answer({"errorMessages": ["Bad request"]}, 400)
    expired_cursor = Answer({"errorMessages": ["The page token has expired"]}, 400)

    def __init__(self, api: Api, seed: int) -> None:
        super().__init__(api, seed)
        self.issues: dict[str, Record] = {}
        self.comments: dict[str, dict[str, Record]] = {}
        """By issue."""
        self.worklogs: dict[int, Record] = {}
        """With `changed`, and with `deleted` if they are."""
        self.users = [{"accountId": str(self.new_id())} for _ in range(9)]
        self.serve(
            "/api/3/search/jql", self._search, {"jql", "fields", "maxResults", "nextPageToken"}
        )
        for change in ("updated", "deleted"):
            self.serve(f"/api/3/worklog/{change}", partial(self._changes, change), {"since"})
        self.serve("/api/3/worklog/list", self._listed_worklogs)
        self.serve("/api/3/users/search", self._listed_users, _OFFSET)
        boards = [{"id": 1, "type": "scrum"}, {"id": 2, "type": "kanban"}]
        self.serve("/agile/1.0/board", partial(self._offset_page, "values", boards), _OFFSET)
        sprints = {"values": [{"id": 7}], "isLast": True, "startAt": 0, "maxResults": 50}
        self.serve("/agile/1.0/board/1/sprint", lambda _: Answer(sprints), _OFFSET)
        no_sprints = {"errorMessages": ["The board does not support sprints"]}
        self.serve("/agile/1.0/board/2/sprint", lambda _: Answer(no_sprints, 400), _OFFSET)
        self.expect("issues", "id, fields__summary", self._issue_rows)
        self.expect("comments", "id, _issues_id, body", self._comment_rows)
        self.expect("worklogs", "id, time_spent_seconds", self._worklog_rows)
        self.expect("users", "account_id", lambda: [(one["accountId"],) for one in self.users])
        self.expect("sprints", "id, _boards_id", lambda: [(7, 1)])

    @property
    def file(self) -> Mapping[str, Any]:
        """The file, with the lists that this server has."""
        names = ("issues", "comments", "worklogs", "deleted_worklogs", "users", "sprints")
        return {**super().file, "resources": names}

    def change_one(self) -> None:
        """Create or change an issue, its comments or a worklog; delete a comment or a worklog."""
        kind = self.random.random()
        living = [key for key, one in self.worklogs.items() if not one.get("deleted")]
        if kind < 0.25:
            key = self.old_or_new(living, self.new_id())
            self.worklogs[key] = {"seconds": self.random.randrange(9000), "changed": self.epoch}
        elif living and kind < 0.35:
            self.worklogs[self.random.choice(living)] |= {"deleted": True, "changed": self.epoch}
        else:
            self._change_issue()

    def _change_issue(self) -> None:
        key = self.old_or_new(self.issues, str(self.new_id()))
        moment = self.now.astimezone(ZoneInfo(_ZONE)).strftime("%Y-%m-%dT%H:%M:%S.000%z")
        self.issues[key] = {"id": key, "fields": {"summary": self.text(), "updated": moment}}
        comments = self.comments.setdefault(key, {})
        path = f"/api/3/issue/{key}/comment"
        self.serve(path, partial(self._listed_comments, key), _OFFSET)
        if comments and self.random.random() < 0.4:
            del comments[self.random.choice(list(comments))]
        else:
            comment = str(self.new_id())
            comments[comment] = {"id": comment, "body": self.text()}

    def _issue_rows(self) -> Iterable[tuple[Any, ...]]:
        return [(key, one["fields"]["summary"]) for key, one in self.issues.items()]

    def _comment_rows(self) -> Iterable[tuple[Any, ...]]:
        for issue, comments in self.comments.items():
            yield from ((key, issue, one["body"]) for key, one in comments.items())

    def _worklog_rows(self) -> Iterable[tuple[Any, ...]]:
        living = {key: one for key, one in self.worklogs.items() if not one.get("deleted")}
        return [(str(key), one["seconds"]) for key, one in living.items()]

    def _search(self, seen: Seen) -> Answer:
        query = _JQL.fullmatch(seen.query["jql"])
        if query is None:
            return Answer({"errorMessages": ["Unbounded JQL queries are not allowed here."]}, 400)
        start = datetime.strptime(query[1], "%Y-%m-%d %H:%M").replace(tzinfo=ZoneInfo(_ZONE))
        found = [one for one in self.issues.values() if _updated(one) >= start]
        page = self.by_cursor(sorted(found, key=_updated), seen.query.get("nextPageToken"))
        if page is None:
            return self.expired_cursor
        shown, token = page
        # the last page has no token
        more = {"nextPageToken": token} if token else {}
        return Answer({"issues": shown, "isLast": token is None, **more})

    def _changes(self, change: str, seen: Seen) -> Answer:
        since = int(seen.query["since"])
        found = [
            {"worklogId": key, "updatedTime": one["changed"] * 1000, "properties": []}
            for key, one in self.worklogs.items()
            if one["changed"] * 1000 >= since and bool(one.get("deleted")) == (change == "deleted")
        ]
        found.sort(key=lambda one: one["updatedTime"])
        later = [one for one in found if one["updatedTime"] > since]
        # a page has all worklogs of its last moment
        until = later[6]["updatedTime"] if len(later) > 7 else None
        shown = [one for one in found if until is None or one["updatedTime"] <= until]
        is_last = len(shown) == len(found)
        body = {"values": shown, "since": since, "until": until or since, "lastPage": is_last}
        more = {} if is_last else {"nextPage": self.link_of(seen, since=until)}
        return Answer({**body, **more})

    def _listed_worklogs(self, seen: Seen) -> Answer:
        ids = body_of(seen)["ids"]
        if not 0 < len(ids) <= 1000:
            return self.bad_request
        known = {key: one for key, one in self.worklogs.items() if not one.get("deleted")}
        rows = [
            {"id": str(key), "timeSpentSeconds": known[key]["seconds"]}
            for key in ids
            if key in known
        ]
        return Answer(rows)

    def _listed_users(self, seen: Seen) -> Answer:
        shown, _ = self.by_offset(self.users, int(seen.query["startAt"]))
        return Answer(shown)

    def _listed_comments(self, issue: str, seen: Seen) -> Answer:
        return self._offset_page("comments", self.comments[issue].values(), seen)

    def _offset_page(self, name: str, records: Iterable[Record], seen: Seen) -> Answer:
        found, start = list(records), int(seen.query["startAt"])
        shown, following = self.by_offset(found, start)
        paging = {"startAt": start, "maxResults": 7, "total": len(found)}
        return Answer({name: shown, **paging, "isLast": following is None})


def _updated(issue: Record) -> datetime:
    return datetime.fromisoformat(issue["fields"]["updated"]).astimezone(UTC)
