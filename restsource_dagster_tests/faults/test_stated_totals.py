"""All rows arrive though the API caps the page size or states a wrong total."""

from collections.abc import Callable
from typing import Any

import pytest

from restsource_dagster.engine.errors import ResponseError
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.orchestration.assets import materialization_metadata
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import (
    Notes,
    connector_of,
    failure_of,
    items,
    rows_of,
)
from restsource_dagster_tests.making import load
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply

pytestmark = pytest.mark.faults(row=13)

MISSING = object()


def api(
    rows: int,
    *,
    cap: int = 1000,
    total: Callable[[int, int], Any] = lambda given, rows: rows,
    past_the_end: int = 200,
) -> Callable[[Arrival], Any]:
    """An API of so many rows by offset or by page, whose pages never have more than `cap`.

    `total` says what it names, from the rows given so far (this page included) and all rows.
    """

    def answer(seen: Arrival) -> Any:
        size = min(cap, int(seen.query.get("limit", 100)))
        start = int(seen.query.get("offset", (int(seen.query.get("page", 1)) - 1) * size))
        data = [{"id": number} for number in range(start, min(start + size, rows))]
        if not data and start:
            return Reply({"data": []}, status=past_the_end)
        named = total(start + len(data), rows)
        return {"data": data, **({} if named is MISSING else {"total": named})}

    return answer


def offset(limit: int = 100, **more: Any) -> dict[str, Any]:
    return {"type": "offset", "limit": limit, **more}


def pages(**more: Any) -> dict[str, Any]:
    return {"type": "page_number", "base_page": 1, **more}


def count_of(server: FaultServer, paginator: Any, selector: str = "data") -> int:
    found = rows_of(server, selector=selector, paginator=paginator)
    numbers = [row["id"] for row in found]
    assert len(numbers) == len(set(numbers)), "a row came twice"
    return len(numbers)


@pytest.mark.parametrize("cap", [1, 7, 50, 99, 100, 250, 1000])
@pytest.mark.parametrize("selector", ["data", "data[*]", "$.data"])
@pytest.mark.parametrize("total_path", ["total", None])
def test_all_rows_arrive_however_small_the_pages_are(
    server: FaultServer, cap: int, selector: str, total_path: str | None
) -> None:
    server.plan["/items"] = api(17 if cap == 1 else 250, cap=cap)
    expected = 17 if cap == 1 else 250
    assert count_of(server, offset(total_path=total_path), selector) == expected


TOTALS: dict[str, Callable[[int, int], Any]] = {
    "null": lambda given, rows: None,
    "absent": lambda given, rows: MISSING,
    "a text": lambda given, rows: str(rows),
    "a text that is no number": lambda given, rows: "many",
    "a float": lambda given, rows: float(rows),
    "a list": lambda given, rows: [rows],
    "zero": lambda given, rows: 0,
    "minus one": lambda given, rows: -1,
    "true": lambda given, rows: True,
    "at first only": lambda given, rows: rows if given <= 100 else None,
    "at last only": lambda given, rows: rows if given == rows else None,
    "shrinking": lambda given, rows: rows if given <= 100 else 120,
    "what remains": lambda given, rows: rows - given + min(given, 100),
    "growing": lambda given, rows: min(rows, given + 1),
}


@pytest.mark.parametrize("total", TOTALS)
@pytest.mark.parametrize("cap", [60, 1000])
def test_all_rows_arrive_whatever_total_the_api_names(
    server: FaultServer, total: str, cap: int
) -> None:
    server.plan["/items"] = api(250, cap=cap, total=TOTALS[total])
    assert count_of(server, offset()) == 250


