"""A preview of what is typed, the guesses that follow, and what a click on an answer writes."""

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from restsource_dagster.authoring.builder.edited_file import EditedFile
from restsource_dagster.authoring.builder.file_preview import STOPPED, FilePreview
from restsource_dagster.authoring.builder.resource_guesses import guesses_of, offers_at, take
from restsource_dagster.authoring.guesses import SeenAnswer
from restsource_dagster.authoring.preview_answers import seen_answers
from restsource_dagster_tests.making import make_settings
from restsource_dagster_tests.servers.api import ApiServer, Seen
from restsource_dagster_tests.waiting import PATIENCE_SECONDS, wait_until

TOKEN = "s3cr3t-of-the-shop"
ROWS = [{"id": n, "name": f"n{n}", "at": f"2026-01-{n:02d}T00:00:00Z"} for n in range(1, 11)]


def orders(seen: Seen) -> Any:
    page = int(seen.query.get("page", 1))
    following = f"/orders?page={page + 1}" if page < 2 else None
    return {"found": ROWS[(page - 1) * 5 : page * 5], "paging": {"next": following}}


@pytest.fixture
def file(api: ApiServer, tmp_path: Path) -> EditedFile:
    api.answers["/orders"] = orders
    value = {
        "schedule": {"mode": "hours"},
        "client": {"base_url": api.url, "auth": {"type": "bearer", "token": "${SHOP_TOKEN}"}},
        "resources": [
            {"name": "orders", "endpoint": {"path": "orders", "params": {"page": 1, "x": "y"}}}
        ],
    }
    return EditedFile(tmp_path / "shop.json", None, json.dumps(value, indent=2))


@pytest.fixture
def preview(file: EditedFile, tmp_path: Path) -> Iterator[FilePreview]:
    made = FilePreview(file, make_settings(tmp_path), lambda: {"SHOP_TOKEN": TOKEN})
    yield made
    made.stop()
    made.wait(PATIENCE_SECONDS)


def looked_at(preview: FilePreview) -> None:
    preview.start("orders")
    preview.wait(PATIENCE_SECONDS)
    assert preview.failure is None


def test_guesses_are_taken_until_the_paging_is_proved(
    file: EditedFile, preview: FilePreview
) -> None:
    looked_at(preview)
    seen = preview.seen("orders")
    assert seen is not None
    assert len(preview.requests) == len(seen.requests)
    by_place = {one.guess.place: one for one in reversed(guesses_of(file, seen))}
    assert set(by_place) >= {"endpoint.data_selector", "endpoint.paginator", "primary_key"}
    for place in ("endpoint.data_selector", "endpoint.paginator", "primary_key"):
        assert by_place[place].can_take
        take(file, "orders", place, by_place[place].guess.value)

    assert file.in_resource("orders", "endpoint.data_selector") == "found"
    link = {"type": "json_link", "next_url_path": "paging.next"}
    assert file.in_resource("orders", "endpoint.paginator") == link
    assert file.in_resource("orders", "primary_key") == "id"
    assert file.problems == []

    looked_at(preview)
    seen = preview.seen("orders")
    assert seen is not None
    assert seen.paging.verdict == "proved"
    again = {one.guess.place: one for one in reversed(guesses_of(file, seen))}
    assert again["endpoint.paginator"].is_in_file
    assert again["endpoint.paginator"].guess.confidence == "proved"
    assert not again["primary_key"].can_take
    assert preview.forecast is not None
    assert preview.forecast.each_run == 2
    assert not file.path.exists()
    assert TOKEN not in repr(preview.result)


def test_a_paginator_takes_the_params_out_that_it_sends_itself(file: EditedFile) -> None:
    take(file, "orders", "endpoint.paginator", {"type": "page_number", "page_param": "page"})
    assert file.in_resource("orders", "endpoint.params") == {"x": "y"}
    take(file, "orders", "endpoint.incremental", {"cursor_path": "at", "start_param": "x"})
    assert file.in_resource("orders", "endpoint.params") is None


def test_a_click_on_an_answer_says_what_it_is(file: EditedFile, preview: FilePreview) -> None:
    looked_at(preview)
    seen = preview.seen("orders")
    assert seen is not None
    answer = seen_answers(seen)[0]
    labels = {
        steps: [(one.label, one.place, one.value) for one in offers_at(answer, steps)]
        for steps in (("found",), ("found", 0, "id"), ("paging", "next"), ("paging",))
    }
    assert labels["found",] == [("Rows are here", "endpoint.data_selector", "found")]
    assert labels["found", 0, "id"] == [
        ("This is the key", "primary_key", "id"),
        ("This is the cursor", "endpoint.incremental", {"cursor_path": "id"}),
    ]
    link = {"type": "json_link", "next_url_path": "paging.next"}
    assert [one[1:] for one in labels["paging", "next"]] == [("endpoint.paginator", link)]
    assert labels["paging",] == []


def test_a_token_for_the_next_page_and_an_answer_that_is_a_list_are_known() -> None:
    body = {"items": [{"id": 1, "in": {"at": "2026"}}], "next_cursor": "abc"}
    answer = SeenAnswer("https://api.example.com/items", body)
    offer, *_ = offers_at(answer, ("next_cursor",))
    assert offer.value["type"] == "cursor"
    assert offer.value["cursor_path"] == "next_cursor"
    [inner] = offers_at(answer, ("items", 0, "in", "at"))
    assert inner.value == {"cursor_path": "in.at"}
    bare = SeenAnswer("https://api.example.com/items", body["items"])
    assert [one.value for one in offers_at(bare, ())] == [None]


def test_a_preview_is_stopped_in_the_middle_of_a_request(
    api: ApiServer, preview: FilePreview
) -> None:
    reached, done = Event(), Event()

    def slow(seen: Seen) -> Any:
        reached.set()
        done.wait(PATIENCE_SECONDS)
        return orders(seen)

    api.answers["/orders"] = slow
    preview.start("orders")
    assert reached.wait(PATIENCE_SECONDS)
    assert preview.is_running
    preview.stop()
    wait_until(lambda: not preview.is_running, "the end of the preview")
    done.set()
    assert preview.result is not None
    assert preview.result.ended == STOPPED


def test_a_file_with_mistakes_and_a_missing_variable_are_problems_of_the_preview(
    file: EditedFile, tmp_path: Path
) -> None:
    preview = FilePreview(file, make_settings(tmp_path), dict)
    looked_at(preview)
    assert preview.result is not None
    assert "SHOP_TOKEN" in preview.result.problems[0]
    file.text = file.text.replace('"hours"', '"hour"')
    looked_at(preview)
    assert "`mode`" in preview.result.problems[0]
