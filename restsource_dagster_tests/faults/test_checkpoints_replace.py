"""A long load that replaces a table is staged in parts, and the table changes at the end, whole."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.engine.run.reset import reset_resources
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.faults.watching import Notes
from restsource_dagster_tests.making import load, make_connector, make_settings, query, writing
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

pytestmark = pytest.mark.faults(row=21)

PAGE = 2
ROWS = 3 * PAGE
WALL = Answer({"error": "quota"}, 429, {"Retry-After": "3600"})


class Shop:
    """Orders with a list of items, in pages of two; below each, a line."""

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        self.grow(range(ROWS))
        self.requests_left = 1_000_000
        api.answers["/orders"] = self.answer

    def grow(self, ids: range) -> None:
        """These are the orders from now on."""
        self.rows = [{"id": number, "items": [{"n": number * 10}]} for number in ids]
        for number in ids:
            self.api.answers[f"/orders/{number}/lines"] = [{"line": number * 100}]

    def answer(self, seen: Seen) -> Any:
        self.requests_left -= 1
        if self.requests_left < 0:
            return WALL
        start = int(seen.query.get("after", 0))
        following = start + PAGE if start + PAGE < len(self.rows) else None
        return {"data": self.rows[start : start + PAGE], "next": following}

    @property
    def asked(self) -> list[int]:
        """The place of each request for orders."""
        return [int(seen.query.get("after", 0)) for seen in self.api.asked("/orders")]


@pytest.fixture
def shop(api: ApiServer) -> Shop:
    return Shop(api)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a checkpoint after each page."""
    return make_settings(tmp_path).model_copy(update={"checkpoint_seconds": 1e-9})


def orders(**more: Any) -> dict[str, Any]:
    paginator = {"type": "cursor", "cursor_path": "next", "cursor_param": "after"}
    endpoint = {"path": "orders", "data_selector": "data", "paginator": paginator}
    return {"name": "orders", "write_disposition": "replace", "endpoint": endpoint, **more}


def lines(**more: Any) -> dict[str, Any]:
    endpoint = {"path": "orders/{resources.orders.id}/lines", "paginator": "single_page"}
    return {"name": "lines", "write_disposition": "replace", "endpoint": endpoint, **more}


def run(
    shop: Shop, settings: Settings, *resources: Mapping[str, Any], requests: int = 1_000_000
) -> dict[str, Outcome]:
    """Run with one request after the other, so that a wall comes after the same page each time."""
    shop.requests_left = requests
    connector = make_connector(
        shop.api.url, *(resources or (orders(),)), http={"max_concurrency": 1}
    )
    return load(connector, settings)


def as_a_whole(settings: Settings) -> Settings:
    """Settings with which these loads have no checkpoint."""
    return settings.model_copy(update={"checkpoint_seconds": 60.0})


def ran(outcomes: dict[str, Outcome], name: str = "orders") -> Outcome:
    assert outcomes[name].failure is None, outcomes[name].failure
    return outcomes[name]


def ids(settings: Settings) -> list[int]:
    """The orders that the table holds, whose nested rows are checked as well."""
    found = [row[0] for row in query(settings, "SELECT id FROM shop.orders ORDER BY id")]
    nested = (
        "SELECT i.n FROM shop.orders__items i JOIN shop.orders o ON i._dlt_parent_id = o._dlt_id"
    )
    assert sorted(row[0] for row in query(settings, nested)) == [number * 10 for number in found]
    count = query(settings, "SELECT count(*) FROM shop.orders__items")
    assert count == [(len(found),)]
    return found


