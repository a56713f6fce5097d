"""Previews: the engine's own requests, without a destination."""

import asyncio
import os
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.engine.preview.preview_limits import PreviewEnd, PreviewLimits
from restsource_dagster.engine.preview.preview_run import CursorBounds, preview, preview_text
from restsource_dagster.engine.preview.previewed import Preview, PreviewedResource
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector, make_settings
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

TOKEN = "t0ken-of-the-shop"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path)


def order(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "changed": f"2024-01-{number:02d}T00:00:00Z",
        "customer": {"id": number % 2},
        "lines": [{"sku": "a", "price": 1.5}],
    }


def paged(seen: Seen) -> dict[str, Any]:
    """Nine orders, three on a page."""
    page = int(seen.query.get("page", 1))
    found = [order(number) for number in range(page * 3 - 2, page * 3 + 1)]
    return {"data": found if page < 4 else [], "total": 9}


PAGES = {"type": "page_number", "base_page": 1, "total_path": None, "stop_after_empty_page": True}
ORDERS = {
    "name": "orders",
    "primary_key": "id",
    "endpoint": {
        "path": "orders",
        "data_selector": "data",
        "paginator": PAGES,
        "incremental": {"cursor_path": "changed", "initial_value": "2023-01-01T00:00:00Z"},
    },
}


def look(settings: Settings, connector: Any, **given: Any) -> Preview:
    return preview(connector, settings=settings, environment={}, **given)


def by_name(found: Preview) -> Mapping[str, PreviewedResource]:
    return {one.name: one for one in found.resources}


