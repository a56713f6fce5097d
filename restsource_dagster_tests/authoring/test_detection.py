"""The detection alone: one answer in, guesses out."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restsource_dagster.authoring.detect_fields import (
    guess_cursors,
    guess_primary_key,
    parent_in_path,
    texts_without_order,
)
from restsource_dagster.authoring.detect_paging import guess_paginators
from restsource_dagster.authoring.detect_records import find_records
from restsource_dagster.authoring.guesses import SeenAnswer

URL = "https://api.example.com/v1/things"
TEN = [{"id": number} for number in range(10)]


def first_paginator(body: Any, url: str = URL, **headers: str) -> Any:
    answer = SeenAnswer(url, body, headers=headers)
    return guess_paginators(answer, find_records(answer).listed)[0].value


@pytest.mark.parametrize(
    ("body", "selector", "rows"),
    [
        ([], None, 0),
        ({"data": {"orders": TEN}}, "data.orders", 10),
        ({"things": TEN, "users": TEN * 2}, "things", 10),
        ({"id": 7, "name": "x", "addresses": [{"street": "a"}]}, "$", 1),
        ({"id": 7, "things": TEN}, "things", 10),
        ({"a b": {"x.y": TEN}}, '"a b"."x.y"', 10),
        ([["id", "n"], ["1", "a"], ["2", "b"]], "$", 2),
        ({"fields": [{"name": "id"}, {"name": "n"}], "values": [[1, 2]]}, "$", 1),
        ({"USD": 1.1, "GBP": 0.9}, "$", 1),
    ],
)
def test_rows_are_found(body: Any, selector: str | None, rows: int) -> None:
    found = find_records(SeenAnswer(URL, body))
    assert (found.selector, len(found.rows)) == (selector, rows)


@pytest.mark.parametrize(
    "body",
    [
        {"error": "no such shop"},
        {"success": False, "data": []},
        {"data": TEN, "errors": [{"message": "half of it failed"}]},
        "a text",
        7,
    ],
)
def test_an_error_has_no_rows(body: Any) -> None:
    found = find_records(SeenAnswer(URL, body))
    assert found.failure is not None
    assert found.guesses == ()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"data": TEN, "next": "/things?page=2"}, {"type": "json_link", "next_url_path": "next"}),
        (
            {"data": TEN, "links": [{"rel": "self", "href": "a"}, {"rel": "next", "href": "/b"}]},
            {"type": "json_link", "next_url_path": 'links[?(@.rel=="next")].href'},
        ),
        (
            {"data": TEN, "meta": {"nextPageToken": "x"}},
            {"type": "cursor", "cursor_path": "meta.nextPageToken", "cursor_param": "pageToken"},
        ),
        (
            {"data": TEN, "next_page": 2},
            {"type": "cursor", "cursor_path": "next_page", "cursor_param": "page"},
        ),
        (
            {"data": TEN, "has_more": True},
            {
                "type": "cursor",
                "cursor_path": "data[-1].id",
                "cursor_param": "starting_after",
                "has_more_path": "has_more",
            },
        ),
        ({"data": TEN[:3], "has_more": False}, "single_page"),
        (TEN[:3], "single_page"),
    ],
)
def test_the_first_guess_of_the_paging(body: Any, expected: Any) -> None:
    assert first_paginator(body) == expected


def test_headers_and_params_name_the_paging() -> None:
    assert first_paginator(TEN, **{"X-Next-Page-Url": "https://a/b"}) == {
        "type": "header_link",
        "next_url_header": "X-Next-Page-Url",
    }
    assert first_paginator(TEN, f"{URL}?$skip=0&$top=10") == {
        "type": "offset",
        "limit": 10,
        "offset_param": "$skip",
        "limit_param": "$top",
        "total_path": None,
    }
    assert first_paginator(TEN, f"{URL}?page[number]=1")["page_param"] == "page[number]"


def test_keys_are_unique_named_as_keys_and_in_each_row() -> None:
    def key(*rows: Any, resource: str = "things") -> Any:
        guess = guess_primary_key(rows, resource)
        return guess and (guess.value, guess.confidence)

    assert key({"id": 1}, {"id": 2}) == ("id", "likely")
    assert key({"thing_id": 1, "n": 1}, {"thing_id": 2, "n": 2}) == ("thing_id", "likely")
    assert key({"code": "a"}, {"code": "b"}) == ("code", "possible")
    assert key({"id": 1}, {"id": 1}) is None
    assert key({"id": 1}, {"n": 2}) is None
    assert key({"id": 1.5}, {"id": 2.5}) is None
    assert key({"n": 1}, {"n": 2}) is None
    assert key({"id": 1}) is None


def test_cursors_of_filters_orders_and_counters() -> None:
    def cursor(query: str, *rows: Any) -> Any:
        guesses = guess_cursors(SeenAnswer(f"{URL}?{query}", list(rows)), rows)
        return guesses and (guesses[0].value, guesses[0].confidence)

    one, other = {"modified": 1704067200, "n": 5}, {"modified": 1704153600, "n": 4}
    assert cursor("modified[gte]=1704067200", one, other) == (
        {
            "cursor_path": "modified",
            "initial_value": 1704067200,
            "start_param": "modified[gte]",
        },
        "likely",
    )
    assert cursor("sort=-n", one, other)[0] == {"cursor_path": "modified", "row_order": "asc"}
    assert cursor("sort=-n", {"n": 5}, {"n": 4}) == (
        {"cursor_path": "n", "row_order": "desc"},
        "likely",
    )
    # the API is asked in another spelling than its rows have
    at = {"updated_at": "2024-01-02T10:00:00Z"}
    assert cursor("updated_since=2024-01-01", at, at)[0]["convert"] == "date"
    assert cursor("updated_since=1704067200", at, at)[0] == {
        "cursor_path": "updated_at",
        "initial_value": "2024-01-01T00:00:00Z",
        "start_param": "updated_since",
        "convert": "epoch_seconds",
    }
    # an amount between 1973 and 2286 is no time
    assert cursor("", {"amount": 1704067200}, {"amount": 1704067201}) == ()


def test_ids_in_paths_name_parents() -> None:
    found = parent_in_path(["v1", "users", "42", "orders"])
    assert found is not None
    assert (found.parent, found.name, found.value) == ("v1/users", "users", "42")
    assert found.path_with("id") == "v1/users/{resources.users.id}/orders"
    assert parent_in_path(["users", "42"]) is None
    assert parent_in_path(["v1", "orders"]) is None


_names = st.sampled_from(
    ["id", "data", "next", "links", "total", "page", "columns", "rows", "error", "a b", "x.y", ""]
)
_bodies = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 50)
    | st.sampled_from(["", "a", "27/11/2026", "2024-01-01T00:00:00Z", "https://a/b", "next"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=5),
    max_leaves=30,
)


@settings(max_examples=200)
@given(body=_bodies, query=st.sampled_from(["", "?page=1", "?offset=0&limit=10&since=2024-01-01"]))
def test_any_json_is_taken(body: Any, query: str) -> None:
    answer = SeenAnswer(f"{URL}{query}", body)
    found = find_records(answer)
    guesses = [
        *found.guesses,
        *guess_paginators(answer, found.listed),
        *guess_cursors(answer, found.rows),
        *texts_without_order(found.rows),
    ]
    assert json.dumps([guess.as_dict() for guess in guesses])
