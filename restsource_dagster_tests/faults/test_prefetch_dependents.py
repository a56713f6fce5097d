"""Runs with dependents leave the same data with and without prefetching."""

from pathlib import Path
from typing import Any

import pytest

from restsource_dagster_tests.engine.prefetch.reading import prefetch_threads
from restsource_dagster_tests.faults.prefetch_runs import run_result, with_and_without_prefetch
from restsource_dagster_tests.faults.shape_resources import CHILDREN, CURSORS
from restsource_dagster_tests.faults.shapes import Shapes
from restsource_dagster_tests.servers.api import ApiServer
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply

pytestmark = pytest.mark.faults(row=20)

SOME_CURSORS = (
    "appended_start_param appended_body appended_asc appended_min merged_window merged_lag "
    "merged_open merged_exclude"
)
GROUPS = {
    "parents and children": CHILDREN,
    "cursors": [one for one in CURSORS if one["name"] in SOME_CURSORS.split()],
}


@pytest.mark.parametrize("group", GROUPS)
def test_a_well_behaved_api_leaves_the_same_rows_and_cursors(
    api: ApiServer, tmp_path: Path, group: str
) -> None:
    shapes = Shapes(api)
    for _ in range(2):
        both = with_and_without_prefetch(tmp_path, api.url, *GROUPS[group], max_concurrency=16)
        sequential, prefetched = (run_result(*one) for one in both)
        assert not any(fields[0] for fields in sequential.outcomes.values())
        assert prefetched == sequential
        shapes.grow()
    assert prefetch_threads() == {}


class Family:
    """Orders in small pages, lines below each in pages with a cursor, notes below each line."""

    def __init__(self, server: FaultServer, orders: int, page: int = 5, together: int = 0) -> None:
        self.server = server
        self.page = page
        self.orders = [{"id": n, "at": n % 7} for n in range(orders)]
        self.together = together
        self.trouble: dict[int, Any] = {}
        server.plan["/orders"] = self._orders
        for order in range(orders + 30):
            server.plan[f"/orders/{order}/lines"] = self._lines(order)
            for line in range(4):
                server.plan[f"/orders/{order}/lines/{line}/notes"] = Reply(
                    [{"note": f"{order}.{line}"}], together=together
                )

    def grow(self) -> None:
        last = len(self.orders)
        self.orders += [{"id": last + n, "at": 6 + n} for n in range(8)]

    def _orders(self, seen: Arrival) -> Any:
        page, since = int(seen.query.get("page", 1)), int(seen.query.get("since", 0))
        rows = [order for order in self.orders if order["at"] >= since]
        more = self.page * page < len(rows)
        following = f"/orders?page={page + 1}&since={since}"
        body = {
            "data": rows[self.page * (page - 1) : self.page * page],
            "next": following if more else None,
        }
        return Reply(body)

    def _lines(self, order: int) -> Any:
        def answer(seen: Arrival) -> Any:
            page = int(seen.query.get("page", 1))
            if page == 2 and order in self.trouble:
                return self.trouble[order]
            since = int(seen.query.get("from", 0))
            rows = [{"n": n, "at": n + order % 3} for n in range(4) if n + order % 3 >= since]
            rows = rows[2 * page - 2 : 2 * page]
            following = f"/orders/{order}/lines?page={page + 1}&from={since}"
            body = {"data": rows, "next": following if page == 1 else None}
            return Reply(body, together=self.together)

        return answer


LINK = {"type": "json_link", "next_url_path": "next"}


