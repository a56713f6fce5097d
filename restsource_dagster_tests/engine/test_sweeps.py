"""Sweeps: rows whose keys the API no longer lists leave the table, if the list can be believed."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import make_connector, make_settings, query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

START = datetime(2026, 11, 1, tzinfo=UTC)
CURSOR = {"cursor_path": "at", "initial_value": 0, "start_param": "since"}
PAGES: dict[str, Any] = {"type": "page_number", "base_page": 1, "total_path": None}


class Items:
    """Items with a cursor, two on a page; `on_list` is called after each page of all records."""

    def __init__(self, api: ApiServer) -> None:
        self.at = {key: key for key in range(1, 31)}
        self.total: int | None = None
        self.on_list: Callable[[int], Any] = lambda _: None
        for path in ("/removed", "/marked"):
            api.answers[path] = self._answer

    def _answer(self, seen: Seen) -> Any:
        page, since = int(seen.query["page"]), int(seen.query["since"])
        wanted = [key for key, at in self.at.items() if at >= since]
        rows = [{"id": key, "at": self.at[key], "tags": ["x"]} for key in wanted]
        total = {} if self.total is None or since else {"total": self.total}
        answer = {"data": rows[10 * page - 10 : 10 * page], **total}
        return answer if since or (found := self.on_list(page)) is None else found


def connector_of(
    api: ApiServer, *names: str, endpoint: dict[str, Any] | None = None, **sweep: Any
) -> Connector:
    def resource(name: str) -> dict[str, Any]:
        return {
            "name": name,
            "primary_key": "id",
            "nested": "tables",
            "sweep": {"every": "1d", **sweep},
            "on_delete": "mark" if name == "marked" else "remove",
            "endpoint": {
                "path": name,
                "data_selector": "data",
                "paginator": PAGES,
                "incremental": CURSOR,
                **(endpoint or {}),
            },
        }

    return make_connector(api.url, *map(resource, names))


def run(connector: Connector, settings: Settings, days: float) -> dict[str, Outcome]:
    moment = START + timedelta(days=days)
    outcomes = list(ingest(connector, settings=settings, environment={}, started=moment))
    assert not [one.failure for one in outcomes if one.failed]
    return {one.resource: one for one in outcomes}


@pytest.mark.on_destinations
def test_rows_that_the_api_no_longer_lists_leave_the_table_once_a_day(
    api: ApiServer, tmp_path: Path
) -> None:
    """A record that is created while all are listed stays out of it, and is loaded by the next run."""
    items, settings = Items(api), make_settings(tmp_path)
    connector = connector_of(api, "removed", "marked")
    assert run(connector, settings, 0)["removed"].sweep is None
    del items.at[3], items.at[12]
    assert run(connector, settings, 0.9)["removed"].sweep is None
    items.on_list = lambda _: items.at.setdefault(99, 99) and None
    for name, outcome in run(connector, settings, 1).items():
        assert outcome.sweep is not None
        assert (outcome.sweep.rows, outcome.sweep.refused) == (2, None)
        assert outcome.row_count == (30 if name == "marked" else 28)
    gone = "SELECT id FROM shop.marked WHERE _deleted_at = '2026-11-02 00:00:00+00' ORDER BY 1"
    assert query(settings, gone) == [(3,), (12,)]
    run(connector, settings, 1.5)
    # not again: marked rows are not among those that may go
    again = run(connector, settings, 2)
    assert [one.sweep and one.sweep.rows for one in again.values()] == [0, 0]
    assert query(settings, gone) == [(3,), (12,)]
    rows = "SELECT count(*), max(id) FROM shop.removed"
    assert query(settings, rows) == [(29, 99)]
    assert query(settings, "SELECT count(*) FROM shop.removed__tags") == [(29,)]


def test_a_key_that_the_api_spells_otherwise_than_the_table_stays(
    api: ApiServer, tmp_path: Path
) -> None:
    """A number in a column of texts, and the digits of a number: 100 is no other key than "100"."""
    spellings: dict[str, Callable[[int], Any]] = {
        "text": int,
        "bigint": str,
        "decimal": "{}.50".format,
    }
    keyed = {"primary_key": "id", "sweep": {"every": "1d"}}
    made = [
        {"name": f"{data_type}_items", "columns": {"id": {"data_type": data_type}}, **keyed}
        for data_type in spellings
    ]
    records = {
        f"{data_type}_items": [{"id": spell(key)} for key in range(1, 101)]
        for data_type, spell in spellings.items()
    }
    api.answers |= {f"/{name}": rows for name, rows in records.items()}
    connector, settings = make_connector(api.url, *made), make_settings(tmp_path)
    run(connector, settings, 0)
    for name, outcome in run(connector, settings, 1).items():
        found = outcome.sweep
        assert found, name
        assert (found.listed, found.rows, found.refused) == (100, 0, None), name
        del records[name][99]
    for name, outcome in run(connector, settings, 2).items():
        found = outcome.sweep
        assert found, name
        assert found.rows == 1, name
        assert query(settings, f"SELECT count(*) FROM shop.{name}") == [(99,)]


def test_a_list_that_may_not_be_whole_removes_nothing(api: ApiServer, tmp_path: Path) -> None:
    """Empty, far too short, shorter than its total, an error, or with pages that shift."""
    items, settings = Items(api), make_settings(tmp_path)
    connector = connector_of(api, "removed")
    run(connector, settings, 0)
    whole = dict(items.at)

    def refused(day: int) -> str:
        sweep = run(connector, settings, day)["removed"].sweep
        assert sweep
        assert sweep.rows == 0
        assert query(settings, "SELECT count(*) FROM shop.removed") == [(30,)]
        return sweep.refused or ""

    items.on_list = lambda _: {"data": []}
    assert "lists no record" in refused(1)
    items.on_list = lambda page: None if page == 1 else {"data": []}
    assert "20 of 30 rows would go" in refused(2)
    items.on_list, items.total = lambda _: None, 31
    assert "states 31 records, and lists 30" in refused(3)
    items.total, items.on_list = None, lambda _: Answer({"error": "no"}, 400)
    assert "400" in refused(4)
    # item 5 is taken out of the first page and put back: item 11 is on no page of the first list
    once = [5]

    def shift(page: int) -> None:
        if page == 1 and once:
            items.at.pop(once.pop())
        elif page == 4:
            items.at.clear()
            items.at.update(whole)

    items.on_list = shift
    assert refused(5) == ""
    del items.at[7]
    items.on_list = lambda _: None
    found = run(connector_of(api, "removed", at_most_percent=100), settings, 6)["removed"].sweep
    assert found
    assert found.rows == 1


@pytest.mark.parametrize(
    ("endpoint", "end", "reason"),
    [
        (
            {"response_actions": [{"status_code": 404, "action": "ignore"}]},
            Answer({}, 404),
            "the answer to page 3 is one that the file ignores",
        ),
        ({"paginator": {**PAGES, "maximum_page": 3}}, None, "ends at its maximum, 3"),
        (
            {"partial_errors": "load"},
            {"data": [{"id": 21, "at": 21}], "errors": ["late"]},
            "page 3 says in `errors`",
        ),
        (
            {"paginator": "single_page", "params": {"page": 1, "limit": 10}},
            None,
            "the only page is full (10 rows were asked for)",
        ),
    ],
)
def test_a_list_that_ends_early_by_the_file_removes_nothing(
    api: ApiServer, tmp_path: Path, endpoint: dict[str, Any], end: Any, reason: str
) -> None:
    """An answer that is ignored, the last page to ask for, an error beside rows, a single page that is full."""
    items, settings = Items(api), make_settings(tmp_path)
    run(connector_of(api, "removed"), settings, 0)
    short = connector_of(api, "removed", endpoint=endpoint, at_most_percent=100)
    # the cursor stands at 30, so the load itself asks for one page
    items.on_list = lambda page: end if page == 3 else None
    sweep = run(short, settings, 1)["removed"].sweep
    assert sweep
    assert reason in (sweep.refused or "")
    assert query(settings, "SELECT count(*) FROM shop.removed") == [(30,)]


def test_a_daily_run_is_due_though_it_starts_some_seconds_earlier(
    api: ApiServer, tmp_path: Path
) -> None:
    """A state that can't be used is said, and hides no load."""
    api.answers["/items"] = [{"id": 1}]
    items = {"name": "items", "primary_key": "id", "sweep": {"every": "1d"}}
    connector, settings = make_connector(api.url, items), make_settings(tmp_path)
    run(connector, settings, 0)
    assert run(connector, settings, 1 - 30 / 86_400)["items"].sweep
    notes = settings.state_folder / "sweeps"
    shutil.rmtree(notes)
    notes.write_text("no folder")
    outcome = run(connector, settings, 2)["items"]
    assert outcome.rows_loaded == 1
    assert outcome.sweep
    assert str(notes) in (outcome.sweep.refused or "")