def all_lines(settings: Settings) -> list[int]:
    return [row[0] // 100 for row in query(settings, "SELECT line FROM shop.lines ORDER BY line")]


def staged(settings: Settings) -> int:
    return int(query(settings, "SELECT count(*) FROM shop_staging.orders")[0][0])


@pytest.mark.parametrize("mode", ["auto", "rows"])
def test_a_table_is_replaced_in_parts(shop: Shop, settings: Settings, mode: str) -> None:
    notes = Notes()
    connector = make_connector(shop.api.url, orders(mode=mode))
    outcome = ran(load(connector, settings, observer=notes))
    assert outcome.checkpoints == len(notes.checkpoints) > 1
    assert (outcome.rows_loaded, outcome.row_count) == (ROWS, ROWS)
    assert ids(settings) == list(range(ROWS))
    assert staged(settings) == 0
    shop.grow(range(100, 100 + 2 * PAGE))
    ran(run(shop, settings, orders(mode=mode)))
    assert ids(settings) == list(range(100, 100 + 2 * PAGE))


def test_a_wall_leaves_the_old_table_and_the_next_run_goes_on(
    shop: Shop, settings: Settings
) -> None:
    ran(run(shop, as_a_whole(settings)))
    shop.grow(range(100, 100 + ROWS))
    failed = run(shop, settings, requests=2)["orders"]
    assert failed.failure is not None
    assert "asks to wait" in failed.failure.message
    assert ids(settings) == list(range(ROWS))
    assert staged(settings) == 2 * PAGE
    before = len(shop.asked)
    outcome = ran(run(shop, settings))
    assert shop.asked[before:] == [2 * PAGE]
    assert outcome.resumed_from is not None
    assert ids(settings) == list(range(100, 100 + ROWS))


def test_each_run_before_the_last_leaves_the_old_table(shop: Shop, settings: Settings) -> None:
    ran(run(shop, as_a_whole(settings)))
    shop.grow(range(100, 100 + ROWS))
    for _ in range(2):
        assert run(shop, settings, requests=1)["orders"].failed
        assert ids(settings) == list(range(ROWS))
    ran(run(shop, settings, requests=1))
    assert ids(settings) == list(range(100, 100 + ROWS))


def test_a_load_without_rows_empties_the_table(shop: Shop, settings: Settings) -> None:
    ran(run(shop, as_a_whole(settings)))
    shop.grow(range(0))
    assert ran(run(shop, settings)).checkpoints == 0
    assert ids(settings) == []


@pytest.mark.parametrize(
    "change",
    [{"primary_key": "id"}, {"columns": [{"name": "id", "data_type": "text"}]}],
    ids=["key", "column"],
)
def test_a_changed_file_starts_anew(shop: Shop, settings: Settings, change: dict[str, Any]) -> None:
    assert run(shop, settings, requests=2)["orders"].failed
    before = len(shop.asked)
    ran(run(shop, settings, orders(**change)))
    assert shop.asked[before] == 0
    assert query(settings, "SELECT count(*), count(DISTINCT id) FROM shop.orders") == [(ROWS, ROWS)]


def test_a_place_that_the_api_refuses_starts_anew(shop: Shop, settings: Settings) -> None:
    assert run(shop, settings, requests=2)["orders"].failed
    known = shop.answer

    def expired(seen: Seen) -> Any:
        # the wall was the third request
        if seen.query.get("after") == str(2 * PAGE) and 0 not in shop.asked[3:]:
            return Answer({"error": "expired"}, 410)
        return known(seen)

    shop.api.answers["/orders"] = expired
    ran(run(shop, settings))
    assert ids(settings) == list(range(ROWS))


def test_a_reset_drops_the_staged_rows(shop: Shop, settings: Settings) -> None:
    assert run(shop, settings, requests=2)["orders"].failed
    reset_resources(make_connector(shop.api.url, orders()), None, settings)
    before = len(shop.asked)
    ran(run(shop, settings))
    assert shop.asked[before] == 0
    assert ids(settings) == list(range(ROWS))


def test_staged_rows_that_somebody_has_dropped_start_the_load_anew(
    shop: Shop, settings: Settings
) -> None:
    assert run(shop, settings, requests=2)["orders"].failed
    with writing(settings) as connection:
        connection.execute("DROP SCHEMA shop_staging CASCADE")
    before = len(shop.asked)
    ran(run(shop, settings))
    assert shop.asked[before] == 0
    assert ids(settings) == list(range(ROWS))


def test_a_load_as_a_whole_in_between_starts_the_next_anew(shop: Shop, settings: Settings) -> None:
    assert run(shop, settings, requests=2)["orders"].failed
    ran(run(shop, as_a_whole(settings), orders(primary_key="id")))
    shop.grow(range(100, 100 + ROWS))
    before = len(shop.asked)
    ran(run(shop, settings))
    assert shop.asked[before] == 0
    assert ids(settings) == list(range(100, 100 + ROWS))


@pytest.mark.parametrize(
    ("parent", "child"),
    [("replace", "replace"), ("replace", "append"), ("replace", "merge"), ("merge", "replace")],
)
def test_families_of_mixed_dispositions_go_on_in_parts(
    shop: Shop, settings: Settings, parent: str, child: str
) -> None:
    keyed = [
        orders(write_disposition=parent, primary_key="id"),
        lines(write_disposition=child, primary_key="line"),
    ]
    # two pages of orders; the lines of each order are a part
    shop.grow(range(PAGE + 1))
    for _ in range(3):
        if not any(one.failed for one in run(shop, settings, *keyed, requests=1).values()):
            break
    assert ids(settings) == list(range(PAGE + 1))
    assert all_lines(settings) == list(range(PAGE + 1))


def test_rows_that_come_again_after_a_wall_are_stored_once(shop: Shop, settings: Settings) -> None:
    assert run(shop, settings, orders(primary_key="id"), requests=2)["orders"].failed
    # an order that is new at the front shifts all others
    shop.rows.insert(0, {"id": 900, "items": [{"n": 9000}]})
    ran(run(shop, settings, orders(primary_key="id")))
    # the new one is on a page that was read before: the next run has it
    assert ids(settings) == list(range(ROWS))


@pytest.mark.parametrize("part", [1, 3])
def test_a_killed_run_leaves_the_old_table_and_the_next_one_goes_on(
    shop: Shop, nursery: Nursery, tmp_path: Path, part: int
) -> None:
    file = {
        "name": "shop",
        "schedule": {"mode": "manual"},
        "client": {"base_url": shop.api.url},
        "resources": [orders(), lines()],
    }
    settings = make_settings(tmp_path)
    nursery.start(file, tmp_path).finish()
    shop.grow(range(100, 100 + ROWS))
    killed = nursery.start(file, tmp_path, checkpoint_seconds=1e-9)
    for _ in range(part):
        killed.wait_for("checkpoint", "orders")
    killed.kill()
    assert killed.end()["ended"] != 0
    assert ids(settings) == list(range(ROWS))
    assert all_lines(settings) == list(range(ROWS))
    after = nursery.start(file, tmp_path).finish()
    assert any("goes on with the load of an earlier run" in one for one in after.messages)
    assert ids(settings) == list(range(100, 100 + ROWS))
    assert all_lines(settings) == list(range(100, 100 + ROWS))
