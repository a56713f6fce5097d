"""What the smaller stand-ins of APIs share: records that change, a login, refusals and shapes of paging."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlencode

from restsource_dagster_tests.servers.api import Answer, Seen
from restsource_dagster_tests.templates.histories import Api, Tables

__all__ = ["PAGE", "TOKEN", "Record", "StandIn", "Truth", "body_of"]

Record = dict[str, Any]
Key = TypeVar("Key", int, str)
Truth = Callable[[], Iterable[tuple[Any, ...]]]
"""Gives the rows that a table should hold."""
TOKEN = "t0ken"
PAGE = 7
"""The most that a server puts into a page, so that small histories have several."""


class StandIn:
    """An API with lists of records that change at random, and what is loaded from it.

    A subclass serves paths (`serve`), says what its tables should hold (`expect`), and how one record
    changes (`change_one`). Requests are refused without the login, with params that a path doesn't have,
    and as a test says by `busy` and `has_expired`.
    """

    template: ClassVar[str]
    inputs: ClassVar[Mapping[str, Any]] = {}
    base_path: ClassVar[str] = ""
    login: ClassVar[tuple[str, str]] = ("authorization", f"Bearer {TOKEN}")
    """A header and its value."""
    headers: ClassVar[Mapping[str, str]] = {}
    """Other headers that each request needs."""
    unauthorized: ClassVar[Answer] = Answer({"message": "Unauthorized"}, 401)
    refusal: ClassVar[str] = "401"
    """What the failure of a run without the login says."""
    too_many: ClassVar[Answer] = Answer({"message": "Too many"}, 429, {"Retry-After": "0"})
    bad_request: ClassVar[Answer] = Answer({"message": "Bad request"}, 400)
    expired_cursor: ClassVar[Answer | None] = None
    """What a cursor gets that is used too late; None if the API's don't end."""

    def __init__(self, api: Api, seed: int) -> None:
        self.api, self.random = api, Random(seed)
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.busy = 0
        """How many of the next requests are too many."""
        self.has_expired = False
        """True as long as each cursor counts as used too late."""
        self._last_id = 100
        self._expected: dict[str, tuple[str, Truth]] = {}

    @property
    def file(self) -> Mapping[str, Any]:
        """A file that uses the template at the server's address."""
        return {
            "template": self.template,
            "inputs": self.inputs,
            "client": {"base_url": f"{self.api.url}{self.base_path}"},
            "schedule": {"mode": "manual"},
        }

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns to compare, as SQL, by the name of the table. The first is the key."""
        return {table: columns for table, (columns, _) in self._expected.items()}

    def expected(self) -> Tables:
        """The rows of each table."""
        return {table: list(truth()) for table, (_, truth) in self._expected.items()}

    def expect(self, table: str, columns: str, truth: Truth) -> None:
        """Compare a table with what `truth` gives, in the order of `columns`."""
        self._expected[table] = (columns, truth)

    def change(self, changes: int) -> None:
        """Create, change and delete so many records at random; several may have one moment."""
        for _ in range(changes):
            self.now += timedelta(seconds=self.random.choice([0, 0, 1, 90]))
            self.change_one()
        self.now += timedelta(minutes=10)

    def change_one(self) -> None:
        """Create, change or delete a record."""
        raise NotImplementedError

    def serve(
        self, path: str, answer: Callable[[Seen], Answer], params: Collection[str] = ()
    ) -> None:
        """Answer requests for a path, which may have these params."""

        def checked(seen: Seen) -> Answer:
            name, value = self.login
            if seen.headers.get(name) != value:
                return self.unauthorized
            if self.busy:
                self.busy -= 1
                return self.too_many
            missing = [one for one, text in self.headers.items() if seen.headers.get(one) != text]
            unknown = sorted(seen.query.keys() - set(params))
            if missing or unknown:
                return replace(self.bad_request, headers={"X-Problem": f"{missing} {unknown}"})
            return answer(seen)

        self.api.answers[f"{self.base_path}{path}"] = checked

    def by_cursor(
        self, records: Iterable[Record], cursor: str | None, size: int = PAGE
    ) -> tuple[list[Record], str | None] | None:
        """Return the page after a cursor and the cursor after it; None if this cursor has expired."""
        if cursor and self.has_expired:
            return None
        start = int(urlsafe_b64decode(cursor)) if cursor else 0
        shown, following = self.by_offset(records, start, size)
        if following is None:
            return shown, None
        return shown, urlsafe_b64encode(f"{following:09}".encode()).decode()

    @staticmethod
    def by_offset(
        records: Iterable[Record], start: int, size: int = PAGE
    ) -> tuple[list[Record], int | None]:
        """Return the page at an offset, and the offset of the next one; None after the last."""
        found = list(records)
        end = start + min(size, PAGE)
        return found[start:end], end if end < len(found) else None

    def link_of(self, seen: Seen, **params: Any) -> str:
        """Return the URL of a request with other params."""
        return f"{self.api.url}{seen.path}?{urlencode({**seen.query, **params})}"

    def new_id(self) -> int:
        """Return an id that no record has."""
        self._last_id += 1
        return self._last_id

    def old_or_new(self, known: Collection[Key], new: Key) -> Key:
        """Return one of the known keys or a new one, each about as often."""
        is_old = known and self.random.random() < 0.5
        return self.random.choice(list(known)) if is_old else new

    def text(self) -> str:
        """Return a text that is hardly there already."""
        return f"text {self.random.randrange(1_000_000)}"

    def moment(self) -> str:
        """Return the time in ISO 8601, with milliseconds."""
        return self.now.strftime("%Y-%m-%dT%H:%M:%S.000Z")

    @property
    def epoch(self) -> int:
        """The time in seconds since 1970."""
        return int(self.now.timestamp())


def body_of(seen: Seen) -> Record:
    """Return the JSON body of a request."""
    found: Record = json.loads(seen.body)
    return found
