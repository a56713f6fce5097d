"""Paging that does not end is stopped."""

from typing import Any

import pytest

from restsource_dagster.engine.errors import PagingError, ResponseError
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import connector_of, failure_of, items, rows_of
from restsource_dagster_tests.making import load, query
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply

pytestmark = pytest.mark.faults(row=12)

LINK = {"type": "json_link", "next_url_path": "next"}
NUMBER = {"type": "page_number", "base_page": 1, "total_path": None}
OFFSET = {"type": "offset", "limit": 2, "total_path": None}
CURSOR = {"type": "cursor", "cursor_path": "next", "cursor_param": "after"}


def page(number: int, **more: Any) -> dict[str, Any]:
    return {"data": [{"id": 2 * number}, {"id": 2 * number + 1}], **more}


def link_to_itself(seen: Arrival) -> Any:
    return page(int(seen.query.get("page", 1)), next="/items?page=2")


def link_back(seen: Arrival) -> Any:
    number = int(seen.query.get("page", 1))
    return page(number, next=f"/items?page={number % 3 + 1}")


def header_link(seen: Arrival) -> Any:
    number = int(seen.query.get("page", 1))
    return Reply(page(number), headers={"Link": '</items?page=2>; rel="next"'})


def fixed_cursor(seen: Arrival) -> Any:
    return page(2 if "after" in seen.query else 1, next="c1")


def cursor_in_a_circle(seen: Arrival) -> Any:
    after = seen.query.get("after", "a")
    return page("abc".index(after), next="bca"["abc".index(after)])


def same_page(seen: Arrival) -> Any:
    return page(1)


def last_page_for_ever(seen: Arrival) -> Any:
    return page(min(3, int(seen.query["page"])))


def round_and_round(seen: Arrival) -> Any:
    number = int(seen.query["page"]) % 3
    return {"data": [{"id": 10 * number + digit} for digit in range(4)]}


REPEATING = {
    "a link to itself": (link_to_itself, LINK, 2, "page 3 would ask for what page 2 asked for"),
    "a link back": (link_back, LINK, 4, "page 5 would ask for what page 2 asked for"),
    "a Link header": (header_link, "header_link", 2, "page 3 would ask for what page 2"),
    "a detected link": (link_to_itself, "auto", 2, "page 3 would ask for what page 2"),
    "a cursor that stays": (fixed_cursor, CURSOR, 2, "page 3 would ask for what page 2"),
    "a cursor in a circle": (cursor_in_a_circle, CURSOR, 4, "page 5 would ask for what page 2"),
    "a page number nobody reads": (same_page, NUMBER, 2, "page 2 has the very records of page 1"),
    "an offset nobody reads": (same_page, OFFSET, 2, "page 2 has the very records of page 1"),
    "a last page for ever": (
        last_page_for_ever,
        NUMBER,
        4,
        "page 4 has the very records of page 3",
    ),
    "pages in a circle": (round_and_round, NUMBER, 4, "page 4 has the very records of page 1"),
}


@pytest.mark.parametrize("case", REPEATING)
def test_paging_that_repeats_is_stopped_after_one_repeat(server: FaultServer, case: str) -> None:
    server.plan["/items"], paginator, requests, said = REPEATING[case]
    with pytest.raises(PagingError) as caught:
        rows_of(server, selector="data", paginator=paginator)
    assert said in str(caught.value)
    assert str(caught.value).startswith("resource items, page ")
    # the first page of a circle has no cursor yet, so that it may be asked for twice
    assert len(server.arrivals) <= requests


@pytest.mark.parametrize("case", ["a link to itself", "a cursor that stays", "pages in a circle"])
def test_nothing_of_a_repeating_resource_is_loaded(
    server: FaultServer, settings: Settings, case: str
) -> None:
    handler, paginator, _, said = REPEATING[case]
    connector = connector_of(server.url, items(paginator=paginator, data_selector="data"))
    server.plan["/items"] = lambda seen: (
        {"data": [{"id": 99}]}
        if "page" not in seen.query or (seen.query["page"] == "1")
        else {"data": []}
    )
    load(connector, settings)
    server.plan["/items"] = handler
    assert said in failure_of(load(connector, settings)["items"])
    assert query(settings, "SELECT id FROM shop.items") == [(99,)]


def endless(seen: Arrival) -> Any:
    return page(int(seen.query.get("page", 1)))


def test_an_endless_page_number_is_stopped_at_max_pages(
    server: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = endless
    connector = connector_of(server.url, items(paginator=NUMBER), http={"max_pages": 7})
    message = failure_of(load(connector, settings)["items"])
    assert "there are more than 7 pages (http.max_pages)" in message
    assert len(server.arrivals) == 7


def test_exactly_max_pages_are_fine(server: FaultServer, settings: Settings) -> None:
    server.plan["/items"] = endless
    paginator = {**NUMBER, "maximum_page": 8}
    connector = connector_of(server.url, items(paginator=paginator), http={"max_pages": 7})
    assert load(connector, settings)["items"].rows_loaded == 14


def test_empty_pages_whose_cursor_moves_are_no_repetition(server: FaultServer) -> None:
    def sparse(seen: Arrival) -> Any:
        after = int(seen.query.get("after", 0))
        rows = [{"id": after}] if after % 4 == 0 else []
        return {"data": rows, "next": str(after + 1) if after < 12 else None}

    server.plan["/items"] = sparse
    found = rows_of(server, selector="data", paginator=CURSOR)
    assert [row["id"] for row in found] == [0, 4, 8, 12]


def test_pages_that_are_alike_but_not_the_same_are_no_repetition(server: FaultServer) -> None:
    def alike(seen: Arrival) -> Any:
        number = int(seen.query["page"])
        if number > 6:
            return {"data": []}
        rows = [{"ok": True}] * 9
        rows[1 + number] = {"ok": False}
        return {"data": rows}

    server.plan["/items"] = alike
    with_marks = rows_of(server, selector="data", paginator=NUMBER)
    assert len(with_marks) == 54


def test_the_calls_below_several_parents_are_not_compared(
    server: FaultServer, settings: Settings
) -> None:
    server.plan |= {"/items": [{"id": 1}, {"id": 2}, {"id": 3}]}
    server.plan |= {f"/items/{number}/tags": [{"tag": "new"}] for number in (1, 2, 3)}
    tags = {"name": "tags", "endpoint": {"path": "items/{resources.items.id}/tags"}}
    outcomes = load(connector_of(server.url, items(), tags), settings)
    assert outcomes["tags"].rows_loaded == 3


@pytest.mark.parametrize("link", ["", False, None])
def test_an_empty_link_is_the_end(server: FaultServer, link: Any) -> None:
    server.plan["/items"] = page(1, next=link)
    assert len(rows_of(server, selector="data", paginator=LINK)) == 2
    assert len(server.arrivals) == 1


def test_a_link_that_is_no_link_is_an_error(server: FaultServer) -> None:
    server.plan["/items"] = page(1, next={"href": "/items?page=2"})
    with pytest.raises(ResponseError, match=r"gives .*no URL"):
        rows_of(server, selector="data", paginator=LINK)
