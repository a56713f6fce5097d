"""A small Airtable: bases with tables, and records that are created, changed and deleted.

As in https://airtable.com/developers/web/api/list-records: pages have an `offset` that ends after a while, empty
fields are not sent, and too many requests are refused without saying for how long.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

from restsource_dagster_tests.servers.api import Answer, Seen
from restsource_dagster_tests.templates.histories import Api
from restsource_dagster_tests.templates.stand_ins import TOKEN, Record, StandIn

__all__ = ["Airtable"]

_TABLES = {"app1": ("tbl1", "tbl2"), "app2": ("tbl3",)}
"""By base."""


def _error(kind: str, status: int) -> Answer:
    return Answer({"error": {"type": kind}}, status)


class Airtable(StandIn):
    """The server's truth, by table and id."""

    template = "airtable"
    inputs: ClassVar[Mapping[str, Any]] = {"token": TOKEN, "requests_per_second": 10_000}
    base_path = "/v0"
    unauthorized = _error("AUTHENTICATION_REQUIRED", 401)
    too_many = _error("RATE_LIMIT_REACHED", 429)
    bad_request = _error("INVALID_REQUEST_UNKNOWN", 422)
    expired_cursor = _error("LIST_RECORDS_ITERATOR_NOT_AVAILABLE", 422)

    def __init__(self, api: Api, seed: int) -> None:
        super().__init__(api, seed)
        self.records: dict[str, dict[str, Record]] = {}
        bases: Record = {"bases": [{"id": base, "name": base} for base in _TABLES]}
        self.serve("/meta/bases", lambda _: Answer(bases), {"offset"})
        for base, tables in _TABLES.items():
            found = {"tables": [{"id": table, "name": table} for table in tables]}
            self.serve(f"/meta/bases/{base}/tables", partial(_answer, found))
            for table in tables:
                self.records[table] = {}
                answer = partial(self._list, table)
                self.serve(f"/{base}/{table}", answer, {"pageSize", "offset"})
        self.expect("bases", "id", lambda: [(base,) for base in _TABLES])
        self.expect("tables", "id, _bases_id", self._table_rows)
        self.expect("records", "id, _tables_id, fields ->> 'Name'", self._record_rows)

    def change_one(self) -> None:
        """Create, change or delete a record."""
        records = self.records[self.random.choice(list(self.records))]
        if records and self.random.random() < 0.2:
            del records[self.random.choice(list(records))]
            return
        key = self.old_or_new(records, f"rec{self.new_id()}")
        fields = {"Name": self.text()} if self.random.random() < 0.9 else {}
        records[key] = {"id": key, "createdTime": self.moment(), "fields": fields}

    def _table_rows(self) -> Iterable[tuple[str, str]]:
        for base, tables in _TABLES.items():
            yield from ((table, base) for table in tables)

    def _record_rows(self) -> Iterable[tuple[Any, ...]]:
        for table, records in self.records.items():
            yield from ((key, table, one["fields"].get("Name")) for key, one in records.items())

    def _list(self, table: str, seen: Seen) -> Answer:
        page = self.by_cursor(self.records[table].values(), seen.query.get("offset"))
        if page is None or int(seen.query["pageSize"]) > 100:
            return self.expired_cursor or self.bad_request
        shown, following = page
        return Answer({"records": shown, **({"offset": following} if following else {})})


def _answer(body: Record, _: Seen) -> Answer:
    return Answer(body)
