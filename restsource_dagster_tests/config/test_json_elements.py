"""The elements of one list are found where the tree of all places has them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.config.json_elements import element_offsets
from restsource_dagster.config.json_scan import places_of
from restsource_dagster_tests.config.stock_dlt import CORPUS

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def offsets_by_place(text: str) -> list[int]:
    return [place.value for place in places_of(text).children["list"].children.values()]


@given(
    before=st.dictionaries(st.text(), values, max_size=3),
    elements=st.lists(values, max_size=5),
    after=st.dictionaries(st.text(), values, max_size=3),
    indent=st.none() | st.integers(0, 3),
    ascii_only=st.booleans(),
)
def test_any_list_of_any_object_has_its_elements_where_they_are(
    before: dict[str, Any],
    elements: list[Any],
    after: dict[str, Any],
    indent: int | None,
    ascii_only: bool,
) -> None:
    value = {**before, "list": elements, **{k: v for k, v in after.items() if k != "list"}}
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert element_offsets(text, "list") == offsets_by_place(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"list": []}',
        '{"\\u006cist": [1, "a", {"list": [2]}]}',
        '{"a": {"list": [1]}, "list": [[1], [], {}]}',
        '{"a": ["list", 1], "b": "list", "list":[0]}',
        '{"a": "\\"list\\": [", "list" : [ "]" , "}" ] }',
    ],
)
def test_keys_and_texts_that_look_alike_are_told_apart(text: str) -> None:
    assert element_offsets(text, "list") == offsets_by_place(text)


@pytest.mark.parametrize(
    "path", sorted((CORPUS / "valid").glob("*.json")), ids=lambda path: path.stem
)
def test_the_resources_of_every_file_of_the_corpus_are_found(path: Any) -> None:
    text = path.read_text(encoding="utf-8-sig")
    places = places_of(text).children["resources"].children.values()
    assert element_offsets(text, "resources") == [place.value for place in places]
