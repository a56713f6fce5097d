"""What is imported is hostile until it is read: its size, its depth, its aliases, its encoding."""

import io
import os
import time
from pathlib import Path

import pytest

from restsource_dagster.authoring.importing import source_files
from restsource_dagster.authoring.importing.source_files import (
    SourceError,
    SourceFile,
    parse_data,
    read_source_files,
)

NOTHING = io.BytesIO()


def parsed(text: str) -> object:
    return parse_data(SourceFile("source", text))


def test_yaml_is_read_by_the_core_schema_with_aliases_and_merge_keys() -> None:
    text = """
    base: &base {a: 1, b: yes}
    made: {b: "2", <<: *base, 200: 0.5, 010: 2024-01-01}
    list: [*base, null, ~, true]
    """
    base = {"a": 1, "b": "yes"}
    assert parsed(text) == {
        "base": base,
        "made": {"a": 1, "b": "2", "200": 0.5, "010": "2024-01-01"},
        "list": [base, None, None, True],
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 200_000, "nested too deeply|no YAML"),
        ('{"a":' * 5_000 + "1" + "}" * 5_000, "levels|nested too deeply"),
        ("- " * 300 + "a", "levels"),
        ("a: &a [*a]", r"\*a has no value before it"),
        ("a: [1, 2", "no YAML in line [12]"),
        ("a: 1\n---\nb: 2", "a second document"),
        ('{"a" 1}', "no JSON"),
        ("? [a]\n: b", "is a key"),
        ('{"a": ' + "9" * 5_000 + "}", "too many digits"),
        ("a: !!python/object/apply:os.system ['true']\nb: [", "no YAML"),
    ],
)
def test_what_can_not_be_read_is_told(text: str, told: str) -> None:
    with pytest.raises(SourceError, match=told):
        parsed(text)


@pytest.mark.parametrize("text", ['{"a": 1, "b": 2, "a": 3}', "a: 1\nb: 2\na: 3"])
def test_of_a_key_that_is_there_twice_the_last_counts_and_the_other_is_kept_to_be_told(
    text: str,
) -> None:
    assert parsed(text) == {"a": 3, "b": 2, "a (earlier)": 1}


def test_a_tag_of_yaml_makes_no_object() -> None:
    assert parsed("a: !!python/object/apply:os.system ['true']") == {"a": ["true"]}


def test_aliases_of_aliases_are_refused_in_a_moment() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    began = time.process_time()
    with pytest.raises(SourceError, match="5,000,000 values"):
        parsed("\n".join(lines))
    assert time.process_time() - began < 20


def test_files_together_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_files, "MAX_SOURCE_BYTES", 10)
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("123456")
    second.write_text("123456")
    assert [file.text for file in read_source_files([first], NOTHING)] == ["123456"]
    with pytest.raises(SourceError, match="more than"):
        read_source_files([first, second], NOTHING)
    with pytest.raises(SourceError, match="more than"):
        read_source_files([Path("-")], io.BytesIO(b"x" * 11))


def test_a_pipe_a_folder_and_a_missing_file_are_told(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, told in (
        (pipe, "not a file"),
        (tmp_path, "not a file|directory"),
        (tmp_path / "x", "No such"),
    ):
        with pytest.raises(SourceError, match=told):
            read_source_files([path], NOTHING)


def test_utf_16_of_powershell_is_read_and_other_bytes_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes("curl ✓".encode("utf-16"))
    assert read_source_files([path], NOTHING)[0].text == "curl ✓"
    path.write_bytes(b"\xff\xff")
    with pytest.raises(SourceError, match="UTF-8"):
        read_source_files([path], NOTHING)
