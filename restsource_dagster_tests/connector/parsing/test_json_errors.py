"""Mistakes of JSON: common ones get a suggestion, others say what is expected and what is found.

The messages are written out in full, so that they are the same on each version of Python.
"""

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from restsource_dagster.connector.parsing.document import Document
from restsource_dagster.connector.parsing.json_parser import correct_json
from restsource_dagster_tests.connector.parsing.reading import only, problems, read

QUOTES = 'Texts and keys are in straight double quotes. Found `{}`, expected `"`. Write "...".'
COMMENT = (
    "JSON has no comments. Found `{}`. "
    'Delete it, or say it in a "description"; a .yaml file may have # comments.'
)
BARE_KEY = (
    "Keys are in double quotes. Found {0}. "
    'Write "{0}": ...; a .yaml file may have keys without quotes.'
)
WORD = "JSON spells this word differently. Found {}, expected {}. Write {}."
MISSING = "A comma is missing here. Expected `,`. Write a comma."
CORRECTED = [
    # text, line, column, the message, the value that is read all the same
    ('{"a": 1,}', 1, 8, "No comma may stand before the closing `}`. Delete the comma.", {"a": 1}),
    ('{"a": [1,\n2 ,\n]}', 2, 3, "No comma may stand before the closing `]`. Delete the comma.",
     {"a": [1, 2]}),
    ('{"a": 1,, "b": 2}', 1, 9, "A comma too many. Found `,`. Delete the comma.",
     {"a": 1, "b": 2}),
    ('[, 1]', 1, 2, "A comma too many. Found `,`. Delete the comma.", [1]),
    ('{"a": 1\n  "b": 2}', 1, 8, MISSING, {"a": 1, "b": 2}),
    ('{"a": [{} {}]}', 1, 10, MISSING, {"a": [{}, {}]}),
    ('["a""b"]', 1, 5, MISSING, ["a", "b"]),
    ('{"a": 1 // one\n}', 1, 9, COMMENT.format("/"), {"a": 1}),
    ('/* hello */ {"a": 1}', 1, 1, COMMENT.format("/"), {"a": 1}),
    ('{"a": 1}\n# bye', 2, 1, COMMENT.format("#"), {"a": 1}),
    ("{'a': 1}", 1, 2, QUOTES.format("'"), {"a": 1}),
    ('{"a": \u201cb\u201d}', 1, 7, QUOTES.format("\u201c"), {"a": "b"}),
    ('["a", \u201eb\u201c]', 1, 7, QUOTES.format("\u201e"), ["a", "b"]),
    ("{a-b: 1}", 1, 2, BARE_KEY.format("a-b"), {"a-b": 1}),
    ('{"a": True}', 1, 7, WORD.format("True", "true", "true"), {"a": True}),
    ('[1, FALSE]', 1, 5, WORD.format("FALSE", "false", "false"), [1, False]),
    ('{"a": None}', 1, 7, WORD.format("None", "null", "null"), {"a": None}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "column", "says", "expected"), CORRECTED)
def test_common_mistake_is_located_explained_and_does_not_hide_the_rest(
    tmp_path: Path, text: str, line: int, column: int, says: str, expected: object
) -> None:
    document = read(tmp_path, text)
    assert isinstance(document, Document)
    (problem,) = document.problems
    assert (problem.line, problem.column, problem.explanation) == (line, column, says)
    assert document.value == expected


def test_all_common_mistakes_of_a_text_are_reported_at_once(tmp_path: Path) -> None:
    text = '{\'a\': True, // why\n "b": [1, 2,],\n "b": NaN,\n}'
    assert [problem.line for problem in problems(tmp_path, text)] == [1, 1, 1, 2, 3, 3, 3]


def test_missing_comma_before_a_comment_is_located_after_the_value(tmp_path: Path) -> None:
    missing, comment = problems(tmp_path, "[1 // one\n2]")
    assert (missing.column, missing.explanation) == (3, MISSING)
    assert comment.column == 4