@pytest.mark.parametrize("total", TOTALS)
def test_all_pages_arrive_whatever_number_of_pages_the_api_names(
    server: FaultServer, total: str
) -> None:
    def in_pages(given: int, rows: int) -> Any:
        return TOTALS[total](-(-given // 10) * 100, 1000)

    server.plan["/items"] = api(95, cap=10, total=in_pages)
    assert count_of(server, pages()) == 95


def test_a_total_that_shrinks_because_rows_are_deleted_ends_the_paging(
    server: FaultServer,
) -> None:
    server.plan["/items"] = api(100, cap=50, total=lambda given, rows: 120 if given < 100 else 100)
    assert count_of(server, offset(50)) == 100


@pytest.mark.parametrize("status", [400, 404, 416, 422])
def test_a_page_past_a_total_that_shrank_need_not_be_there(
    server: FaultServer, status: int
) -> None:
    shrinks = api(100, cap=50, total=lambda given, rows: 120 if given < 100 else 100)
    server.plan["/items"] = lambda seen: (
        Reply({"detail": "Invalid page."}, status=status)
        if seen.query.get("offset") == "100"
        else shrinks(seen)
    )
    assert count_of(server, offset(50)) == 100


def test_a_page_within_the_total_must_be_there(server: FaultServer) -> None:
    server.plan["/items"] = api(100, cap=50, total=lambda given, rows: 120, past_the_end=404)
    with pytest.raises(ResponseError, match="page 3"):
        count_of(server, offset(50))


@pytest.mark.parametrize("total", ["null", "absent", "a text that is no number"])
def test_without_another_end_an_unreadable_total_is_an_error(
    server: FaultServer, total: str
) -> None:
    server.plan["/items"] = api(250, total=TOTALS[total])
    with pytest.raises(ResponseError, match=r"`total_path` total (gives|finds)"):
        count_of(server, offset(stop_after_empty_page=False))


@pytest.mark.parametrize("stops", [True, False])
def test_with_a_selector_that_filters_all_records_arrive(server: FaultServer, stops: bool) -> None:
    server.plan["/items"] = api(250)
    paginator = offset(stop_after_empty_page=stops)
    # the first page has none
    assert len(rows_of(server, selector="data[?(@.id > 100)]", paginator=paginator)) == 149


def test_a_stated_total_that_is_not_reached_is_reported(
    server: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = api(90, total=lambda given, rows: 100)
    notes = Notes()
    connector = connector_of(server.url, items(paginator=offset(50), data_selector="data"))
    outcome = load(connector, settings, observer=notes)["items"]
    assert (outcome.stated_total, outcome.records_received, outcome.rows_loaded) == (100, 90, 90)
    metadata = materialization_metadata(outcome)
    assert (metadata["api/total"], metadata["api/received"]) == (100, 90)
    [told] = [text for text in notes.texts if "missing" in text]
    assert told == ("items: the API named a total of 100, and 90 arrived; 10 are missing")


def test_a_stated_total_that_is_reached_gives_no_warning(
    server: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = api(90)
    notes = Notes()
    connector = connector_of(server.url, items(paginator=offset(50), data_selector="data"))
    outcome = load(connector, settings, observer=notes)["items"]
    assert (outcome.stated_total, outcome.records_received) == (90, 90)
    assert notes.texts == []


def load_each(
    server: FaultServer,
    settings: Settings,
    *cases: tuple[dict[str, Any], Any],
    observer: Notes | None = None,
) -> list[Outcome]:
    """Load each endpoint with its answer, as a resource of its own in one connector."""
    made: list[dict[str, Any]] = []
    for number, (endpoint, answer) in enumerate(cases):
        server.plan[f"/case{number}"] = answer
        given = {"path": f"case{number}", **endpoint}
        made.append({"name": f"case{number}", "endpoint": given})
    outcomes = load(connector_of(server.url, *made), settings, observer=observer)
    return [outcomes[one["name"]] for one in made]


def linked(seen: Arrival) -> Any:
    is_first = "page" not in seen.query
    rows = [{"id": number + (0 if is_first else 2)} for number in range(2)]
    return {"count": 5, "next": f"{seen.path}?page=2" if is_first else None, "results": rows}


USUAL_NAMES: list[tuple[Any, Any, int | None]] = [
    ("json_link", linked, 5),
    ("auto", linked, 5),
    ("single_page", {"meta": {"totalCount": 9}, "results": [{"id": 1}]}, 9),
    ("single_page", Reply([{"id": 1}], headers={"X-Total-Count": "7"}), 7),
    ("single_page", {"count": 1, "results": [{"id": 1}]}, None),
    ("single_page", {"count": 8, "total": 9, "results": [{"id": 1}]}, None),
    (pages(), api(30, cap=10), 30),
    (pages(), api(30, cap=10, total=lambda given, rows: 3), None),
]


def test_a_total_under_a_usual_name_is_compared_whatever_the_paginator(
    server: FaultServer, settings: Settings
) -> None:
    cases = [({"paginator": paginator}, answer) for paginator, answer, _ in USUAL_NAMES]
    found = [outcome.stated_total for outcome in load_each(server, settings, *cases)]
    assert found == [promised for *_, promised in USUAL_NAMES]


def test_missing_pages_are_reported(server: FaultServer, settings: Settings) -> None:
    server.plan["/items"] = api(30, cap=10, total=lambda given, rows: 6)
    notes = Notes()
    connector = connector_of(server.url, items(paginator=pages()))
    load(connector, settings, observer=notes)
    assert notes.texts == ["items: the API named 6 pages, and 3 came with rows"]


def test_the_totals_of_all_parents_calls_are_added(server: FaultServer, settings: Settings) -> None:
    server.plan |= {
        "/items": [{"id": 1}, {"id": 2}],
        "/items/1/lines": api(70, cap=50),
        "/items/2/lines": api(30, cap=50),
    }
    lines = {
        "name": "lines",
        "endpoint": {
            "path": "items/{resources.items.id}/lines",
            "paginator": offset(),
            "data_selector": "data",
        },
    }
    outcome = load(connector_of(server.url, items(), lines), settings)["lines"]
    assert (outcome.stated_total, outcome.records_received) == (100, 100)


def test_null_items_count_as_received_and_are_left_out(
    server: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = {"data": [{"id": 1}, None, {"id": 2}], "total": 3}
    notes = Notes()
    connector = connector_of(server.url, items(paginator=offset(3), data_selector="data"))
    outcome = load(connector, settings, observer=notes)["items"]
    assert (outcome.stated_total, outcome.records_received, outcome.rows_loaded) == (3, 3, 2)
    assert notes.texts == ["items: left out 1 null items of a page"]


def test_a_failed_page_reports_no_missing_rows(server: FaultServer, settings: Settings) -> None:
    server.plan["/items"] = api(90, cap=50, past_the_end=500)
    connector = connector_of(server.url, items(paginator=offset(50, total_path=None)))
    resource = connector.resource("items")
    assert resource.name == "items"
    server.plan["/items"] = lambda seen: (
        Reply(status=400) if seen.query["offset"] == "50" else (api(90, cap=50)(seen))
    )
    assert "page 2" in failure_of(load(connector, settings)["items"])


def counted(**totals: int) -> Callable[[Arrival], Any]:
    """Five rows, those from `since` on, beside totals that don't change."""

    def answer(seen: Arrival) -> Any:
        since = int(seen.query.get("since", 0))
        return {"data": [{"id": n, "t": n} for n in range(5) if n >= since], **totals}

    return answer


SINCE = {
    "params": {"since": "{incremental.start_value}"},
    "incremental": {"cursor_path": "t", "initial_value": 0},
}


def test_the_total_of_the_whole_table_is_not_compared_with_the_rows_of_a_filter(
    server: FaultServer, settings: Settings
) -> None:
    given = []
    for total in ("total", "count", "recordsTotal"):
        paginators: dict[str, Any] = {
            "single": "single_page",
            "offset": offset(5, total_path=total),
            "page": {**pages(), "total_path": total},
            "detected": "auto",
        }
        for kind, paginator in paginators.items():
            name = f"{kind}_{total}".lower()
            answer = items(path=name, data_selector="data", paginator=paginator, **SINCE)
            given.append({**answer, "name": name, "primary_key": "id"})
            server.plan[f"/{name}"] = once(counted(**{total: 5}))
    notes = Notes()
    connector = connector_of(server.url, *given)
    load(connector, settings, observer=notes)
    again = load(connector, settings, observer=notes)
    assert {name: outcome.rows_loaded for name, outcome in again.items()} == {
        str(one["name"]): 1 for one in given
    }
    assert notes.texts == []


def once(answer: Callable[[Arrival], Any]) -> Callable[[Arrival], Any]:
    """The same answer, without rows on any page but the first."""

    def decide(seen: Arrival) -> Any:
        is_first = seen.query.get("offset", "0") == "0" and seen.query.get("page", "1") == "1"
        found = answer(seen)
        return found if is_first else {**found, "data": []}

    return decide


def test_a_total_is_compared_in_the_first_load_and_one_of_the_filter_always(
    server: FaultServer, settings: Settings
) -> None:
    notes = Notes()
    endpoint = {"data_selector": "data", "paginator": "single_page", **SINCE}
    connector = connector_of(server.url, {**items(**endpoint), "primary_key": "id"})
    server.plan["/items"] = counted(total=9)
    load(connector, settings, observer=notes)
    server.plan["/items"] = counted(recordsTotal=9, recordsFiltered=3)
    outcome = load(connector, settings, observer=notes)["items"]
    assert (outcome.stated_total, outcome.records_received) == (3, 1)
    assert notes.texts == [
        "items: the API named a total of 9, and 5 arrived; 4 are missing",
        "items: the API named a total of 3, and 1 arrived; 2 are missing",
    ]


ASKS: list[tuple[dict[str, Any], bool]] = [
    ({"params": {"per_page": 100, "sort": "id", "api_key": "k"}}, True),
    ({"params": {"status": "open"}}, False),
    ({"path": "case2?status=open"}, False),
    ({"method": "POST", "json": {"status": "open"}}, False),
]
"""What an endpoint asks for, and whether that is all rows."""


def test_a_total_is_compared_unless_the_file_asks_for_some_of_the_rows(
    server: FaultServer, settings: Settings
) -> None:
    notes = Notes()
    given = {"data_selector": "data", "paginator": "single_page"}
    cases = [({**given, **endpoint}, counted(total=9)) for endpoint, _ in ASKS]
    outcomes = load_each(server, settings, *cases, observer=notes)
    is_compared = [compared for _, compared in ASKS]
    assert [outcome.stated_total for outcome in outcomes] == [9 if c else None for c in is_compared]
    told = [f"case{number}" for number, compared in enumerate(is_compared) if compared]
    assert [text.partition(":")[0] for text in notes.texts] == told


TOTAL_HEADERS = [
    {"Total-Records": "950"},
    {"X-Total": "950"},
    {"X-WP-Total": "950"},
    {"X-Pagination-Total-Count": "950"},
    {"Content-Range": "items 0-1/950"},
    {"Content-Range": "0-1/950"},
]


def test_a_total_in_a_header_counts(server: FaultServer, settings: Settings) -> None:
    given = {"paginator": "single_page"}
    cases = [(given, Reply([{"id": 1}], headers=header)) for header in TOTAL_HEADERS]
    for header, outcome in zip(TOTAL_HEADERS, load_each(server, settings, *cases), strict=True):
        assert outcome.stated_total == 950, header
