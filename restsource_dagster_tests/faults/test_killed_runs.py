"""Runs killed at any moment; the next one leaves exactly the rows of undisturbed runs.

`FAULTS_KILLS` sets how many kills per disposition there are (by default 2, one of them in the load; the
whole campaign has 50).
"""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster_tests.faults.campaign import kill_and_make_good
from restsource_dagster_tests.faults.growing import DISPOSITIONS, GrowingShop
from restsource_dagster_tests.faults.nursery import Nursery, Run
from restsource_dagster_tests.making import make_settings, query, writing
from restsource_dagster_tests.servers.api import ApiServer
from restsource_dagster_tests.waiting import wait_for

pytestmark = pytest.mark.faults(row=4)

KILLS = int(os.environ.get("FAULTS_KILLS", "2"))


def finish(nursery: Nursery, shop: GrowingShop, folder: Path) -> Run:
    return nursery.start(shop.file, folder).finish()


@pytest.mark.parametrize("disposition", DISPOSITIONS)
def test_the_run_after_a_killed_run_completes_the_tables(
    api: ApiServer, tmp_path: Path, nursery: Nursery, disposition: str
) -> None:
    shop = GrowingShop(api, disposition)
    done = kill_and_make_good(shop, tmp_path, nursery, KILLS, f"{disposition} {KILLS}")
    print(f"\n{disposition}: kills by phase {dict(done.struck)}, {done.undone} loads undone")  # noqa: T201


@pytest.mark.parametrize("disposition", DISPOSITIONS)
def test_one_run_completes_the_tables_after_several_killed_runs(
    api: ApiServer, tmp_path: Path, nursery: Nursery, disposition: str
) -> None:
    shop, settings = GrowingShop(api, disposition), make_settings(tmp_path)
    dice = random.Random(disposition)
    for _ in range(2):
        shop.grow()
        run = nursery.start(shop.file, tmp_path)
        run.kill_at_random((0.0, 0.15), dice, in_load=True)
    finish(nursery, shop, tmp_path)
    assert shop.found(settings) == shop.expected()


@pytest.mark.parametrize("disposition", DISPOSITIONS)
def test_a_run_killed_during_a_response_moves_no_cursor(
    api: ApiServer, tmp_path: Path, nursery: Nursery, disposition: str
) -> None:
    shop, settings = GrowingShop(api, disposition), make_settings(tmp_path)
    shop.grow()
    finish(nursery, shop, tmp_path)
    before = shop.found(settings)
    shop.grow()
    shop.hold()
    run = nursery.start(shop.file, tmp_path)
    wait_for(shop.held, "a call for lines")
    run.kill()
    run.end()
    shop.release()
    assert shop.found(settings) == before
    finish(nursery, shop, tmp_path)
    assert shop.found(settings) == shop.expected()


def test_the_rows_of_a_load_that_did_not_complete_are_removed_first(
    api: ApiServer, tmp_path: Path, nursery: Nursery
) -> None:
    """What a kill between two tables leaves, made by hand: rows, a note, and no completion."""
    shop, settings = GrowingShop(api, "append"), make_settings(tmp_path)
    shop.grow()
    finish(nursery, shop, tmp_path)
    with writing(settings) as connection:
        connection.execute(
            "INSERT INTO shop.orders (id, _dlt_load_id, _dlt_id) VALUES (99, '9', 'x')"
        )
        connection.execute(
            "INSERT INTO shop.orders__items (value, _dlt_parent_id, _dlt_root_id, _dlt_list_idx, "
            "_dlt_id) VALUES ('a', 'x', 'x', 0, 'y'), ('b', 'other', 'other', 0, 'z')"
        )
        connection.execute(
            "INSERT INTO shop._restsource_loads VALUES ('9', 0, 'orders', NULL), "
            "('9', 1, 'orders__items', 'orders'), ('9', 2, 'never_made', NULL)"
        )
    shop.grow()
    run = finish(nursery, shop, tmp_path)
    assert any("was killed while it loaded" in line for line in run.messages)
    assert shop.found(settings) == shop.expected()
    assert query(settings, "SELECT * FROM shop._restsource_loads") == []


def test_a_killed_first_load_leaves_column_types_that_the_next_load_uses(
    api: ApiServer, tmp_path: Path, nursery: Nursery
) -> None:
    """The tables are there and the state is not: the values that come may be of another type."""
    settings = make_settings(tmp_path)
    file: dict[str, Any] = {
        "schedule": {"mode": "manual"},
        "client": {"base_url": api.url},
        "resources": [{"name": "things", "write_disposition": "append"}],
    }
    api.answers["/things"] = [{"x": 1}]
    nursery.start(file, tmp_path).finish()
    with writing(settings) as connection:
        connection.execute("DELETE FROM shop.things")
        connection.execute("DELETE FROM shop._dlt_loads")
        connection.execute("DELETE FROM shop._dlt_pipeline_state")
    api.answers["/things"] = [{"x": "a"}]
    nursery.start(file, tmp_path).finish()
    assert query(settings, "SELECT x, x__v_text FROM shop.things") == [(None, "a")]


def test_a_replaced_table_is_never_seen_empty(
    api: ApiServer, tmp_path: Path, nursery: Nursery
) -> None:
    shop, settings = GrowingShop(api, "replace"), make_settings(tmp_path)
    shop.grow()
    finish(nursery, shop, tmp_path)
    dice = random.Random(1)
    for _ in range(3):
        before = shop.found(settings)
        shop.grow()
        run = nursery.start(shop.file, tmp_path)
        run.kill_at_random((0.0, 0.2), dice, in_load=True)
        after, new = shop.found(settings), shop.expected()
        for tables in (("orders", "orders__items"), ("lines", "lines__tags")):
            seen = [after[table] for table in tables]
            assert seen in ([before[t] for t in tables], [new[t] for t in tables])
