"""A small GitHub: one repository whose issues, pulls, commits and comments change between runs.

As in https://docs.github.com/en/rest: a token is needed, lists come in pages of `per_page` with the next
one in the header Link, `since` leaves out what was updated before it, and pulls know no `since`.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from urllib.parse import urlencode

from restsource_dagster_tests.servers.api import Answer, Seen
from restsource_dagster_tests.templates.histories import Api, Tables

__all__ = ["TABLES", "GitHub"]

TABLES = {
    "issues": "issues",
    "issue_comments": "issues/comments",
    "pulls": "pulls",
    "review_comments": "pulls/comments",
    "commits": "commits",
    "releases": "releases",
    "labels": "labels",
    "milestones": "milestones",
}
"""The path of each table's list, below the repository."""

REPOSITORY = "/repos/acme/rocket"
Records = dict[Any, dict[str, Any]]


class GitHub:
    """The server's truth, by the name of the list and the key of the record."""

    def __init__(self, api: Api, seed: int) -> None:
        self.random = Random(seed)
        self._now = datetime(2026, 1, 1, tzinfo=UTC)
        self._next_id = 1
        self.lists: dict[str, Records] = {name: {} for name in TABLES.values()}
        self.url = api.url
        for name in TABLES.values():
            api.answers[f"{REPOSITORY}/{name}"] = self._lister(name)

    @property
    def file(self) -> Mapping[str, Any]:
        """A file that uses the template at the server's address."""
        return {
            "template": "github",
            "inputs": {"owner": "acme", "repo": "rocket", "token": "t0ken", "base_url": self.url},
            "schedule": {"mode": "manual"},
            "resource_defaults": {"endpoint": {"params": {"per_page": 7}}},
        }

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns of each table that show whether a row is there and new."""
        return {**dict.fromkeys(TABLES, "id, body"), "commits": "sha, commit__message"}

    def expected(self) -> Tables:
        """The rows of each table."""
        rows: dict[str, list[tuple[Any, ...]]] = {
            table: [(key, one.get("body")) for key, one in self.lists[name].items()]
            for table, name in TABLES.items()
        }
        commits = self.lists["commits"].items()
        return {**rows, "commits": [(sha, one["commit"]["message"]) for sha, one in commits]}

    def change(self, changes: int) -> None:
        """Create, change and delete records; deletions only where GitHub tells of them by a list."""
        for _ in range(changes):
            # several records may have one moment, as those of a push do
            self._now += timedelta(seconds=self.random.choice([0, 1, 60]))
            name = self.random.choice(list(self.lists))
            records = self.lists[name]
            kind = self.random.random()
            if records and kind < 0.3:
                key = self.random.choice(list(records))
                if name != "commits":  # a commit never changes
                    records[key] = {**records[key], "body": self._text(), **self._touched(name)}
            elif records and kind < 0.4 and name in ("releases", "labels", "milestones"):
                del records[self.random.choice(list(records))]
            else:
                self._create(name)

    def _create(self, name: str) -> None:
        key: Any = self._next_id
        self._next_id += 1
        record = {"id": key, "body": self._text(), **self._touched(name)}
        if name == "commits":
            sha = f"{key:040x}"
            when = self._moment()
            commit = {"message": self._text(), "committer": {"date": when}}
            key, record = sha, {"sha": sha, "commit": commit}
        self.lists[name][key] = record

    def _touched(self, name: str) -> Mapping[str, str]:
        return {} if name in ("releases", "labels") else {"updated_at": self._moment()}

    def _moment(self) -> str:
        return self._now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def _text(self) -> str:
        return f"text {self.random.randrange(1_000_000)}"

    def _lister(self, name: str) -> Callable[[Seen], Answer]:
        def answer(seen: Seen) -> Answer:
            if seen.headers.get("authorization") != "Bearer t0ken":
                return Answer({"message": "Requires authentication"}, 401)
            if seen.headers.get("x-github-api-version") != "2022-11-28":
                return Answer({"message": "Unknown version"}, 400)
            return self._page(seen, self._chosen(name, seen))

        return answer

    def _chosen(self, name: str, seen: Seen) -> list[dict[str, Any]]:
        records = list(self.lists[name].values())
        if name in ("releases", "labels", "milestones"):
            return records
        since = "" if name == "pulls" else seen.query.get("since", "")
        records = [record for record in records if _changed_at(record) >= since]
        # without these the lists are those of open ones, newest first
        if name in ("issues", "pulls") and seen.query.get("state") != "all":
            records = []
        is_ascending = seen.query.get("direction") == "asc" and name != "commits"
        return sorted(records, key=_changed_at, reverse=not is_ascending)

    def _page(self, seen: Seen, records: list[dict[str, Any]]) -> Answer:
        size, page = int(seen.query.get("per_page", 30)), int(seen.query.get("page", 1))
        shown = records[size * (page - 1) : size * page]
        headers = {}
        if size * page < len(records):
            query = urlencode({**seen.query, "page": page + 1})
            headers["Link"] = f'<{self.url}{seen.path}?{query}>; rel="next"'
        return Answer(json.dumps(shown).encode(), headers=headers)


def _changed_at(record: Mapping[str, Any]) -> str:
    found = record.get("updated_at") or record["commit"]["committer"]["date"]
    return str(found)
