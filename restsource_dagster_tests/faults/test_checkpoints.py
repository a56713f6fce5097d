"""A long load is stored in parts: what came before a failure or a kill stays, and is not lost."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.engine.source.checkpoint import Checkpoint
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.faults.watching import Notes
from restsource_dagster_tests.making import load, make_connector, make_settings, query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

pytestmark = pytest.mark.faults(row=21)

ROWS = 20
PAGE = 5
WALL = Answer({"error": "quota"}, 429, {"Retry-After": "3600"})
ORDERED = {"cursor_path": "at", "initial_value": 0, "start_param": "since", "row_order": "asc"}


class Orders:
    """Orders, oldest first, three for each value of the cursor, in pages of five."""

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        self.rows = [{"id": number, "at": 1 + number // 3} for number in range(ROWS)]
        self.is_wanted: Callable[[int, int], bool] = lambda at, since: at >= since
        self.requests_left = 1_000_000
        api.answers["/orders"] = self.answer
        for row in self.rows:
            api.answers[f"/orders/{row['id']}/lines"] = [{"line": row["id"] * 10}]

    def answer(self, seen: Seen) -> Any:
        self.requests_left -= 1
        if self.requests_left < 0:
            return WALL
        since = int(seen.query.get("since", 0))
        rows = [row for row in self.rows if self.is_wanted(row["at"], since)]
        start = int(seen.query.get("offset", 0))
        return {"data": rows[start : start + PAGE], "total": len(rows)}

    @property
    def asked_since(self) -> list[str]:
        """The `since` of each call, repeated ones once."""
        return list(dict.fromkeys(seen.query["since"] for seen in self.api.asked("/orders")))


@pytest.fixture
def orders(api: ApiServer) -> Orders:
    return Orders(api)


def resource(cursor: dict[str, Any] = ORDERED, **more: Any) -> dict[str, Any]:
    endpoint = {
        "path": "orders",
        "data_selector": "data",
        "paginator": {"type": "offset", "limit": PAGE, "total_path": "total"},
        "incremental": cursor,
    }
    return {"name": "orders", "primary_key": "id", "endpoint": endpoint, **more}


LINES = {
    "name": "lines",
    "primary_key": "line",
    "endpoint": {"path": "orders/{resources.orders.id}/lines"},
}


def in_parts(settings: Settings) -> Settings:
    """Settings with a checkpoint after each page."""
    return settings.model_copy(update={"checkpoint_seconds": 1e-9})


def ids(settings: Settings, table: str = "orders", key: str = "id") -> list[Any]:
    return [row[0] for row in query(settings, f"SELECT {key} FROM shop.{table} ORDER BY {key}")]


def ran(outcomes: dict[str, Outcome], name: str = "orders") -> Outcome:
    assert outcomes[name].failure is None, outcomes[name].failure
    return outcomes[name]


def test_rows_before_a_wall_stay_and_the_next_run_goes_on_after_them(
    orders: Orders, settings: Settings
) -> None:
    # one request after the other, so that the wall comes after the same page each time
    connector = make_connector(orders.api.url, resource(), http={"max_concurrency": 1})
    loaded: list[int] = []
    for _ in range(10):
        orders.requests_left = 4
        outcome = load(connector, settings)["orders"]
        loaded.append(len(ids(settings)))
        if not outcome.failed:
            break
        assert outcome.failure is not None
        assert "asks to wait" in outcome.failure.message
        assert outcome.failure.step == "extract"
        assert outcome.rows_loaded > 0
    assert ids(settings) == list(range(ROWS))
    assert loaded == sorted(set(loaded)), "each run gets further"


def test_a_wall_without_an_order_of_rows_leaves_the_cursor_until_the_load_is_complete(
    orders: Orders, settings: Settings
) -> None:
    cursor = {key: value for key, value in ORDERED.items() if key != "row_order"}
    connector = make_connector(orders.api.url, resource(cursor), http={"max_concurrency": 1})
    orders.requests_left = 3
    outcome = load(connector, settings)["orders"]
    assert outcome.failed
    assert outcome.cursor is not None
    assert outcome.cursor.last_value is None
    kept = len(ids(settings))
    assert kept == 3 * PAGE
    orders.requests_left = 1_000
    before = len(orders.api.asked("/orders"))
    ran(load(connector, settings))
    # the same question as before, from the place on
    assert orders.asked_since == ["0"]
    assert orders.api.asked("/orders")[before].query["offset"] == str(kept)
    assert ids(settings) == list(range(ROWS))
    ran(load(connector, settings))
    assert orders.asked_since == ["0", str(orders.rows[-1]["at"])]


def test_a_long_load_is_stored_in_parts(orders: Orders, settings: Settings) -> None:
    notes = Notes()
    connector = make_connector(orders.api.url, resource())
    outcome = ran(load(connector, in_parts(settings), observer=notes))
    assert ids(settings) == list(range(ROWS))
    assert outcome.checkpoints == len(notes.checkpoints) > 3
    assert outcome.row_count == ROWS
    assert outcome.cursor is not None
    assert (outcome.cursor.start_value, outcome.cursor.last_value) == (0, orders.rows[-1]["at"])
    counts = [rows for _, rows in notes.checkpoints]
    assert counts == sorted(counts)
    assert counts[0] == PAGE


def test_a_short_load_has_no_checkpoint(orders: Orders, settings: Settings) -> None:
    outcome = ran(load(make_connector(orders.api.url, resource()), settings))
    assert outcome.checkpoints == 0
    assert orders.asked_since == ["0"]


@pytest.mark.parametrize(
    ("strategy", "mode"),
    [("delete-insert", "auto"), ("upsert", "rows"), ("insert-only", "auto")],
)
def test_every_merge_of_single_rows_gives_the_same_table_in_parts(
    orders: Orders, settings: Settings, strategy: str, mode: str
) -> None:
    disposition = {"disposition": "merge", "strategy": strategy}
    del orders.rows[3 * PAGE :]
    connector = make_connector(orders.api.url, resource(write_disposition=disposition, mode=mode))
    assert ran(load(connector, in_parts(settings))).checkpoints > 1
    assert ids(settings) == list(range(3 * PAGE))


def test_an_api_that_sends_only_rows_after_the_cursor_loses_none_at_a_checkpoint(
    orders: Orders, settings: Settings
) -> None:
    # a page ends between rows with the same value, and the rest of them must still come
    orders.is_wanted = lambda at, since: at > since
    assert ran(load(make_connector(orders.api.url, resource()), in_parts(settings))).checkpoints > 2
    assert ids(settings) == list(range(ROWS))


def test_dependents_are_stored_with_their_parents_in_parts(
    orders: Orders, settings: Settings
) -> None:
    # two pages of orders; the lines of each order are a part
    del orders.rows[PAGE + 1 :]
    connector = make_connector(orders.api.url, resource(), LINES)
    outcomes = load(connector, in_parts(settings))
    assert ran(outcomes).checkpoints > 2
    assert ran(outcomes, "lines").row_count == PAGE + 1
    assert ids(settings, "lines", "line") == [number * 10 for number in range(PAGE + 1)]


def test_a_wall_below_a_parent_keeps_the_parts_before_it(
    orders: Orders, settings: Settings
) -> None:
    del orders.rows[PAGE + 2 :]
    connector = make_connector(orders.api.url, resource(), LINES)
    orders.api.answers[f"/orders/{PAGE}/lines"] = WALL
    outcomes = load(connector, in_parts(settings))
    assert outcomes["lines"].failed
    assert 0 < len(ids(settings)) < PAGE + 2
    kept = ids(settings)
    assert ids(settings, "lines", "line") == [number * 10 for number in kept]
    orders.api.answers[f"/orders/{PAGE}/lines"] = [{"line": PAGE * 10}]
    ran(load(connector, in_parts(settings)), "lines")
    assert ids(settings, "lines", "line") == [number * 10 for number in range(PAGE + 2)]


@pytest.mark.parametrize(
    ("why", "more"),
    [
        ("history", {"write_disposition": {"disposition": "merge", "strategy": "scd2"}}),
        ("merge key", {"merge_key": "at"}),
        ("an order of its own", {"columns": {"at": {"dedup_sort": "desc"}}}),
    ],
)
def test_a_load_that_parts_could_make_wrong_is_stored_as_a_whole(
    orders: Orders, settings: Settings, why: str, more: dict[str, Any]
) -> None:
    outcome = ran(load(make_connector(orders.api.url, resource(**more)), in_parts(settings)))
    assert outcome.checkpoints == 0, why
    assert outcome.row_count == ROWS


@pytest.mark.parametrize(
    ("why", "more"),
    [
        ("appended", {"write_disposition": "append"}),
        ("replaced", {"write_disposition": "replace"}),
        ("lag", {"cursor": {**ORDERED, "lag": 2}}),
        ("appended with lag", {"write_disposition": "append", "cursor": {**ORDERED, "lag": 2}}),
        ("exclusive", {"cursor": {**ORDERED, "range_start": "open"}}),
        ("window", {"cursor": {**ORDERED, "end_value": 1000}}),
        (
            "appended window",
            {"cursor": {**ORDERED, "end_value": 1000}, "write_disposition": "append"},
        ),
        ("not asked", {"cursor": {"cursor_path": "at", "row_order": "asc"}}),
        ("descending", {"cursor": {**ORDERED, "row_order": "desc"}}),
        (
            "descending and appended",
            {"cursor": {**ORDERED, "row_order": "desc"}, "write_disposition": "append"},
        ),
    ],
)
def test_a_load_that_cannot_go_on_from_its_cursor_goes_on_at_its_place(
    orders: Orders, settings: Settings, why: str, more: dict[str, Any]
) -> None:
    orders.is_wanted = lambda *_: True
    pages = 3
    del orders.rows[pages * PAGE :]
    new = {"id": len(orders.rows), "at": len(orders.rows)}
    if "descending" in why:
        orders.rows.reverse()
    connector = make_connector(orders.api.url, resource(**more), http={"max_concurrency": 1})
    outcome = ran(load(connector, in_parts(settings)))
    assert outcome.checkpoints >= pages - 1
    assert ids(settings) == list(range(pages * PAGE))
    assert len(orders.api.asked("/orders")) <= pages + 1
    # the rows of all parts are known to the next run
    orders.rows.insert(0 if "descending" in why else len(orders.rows), new)
    ran(load(connector, settings))
    # the rows of a window are appended once
    assert ids(settings) == list(range(pages * PAGE + (why != "appended window")))


def test_rows_that_are_not_in_order_are_all_stored(orders: Orders, settings: Settings) -> None:
    random.Random(7).shuffle(orders.rows)
    orders.rows.sort(key=lambda row: row["id"] >= PAGE)
    orders.rows[1], orders.rows[0] = orders.rows[0], orders.rows[1]
    ran(load(make_connector(orders.api.url, resource()), in_parts(settings)))
    assert ids(settings) == list(range(ROWS))


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


@pytest.mark.parametrize("part", [1, 3])
def test_a_killed_run_goes_on_after_its_last_checkpoint(
    orders: Orders, nursery: Nursery, tmp_path: Path, part: int
) -> None:
    file = {
        "name": "shop",
        "schedule": {"mode": "manual"},
        "client": {"base_url": orders.api.url},
        "resources": [resource(), LINES],
    }
    run = nursery.start(file, tmp_path, checkpoint_seconds=1e-9)
    for _ in range(part):
        run.wait_for("checkpoint", "orders")
    run.kill()
    assert run.end()["ended"] != 0
    before = len(orders.api.asked("/orders"))
    nursery.start(file, tmp_path, checkpoint_seconds=60).finish()
    folder = make_settings(tmp_path)
    assert ids(folder) == list(range(ROWS))
    assert ids(folder, "lines", "line") == [number * 10 for number in range(ROWS)]
    first = orders.api.asked("/orders")[before].query
    # a part that ends below an order goes on at its place
    is_later = int(first["since"]) >= part or int(first.get("offset", 0)) >= PAGE
    assert is_later, "the rows before the checkpoint are not asked for"


def test_a_checkpoint_is_due_after_its_seconds_or_its_rows() -> None:
    now = [0.0]
    checkpoint = Checkpoint(60, rows=10, clock=lambda: now[0])
    checkpoint.add_page(9)
    assert not checkpoint.is_due
    checkpoint.add_page(1)
    assert checkpoint.is_due
    later = Checkpoint(60, rows=10, clock=lambda: now[0])
    now[0] = 60.0
    assert later.is_due


@pytest.mark.parametrize("disposition", ["append", "replace", "merge"])
@pytest.mark.parametrize("has_cursor", [True, False])
def test_a_key_that_comes_again_in_a_later_part_is_treated_as_in_one_load(
    api: ApiServer, tmp_path: Path, disposition: str, has_cursor: bool
) -> None:
    """The newest versions come first, and every key again on each of the next pages."""
    rows = [{"id": number % PAGE, "at": 100 - number} for number in range(3 * PAGE)]

    def answer(seen: Seen) -> Any:
        start = int(seen.query.get("offset", 0))
        return {"data": rows[start : start + PAGE], "total": len(rows)}

    api.answers["/orders"] = answer
    endpoint: dict[str, Any] = {
        "path": "orders",
        "data_selector": "data",
        "paginator": {"type": "offset", "limit": PAGE},
    }
    if has_cursor:
        endpoint["incremental"] = {"cursor_path": "at", "initial_value": 0}
    given = {"name": "orders", "primary_key": "id", "write_disposition": disposition}
    connector = make_connector(api.url, {**given, "endpoint": endpoint})
    found = []
    for seconds in (60.0, 1e-9):
        settings = make_settings(tmp_path / str(seconds))
        settings = settings.model_copy(update={"checkpoint_seconds": seconds})
        outcome = ran(load(connector, settings))
        assert outcome.checkpoints == (0 if seconds > 1 else 2)
        found.append(query(settings, 'SELECT id, "at" FROM shop.orders ORDER BY ALL'))
    assert found[0] == found[1]
