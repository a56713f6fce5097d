"""Each value of a file has a line and a column, and so has a value that is missing."""

from pathlib import Path

from restsource_dagster.connector.parsing.document import Document
from restsource_dagster_tests.connector.parsing.reading import read


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


def test_keys_that_only_look_alike_have_their_own_places(tmp_path: Path) -> None:
    document = read(tmp_path, '{"x": "\\"a\\": [", "\\u0061": [ "]" , "}" ], "b": {"a": [1]}}')
    assert isinstance(document, Document)
    assert document.position("/a/1") == (1, 37)
    assert document.position("/b/a/0") == (1, 56)


def test_corrected_text_has_the_places_of_the_original(tmp_path: Path) -> None:
    document = read(tmp_path, "{a: 'x', // why\n  b: [1 2,],\n  \"c\": None}")
    assert isinstance(document, Document)
    assert document.value == {"a": "x", "b": [1, 2], "c": None}
    assert document.position("/a") == (1, 5)
    assert document.position("/b/1", on_key=True) == (2, 9)
    assert document.position("/c") == (3, 8)
