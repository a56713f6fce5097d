"""Random documents have the values and positions that Python's own parser finds."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from restsource_dagster.connector.parsing.document import Document, read_document

SPACE = st.text(" \t\r\n", max_size=3)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALAR = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT
)
VALUE = st.recursive(
    SCALAR,
    lambda of: st.lists(of, max_size=4) | st.dictionaries(TEXT, of, max_size=4),
    max_leaves=15,
)
FILES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
SECRET = "sk5ecretsk5ecret"
SHOP = f"""{{
  "name": "shop",
  "schedule": {{"mode": "days", "interval": 1}},
  "client": {{"base_url": "https://x.example/", "auth": {{"type": "bearer", "token": "{SECRET}"}}}},
  "resources": [{{"name": "a", "endpoint": {{"path": "a", "params": {{"n": -1.5e3}}}}}}, "b"]
}}
"""


@st.composite
def spaced(draw: st.DrawFn, value: Any) -> str:
    """The value as JSON with random white space and escapes."""

    def write(part: Any) -> str:
        if isinstance(part, list):
            inside = ",".join(write(element) for element in part)
            return draw(SPACE) + f"[{inside or draw(SPACE)}]" + draw(SPACE)
        if isinstance(part, dict):
            inside = ",".join(f"{write(key)}:{write(below)}" for key, below in part.items())
            return draw(SPACE) + f"{{{inside or draw(SPACE)}}}" + draw(SPACE)
        return draw(SPACE) + json.dumps(part, ensure_ascii=draw(st.booleans())) + draw(SPACE)

    return write(value)


def below(value: Any, pointer: str = "") -> Iterator[tuple[str, Any, str | None]]:
    """All (pointer, value, key) of a value."""
    pairs: Iterator[tuple[str | int, Any]] = iter(())
    if isinstance(value, dict):
        pairs = iter(value.items())
    elif isinstance(value, list):
        pairs = iter(enumerate(value))
    for token, part in pairs:
        here = f"{pointer}/{str(token).replace('~', '~0').replace('/', '~1')}"
        yield here, part, token if isinstance(token, str) else None
        yield from below(part, here)


def offset_of(text: str, line: int, column: int) -> int:
    lines = list(io.StringIO(text, newline=""))
    return sum(len(before) for before in lines[: line - 1]) + column - 1


def read(path: Path, content: bytes) -> Document | tuple[Any, ...]:
    path.write_bytes(content)
    return read_document(path)


def is_read_or_refused(path: Path, content: bytes) -> bool:
    """Whether there is a document or a reason for none, all of whose problems can be shown."""
    document = read(path, content)
    problems = document.problems if isinstance(document, Document) else document
    shown = [problem.as_text().encode() for problem in problems]
    placed = all(problem.line >= 1 and problem.column >= 1 for problem in problems)
    return placed and all(shown) and (isinstance(document, Document) or bool(shown))


@FILES
@given(data=st.data(), value=VALUE)
def test_position_is_where_the_value_and_its_key_are_written(
    tmp_path: Path, data: st.DataObject, value: Any
) -> None:
    text = data.draw(spaced(value))
    document = read(tmp_path / "x.json", text.encode())
    assert isinstance(document, Document)
    assert document.problems == ()
    assert document.value == value
    decoder = json.JSONDecoder()
    for pointer, expected, key in [("", value, None), *below(value)]:
        offset = offset_of(text, *document.position(pointer))
        assert decoder.raw_decode(text, offset)[0] == expected
        if key is not None:
            offset = offset_of(text, *document.position(pointer, on_key=True))
            assert decoder.raw_decode(text, offset)[0] == key


@FILES
@given(value=VALUE, indent=st.sampled_from([None, 2]))
def test_json_read_as_yaml_is_the_same_value_at_the_same_positions(
    tmp_path: Path, value: Any, indent: int | None
) -> None:
    text = json.dumps(value, indent=indent)
    as_json = read(tmp_path / "x.json", text.encode())
    as_yaml = read(tmp_path / "x.yaml", text.encode())
    assert isinstance(as_json, Document)
    assert isinstance(as_yaml, Document)
    assert as_yaml.problems == ()
    assert as_yaml.value == as_json.value == value
    for pointer in ["", *(pointer for pointer, _, _ in below(value))]:
        for on_key in (False, True):
            place = as_json.position(pointer, on_key=on_key)
            assert as_yaml.position(pointer, on_key=on_key) == place


@FILES
@given(content=st.binary(max_size=60))
@example(b"\xef\xbb\xbf")
@example(b"\xef\xbb\xbf\xff")
@example(b"'")
@example(b'"\\')
@example(b'{"a":"\\u')
def test_random_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    assert all(is_read_or_refused(tmp_path / name, content) for name in ("x.json", "x.yaml"))


@FILES
@given(text=st.text(st.sampled_from("[]{}:,\"'\\/*# \n\ttrueTNu0123-+.eE&!|>?%@`~<"), max_size=40))
def test_random_signs_are_read_or_refused(tmp_path: Path, text: str) -> None:
    assert all(is_read_or_refused(tmp_path / name, text.encode()) for name in ("x.json", "x.yaml"))


@FILES
@given(data=st.data())
def test_problems_of_a_damaged_file_do_not_show_its_secret(
    tmp_path: Path, data: st.DataObject
) -> None:
    text = SHOP
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.sampled_from([0, 1, 1, 2, 10_000]))
        text = (
            text[:at] + data.draw(st.sampled_from(["", "", ",", '"', "}", "'"])) + text[at + cut :]
        )
    for name in ("x.json", "x.yaml"):
        document = read(tmp_path / name, text.encode())
        problems = document.problems if isinstance(document, Document) else document
        for problem in problems:
            assert SECRET not in problem.as_text()


@FILES
@pytest.mark.parametrize("name", ["x.json", "x.yaml"])
@given(cut=st.integers(0, len(SHOP) - 3))
def test_file_cut_off_anywhere_is_refused(tmp_path: Path, name: str, cut: int) -> None:
    document = read(tmp_path / name, SHOP[:cut].encode())
    assert not isinstance(document, Document)
