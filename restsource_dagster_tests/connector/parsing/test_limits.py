"""A file beyond a limit is refused with the limit and the place, in little time and memory."""

import json
from pathlib import Path

import pytest

from restsource_dagster.connector.parsing.document import read_document
from restsource_dagster.connector.parsing.parsed_text import MAX_BYTES, MAX_DEPTH, MAX_MISTAKES
from restsource_dagster_tests.connector.parsing.reading import only, problems, value


@pytest.mark.parametrize("opener", ["[", '{"a":', "- "])
def test_endless_nesting_is_refused_at_the_level_that_is_too_deep(
    tmp_path: Path, opener: str
) -> None:
    name = "x.yaml" if opener == "- " else "x.json"
    problem = only(tmp_path, opener * 100_000, name)
    assert problem.column == len(opener) * MAX_DEPTH + 1
    assert f"{MAX_DEPTH} levels" in problem.as_text()


def test_the_deepest_nesting_allowed_is_read_in_both_formats(tmp_path: Path) -> None:
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert value(tmp_path, text) == value(tmp_path, text, "x.yaml") == json.loads(text)


@pytest.mark.parametrize("name", ["x.json", "x.yaml"])
def test_file_with_very_many_values_is_refused(tmp_path: Path, name: str) -> None:
    assert "too much" in only(tmp_path, f"[{'0,' * 150_000}0]", name).message


def test_file_of_a_hundred_megabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with path.open("wb") as file:
        file.truncate(100 * 1024**2)
    (problem,) = read_document(path)  # type: ignore[misc]
    assert f"{MAX_BYTES // 1024**2} MB" in problem.as_text()


def test_file_with_very_many_mistakes_gets_a_list_that_ends(tmp_path: Path) -> None:
    assert len(problems(tmp_path, "[" + "'a'," * 5_000 + "1]")) == MAX_MISTAKES
    assert len(problems(tmp_path, '{"a": 1' + ', "a": 1' * 5_000 + "}")) == MAX_MISTAKES
    assert len(problems(tmp_path, "? 1\n" * 5_000, "x.yaml")) == MAX_MISTAKES


HOSTILE = ["[", "]", "{", '"', "'", "/", "/*", "#", "//\n", " ", "\n", "\t\r\n", ",", "1 ", "[1,,", "a: ",
           "{a:", '"a" ', "'x\n", "\u201ca", "\\", '\\"', "None,", "\u00a0", "[1,"]  # fmt: skip


@pytest.mark.parametrize("start", ["", "[", '{"a":'])
@pytest.mark.parametrize("repeated", HOSTILE)
def test_any_repeated_sign_takes_linear_time(tmp_path: Path, start: str, repeated: str) -> None:
    # Reading it in quadratic time would take minutes.
    assert problems(tmp_path, start + repeated * (400_000 // len(repeated)))


def test_a_long_key_above_many_values_takes_linear_time(tmp_path: Path) -> None:
    text = f'{{"{"k" * 2_000_000}": [NaN{", 1" * 90_000}]}}'
    assert only(tmp_path, text).message == "JSON has no such number"
