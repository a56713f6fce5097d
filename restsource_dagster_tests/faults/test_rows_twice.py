"""A row that the API sends twice in one run, as its pages shift, is stored once if it has a key."""

from typing import Any

import pytest

from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import Notes, connector_of, failure_of
from restsource_dagster_tests.making import load, query
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply

pytestmark = pytest.mark.faults(row=13)

PAGES: list[list[dict[str, Any]]] = [
    [{"id": number, "t": number, "lines": [{"n": number}]} for number in page]
    for page in ([1, 2, 3], [3, 4, 5], [5, 3, 6])
]
PAGING = {"type": "page_number", "base_page": 0, "total_path": None}
CURSOR: dict[str, Any] = {"cursor_path": "t", "initial_value": 0}
DISPOSITIONS: dict[str, Any] = {
    "append": "append",
    "replace": "replace",
    "delete_insert": {"disposition": "merge", "strategy": "delete-insert"},
    "upsert": {"disposition": "merge", "strategy": "upsert"},
    "insert_only": {"disposition": "merge", "strategy": "insert-only"},
    "scd2": {"disposition": "merge", "strategy": "scd2"},
}


def paged(seen: Arrival, pages: list[list[dict[str, Any]]] = PAGES) -> Any:
    at = int(seen.query["page"])
    return {"data": pages[at] if at < len(pages) else []}


def csv_page(seen: Arrival, pages: list[list[int]]) -> Reply:
    """A page as a file with one column."""
    at = int(seen.query["page"])
    rows = pages[at] if at < len(pages) else []
    body = "".join(f"{line}\n" for line in ("n", *rows)).encode()
    return Reply(body, headers={"Content-Type": "text/csv"})


def resource(name: str, disposition: Any, path: str = "items", **endpoint: Any) -> dict[str, Any]:
    given = {"path": path, "data_selector": "data", "paginator": PAGING, **endpoint}
    return {"name": name, "primary_key": "id", "write_disposition": disposition, "endpoint": given}


@pytest.mark.parametrize("mode", ["rows", "columnar"])
@pytest.mark.parametrize("max_concurrency", [1, 8])
def test_a_row_sent_twice_is_stored_once_in_every_disposition(
    server: FaultServer, settings: Settings, mode: str, max_concurrency: int
) -> None:
    server.plan |= {"/items": paged, "/parents": {"data": [{"id": 1}]}, "/parents/1/items": paged}
    made = [resource(name, given) for name, given in DISPOSITIONS.items()]
    made.append(resource("cursor_append", "append", incremental=CURSOR))
    made.append(resource("parents", "merge", "parents", paginator="single_page"))
    below = "parents/{resources.parents.id}/items"
    made.append(resource("child_append", "append", below))
    made.append(resource("child_merge", "merge", below))
    http = {"max_concurrency": max_concurrency}
    connector = connector_of(server.url, *made, defaults={"mode": mode}, http=http)
    outcomes = load(connector, settings)
    assert {name: outcome.failure for name, outcome in outcomes.items() if outcome.failed} == {}
    for name in [made_one["name"] for made_one in made if made_one["name"] != "parents"]:
        found = query(settings, f"SELECT id FROM shop.{name} ORDER BY id")
        assert [number for (number,) in found] == [1, 2, 3, 4, 5, 6], name
        if mode == "columnar":  # lists stay in their column
            continue
        nested = query(settings, f"SELECT n FROM shop.{name}__lines ORDER BY n")
        assert [number for (number,) in nested] == [1, 2, 3, 4, 5, 6], name


