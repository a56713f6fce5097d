"""JSON that Python's decoder accepts and we refuse: odd numbers, surrogates, repeated keys."""

from pathlib import Path

import pytest

from restsource_dagster_tests.connector.parsing.reading import only, value


def test_repeated_key_is_located_at_the_second_and_names_the_line_of_the_first(
    tmp_path: Path,
) -> None:
    problem = only(tmp_path, '{"x": {"a": 1,\n"b": 2,\n  "a": 3}}')
    assert (problem.line, problem.column, problem.pointer) == (3, 3, "/x/a")
    assert '"a" is there twice' in problem.message
    assert problem.found is not None
    assert "line 1" in problem.found


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 100_000])
def test_number_that_is_none_is_refused_where_it_stands(tmp_path: Path, number: str) -> None:
    problem = only(tmp_path, f'{{"a": [1, {number}]}}')
    assert (problem.line, problem.column, problem.pointer) == (1, 11, "/a/1")
    assert len(problem.as_text()) < 400


def test_half_a_surrogate_pair_is_refused_and_a_whole_one_is_a_character(tmp_path: Path) -> None:
    assert only(tmp_path, r'{"a": "\ud83d"}').pointer == "/a"
    assert only(tmp_path, r'{"\udc00": 1}').column == 2
    assert value(tmp_path, r'{"a": "\ud83d\ude00"}') == {"a": "\U0001f600"}
    assert value(tmp_path, r'{"a": "\ud83d\ude00"}', "x.yaml") == {"a": "\U0001f600"}
