"""Any file is read, or refused with what is wrong and where: nothing makes the reader fail."""

import os
import socket
from pathlib import Path

import pytest

from restsource_dagster.connector.parsing.document import read_document
from restsource_dagster_tests.connector.parsing.reading import only


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


def test_anything_but_a_file_is_refused_without_waiting(tmp_path: Path) -> None:
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
    assert problem.fix is not None
    assert problem.found == os.strerror(13)