def resources(
    *, orders_cursor: bool = True, lines_cursor: bool = True, merged: bool = True
) -> list[dict[str, Any]]:
    above: dict[str, Any] = {"path": "orders", "data_selector": "data", "paginator": LINK}
    below: dict[str, Any] = {
        "path": "orders/{resources.orders.id}/lines",
        "data_selector": "data",
        "paginator": LINK,
    }
    if orders_cursor:
        above["incremental"] = {"cursor_path": "at", "initial_value": 0, "start_param": "since"}
    if lines_cursor:
        below["incremental"] = {"cursor_path": "at", "initial_value": 0, "start_param": "from"}
    key = {"primary_key": ["_orders_id", "n"]} if merged else {"write_disposition": "append"}
    return [
        {"name": "orders", "primary_key": "id", "endpoint": above},
        {"name": "lines", "endpoint": below, "include_from_parent": ["id"], **key},
        {
            "name": "notes",
            "endpoint": {
                "path": "orders/{resources.lines._orders_id}/lines/{resources.lines.n}/notes"
            },
            **({"primary_key": "note"} if merged else {"write_disposition": "append"}),
        },
    ]


GONE = Reply({"error": "gone"}, status=404)
SKIP = {"on_child_error": {"skip_up_to": 5}}


@pytest.mark.parametrize(
    ("max_concurrency", "merged", "cursors"),
    [
        (16, True, (True, True)),
        (2, False, (True, True)),
        (16, False, (True, False)),
        (16, True, (False, True)),
    ],
    ids=str,
)
def test_families_leave_the_same_run_after_run(
    server: FaultServer,
    tmp_path: Path,
    max_concurrency: int,
    merged: bool,
    cursors: tuple[bool, bool],
) -> None:
    family = Family(server, 20)
    listed = resources(orders_cursor=cursors[0], lines_cursor=cursors[1], merged=merged)
    both = with_and_without_prefetch(tmp_path, server.url, *listed, max_concurrency=max_concurrency)
    for _ in range(2):
        sequential, prefetched = (run_result(*one) for one in both)
        assert not any(fields[0] for fields in sequential.outcomes.values())
        assert prefetched == sequential
        family.grow()


TROUBLES: dict[str, tuple[Reply, Any, bool]] = {
    "a 404 fails": (GONE, {}, True),
    "404s are skipped, merged": (GONE, SKIP, True),
    "404s are skipped, appended": (GONE, SKIP, False),
    "html is skipped": (Reply(b"<html>", headers={"Content-Type": "text/html"}), SKIP, False),
    "a 500 fails": (Reply(status=500), {}, False),
    "too many 500s to skip": (Reply(status=500), {"on_child_error": {"skip_up_to": 2}}, True),
    "no cursor": (Reply({"data": [{"n": 1, "at": None}]}), SKIP, True),
    "a clash": (Reply({"data": [{"n": 1, "at": 1, "_orders_id": -1}]}), {}, False),
    "no field for the call below": (Reply({"data": [{"n": None, "at": 1}]}), {}, True),
}


@pytest.mark.parametrize("case", TROUBLES)
def test_dependents_in_trouble_leave_the_same_run_after_run(
    server: FaultServer, tmp_path: Path, case: str
) -> None:
    trouble, http, merged = TROUBLES[case]
    family = Family(server, 15)
    family.trouble = {3: trouble, 7: trouble, 11: trouble}
    both = with_and_without_prefetch(
        tmp_path, server.url, *resources(merged=merged), max_concurrency=8, http=http
    )
    for _ in range(2):
        sequential, prefetched = (run_result(*one) for one in both)
        assert prefetched == sequential
        family.trouble = {}
        family.grow()
    assert not any(fields[0] for fields in sequential.outcomes.values())
    assert prefetch_threads() == {}


def test_a_parent_that_is_received_twice_is_requested_once(
    server: FaultServer, tmp_path: Path
) -> None:
    family = Family(server, 20)
    family.orders += family.orders[5:15]
    both = with_and_without_prefetch(
        tmp_path, server.url, *resources(orders_cursor=False), max_concurrency=16
    )
    sequential, prefetched = (run_result(*one) for one in both)
    assert prefetched == sequential
    assert len(server.asked("/orders/7/lines")) == 4


def test_small_pages_of_parents_use_all_allowed_requests(
    server: FaultServer, tmp_path: Path
) -> None:
    Family(server, 40, page=10, together=8)
    [_, (connector, settings)] = with_and_without_prefetch(
        tmp_path, server.url, *resources(), max_concurrency=8
    )
    run_result(connector, settings)
    assert server.peak == 8
