"""A load in parts that a later run continues knows the rows of all earlier parts, however long ago they came."""

import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.engine.plan.resource_plan import build_resource_plans
from restsource_dagster.engine.source.repeated_rows import RepeatedRows
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.faults.watching import Notes
from restsource_dagster_tests.making import load, make_connector, make_settings, query, writing
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen
from restsource_dagster_tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.faults(row=21)

PAGE = KEYS = 1_600
"""Different keys. Each comes three times, with more than a thousand rows of others in between."""
PAGES = 3 * KEYS // PAGE
"""The first two are parts of an earlier run, and the last one has older versions of their rows."""
AT_ONCE = 1e-9
WALL = Answer({"error": "quota"}, 429, {"Retry-After": "3600"})
SERVICE_TABLE = "SELECT count(*) FROM shop._restsource_known_rows"


class Feed:
    """An API that sends the newest versions first, all of them again, and then older ones.

    Below each of two parents it sends the same lines.
    """

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        self.requests_left = 1_000_000
        self.gives_last_page = threading.Event()
        self.gives_last_page.set()
        newest, older = (
            [{"id": f"key {key}", "at": self._time(at - key), "n": at - key} for key in range(KEYS)]
            for at in (2 * KEYS, KEYS)
        )
        self.rows = [*newest, *newest, *older]
        self.lines = [{"id": number, "text": "x"} for number in range(KEYS)]
        api.answers["/orders"] = lambda seen: self._page(seen, self.rows)
        api.answers["/shops"] = lambda seen: self._page(seen, [{"id": 1}, {"id": 2}])
        for shop in (1, 2):
            api.answers[f"/shops/{shop}/lines"] = lambda seen: self._page(seen, self.lines)

    @staticmethod
    def _time(number: int) -> str:
        return f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z"

    def _page(self, seen: Seen, rows: list[dict[str, Any]]) -> Any:
        self.requests_left -= 1
        if self.requests_left < 0:
            return WALL
        start = int(seen.query.get("offset", 0))
        if start == (PAGES - 1) * PAGE:
            self.gives_last_page.wait(PATIENCE_SECONDS)
        return {"data": rows[start : start + PAGE], "total": len(rows)}

    def file(self, *resources: dict[str, Any]) -> dict[str, Any]:
        return {
            "name": "shop",
            "schedule": {"mode": "manual"},
            "client": {"base_url": self.api.url},
            # so that a wall comes after the same page each time
            "http": {"max_concurrency": 1},
            "resources": list(resources),
        }


def endpoint(path: str, **more: Any) -> dict[str, Any]:
    paginator = {"type": "offset", "limit": PAGE, "total_path": "total"}
    return {"path": path, "data_selector": "data", "paginator": paginator, **more}


def orders(disposition: Any, *, has_cursor: bool) -> dict[str, Any]:
    cursor = {"cursor_path": "at", "initial_value": "2020-01-01T00:00:00Z"}
    asked = endpoint("orders", **({"incremental": cursor} if has_cursor else {}))
    given = {"name": "orders", "primary_key": "id", "write_disposition": disposition}
    return {**given, "endpoint": asked}


def stored(folder: Path, table: str = "orders") -> list[Any]:
    columns = 'id, "at", n' if table == "orders" else "id"
    return query(make_settings(folder), f"SELECT {columns} FROM shop.{table} ORDER BY ALL")


@pytest.fixture
def feed(api: ApiServer) -> Feed:
    return Feed(api)


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


INSERT_ONLY = {"disposition": "merge", "strategy": "insert-only"}
CASES = [
    ("append", True, "auto"),
    ("append", False, "rows"),
    ("replace", False, "auto"),
    ("merge", True, "rows"),
    ("merge", True, "auto"),
    (INSERT_ONLY, True, "auto"),
]


@pytest.mark.parametrize(("disposition", "has_cursor", "mode"), CASES)
def test_a_later_run_knows_the_rows_of_the_parts_before_it(
    feed: Feed, nursery: Nursery, tmp_path: Path, disposition: Any, has_cursor: bool, mode: str
) -> None:
    file = feed.file({**orders(disposition, has_cursor=has_cursor), "mode": mode})
    nursery.start(file, tmp_path / "undisturbed").finish()
    killed = tmp_path / "killed"
    feed.requests_left = PAGES - 1
    assert nursery.start(file, killed, checkpoint_seconds=AT_ONCE).end()["ended"] == 1
    feed.requests_left = 1_000_000
    run = nursery.start(file, killed, checkpoint_seconds=AT_ONCE).finish()
    assert any("goes on with the load of an earlier run" in one for one in run.messages)
    assert stored(killed) == stored(tmp_path / "undisturbed")
    assert query(make_settings(killed), SERVICE_TABLE) == [(0,)]


