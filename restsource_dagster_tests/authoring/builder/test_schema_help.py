"""What the editor offers while one types: the names and values of the schema at that place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.authoring.builder.schema_help import SchemaHelp, help_at


def at(text: str) -> SchemaHelp:
    """The help at the bar in a text."""
    return help_at(text.replace("|", ""), text.index("|"))


def labels(text: str) -> set[str]:
    return {one.label for one in at(text).completions}


@pytest.mark.parametrize(
    ("text", "offered", "not_offered"),
    [
        ('{"|"}', {"schedule", "client", "resources", "template"}, {"path"}),
        ('{"schedule": {}, "|"}', {"client"}, {"schedule"}),
        ('{"schedule": {"mode": "|"}}', {"hours", "days", "manual"}, {"bearer"}),
        ('{"client": {"auth": {"type": |}}}', {"bearer", "api_key", "hmac"}, set()),
        ('{"client": {"auth": {"|", "type": "bearer"}}}', {"token"}, {"api_key"}),
        ('{"client": {"paginator": {"type": "offset", "|', {"limit_param"}, {"next_url_path"}),
        ('{"resources": ["a", {"name": "b", "endpoint": {"', set(), set()),
        ('{"resources": [{"name": "a", "endpoint": {"pa|', {"path", "params"}, {"name", "client"}),
        ('{"resources": [{"write_disposition": "|', {"merge", "append", "replace"}, set()),
        ('{"client": {"headers": {"X-|": "b"}}}', set(), {"path"}),
    ],
)  # fmt: skip
def test_names_and_values_of_the_place_are_offered(
    text: str, offered: set[str], not_offered: set[str]
) -> None:
    found = labels(text) if "|" in text else set()
    assert offered <= found
    assert not found & not_offered


def test_a_name_is_written_with_its_colon_and_the_form_of_its_value() -> None:
    [found] = [one for one in at('{"resou|').completions if one.label == "resources"]
    assert (found.text, found.kind) == ('"resources": []', "property")
    [again] = [one for one in at('{"resou|": []}').completions if one.label == "resources"]
    assert again.text == '"resources"'
    assert (at('{"resou|": []}').begin, at('{"resou|": []}').end) == (1, 8)


def test_a_field_is_explained() -> None:
    text = '{"resources": [{"name": "a", "prim|ary_key": "id"}]}'
    assert "identify a row" in at(text).explanation
    assert at("|{}").explanation == ""
    assert at('{"unknown": {"x|": 1}}').completions == ()


def in_yaml(text: str) -> SchemaHelp:
    return help_at(text.replace("|", "", 1), text.index("|"), is_yaml=True)


RESOURCE = "resources:\n  - name: orders\n    endpoint:\n"


@pytest.mark.parametrize(
    ("text", "offered", "not_offered"),
    [
        ("|", {"schedule", "client", "resources"}, {"path"}),
        ("schedule:\n  mode: hours\ncli|", {"client"}, {"schedule"}),
        ("schedule:\n  mode: |", {"hours", "manual"}, {"bearer"}),
        ("schedule:\n  mode: ho|\nclient: {}", {"hours"}, {"schedule"}),
        ("schedule:\n  |\nclient:\n  base_url: x", {"mode", "interval"}, {"client"}),
        ("schedule: {mo|}", {"mode", "interval"}, {"client"}),
        ("client:\n  auth:\n    |\n    type: bearer", {"token"}, {"api_key"}),
        ("client:\n  auth: |", {"bearer", "api_key"}, set()),
        (f"{RESOURCE}      pa|", {"path", "params"}, {"name", "client"}),
        (f"{RESOURCE}      path: a\n    wri|", {"write_disposition"}, {"path", "name"}),
        (f"{RESOURCE}      path: a\n  - na|", {"name"}, {"client"}),
        (f"{RESOURCE}      path: a\n  - name: b\n    |", {"endpoint"}, {"name"}),
        ("resources:\n- name: a\n  |\nclient: {}", {"endpoint"}, {"name", "client"}),
        ("resources:\n- name: a\n  endpoint: {path: a, |}", {"params"}, {"path"}),
        ("resources:\n- name: a\ncl|", {"client"}, {"endpoint"}),
        (f"{RESOURCE}      graphql:\n        query: >\n          {{ a: |b }}", set(), {"path"}),
        ("# a com|ment", set(), {"client"}),
    ],
)  # fmt: skip
def test_names_and_values_of_a_place_in_yaml_are_offered(
    text: str, offered: set[str], not_offered: set[str]
) -> None:
    found = {one.label for one in in_yaml(text).completions}
    assert offered <= found
    assert not found & not_offered


def test_names_in_yaml_are_written_with_the_lines_below_them() -> None:
    texts = {one.label: one.text for one in in_yaml("schedule: {}\n|").completions}
    assert texts["client"] == "client:\n  "
    assert texts["resources"] == "resources:\n  - "
    assert texts["name"] == "name: "
    [again] = [one for one in in_yaml("resou|: []").completions if one.label == "resources"]
    assert again.text == "resources"
    values = {one.label: one.text for one in in_yaml("schedule:\n  mode: m|").completions}
    assert values["manual"] == "manual"
    assert "identify a row" in in_yaml("resources:\n  - name: a\n    prim|ary_key: id").explanation


@given(st.text(alphabet="a-: \n{}[]\"'#|>,", max_size=60), st.integers(0, 60))
def test_any_yaml_gets_an_answer(text: str, offset: int) -> None:
    at = min(offset, len(text))
    found = help_at(text, at, is_yaml=True)
    assert 0 <= found.begin <= found.end <= len(text)