@pytest.mark.parametrize("max_concurrency", [1, 8])
def test_a_page_that_begins_with_the_last_row_of_the_page_before_is_told(
    server: FaultServer, settings: Settings, max_concurrency: int
) -> None:
    """A row that is added ahead while pages are read: no total says so, and there is no key."""
    steady = [[{"n": number} for number in page] for page in ([1, 2], [3, 3], [4])]
    server.plan |= {"/items": paged, "/steady": lambda seen: paged(seen, steady)}
    server.plan |= {"/parents": {"data": [{"id": 1}]}, "/parents/1/items": paged}
    below = "parents/{resources.parents.id}/items"
    made = [
        resource("items", "replace"),
        resource("steady", "replace", "steady"),
        resource("parents", "replace", "parents", paginator="single_page"),
        resource("children", "replace", below),
    ]
    for one in made:
        del one["primary_key"]
    notes = Notes()
    connector = connector_of(server.url, *made, http={"max_concurrency": max_concurrency})
    outcomes = load(connector, settings, observer=notes)
    assert {name: outcome.failure for name, outcome in outcomes.items() if outcome.failed} == {}
    told = [text.split(":")[0] for text in notes.texts if "begins with the last row" in text]
    assert sorted(told) == ["children", "items"]


@pytest.mark.parametrize("mode", ["rows", "columnar"])
def test_pages_that_shift_by_several_rows_are_told(
    server: FaultServer, settings: Settings, mode: str
) -> None:
    """Three rows are added ahead between two pages; equal rows within pages are no shift."""
    shifted = [[1, 2, 3, 4], [2, 3, 4, 5], [6]]
    steady = [[1, 2, 1], [2, 3, 1], [2]]

    def pages_of(numbers: list[list[int]]) -> list[list[dict[str, Any]]]:
        return [[{"n": number} for number in page] for page in numbers]

    server.plan["/items"] = lambda seen: paged(seen, pages_of(shifted))
    server.plan["/steady"] = lambda seen: paged(seen, pages_of(steady))
    server.plan["/files"] = lambda seen: csv_page(seen, shifted)
    made = [resource("items", "replace"), resource("steady", "replace", "steady")]
    files = resource("files", "replace", "files", response={"format": "csv"})
    del files["endpoint"]["data_selector"]
    made.append(files)
    for one in made:
        del one["primary_key"]
        one["mode"] = mode
    notes = Notes()
    load(connector_of(server.url, *made), settings, observer=notes)
    told = [text for text in notes.texts if "begins with" in text]
    assert sorted(text.partition(":")[0] for text in told) == ["files", "items"]
    assert all("page 2 begins with the last 3 rows of page 1" in text for text in told)


class Shrinking:
    """Twenty rows by offset or page; the second is deleted when the third page is asked for."""

    def __init__(self, total: Any = len) -> None:
        self.gone: set[int] = set()
        self.total = total
        self.deletes = True

    def __call__(self, seen: Arrival) -> Any:
        at = int(seen.query.get("offset", 5 * int(seen.query.get("page", 0))))
        if at == 10 and self.deletes:
            self.gone.add(2)
        since = int(seen.query.get("since", 0))
        rows = [{"id": n, "t": n} for n in range(1, 21) if n not in self.gone and n >= since]
        page = rows[at : at + 5]
        is_last = at + 5 >= len(rows)
        following = None if is_last else f"{seen.path}?since={since}&page={at // 5 + 1}"
        return {"total": self.total(rows), "data": page, "next": following}


SINCE: dict[str, Any] = {"params": {"since": "{incremental.start_value}"}, "incremental": CURSOR}
POSITIONS: dict[str, Any] = {
    "offset": {"type": "offset", "limit": 5, "total_path": "total"},
    "page": {"type": "page_number", "base_page": 0, "total_path": "total"},
    "link": {"type": "json_link", "next_url_path": "next"},
}


