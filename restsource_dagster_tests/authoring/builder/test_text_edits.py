"""One value of a text is changed, and all else stays as it is written."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from restsource_dagster.authoring.builder.text_edits import (
    TextEditError,
    on_lines,
    with_value,
    without_value,
)

JSON = Path("shop.json")
YAML = Path("shop.yaml")
TEXT = """{
\t"schedule": {"mode": "hours"},
  "resources": [
    {"name": "a", "endpoint": {"path": "a"}},
    {
      "name": "b",
      "endpoint": {
        "path": "b"
      }
    },
    {"name": "é😀", "endpoint": {}}
  ]
}
"""
YAML_TEXT = """\
schedule: {mode: hours}  # every hour
resources:
  - name: a  # the first
    endpoint:
      path: a   # where
      # the end

  # next
  - b
"""


@pytest.mark.parametrize(
    ("steps", "value", "line"),
    [
        (("resources", 0, "endpoint", "data_selector"), "data", '{"path": "a", "data_selector": "data"}'),
        (("resources", 1, "endpoint", "path"), "c", '        "path": "c"'),
        (("resources", 1, "primary_key"), ["x", "y"], '      },\n      "primary_key": ["x", "y"]\n'),
        (("resources", 1, "endpoint", "incremental", "cursor_path"), "at", '"b",\n        "incremental": {"cursor_path": "at"}'),
        (("resources", 2, "endpoint", "path"), "ü", '{"name": "é😀", "endpoint": {"path": "ü"}}'),
        (("resources", 0, "endpoint"), {"path": "q"}, '{"name": "a", "endpoint": {"path": "q"}}'),
    ],
)  # fmt: skip
def test_a_value_is_written_where_it_belongs(
    steps: tuple[str | int, ...], value: Any, line: str
) -> None:
    made = with_value(TEXT, JSON, steps, value)
    assert line in made
    expected = json.loads(TEXT)
    holder = expected
    for step in steps[:-1]:
        holder = holder.setdefault(step, {}) if isinstance(step, str) else holder[step]
    holder[steps[-1]] = value
    assert json.loads(made) == expected
    # nothing but this place has changed
    assert len(set(made.splitlines()) ^ set(TEXT.splitlines())) <= 3


def test_a_long_value_has_several_lines() -> None:
    value = {"type": "offset", "limit": 100, "offset_param": "o" * 40, "limit_param": "l" * 40}
    made = with_value(TEXT, JSON, ("resources", 1, "endpoint", "paginator"), value)
    assert '        "paginator": {\n          "type": "offset",\n' in made
    assert json.loads(made)["resources"][1]["endpoint"]["paginator"] == value


@pytest.mark.parametrize(
    "steps", [("schedule",), ("resources", 1, "name"), ("resources", 0, "endpoint", "path")]
)
def test_a_value_is_taken_out(steps: tuple[str | int, ...]) -> None:
    expected = json.loads(TEXT)
    holder = expected
    for step in steps[:-1]:
        holder = holder[step]
    del holder[steps[-1]]
    assert json.loads(without_value(TEXT, JSON, steps)) == expected


def test_what_was_put_in_can_be_taken_out_again() -> None:
    for steps in (("resources", 0, "primary_key"), ("resources", 1, "endpoint", "method")):
        assert without_value(with_value(TEXT, JSON, steps, "x"), JSON, steps) == TEXT
    assert without_value(TEXT, JSON, ("resources", 0, "unknown")) == TEXT


@pytest.mark.parametrize(
    ("steps", "value", "line"),
    [
        (("resources", 0, "endpoint", "data_selector"), "data", '# where\n      data_selector: "data"\n      # the end'),
        (("resources", 0, "endpoint", "path"), "c", '      path: "c"   # where'),
        (("resources", 0, "endpoint"), {"path": "q"}, '    endpoint: {"path": "q"}   # where'),
        (("resources", 1), {"name": "b"}, '  # next\n  - {"name": "b"}'),
        (("schedule", "interval"), 2, 'schedule: {mode: hours, "interval": 2}  # every hour'),
    ],
)  # fmt: skip
def test_yaml_keeps_its_comments(steps: tuple[str | int, ...], value: Any, line: str) -> None:
    made = with_value(YAML_TEXT, YAML, steps, value)
    assert line in made
    found = yaml.safe_load(made)
    for step in steps:
        found = found[step]
    assert found == value
    assert made.count("#") == YAML_TEXT.count("#")


def test_yaml_loses_the_only_field_of_an_object_with_the_object() -> None:
    made = without_value(YAML_TEXT, YAML, ("resources", 0, "endpoint", "path"))
    assert yaml.safe_load(made)["resources"][0] == {"name": "a"}


@pytest.mark.parametrize(
    ("text", "steps"),
    [("{", ("a",)), ("", ("a",)), (TEXT, ("schedule", "mode", "deeper")), (TEXT, ("resources", 9))],
)
def test_a_place_that_can_not_be_written_is_refused(
    text: str, steps: tuple[str | int, ...]
) -> None:
    with pytest.raises(TextEditError):
        with_value(text, JSON, steps, 1)


def test_an_object_on_a_line_that_is_too_long_gets_lines_of_its_own() -> None:
    short = '{\n  "resources": [{"name": "a", "endpoint": {"path": "a"}}]\n}\n'
    assert on_lines(short, JSON, ("resources", 0)) == short
    steps = ("resources", 0, "endpoint", "paginator")
    made = with_value(short, JSON, steps, {"type": "json_link", "next_url_path": "links.next"})
    made = with_value(made, JSON, ("resources", 0, "primary_key"), ["id", "region"])
    shown = on_lines(made, JSON, ("resources", 0))
    assert json.loads(shown) == json.loads(made)
    assert '  "resources": [{\n    "name": "a",\n    "endpoint": {' in shown
    assert shown.endswith('    "primary_key": ["id", "region"]\n  }]\n}\n')
    assert on_lines(shown, JSON, ("resources", 0)) == shown
