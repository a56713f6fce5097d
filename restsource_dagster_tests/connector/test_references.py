"""`${NAME}`: found anywhere, resolved everywhere or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.connector.env_references import (
    MissingReferencesError,
    find_references,
    resolve_references,
    without_references,
)


def test_references_are_found_in_values_and_keys_and_lists() -> None:
    value = {"${A}": ["x${B}y${C}", {"z": "${_D1}"}], "n": 1}

    assert find_references(value) == {"A", "B", "C", "_D1"}


@pytest.mark.parametrize("text", ["$A", "${}", "${1A}", "${A-B}", "$${A}", "{A}", "${A", "$ {A}"])
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
