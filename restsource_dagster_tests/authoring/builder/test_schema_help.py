"""What the editor offers while one types: the names and values of the schema at that place."""

import pytest

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
