"""A filter in the data selector may drop all records of a page; the pages after it still arrive."""

from collections.abc import Callable
from typing import Any

import pytest

from restsource_dagster.engine.errors import PagingError
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import connector_of, items, rows_of
from restsource_dagster_tests.making import load, query
from restsource_dagster_tests.servers.faults import Arrival, FaultServer

pytestmark = pytest.mark.faults(row=13)

ROWS = [{"id": number, "type": "note" if 4 <= number <= 7 else "deal"} for number in range(12)]
DEALS = [row["id"] for row in ROWS if row["type"] == "deal"]
FILTER = "[?(@.type=='deal')]"


def paged(wrap: Callable[[list[Any]], Any], cap: int = 4) -> Callable[[Arrival], Any]:
    """Pages of at most `cap` rows, by offset, page number or cursor."""

    def answer(seen: Arrival) -> Any:
        query = seen.query
        at = int(query.get("offset") or query.get("cursor") or 4 * int(query.get("page", 0)))
        page = wrap(ROWS[at : at + cap])
        if isinstance(page, dict):
            page["next"] = str(at + 4) if at + 4 < len(ROWS) else None
        return page

    return answer


PAGINATORS: dict[str, Any] = {
    "offset": {"type": "offset", "limit": 4, "total_path": None},
    "page_number": {"type": "page_number", "total_path": None},
    "cursor": {"type": "cursor", "cursor_path": "next", "stop_after_empty_page": True},
}
SELECTORS: dict[str, tuple[str, Callable[[list[Any]], Any]]] = {
    "in a field": (f"data{FILTER}", lambda rows: {"data": rows}),
    "deep": (f"a.b{FILTER}", lambda rows: {"a": {"b": rows}}),
    "then a field": (
        "data[?(@.kind=='deal')].node",
        lambda rows: {"data": [{"kind": row["type"], "node": row} for row in rows]},
    ),
    "of an object's values": (
        f"data.*{FILTER}",
        lambda rows: {"data": {str(row["id"]): [row] for row in rows}},
    ),
    "flattened": (
        "data[*].deals[*]",
        lambda rows: {"data": [{"deals": [r] if r["type"] == "deal" else []} for r in rows]},
    ),
}


@pytest.mark.parametrize("paginator", PAGINATORS)
@pytest.mark.parametrize("selector", SELECTORS)
def test_a_page_whose_records_are_all_filtered_out_is_not_the_last(
    server: FaultServer, paginator: str, selector: str
) -> None:
    path, wrap = SELECTORS[selector]
    server.plan["/items"] = paged(wrap)
    found = rows_of(server, selector=path, paginator=PAGINATORS[paginator])
    assert [row["id"] for row in found] == DEALS


@pytest.mark.parametrize("cap", [1, 3, 4])
def test_with_a_filter_an_offset_moves_by_the_items_before_the_filter(
    server: FaultServer, cap: int
) -> None:
    server.plan["/items"] = paged(lambda rows: {"data": rows}, cap)
    found = rows_of(server, selector=f"data{FILTER}", paginator=PAGINATORS["offset"])
    assert [row["id"] for row in found] == DEALS


def test_a_list_that_is_the_whole_body_may_be_filtered(server: FaultServer) -> None:
    server.plan["/items"] = paged(lambda rows: rows)
    found = rows_of(server, selector=f"${FILTER}", paginator=PAGINATORS["page_number"])
    assert [row["id"] for row in found] == DEALS


def test_an_api_that_ignores_the_paging_is_stopped_though_the_filter_drops_everything(
    server: FaultServer,
) -> None:
    server.plan["/items"] = {"data": ROWS[4:8]}
    with pytest.raises(PagingError, match="page 2 has the very records of page 1"):
        rows_of(server, selector=f"data{FILTER}", paginator=PAGINATORS["page_number"])


@pytest.mark.parametrize("max_concurrency", [1, 8])
@pytest.mark.parametrize("mode", ["rows", "columnar"])
def test_filtered_pages_arrive_for_roots_and_dependents_in_every_mode(
    server: FaultServer, settings: Settings, max_concurrency: int, mode: str
) -> None:
    server.plan |= {
        "/items": paged(lambda rows: {"data": rows}),
        "/items/0/lines": paged(lambda rows: {"data": rows}),
    }
    endpoint = {"data_selector": f"data{FILTER}", "paginator": PAGINATORS["offset"]}
    single = {"path": "items", "data_selector": "data[0]", "paginator": "single_page"}
    first = {"name": "first", "endpoint": single}
    lines = {"name": "lines", "endpoint": {"path": "items/{resources.first.id}/lines", **endpoint}}
    connector = connector_of(
        server.url,
        items(**endpoint),
        first,
        lines,
        http={"max_concurrency": max_concurrency},
        defaults={"mode": mode},
    )
    outcomes = load(connector, settings)
    assert not [outcome.failure for outcome in outcomes.values() if outcome.failed]
    for table in ("items", "lines"):
        found = query(settings, f"SELECT id FROM shop.{table} ORDER BY id")
        assert [number for (number,) in found] == DEALS
