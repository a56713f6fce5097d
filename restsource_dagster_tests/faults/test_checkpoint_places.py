"""A load without an order of rows is stored in parts, and goes on at its place in the paging."""

from typing import Any

import pytest

from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.paged_orders import LINES, PAGE, PAGING, PagedOrders, paged
from restsource_dagster_tests.faults.watching import Notes
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import ApiServer

pytestmark = pytest.mark.faults(row=21)

ONE_AT_A_TIME = {"max_concurrency": 1}
"""So that the wall comes after the same page each time."""
APPENDED = {"write_disposition": "append"}
MERGED = {"write_disposition": "merge", "primary_key": "id"}


@pytest.fixture
def orders(api: ApiServer) -> PagedOrders:
    return PagedOrders(api)


def ids(settings: Settings, table: str = "orders", key: str = "id") -> list[Any]:
    return [row[0] for row in query(settings, f"SELECT {key} FROM shop.{table} ORDER BY {key}")]


def ran(outcomes: dict[str, Outcome], name: str = "orders") -> Outcome:
    assert outcomes[name].failure is None, outcomes[name].failure
    return outcomes[name]


def in_parts(settings: Settings) -> Settings:
    """Settings with a checkpoint after each page."""
    return settings.model_copy(update={"checkpoint_seconds": 1e-9})


def is_state_clean(settings: Settings) -> bool:
    """True if the newest state has no unfinished load."""
    import json
    import zlib
    from base64 import b64decode

    (state,) = query(
        settings, "SELECT state FROM shop._dlt_pipeline_state ORDER BY version DESC LIMIT 1"
    )[0]
    return "unfinished" not in json.dumps(json.loads(zlib.decompress(b64decode(state))))


@pytest.mark.parametrize("kind", list(PAGING))
@pytest.mark.parametrize("disposition", [APPENDED, MERGED], ids=["append", "merge"])
def test_a_load_in_parts_has_each_row_once(
    orders: PagedOrders, settings: Settings, kind: str, disposition: dict[str, Any]
) -> None:
    notes = Notes()
    connector = make_connector(orders.api.url, paged(kind, **disposition), http=ONE_AT_A_TIME)
    outcome = ran(load(connector, in_parts(settings), observer=notes))
    assert ids(settings) == list(range(len(orders.rows)))
    assert outcome.checkpoints == len(notes.checkpoints) >= len(orders.rows) // PAGE - 1
    assert orders.requests <= len(orders.rows) // PAGE + 1
    assert is_state_clean(settings)


@pytest.mark.parametrize("kind", list(PAGING))
@pytest.mark.parametrize("disposition", [APPENDED, MERGED], ids=["append", "merge"])
def test_a_quota_of_a_fifth_of_the_load_ends_in_six_runs(
    orders: PagedOrders, settings: Settings, kind: str, disposition: dict[str, Any]
) -> None:
    connector = make_connector(orders.api.url, paged(kind, **disposition), http=ONE_AT_A_TIME)
    for run in range(1, 7):
        orders.requests_left = 2
        outcome = load(connector, settings)["orders"]
        assert (outcome.resumed_from is not None) == (run > 1)
        if not outcome.failed:
            break
        assert outcome.failure is not None
        assert "asks to wait" in outcome.failure.message
        assert ids(settings) == list(range(min(run * 2 * PAGE, len(orders.rows))))
    assert not outcome.failed
    assert ids(settings) == list(range(len(orders.rows)))
    assert is_state_clean(settings)


@pytest.mark.parametrize("lines_disposition", ["append", "merge"])
@pytest.mark.parametrize("disposition", [APPENDED, MERGED], ids=["append", "merge"])
def test_a_quota_below_parents_ends_too(
    api: ApiServer, settings: Settings, disposition: dict[str, Any], lines_disposition: str
) -> None:
    orders = PagedOrders(api, rows=8)
    connector = make_connector(
        orders.api.url,
        paged("link", **disposition),
        {**LINES, "write_disposition": lines_disposition},
        http=ONE_AT_A_TIME,
    )
    wanted = 2 + 8 * 2
    for _ in range(7):
        orders.requests_left = wanted // 5
        outcomes = load(connector, settings)
        if not outcomes["lines"].failed:
            break
    ran(outcomes, "lines")
    assert ids(settings) == list(range(8))
    assert ids(settings, "lines", "line") == orders.all_lines
    assert is_state_clean(settings)
