"""The API decides what is new: what its own filter sends is merged, and what is left out is told."""

from typing import Any

import pytest

from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.feeds import events, keyed, refusal, run
from restsource_dagster_tests.faults.shop_of_lines import Shop, lines, shop_connector
from restsource_dagster_tests.faults.shop_of_lines import run as run_shop
from restsource_dagster_tests.faults.watching import Notes
from restsource_dagster_tests.making import make_connector, query
from restsource_dagster_tests.servers.api import ApiServer, Seen

pytestmark = pytest.mark.faults(row=10)


class Changes:
    """An API that filters by when it noticed a change, which `at` doesn't always show."""

    def __init__(self, api: ApiServer) -> None:
        self.rows = {number: {"id": number, "at": number, "n": 0} for number in range(1, 6)}
        self.noticed = dict.fromkeys(self.rows, 0) | {5: 5}
        api.answers["/events"] = self.answer

    def change(self, number: int, noticed: int) -> None:
        self.rows[number]["n"] += 1
        self.noticed[number] = noticed

    def answer(self, seen: Seen) -> Any:
        since = int(seen.query.get("since") or 0)
        rows = [row for number, row in self.rows.items() if self.noticed[number] >= since]
        return {"data": rows, "total": len(rows)}


def changed(settings: Settings) -> list[tuple[Any, ...]]:
    return query(settings, "SELECT id, n FROM shop.events WHERE n > 0 ORDER BY id, n")


@pytest.mark.parametrize("order", [None, "asc"])
def test_a_merge_takes_older_rows_that_the_apis_filter_sends(
    api: ApiServer, settings: Settings, order: str | None
) -> None:
    changes = Changes(api)
    connector = keyed(api, initial_value=0, row_order=order)
    run(connector, settings)
    changes.change(2, noticed=9)
    outcome = run(connector, settings)
    assert changed(settings) == [(2, 1)]
    assert outcome.cursor is not None
    assert outcome.cursor.last_value == 5
    run(connector, settings)
    assert [seen.query["since"] for seen in api.seen] == ["0", "5", "5"]


@pytest.mark.parametrize("place", ["params", "headers", "json"])
def test_a_cursor_in_any_part_of_the_request_lets_the_api_decide(
    api: ApiServer, settings: Settings, place: str
) -> None:
    sent = {"X-Since": "{incremental.start_value}"}
    endpoint = {
        "method": "POST" if place == "json" else "GET",
        place: sent,
        "data_selector": "data",
        "paginator": "single_page",
        "incremental": {"cursor_path": "at", "initial_value": 0},
    }
    changes = Changes(api)
    connector = make_connector(
        api.url, {"name": "events", "primary_key": "id", "endpoint": endpoint}
    )
    run(connector, settings)
    changes.change(2, noticed=9)
    run(connector, settings)
    assert changed(settings) == [(2, 1)]


def test_older_rows_that_are_left_out_are_told(api: ApiServer, settings: Settings) -> None:
    changes = Changes(api)
    run(events(api, initial_value=0), settings)
    changes.change(2, noticed=9)
    notes = Notes()
    run(events(api, initial_value=0), settings, notes)
    assert changed(settings) == []
    (text,) = [text for text in notes.messages if "left out" in text]
    assert "left out 1 rows whose at is before 5" in text
    assert '"primary_key"' in text


def test_without_a_filter_of_the_api_older_rows_are_left_out_and_told(
    api: ApiServer, settings: Settings
) -> None:
    Changes(api)
    connector = keyed(api, filters=False, initial_value=0)
    run(connector, settings)
    notes = Notes()
    run(connector, settings, notes)
    (text,) = [text for text in notes.messages if "left out" in text]
    assert "left out 4 rows whose at is before 5" in text
    assert '"start_param"' in text


def test_the_children_of_an_older_row_are_requested_again(
    api: ApiServer, settings: Settings
) -> None:
    shop = Shop(api)
    connector = shop_connector(api, orders_cursor=True)
    shop.order(1, at=1)
    shop.order(2, at=5)
    shop.line(1, 1)
    shop.line(2, 1)
    run_shop(connector, settings)
    shop.line(1, 2)
    # the API sends order 1 again, and its time of change is what it was
    api.answers["/orders"] = lambda seen: list(shop.orders)
    run_shop(connector, settings)
    assert lines(settings) == [(1, 1), (1, 2), (2, 1)]


@pytest.mark.parametrize("factor", [1_000, 1_000_000])
@pytest.mark.parametrize("merged", [True, False])
def test_a_unit_that_changes_is_refused_and_the_cursor_stays(
    api: ApiServer, settings: Settings, factor: int, merged: bool
) -> None:
    moments = [1_767_225_600 + number for number in range(4)]
    rows = [{"id": number, "at": at} for number, at in enumerate(moments)]
    api.answers["/events"] = lambda _: {"data": rows, "total": len(rows)}
    connector = (keyed if merged else events)(api, initial_value=0)
    run(connector, settings)
    rows = [{"id": number, "at": at * factor} for number, at in enumerate(moments, 9)]
    assert "row 1, field at: " in refusal(connector, settings)
    api.answers["/events"] = {"data": [], "total": 0}
    outcome = run(connector, settings)
    assert outcome.cursor is not None
    assert outcome.cursor.last_value == moments[-1]