def test_a_preview_reads_two_pages_and_proves_the_paging(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/orders"] = paged
    found = look(settings, make_connector(api.url, ORDERS), limits=PreviewLimits(rows=4))
    [orders] = found.resources
    assert found.is_fine
    assert [(one.method, one.status, one.retries) for one in orders.requests] == [
        ("GET", 200, 0),
        ("GET", 200, 0),
    ]
    assert [one.query for one in api.seen] == [{"page": "1"}, {"page": "2"}]
    assert orders.paging.verdict == "proved"
    assert orders.paging.rows == (3, 3)
    assert orders.key is not None
    assert orders.key.is_unique
    assert orders.cursor is not None
    assert (orders.cursor.lowest, orders.cursor.highest) == (
        "2024-01-01T00:00:00+00:00",
        "2024-01-06T00:00:00+00:00",
    )
    assert orders.table is not None
    assert orders.rows_read == 6
    assert [row["id"] for row in orders.table.rows] == [1, 2, 3, 4]
    assert [nested.name for nested in orders.nested] == ["orders__lines"]


def test_columns_have_the_types_that_a_load_makes(api: ApiServer, settings: Settings) -> None:
    api.answers["/orders"] = paged
    connector = make_connector(api.url, ORDERS)
    [orders] = look(settings, connector, limits=PreviewLimits(pages=9)).resources
    made = load(connector, settings)["orders"].columns
    assert orders.table is not None
    assert orders.table.columns == tuple(one for one in made if not one.name.startswith("_dlt_"))


def test_nothing_is_written_and_the_cursor_stays(
    api: ApiServer, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.answers["/orders"] = paged
    connector = make_connector(api.url, ORDERS)
    temporary, home = tmp_path / "tmp", tmp_path / "home"
    temporary.mkdir()
    home.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    look(settings, connector)
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["home", "tmp"]
    before = load(connector, settings)["orders"].cursor
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path != temporary}
    look(settings, connector)
    assert {one: one.stat().st_mtime_ns for one in tmp_path.rglob("*") if one != temporary} == files
    again = load(connector, settings)["orders"].cursor
    assert before is not None
    assert again is not None
    assert again.start_value == before.last_value


def test_wrong_paging_is_told(api: ApiServer, settings: Settings) -> None:
    three = [{"id": number} for number in (1, 2, 3)]
    api.answers |= {
        "/same": {"data": three},
        "/total": {"data": three, "total": 9},
        "/link": {"data": three, "next": f"{api.url}/link?page=2"},
        "/full": three,
        "/all": three,
    }
    found = by_name(
        look(
            settings,
            make_connector(
                api.url,
                {"name": "same", "endpoint": {"path": "same", "paginator": PAGES}},
                *(
                    {"name": name, "endpoint": {"path": name, "paginator": "single_page"}}
                    for name in ("total", "link")
                ),
                {"name": "full", "endpoint": {"path": "full", "params": {"limit": 3}}},
                {"name": "all", "endpoint": {"path": "all"}},
            ),
        )
    )
    assert {name: one.paging.verdict for name, one in found.items()} == {
        "same": "failed",
        "total": "failed",
        "link": "failed",
        "full": "not proved",
        "all": "single page",
    }
    assert "the very records of page 1" in found["same"].problems[0]
    assert "states a total of 9" in found["total"].problems[0]
    assert "names a next page at `next`" in found["link"].problems[0]
    assert "the page is full (3 rows were asked for)" in found["full"].paging.evidence
    assert found["full"].problems == ()
    # what was read before the error is there, with its types
    assert found["same"].rows_read == 3


def test_the_same_rows_are_known_by_their_ids(api: ApiServer, settings: Settings) -> None:
    """An API that ignores the page, and whose rows differ from answer to answer."""
    api.answers["/posts"] = lambda _: [{"id": n, "views": len(api.seen) * n} for n in (1, 2, 3)]
    posts = {"name": "posts", "endpoint": {"path": "posts", "paginator": PAGES}}
    [found] = look(settings, make_connector(api.url, posts)).resources
    assert found.paging.verdict == "failed"
    assert found.paging.evidence == "the second page has only rows of the first"
    assert found.problems == (found.paging.evidence,)


def test_errors_and_keys_that_are_not_unique_are_told(api: ApiServer, settings: Settings) -> None:
    api.answers |= {
        "/broken": Answer({"error": "no"}, status=400),
        "/denied": {"data": [], "error": "not today"},
        "/twice": [{"id": 1, "a": 1}, {"id": 1, "a": 2}],
        "/late": [{"id": 1, "at": "2024-01-01"}, {"id": 2}],
    }
    found = look(
        settings,
        make_connector(
            api.url,
            "broken",
            "denied",
            {"name": "twice", "primary_key": "id"},
            {"name": "late", "endpoint": {"path": "late", "incremental": {"cursor_path": "at"}}},
        ),
    )
    resources = by_name(found)
    assert not found.is_fine
    assert "400" in resources["broken"].problems[0]
    assert "not today" in resources["denied"].problems[0]
    assert "primary_key id is not unique: different rows have 1" in resources["twice"].problems[0]
    # rows that no load would take are shown as they came
    assert resources["late"].table is None
    assert resources["late"].records == ({"id": 1, "at": "2024-01-01"}, {"id": 2})
    assert "at" in resources["late"].problems[0]


def test_dependents_are_read_below_the_first_parents(api: ApiServer, settings: Settings) -> None:
    api.answers["/orders"] = paged
    api.answers |= {f"/orders/{number}/notes": [{"text": "x"}] for number in range(1, 10)}
    notes = {"name": "notes", "endpoint": {"path": "orders/{resources.orders.id}/notes"}}
    connector = make_connector(api.url, ORDERS, {**notes, "write_disposition": "append"})
    found = by_name(look(settings, connector, resources=["notes"], limits=PreviewLimits(calls=2)))
    assert list(found) == ["orders", "notes"]
    assert [one.url.removeprefix(api.url) for one in found["notes"].requests] == [
        "/orders/1/notes",
        "/orders/2/notes",
    ]
    assert found["notes"].calls_left == 4
    assert found["notes"].rows_read == 2


def test_windows_without_rows_end_after_some_calls(api: ApiServer, settings: Settings) -> None:
    api.answers["/orders"] = []
    cursor = {
        "cursor_path": "changed",
        "initial_value": "2015-01-01T00:00:00Z",
        "start_param": "from",
        "end_param": "to",
        "window": {"size": "1h"},
    }
    endpoint = {"path": "orders", "incremental": cursor}
    connector = make_connector(
        api.url, {"name": "orders", "primary_key": "id", "endpoint": endpoint}
    )
    [orders] = look(settings, connector).resources
    assert [one.query["from"][11:13] for one in api.seen] == ["00", "01", "02"]
    assert orders.calls_left == 1


def test_a_row_that_comes_twice_unchanged_is_no_problem_of_its_key(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/orders"] = [{"id": 1, "a": 1}, {"id": 2}, {"id": 1, "a": 1}]
    connector = make_connector(api.url, {"name": "orders", "primary_key": "id"})
    assert look(settings, connector).is_fine


def test_bounds_move_the_cursor_of_the_preview_only(api: ApiServer, settings: Settings) -> None:
    api.answers["/orders"] = paged
    since = {
        **ORDERS,
        "endpoint": {**ORDERS["endpoint"], "params": {"since": "{incremental.start_value}"}},  # type: ignore[dict-item]
    }
    connector = make_connector(api.url, since, "countries")
    api.answers["/countries"] = [{"id": 1}]
    api.answers["/orders"] = lambda seen: {
        "data": [one for one in paged(seen)["data"] if one["changed"] >= seen.query["since"]]
    }
    [orders] = look(
        settings, connector, resources=["orders"], bounds=CursorBounds("2024-01-04")
    ).resources
    assert api.seen[0].query["since"] == "2024-01-04T00:00:00Z"
    assert orders.cursor is not None
    assert orders.cursor.start == "2024-01-04"
    [orders] = look(
        settings, connector, resources=["orders"], bounds=CursorBounds("2024-01-02", "2024-01-04")
    ).resources
    assert orders.rows_read == 2
    found = look(settings, connector, resources=["countries"], bounds=CursorBounds("2024-01-04"))
    assert "none of these resources has one" in found.problems[0]


def test_no_secret_is_in_a_preview(api: ApiServer, settings: Settings) -> None:
    api.answers["/orders"] = lambda seen: [{"id": 1, "echo": seen.query["key"]}]
    connector = make_connector(
        api.url,
        "orders",
        client={
            "auth": {"type": "api_key", "name": "key", "api_key": "${KEY}", "location": "query"}
        },
    )
    found = preview(
        connector,
        settings=settings,
        environment={"KEY": TOKEN},
        limits=PreviewLimits(answer_chars=1000),
    )
    assert api.seen[0].query == {"key": TOKEN}
    [request] = found.resources[0].requests
    assert request.url.endswith("?key=[secret]")
    assert request.answer == '[{"id": 1, "echo": "[secret]"}]'
    assert TOKEN not in repr(found) + str(found.as_dict())
    missing = preview(connector, settings=settings, environment={})
    assert "KEY" in missing.problems[0]


def test_it_ends_at_its_limits_with_what_was_read(api: ApiServer, settings: Settings) -> None:
    answered = threading.Event()

    async def slow_second_page(seen: Seen) -> Any:
        if seen.query["page"] == "1":
            return paged(seen)
        answered.set()
        await asyncio.sleep(30)
        return {}

    api.answers["/orders"] = slow_second_page
    connector = make_connector(api.url, ORDERS)
    found = look(settings, connector, limits=PreviewLimits(seconds=0.5))
    assert found.ended == "the time is up (0.5 s)"
    # in the middle of a request, however far it has come by then
    assert [one.status for one in found.resources[0].requests][-1:] in ([None], [])
    assert found.resources[0].problems == ()

    answered.clear()
    end = PreviewEnd()

    def stop() -> None:
        answered.wait(10)
        end.stop("by a person")

    stopper = threading.Thread(target=stop)
    stopper.start()
    found = look(settings, connector, end=end)
    stopper.join()
    assert (found.ended, found.resources[0].rows_read) == ("by a person", 3)
    assert found.resources[0].problems == ()

    api.answers["/orders"] = paged
    found = look(settings, connector, limits=PreviewLimits(megabytes=0.0005))
    assert found.ended == "the answers are larger than 0.0005 MB"
    assert found.resources[0].rows_read == 3


def test_only_hosts_that_the_file_names_are_asked(api: ApiServer, settings: Settings) -> None:
    with ApiServer({"/page": {"data": [{"id": 2}]}}) as other:
        api.answers["/links"] = {"data": [{"id": 1}], "next": f"{other.url}/page"}
        links = {
            "name": "links",
            "endpoint": {
                "path": "links",
                "data_selector": "data",
                "paginator": {"type": "json_link", "next_url_path": "next"},
            },
        }
        found = look(settings, make_connector(api.url, links))
        assert "links" in found.resources[0].problems[0]
        assert other.seen == []
        host = other.url.removeprefix("http://")
        allowed = make_connector(api.url, links, http={"allowed_hosts": [host]})
        assert look(settings, allowed).is_fine
        own = api.url.removeprefix("http://")
        found = look(settings, allowed, limits=PreviewLimits(hosts=frozenset({own})))
        assert not found.is_fine
        assert len(other.seen) == 1


def test_a_text_that_is_not_saved_is_previewed(api: ApiServer, settings: Settings) -> None:
    api.answers["/orders"] = [{"id": 1}]
    text = f"schedule: {{mode: manual}}\nclient: {{base_url: '{api.url}'}}\nresources: [orders]\n"
    given: dict[str, Any] = {"settings": settings, "environment": dict(os.environ)}
    found = preview_text(text, Path("shop.yaml"), **given)
    assert (found.connector, found.resources[0].rows_read) == ("shop", 1)
    found = preview_text(text.replace("resources", "resorces"), Path("shop.yaml"), **given)
    assert any("resorces" in problem for problem in found.problems)


def test_retries_of_a_request_are_counted(api: ApiServer, settings: Settings) -> None:
    answers = iter([Answer(status=503), [{"id": 1}]])
    api.answers["/orders"] = lambda _: next(answers)
    found = look(settings, make_connector(api.url, "orders"), sleep=lambda _: None)
    [request] = found.resources[0].requests
    assert (request.status, request.retries) == (200, 1)
