"""Any file is read, or refused with what is wrong and where: nothing makes the reader fail."""

import json
import os
import socket
from pathlib import Path

import pytest

from restsource_dagster.config.document import Document, read_document
from restsource_dagster.config.limits import MAX_BYTES, MAX_DEPTH, MAX_MISTAKES
from restsource_dagster_tests.config.reading import only, problems, read, value

MENDED = [
    # text, line, column, what the message says, the value that is read all the same
    ('{"a": 1,}', 1, 8, "comma", {"a": 1}),
    ('{"a": [1,\n2 ,\n]}', 2, 3, "comma", {"a": [1, 2]}),
    ('{"a": 1,, "b": 2}', 1, 9, "comma", {"a": 1, "b": 2}),
    ('{"a": 1 // one\n}', 1, 9, "comments", {"a": 1}),
    ('/* hello */ {"a": 1}', 1, 1, "comments", {"a": 1}),
    ('{"a": 1}\n# bye', 2, 1, "comments", {"a": 1}),
    ("{'a': 1}", 1, 2, "double quotes", {"a": 1}),
    ('{"a": \u201cb\u201d}', 1, 7, "double quotes", {"a": "b"}),
    ('{"a": True}', 1, 7, "true", {"a": True}),
    ('{"a": None}', 1, 7, "null", {"a": None}),
    ('{"a": 1\n  "b": 2}', 1, 8, "comma is missing", {"a": 1, "b": 2}),
    ('{"a" 1}', 1, 5, "colon is missing", {"a": 1}),
    ('{"a" = 1}', 1, 6, "colon", {"a": 1}),
    ('{"a": "b,\n"c": 1}', 1, 10, "not closed", {"a": "b", "c": 1}),
    ('{"a": "b\tc"}', 1, 9, "tab", {"a": "b c"}),
    (r'{"a": "\d"}', 1, 8, "escape", {"a": "  "}),
    ('{"a": 1}}', 1, 9, "after the end", {"a": 1}),
]


@pytest.mark.parametrize(("text", "line", "column", "says", "expected"), MENDED)
def test_clear_mistake_is_located_explained_and_does_not_hide_the_rest(
    tmp_path: Path, text: str, line: int, column: int, says: str, expected: object
) -> None:
    document = read(tmp_path, text)
    assert isinstance(document, Document)
    (problem,) = document.problems
    assert (problem.line, problem.column) == (line, column)
    assert says in problem.as_text()
    assert problem.mend
    assert document.value == expected


def test_all_mistakes_of_a_text_are_told_at_once(tmp_path: Path) -> None:
    text = '{\'a\': True, // why\n "b": [1, 2,],\n "b": NaN,\n}'
    assert [problem.line for problem in problems(tmp_path, text)] == [1, 1, 1, 2, 3, 3, 3]


HOPELESS = [
    ("", 1, 1, "empty"),
    (" \r\n ", 1, 1, "empty"),
    ("{a: 1}", 1, 2, 'Write "a"'),
    ('{"a": sk_live_1}', 1, 7, "double quotes"),
    ('{"a": 007}', 1, 8, "leading zero"),
    ('{"a": .5}', 1, 7, "numbers like this"),
    ('{"a": [1, "b": 2}', 1, 14, "`]` for the `[` of line 1"),
    ('{\n"a": {"b": [1', 2, 13, "`]}}`"),
    ('{"a": "b', 1, 8, '`"}`'),
    ("]", 1, 1, "not JSON"),
]


@pytest.mark.parametrize(("text", "line", "column", "says"), HOPELESS)
def test_mistake_without_a_clear_meaning_is_located_and_explained(
    tmp_path: Path, text: str, line: int, column: int, says: str
) -> None:
    problem = only(tmp_path, text)
    assert (problem.line, problem.column) == (line, column)
    assert says in problem.as_text()


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


def test_byte_order_mark_and_crlf_do_not_shift_positions(tmp_path: Path) -> None:
    document = read(tmp_path, b'\xef\xbb\xbf{\r\n"a": 1,\r\n"b": {}\r\n}')
    assert isinstance(document, Document)
    assert document.position("") == (1, 1)
    assert document.position("/b") == (3, 6)


def test_columns_count_characters_and_lines_end_as_in_an_editor(tmp_path: Path) -> None:
    document = read(tmp_path, '{"\u00e9\U0001f600\u2028": 1, "b": 2}')
    assert isinstance(document, Document)
    assert document.position("/b") == (1, 17)


def test_missing_value_is_located_at_what_should_hold_it(tmp_path: Path) -> None:
    document = read(tmp_path, '{"a": {"b/~": [1]}}')
    assert isinstance(document, Document)
    assert document.position("/a/c/d") == (1, 7)
    assert document.position("/a/c/d", on_key=True) == (1, 2)
    assert document.position("/a/b~1~0/0") == (1, 16)
    assert document.position("/a/b~1~0/0/x") == (1, 16)


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


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\x00\x01\xfe\xff", "0xfe"),
        (b'{"a": "\xe9"}', "0xe9"),
        (b"\xff\xfe{\x00}\x00", "UTF-16"),
    ],
)
@pytest.mark.parametrize("name", ["x.json", "x.yaml"])
def test_other_encodings_and_binary_are_refused(
    tmp_path: Path, content: bytes, found: str, name: str
) -> None:
    problem = only(tmp_path, content, name)
    assert problem.found is not None
    assert found in problem.found
    assert problem.column == content.find(b"\xfe" if b"\xfe" in content[:3] else b"\xe9") + 1 or (
        problem.column == 1
    )


def test_whatever_is_not_a_file_is_refused_without_waiting(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "gone.json").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "round.json").symlink_to("round.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    texts = [
        only_problem.as_text()
        for path in sorted(tmp_path.iterdir())
        for only_problem in read_document(path)  # type: ignore[union-attr]
    ]
    for text, says in zip(
        texts, ["a folder", "does not exist", "a named pipe", "points to itself", "a device"],
        strict=True,
    ):  # fmt: skip
        assert says in text


def test_socket_absent_file_and_impossible_path_are_refused(tmp_path: Path) -> None:
    address = tmp_path / "s.json"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(address))
        (problem,) = read_document(address)  # type: ignore[misc]
    assert problem.found == "a socket"
    for path in (tmp_path / "no.json", Path("a\0b.json"), Path("x" * 400 + ".json")):
        (problem,) = read_document(path)  # type: ignore[misc]
        assert "can't be read" in problem.message


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux's /proc")
def test_file_that_fails_while_it_is_read_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.symlink_to("/proc/self/mem")
    (problem,) = read_document(path)  # type: ignore[misc]
    assert problem.found == os.strerror(5)


def test_file_of_somebody_else_is_a_problem_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("{}")
    path.chmod(0)
    was_root = os.geteuid() == 0
    if was_root:  # who may read everything
        os.seteuid(65534)
    try:
        (problem,) = read_document(path)  # type: ignore[misc]
    finally:
        if was_root:
            os.seteuid(0)
    assert problem.mend is not None
    assert problem.found == os.strerror(13)
