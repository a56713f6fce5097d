"""YAML is read as another notation of JSON: the same values, no tags, no surprises."""

from pathlib import Path

import pytest

from restsource_dagster.connector.parsing.document import Document
from restsource_dagster_tests.connector.parsing.reading import only, read, value

YAML_SCALARS = {
    "2024-01-01": "2024-01-01", "2001-12-14t21:59:43.10-05:00": "2001-12-14t21:59:43.10-05:00",
    "12:30:45": "12:30:45", "yes": "yes", "No": "No", "on": "on", "off": "off", "y": "y",
    "true": True, "False": False, "null": None, "~": None, "": None, "'1'": "1", '"true"': "true",
    "0o17": 15, "017": 17, "0x1F": 31, "+12": 12, "1_000": "1_000", "1.": 1.0, ".5": 0.5,
    "-1e3": -1000.0, "${TOKEN}": "${TOKEN}", "a#b": "a#b", "|\n  x\n  y": "x\ny",
}  # fmt: skip


@pytest.mark.parametrize("text", YAML_SCALARS)
def test_yaml_scalars_are_those_of_yaml_1_2(tmp_path: Path, text: str) -> None:
    assert value(tmp_path, f"a: {text}", "x.yml") == {"a": YAML_SCALARS[text]}


YAML_MISTAKES = [
    ("a: 1\nb: 2\na: 3", 3, 1, "twice"),
    ("1: a", 1, 1, "Keys are texts"),
    ("true: a", 1, 1, "Keys are texts"),
    ("? [a]\n: b", 1, 3, "Keys are texts"),
    ("a: !!python/name:os.system x", 1, 4, "Tags"),
    ("a: !secret\n  b: 1", 1, 4, "Tags"),
    ("a: .nan", 1, 4, "no such number"),
    ("a: -.inf", 1, 4, "no such number"),
    ("a: " + "9" * 5000, 1, 4, "too long"),
    (r'a: "\ud83d"', 1, 4, "surrogate"),
    ("a: *b", 1, 4, "no anchor"),
    ("a: &a [*a]", 1, 8, "holds it"),
    ("a: &x {b: 1}\nc:\n  <<: *x", 3, 3, "<<"),
    ("a: 1\n---\nb: 2", 2, 1, "more than one"),
    ("a:\n\t- b", 2, 1, "spaces"),
    ("a: b: c", 1, 5, "quotes"),
    ("a: 'b", 1, 4, "Close"),
    ("# nothing", 1, 1, "empty"),
    ("a: \x07", 1, 4, "character"),
    (r'a: "\Uffffffff"', 1, 1, "gave up"),
]


@pytest.mark.parametrize(("text", "line", "column", "says"), YAML_MISTAKES)
def test_yaml_mistake_is_located_and_explained(
    tmp_path: Path, text: str, line: int, column: int, says: str
) -> None:
    problem = only(tmp_path, text, "x.yaml")
    assert (problem.line, problem.column) == (line, column)
    assert says in problem.as_text()


def test_alias_is_a_copy_and_located_where_it_stands(tmp_path: Path) -> None:
    document = read(tmp_path, "a: &x [1, {b: 2}]\nc:\n  - *x", "x.yaml")
    assert isinstance(document, Document)
    assert document.value == {"a": [1, {"b": 2}], "c": [[1, {"b": 2}]]}
    assert document.value["c"][0][1] is not document.value["a"][1]
    assert document.position("/a/1/b") == (1, 15)
    assert document.position("/c/0/1/b") == (3, 5)


@pytest.mark.parametrize("width", [2, 10])
def test_aliases_of_aliases_do_not_explode(tmp_path: Path, width: int) -> None:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, 60)]
    assert only(tmp_path, "\n".join(lines), "x.yaml").message in {
        "The file holds too much", "Lists and objects are nested too deeply here",
    }  # fmt: skip


def test_merge_key_in_quotes_is_a_key_like_any_other(tmp_path: Path) -> None:
    assert value(tmp_path, '{"<<": 1}', "x.yaml") == {"<<": 1}
