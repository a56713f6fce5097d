"""An API of rows with a cursor, and connectors that read it."""

import random
from collections.abc import Callable
from typing import Any

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.watching import Notes
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import ApiServer, Seen

__all__ = ["Feed", "both", "events", "ids", "keyed", "minute", "refusal", "run"]

Row = dict[str, Any]


class Feed:
    """Serves `rows` at a path, pages of `page_size`; `since` filters if the API is asked to."""

    def __init__(self, api: ApiServer, page_size: int = 1000, path: str = "events") -> None:
        self.api = api
        self.rows: list[Row] = []
        self.page_size = page_size
        self.is_old: Callable[[Any, str], bool] = lambda value, since: str(value) < since
        api.answers[f"/{path}"] = self.answer

    def answer(self, seen: Seen) -> Any:
        since = seen.query.get("since")
        rows = [
            row
            for row in self.rows
            if since is None or row.get("at") is None or not self.is_old(row["at"], since)
        ]
        start = int(seen.query.get("offset", 0))
        return {"data": rows[start : start + self.page_size], "total": len(rows)}

    def shuffle(self, seed: int) -> None:
        random.Random(seed).shuffle(self.rows)

    @property
    def asked_since(self) -> list[str | None]:
        return [seen.query.get("since") for seen in self.api.asked("/events")]


def events(api: ApiServer, *, filters: bool = True, **cursor: Any) -> Connector:
    """Events that are appended: they have a cursor and no key."""
    return _connector(api, filters, {}, cursor)


def keyed(api: ApiServer, *, filters: bool = True, **cursor: Any) -> Connector:
    """Events that are merged by their id."""
    return _connector(api, filters, {"primary_key": "id"}, cursor)


def both(path: str) -> tuple[Row, Row]:
    """Two resources of one path, which can't filter: one is merged, and one is appended."""
    endpoint = {**_endpoint({}, filters=False), "path": path}
    return (
        {"name": f"merged_{path}", "primary_key": "id", "endpoint": endpoint},
        {"name": f"appended_{path}", "endpoint": endpoint},
    )


def _connector(api: ApiServer, filters: bool, more: Row, cursor: Row) -> Connector:
    endpoint = _endpoint(cursor, filters=filters)
    return make_connector(api.url, {"name": "events", "endpoint": endpoint, **more})


def _endpoint(cursor: Row, *, filters: bool) -> Row:
    asked = {"start_param": "since"} if filters else {}
    return {
        "path": "events",
        "data_selector": "data",
        "paginator": {"type": "offset", "limit": 3, "total_path": "total"},
        "incremental": {"cursor_path": "at", **asked, **cursor},
    }


def run(connector: Connector, settings: Settings, notes: Notes | None = None) -> Outcome:
    outcome = load(connector, settings, observer=notes)["events"]
    assert outcome.failure is None, outcome.failure
    return outcome


def refusal(connector: Connector, settings: Settings) -> str:
    failure = load(connector, settings)["events"].failure
    assert failure is not None
    return failure.message


def ids(settings: Settings, table: str = "events") -> list[Any]:
    return [row[0] for row in query(settings, f"SELECT id FROM shop.{table} ORDER BY id")]


def minute(number: int) -> str:
    return f"2026-01-01T00:{number:02d}:00Z"