VALUE = "a value: an object, a list, a text in double quotes, a number, true, false or null"
REFUSED = [
    # text, line, column, what is found, what is expected
    ('{"a": sk_live_1}', 1, 7, "a word without quotes", VALUE),
    ('{"a": 007}', 1, 7, "a number that is not written like 12, -0.5 or 1e6", VALUE),
    ('{"a": .5}', 1, 7, "a number that is not written like 12, -0.5 or 1e6", VALUE),
    ('{"a": , "b": 1}', 1, 7, "`,`", VALUE),
    ("]", 1, 1, "`]`", VALUE),
    ("\u00a0{}", 1, 1, "the character U+00A0", VALUE),
    ('{"a" 1}', 1, 6, "another value", "a colon after the key"),
    ('{"a" = 1}', 1, 6, "`=`", "a colon after the key"),
    ('{"a": 1, 2}', 1, 10, "another value", "a key in double quotes"),
    ('{"a": "say "hi""}', 1, 13, "a word without quotes",
     "a comma, or the `}` for the `{` of line 1"),
    ('{"a": [1, "b": 2}', 1, 14, "`:`", "a comma, or the `]` for the `[` of line 1"),
    ('{"a":\n[1}]', 2, 3, "`}`", "a comma, or the `]` for the `[` of line 2"),
    ('{"a": 1}}', 1, 9, "`}`", "the end of the file"),
    ('{"a": 1}\n{"b": 1}', 2, 1, "`{`", "the end of the file"),
    ('{\n"a": {"b": [1', 2, 13, "the end of the file", "`]}}` for the `[` of line 2"),
    ('{"a": "b', 1, 8, "the end of the file", '`"}` for the `{` of line 1'),
    ('{"a": "b,\n"c": 1}', 1, 10, "the end of the line", '`"` to close the text'),
    ('{"a": "b\tc"}', 1, 9, "a tab", r"`\t`"),
    ('{"a": "\x07"}', 1, 8, "the character U+0007", r"`\u0007`"),
    (r'{"a": "\d"}', 1, 8, "a backslash before another character",
     r"one of \" \\ \/ \b \f \n \r \t \uXXXX"),
    ('"', 1, 1, "the end of the file", '`"`'),
    ("// nothing else", 1, 15, "the end of the file", VALUE),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "column", "found", "expected"), REFUSED)
def test_other_mistake_is_located_with_what_is_found_and_expected(
    tmp_path: Path, text: str, line: int, column: int, found: str, expected: str
) -> None:
    problem = problems(tmp_path, text)[-1]
    assert (problem.line, problem.column) == (line, column)
    assert (problem.message, problem.found, problem.expected) == (
        "This is not JSON",
        found,
        expected,
    )


@pytest.mark.parametrize("text", ["{'a: 1}", "{'a': 'say \"hi\"'}", r"{'it\'s': 1}"])
def test_single_quotes_are_explained_where_the_end_of_the_text_is_unclear(
    tmp_path: Path, text: str
) -> None:
    last = problems(tmp_path, text)[-1]
    assert last.message == "Texts and keys are in straight double quotes"


def test_values_of_the_file_are_not_shown(tmp_path: Path) -> None:
    for text in ('{"a": s3cret}', '{"a": "x" s3cret}', '{"a": 12345x}', "{'a': 's3cret"):
        assert "s3cret" not in "".join(p.as_text() for p in problems(tmp_path, text))
    assert "12345" not in only(tmp_path, '{"a": 12345x}').as_text()


SIGNS = st.lists(
    st.sampled_from([*"[]{}:,,\"'\\/*# \n\t\x07\u00a0\u201c\u201d1-+.eE", '"a"', '"b":', "true", "None",
                     "NaN", "-Infinity", "0.5", "key", "// x\n", "/* y */", "'q'", "\\u12aF"]),
    max_size=14,
).map("".join)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(SIGNS)
@example('{"a": 1,')
@example("[,]")
@example("{,}")
@example("[1,,]")
@example("{a 'b' None")
def test_our_grammar_is_that_of_the_standard_library(text: str) -> None:
    corrected = correct_json(text)
    try:
        json.loads(text)
    except json.JSONDecodeError:
        assert corrected.findings
    else:
        assert corrected.findings == ()
    if corrected.tokens is not None:
        json.loads(" ".join(raw for raw, _ in corrected.tokens))