@pytest.mark.parametrize("disposition", ["replace", "merge"])
def test_a_run_after_a_killed_one_knows_the_rows_of_its_parts(
    feed: Feed, nursery: Nursery, tmp_path: Path, disposition: str
) -> None:
    file = feed.file(orders(disposition, has_cursor=True))
    nursery.start(file, tmp_path / "undisturbed").finish()
    killed = tmp_path / "killed"
    feed.gives_last_page.clear()
    run = nursery.start(file, killed, checkpoint_seconds=AT_ONCE)
    for _ in range(PAGES - 1):
        run.wait_for("checkpoint")
    run.kill()
    assert run.end()["ended"] != 0
    feed.gives_last_page.set()
    nursery.start(file, killed, checkpoint_seconds=AT_ONCE).finish()
    assert stored(killed) == stored(tmp_path / "undisturbed")


def test_a_later_run_knows_the_rows_below_earlier_parents(
    feed: Feed, nursery: Nursery, tmp_path: Path
) -> None:
    lines = {
        "name": "lines",
        "primary_key": "id",
        "write_disposition": "append",
        "endpoint": endpoint("shops/{resources.shops.id}/lines"),
    }
    shops = {"name": "shops", "write_disposition": "replace", "endpoint": endpoint("shops")}
    file = feed.file(shops, lines)
    nursery.start(file, tmp_path / "undisturbed").finish()
    killed = tmp_path / "killed"
    feed.requests_left = 1 + KEYS // PAGE
    assert nursery.start(file, killed, checkpoint_seconds=AT_ONCE).end()["ended"] != 0
    feed.requests_left = 1_000_000
    nursery.start(file, killed, checkpoint_seconds=AT_ONCE).finish()
    assert stored(killed, "lines") == stored(tmp_path / "undisturbed", "lines")
    assert len(stored(killed, "lines")) == KEYS


def test_a_load_whose_known_rows_are_gone_starts_anew(feed: Feed, tmp_path: Path) -> None:
    resource = orders("append", has_cursor=True)
    connector = make_connector(feed.api.url, resource, http={"max_concurrency": 1})
    load(connector, make_settings(tmp_path / "undisturbed"))
    settings = make_settings(tmp_path / "killed")
    settings = settings.model_copy(update={"checkpoint_seconds": AT_ONCE})
    feed.requests_left = PAGES - 1
    assert load(connector, settings)["orders"].failed
    forget_known_rows(settings)
    feed.requests_left, notes = 1_000_000, Notes()
    outcome = load(connector, settings, observer=notes)["orders"]
    assert not outcome.failed
    assert outcome.resumed_from is None
    assert any("can't be continued" in text for text in notes.messages)
    assert stored(tmp_path / "killed") == stored(tmp_path / "undisturbed")


@pytest.mark.parametrize("disposition", ["append", "replace", "merge"])
@pytest.mark.parametrize("key", ["id", "ref.id", ["ref.id", "n"], ["id", "n"]])
@pytest.mark.parametrize("path", ["at", "ref.at", ["later", "at"]])
def test_what_is_noted_is_what_is_known(disposition: str, key: Any, path: Any) -> None:
    cursor = {"cursor_path": path, "initial_value": 0}
    resource = {"name": "orders", "primary_key": key, "write_disposition": disposition}
    endpoint = {"path": "orders", "incremental": cursor}
    connector = make_connector("http://localhost", {**resource, "endpoint": endpoint})
    [plan] = build_resource_plans(connector.families[0], connector, ["orders"])
    rows: list[dict[str, Any]] = [
        {"id": number, "n": Decimal(number), "at": at, "ref": {"id": number, "at": at}}
        for number, at in ((1, 5), (2, 7), (10**30, 9))
    ]
    before, after = RepeatedRows(plan), RepeatedRows(plan)
    assert before.filter(list(rows)) == rows
    after.recall(before.as_json())
    older = [{**row, "at": 1, "ref": {**row["ref"], "at": 1}} for row in rows]
    assert after.filter(list(rows)) == before.filter(list(rows))
    assert after.filter(older) == before.filter(older)
    assert after.as_json() == before.as_json()


def forget_known_rows(settings: Settings) -> None:
    with writing(settings) as connection:
        connection.execute("DELETE FROM shop._restsource_known_rows")
