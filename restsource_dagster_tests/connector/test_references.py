"""`${NAME}`: found anywhere, resolved everywhere or not at all."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.connector.env_references import (
    MissingReferencesError,
    find_references,
    read_references,
    resolve_references,
    without_references,
)


def test_references_are_found_in_values_and_keys_and_lists() -> None:
    value = {"${A}": ["x${B}y${C}", {"z": "${_D1}"}], "n": 1}

    assert find_references(value) == {"A", "B", "C", "_D1"}


@pytest.mark.parametrize(
    "text",
    [
        "$A",
        "${}",
        "${A:b}",
        "${file:a}",
        "${file:}",
        "${dlt:}",
        "${1A}",
        "${A-B}",
        "$${A}",
        "{A}",
        "${A",
        "$ {A}",
    ],
)
def test_what_only_looks_like_a_reference_is_none(text: str) -> None:
    assert find_references(text) == frozenset()


@pytest.mark.parametrize(
    ("text", "resolved"),
    [
        ("${A}", "1"),
        ("Bearer ${A}${B}", "Bearer 12"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("{resources.x.id}", "{resources.x.id}"),
        ("${A} {{x}}", "1 {{x}}"),
        ("$$", "$$"),
    ],
)
def test_references_are_replaced_and_all_else_stays(text: str, resolved: str) -> None:
    assert resolve_references({text: [text]}, {"A": "1", "B": "2"}) == {resolved: [resolved]}


def test_a_value_is_not_resolved_again() -> None:
    assert resolve_references("${A}", {"A": "${B}", "B": "no"}) == "${B}"


def test_all_missing_names_are_told_at_once() -> None:
    with pytest.raises(
        MissingReferencesError, match=r"Not set in the environment: A, C\."
    ) as caught:
        resolve_references({"x": "${C}", "y": ["${A}", "${B}"]}, {"B": "here"})

    assert caught.value.names == ("A", "C")


def test_an_empty_variable_is_there() -> None:
    assert resolve_references("${A}", {"A": ""}) == ""


def test_the_original_is_left_alone() -> None:
    value = {"x": ["${A}"]}

    resolve_references(value, {"A": "1"})

    assert value == {"x": ["${A}"]}


@given(st.text(alphabet="${}AB_1 "))
def test_what_checks_see_has_the_braces_that_dlt_will_see(text: str) -> None:
    environment = dict.fromkeys(find_references(text), "x")

    assert without_references(text) == resolve_references(text, environment)


def read(text: str, environment: dict[str, str], look_up: dict[str, str]) -> str:
    values = read_references(find_references(text), environment, look_up.get)
    return resolve_references(text, values)


@pytest.mark.parametrize(
    ("environment", "text"),
    [({}, "x y"), ({"A": ""}, "x y"), ({"A": "\n"}, "x y"), ({"A": "1"}, "1")],
)
def test_a_default_stands_for_a_variable_that_is_not_set_or_empty(
    environment: dict[str, str], text: str
) -> None:
    assert read("${A:-x y}", environment, {}) == text


def test_a_default_may_be_empty() -> None:
    assert read("<${A:-}>", {}, {}) == "<>"


def test_a_file_is_read_without_its_last_line_break(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("a\nb\n")

    assert read(f"Bearer ${{file:{path}}}", {}, {}) == "Bearer a\nb"


def test_a_setting_of_dlt_is_looked_up_by_its_key() -> None:
    assert read("${dlt:sources.shop.token}", {}, {"sources.shop.token": "1"}) == "1"


def test_all_that_is_missing_empty_or_unreadable_is_told_at_once(tmp_path: Path) -> None:
    empty, binary, large = (tmp_path / name for name in ("empty", "binary", "large"))
    empty.write_text("\n")
    binary.write_bytes(b"\xff\xfe")
    large.write_bytes(b"x" * 70_000)
    files = [empty, binary, large, tmp_path, tmp_path / "none"]
    texts = ["${A}", "${B}", "${dlt:no.key}", *(f"${{file:{path}}}" for path in files)]

    with pytest.raises(MissingReferencesError) as caught:
        read_references(find_references(texts), {"B": ""}, lambda _: None)

    message = str(caught.value)
    assert message.startswith("Not set in the environment: A. ")
    assert "`${B}` is empty. Give it a value, or write `${B:-}` if it may be empty." in message
    assert "`${dlt:no.key}`: dlt has no value for no.key. " in message
    assert f"`${{file:{empty}}}` is empty." in message
    assert f"`${{file:{binary}}}` is not text in UTF-8." in message
    assert f"`${{file:{large}}}` has more than 64 KiB" in message
    assert f"`${{file:{tmp_path}}}` can't be read: Is a directory." in message
    assert f"`${{file:{tmp_path / 'none'}}}` can't be read: No such file or directory." in message