@pytest.mark.parametrize("max_concurrency", [1, 8])
def test_rows_that_a_deletion_hides_arrive_with_the_next_run(
    server: FaultServer, settings: Settings, max_concurrency: int
) -> None:
    """A merged resource and one below a parent for each kind of paging."""
    made = [resource("parents", "merge", "parents", paginator="single_page")]
    server.plan["/parents"] = {"data": [{"id": 1}]}
    shops = {position: Shrinking() for position in POSITIONS}
    for position, shop in shops.items():
        server.plan[f"/{position}"] = shop
        server.plan[f"/parents/1/{position}"] = Shrinking()
        paging = {"paginator": POSITIONS[position]}
        below = f"parents/{{resources.parents.id}}/{position}"
        made.append(resource(f"merged_{position}", "merge", position, **SINCE, **paging))
        made.append(resource(f"children_{position}", "merge", below, **SINCE, **paging))
    connector = connector_of(server.url, *made, http={"max_concurrency": max_concurrency})
    notes = Notes()
    load(connector, settings, observer=notes)
    for shop in shops.values():
        shop.deletes = False
    load(connector, settings)
    for table in (f"{kind}_{one}" for kind in ("merged", "children") for one in POSITIONS):
        found = {number for (number,) in query(settings, f"SELECT id FROM shop.{table}")}
        assert {*range(1, 21)} - {2} <= found, table
        if max_concurrency == 1:
            told = f"{table}: the API's total fell from 20 to 19 while its pages were read"
            assert [text for text in notes.texts if text.startswith(told)]


