"""Values of parents and cursors in paths, params, headers and bodies: each is written for its place."""

from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.engine.dlt_compat import join_url
from restsource_dagster.engine.errors import CallValueError
from restsource_dagster.engine.plan.call_values import fill_path, fill_values

SIGNED = "https://files.example.com/a.json?d=a%3B%20f%3D%22a%2Bb%22&sig=a%2Fb%3D%3D&x=1+2"
NO_CURSOR = {"incremental": SimpleNamespace(start_value=None, end_value=None)}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def sent_url(path: str) -> str:
    request = requests.Request("GET", join_url("https://api.example.com/v1", path))
    return str(request.prepare().url)


@pytest.mark.parametrize(
    ("path", "value", "filled"),
    [
        ("a/{x}/b", "feature/x", "a/feature%2Fx/b"),
        ("a/{x}/b", "fix#12", "a/fix%2312/b"),
        ("a/{x}/b", "a?b&c=1", "a/a%3Fb%26c%3D1/b"),
        ("a/{x}/b", "50%", "a/50%25/b"),
        ("a/{x}/b", "ü ", "a/%C3%BC%20/b"),
        ("a/{x}/b", 7, "a/7/b"),
        ("a/{x}/b", True, "a/true/b"),
        ("a/{x:03d}", 7, "a/007"),
        ("{x}/b", "c d", "c%20d/b"),
        ("a?q={x}&r=1", "x&y=1 +", "a?q=x%26y%3D1%20%2B&r=1"),
        ("a?q={x}", "", "a?q="),
        ("a?ids={x}", ["m", "n"], "a?ids=%5B%22m%22%2C%20%22n%22%5D"),
        # a placeholder that is the whole path, the whole query, or the URL at the start
        ("{x}", SIGNED, SIGNED),
        ("{x}", "orders/1?a=b", "orders/1?a=b"),
        (
            "{x}/comments",
            "https://api.example.com/v1/p/1",
            "https://api.example.com/v1/p/1/comments",
        ),
        ("{x}/comments", "/v1/p/1", "/v1/p/1/comments"),
        ("a?{x}", "p=1&q=2", "a?p=1&q=2"),
    ],
)
def test_a_value_in_a_path_is_encoded_for_its_place(path: str, value: Any, filled: str) -> None:
    assert fill_path(path, {"x": value}) == filled


@pytest.mark.parametrize("value", ["", ".", ".."])
@pytest.mark.parametrize("path", ["a/{x}/b", "{x}/b", "a/{x}", "a/{x}?b=1"])
def test_a_value_that_would_lead_to_another_path_is_refused(path: str, value: str) -> None:
    with pytest.raises(CallValueError, match="another path"):
        fill_path(path, {"x": value})


def test_dots_within_a_segment_are_sent() -> None:
    assert fill_path("a/v{x}/b", {"x": "."}) == "a/v./b"
    assert fill_path("a/{x}/b", {"x": "..."}) == "a/.../b"


@given(TEXTS)
def test_any_text_is_one_segment_of_the_url_that_is_sent(text: str) -> None:
    try:
        path = fill_path("a/{x}/b", {"x": text})
    except CallValueError:
        assert text in ("", ".", "..")
        return
    parts = urlsplit(sent_url(path))
    segments = parts.path.split("/")
    assert (segments[:3], segments[4:]) == (["", "v1", "a"], ["b"])
    assert (unquote(segments[3]), parts.query, parts.fragment) == (text, "", "")


@given(TEXTS, TEXTS)
def test_any_text_is_one_value_of_the_query_that_is_sent(one: str, other: str) -> None:
    url = sent_url(fill_path("a?one={x}&other={y}", {"x": one, "y": other}))
    query = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    assert query == [("one", one), ("other", other)]


def test_true_and_false_are_written_as_json_writes_them() -> None:
    given = {"a": True, "b": [False, 1], "c": "{x}", "d": "is {x}", "e": 1.5, "f": None}
    assert fill_values(given, {"x": True}) == {
        "a": "true",
        "b": ["false", 1],
        "c": "true",
        "d": "is true",
        "e": 1.5,
        "f": None,
    }


def test_a_json_body_keeps_the_types_of_its_values() -> None:
    given = {"a": True, "b": "{x}", "c": "is {x}", "d": ["{y}"]}
    filled = fill_values(given, {"x": False, "y": {"z": 1}}, keeps_types=True)
    assert filled == {"a": True, "b": False, "c": "is false", "d": [{"z": 1}]}


@pytest.mark.parametrize("keeps_types", [False, True])
def test_what_is_only_a_cursor_without_a_value_is_left_out(keeps_types: bool) -> None:
    given = {
        "since": "{incremental.start_value}",
        "inner": {"until": "{incremental.end_value}", "n": 1},
        "list": ["{incremental.start_value}", "a"],
    }
    filled = fill_values(given, NO_CURSOR, keeps_types=keeps_types)
    assert filled == {"inner": {"n": 1}, "list": ["a"]}


def test_a_longer_text_with_a_cursor_without_a_value_is_refused() -> None:
    for fill in (fill_path, fill_values):
        with pytest.raises(CallValueError, match="initial_value"):
            fill("since:{incremental.start_value}", NO_CURSOR)


def test_a_format_that_the_value_can_not_have_is_refused_by_name() -> None:
    with pytest.raises(CallValueError, match="x:%s"):
        fill_values({"a": "{x:%s}"}, {"x": "text"})
