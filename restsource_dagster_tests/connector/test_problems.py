"""Problems are told to people, programs and Dagster's UI without doing harm to any of them."""

import json
from pathlib import Path

from restsource_dagster.connector.validation.diagnostics import (
    Finding,
    Problem,
    problems_as_markdown,
)

SHOP = Path("configs/shop.json")


def problem(
    message: str = "Wrong", *, path: Path = SHOP, line: int = 1, column: int = 1
) -> Problem:
    return Problem(path, line, column, "/client", message)


def test_text_names_file_line_column_pointer_found_expected_and_mend() -> None:
    text = Problem(
        SHOP, 12, 7, "/client/auth/type", "No such kind of auth", "oauth2",
        "bearer, api_key or http_basic", 'Write "bearer"',
    ).as_text()  # fmt: skip
    assert text == (
        "configs/shop.json:12:7: error: /client/auth/type: No such kind of auth. "
        'Found oauth2, expected bearer, api_key or http_basic. Write "bearer".'
    )


def test_parts_that_are_not_known_leave_no_gap() -> None:
    assert Problem(SHOP, 1, 1, "", "Empty.").as_text() == "configs/shop.json:1:1: error: Empty."
    only_expected = Problem(SHOP, 1, 1, "", "Empty", expected="an object", severity="warning")
    assert only_expected.as_text().endswith("warning: Empty. Expected an object.")


def test_problems_sort_by_file_and_place_even_if_parts_are_unknown() -> None:
    later = Problem(SHOP, 2, 1, "", "b", found="x")
    problems = [later, problem(path=Path("z.json")), Problem(SHOP, 2, 1, "", "b"), problem(line=1)]
    assert sorted(problems) == [problems[3], problems[2], problems[0], problems[1]]


def test_control_characters_reach_no_terminal() -> None:
    text = Problem(
        Path("a\x1b[31m.json"), 1, 1, "/\x07", "two\nlines\u202e", "\udcff"
    ).as_text()  # fmt: skip
    assert text == r"a\x1b[31m.json:1:1: error: /\x07: two lines\u202e. Found \udcff."
    text.encode()


def test_dictionary_has_every_field_and_is_json() -> None:
    told = problem().as_dict()
    assert json.loads(json.dumps(told)) == told
    assert set(told) == {
        "path", "line", "column", "pointer", "severity", "message", "found", "expected", "fix",
    }  # fmt: skip


def test_markdown_lists_the_problems_of_each_file_under_its_name() -> None:
    text = problems_as_markdown([problem(path=Path("z.json")), problem(line=3), problem(line=2)])
    assert text.index("configs/shop.json") < text.index("line 2") < text.index("line 3")
    assert text.index("line 3") < text.index("z.json")
    assert text.count("**") == 4


def test_markdown_of_a_file_can_not_become_markup() -> None:
    text = problems_as_markdown([problem("![x](y) <script> **b** `c` | d\n# e")])
    assert text.endswith(r"!\[x\](y) \<script\> \*\*b\*\* \`c\` \| d \# e.")


def test_markdown_keeps_a_pointer_with_backticks_inside_its_code() -> None:
    odd = Problem(SHOP, 1, 1, "/a``b", "Wrong")
    assert "``` /a``b ```: Wrong" in problems_as_markdown([odd])


def test_finding_becomes_a_problem_at_a_place() -> None:
    finding = Finding("/a", "Wrong", "x", "y", "z", "warning", on_key=True)
    assert finding.at(SHOP, 3, 4) == Problem(
        SHOP, 3, 4, "/a", "Wrong", "x", "y", "z", "warning"
    )  # fmt: skip