def test_a_shift_below_an_appended_table_fails_and_the_next_run_has_each_row_once(
    server: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = shop = Shrinking()
    given = resource("items", "append", **SINCE, paginator=POSITIONS["offset"])
    connector = connector_of(server.url, given, http={"max_concurrency": 1})
    assert "the cursor stays" in failure_of(load(connector, settings)["items"])
    shop.deletes = False
    assert load(connector, settings)["items"].rows_loaded == 19


TOTALS: dict[str, Any] = {
    "of the whole table": lambda rows: 500 - len(rows),
    "growing": lambda rows: 40 - len(rows),
    "none": lambda rows: None,
}


def test_a_total_that_moves_for_other_reasons_lets_the_cursor_move(
    server: FaultServer, settings: Settings
) -> None:
    names = {total: f"items{number}" for number, total in enumerate(TOTALS)}
    server.plan |= {f"/{name}": Shrinking(TOTALS[total]) for total, name in names.items()}
    paging = POSITIONS["page"]
    given = [resource(name, "merge", name, **SINCE, paginator=paging) for name in names.values()]
    load(connector_of(server.url, *given, http={"max_concurrency": 1}), settings)
    load(connector_of(server.url, *given), settings)
    for total, name in names.items():
        asked = [seen.query["since"] for seen in server.arrivals if seen.path == f"/{name}"]
        assert asked[-1] == "20", total


def test_a_total_of_what_remains_lets_the_cursor_move(
    server: FaultServer, settings: Settings
) -> None:
    def answer(seen: Arrival) -> Any:
        at, since = int(seen.query["offset"]), int(seen.query["since"])
        rows = [{"id": n, "t": n} for n in range(1, 21) if n >= since]
        return {"total": len(rows) - at, "data": rows[at : at + 5]}

    server.plan["/items"] = answer
    given = resource("items", "merge", **SINCE, paginator=POSITIONS["offset"])
    load(connector_of(server.url, given), settings)
    load(connector_of(server.url, given), settings)
    assert server.arrivals[-1].query["since"] == "20"


VERSIONS: list[list[dict[str, Any]]] = [
    [{"id": 1, "t": 1, "v": "old"}, {"id": 2, "t": 1, "v": "old"}],
    [{"id": 1, "t": 2, "v": "new"}, {"id": 3, "t": 2, "v": "new"}],
]


@pytest.mark.parametrize("mode", ["rows", "columnar"])
@pytest.mark.parametrize("func", ["max", "min"])
def test_of_two_versions_in_one_run_a_merge_keeps_the_newer(
    server: FaultServer, settings: Settings, mode: str, func: str
) -> None:
    pages = (
        VERSIONS
        if func == "max"
        else [[{**row, "t": -row["t"]} for row in page] for page in VERSIONS]
    )
    server.plan["/items"] = lambda seen: paged(seen, pages)
    cursor = {**CURSOR, "last_value_func": func}
    made = [
        resource("plain", "merge", incremental=cursor),
        resource("hinted", "merge", incremental=cursor),
        resource("listed", "merge", incremental=cursor),
    ]
    made[1]["columns"] = {"t": {"data_type": "bigint"}}
    made[2]["columns"] = [{"name": "v", "data_type": "text"}]
    connector = connector_of(server.url, *made, defaults={"mode": mode})
    for _ in range(2):
        load(connector, settings)
        for name in ("plain", "hinted", "listed"):
            found = query(settings, f"SELECT id, v FROM shop.{name} ORDER BY id")
            assert found == [(1, "new"), (2, "old"), (3, "new")], name


CURSOR_KINDS: dict[str, tuple[Any, Any]] = {
    "http date": ("Mon, 05 Jan 2026 00:00:00 GMT", "Thu, 01 Jan 2026 00:00:00 GMT"),
    "number in a text": ("10", "9"),
    "number in a name": ("v10", "v9"),
    "offsets": ("2026-01-01T01:00:00+00:00", "2026-01-01T03:00:00+05:00"),
    "whole and not": (5.5, 5),
    "whole number": (10, 9),
    "date": ("2026-01-10", "2026-01-09"),
}


@pytest.mark.parametrize("mode", ["rows", "auto"])
@pytest.mark.parametrize("newest_is", ["first", "last"])
def test_the_newer_version_stays_whatever_the_form_and_the_place_of_its_cursor(
    server: FaultServer, settings: Settings, mode: str, newest_is: str
) -> None:
    made: list[dict[str, Any]] = []
    for number, (new, old) in enumerate(CURSOR_KINDS.values()):
        rows = [{"id": 1, "v": "new", "t": new}, {"id": 1, "v": "old", "t": old}]
        rows = [{"id": 2, "v": "other", "t": old}, *(rows if newest_is == "first" else rows[::-1])]
        server.plan[f"/flat{number}"] = {"data": rows}
        server.plan[f"/deep{number}"] = {"data": [{**row, "meta": {"t": row["t"]}} for row in rows]}
        for name, path in ((f"flat{number}", "t"), (f"deep{number}", "meta.t")):
            cursor = {"cursor_path": path, "initial_value": old}
            made.append(resource(name, "merge", name, incremental=cursor, paginator="single_page"))
    outcomes = load(connector_of(server.url, *made, defaults={"mode": mode}), settings)
    assert {name: outcome.failure for name, outcome in outcomes.items() if outcome.failed} == {}
    found = {name: query(settings, f"SELECT v FROM shop.{name} ORDER BY id") for name in outcomes}
    assert found == {name: [("new",), ("other",)] for name in outcomes}


def test_of_two_versions_in_one_run_scd2_refuses_with_a_key_and_keeps_both_without(
    server: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = lambda seen: paged(seen, VERSIONS)
    keyed = resource("keyed", DISPOSITIONS["scd2"])
    free = {name: hint for name, hint in keyed.items() if name != "primary_key"} | {"name": "free"}
    outcomes = load(connector_of(server.url, keyed, free), settings)
    assert "scd2 would keep both as valid" in failure_of(outcomes["keyed"])
    assert query(settings, "SELECT id FROM shop.free ORDER BY id") == [(1,), (1,), (2,), (3,)]


def test_of_two_versions_in_one_run_an_insert_keeps_the_first_and_an_upsert_refuses(
    server: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = lambda seen: paged(seen, VERSIONS)
    names = ("insert_only", "upsert", "cursor_append")
    given = [DISPOSITIONS.get(name, "append") for name in names]
    made = [resource(name, one, incremental=CURSOR) for name, one in zip(names, given, strict=True)]
    outcomes = load(connector_of(server.url, *made), settings)
    assert "two different rows with the key [1]" in failure_of(outcomes["upsert"])
    found = query(settings, "SELECT id, v FROM shop.insert_only ORDER BY id")
    assert found == [(1, "old"), (2, "old"), (3, "new")]
    # appended rows are versions: a run that comes between the two would store both as well
    assert len(query(settings, "SELECT id FROM shop.cursor_append")) == 4
