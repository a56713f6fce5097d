"""The corpus of connector files, each through the loader and through the command line."""

import json
from collections import Counter
from pathlib import Path

import pytest

from restsource_dagster.connector.loader import load_file
from restsource_dagster.connector.validation.diagnostics import Problem
from restsource_dagster_tests.cli.runner import invoke

CORPUS = Path(__file__).parents[1] / "connectors"
SUFFIXES = (".json", ".yaml", ".yml")
VALID = sorted(path for path in (CORPUS / "valid").iterdir() if path.suffix in SUFFIXES)
INVALID = sorted(path for path in (CORPUS / "invalid").iterdir() if path.suffix in SUFFIXES)


def expected_of(path: Path) -> list[tuple[str, str, str]]:
    """(severity, pointer, fragment) of each finding that the file beside it lists."""
    told = path.with_suffix(".errors.txt")
    lines = told.read_text().splitlines() if told.exists() else []
    findings = []
    for line in lines:
        if line.strip() and not line.startswith("#"):
            severity, rest = line.split(" ", 1)
            pointer, fragment = rest.split(": ", 1)
            findings.append((severity, "" if pointer == "(file)" else pointer, fragment))
    return findings


def assert_told(problems: tuple[Problem, ...], path: Path) -> None:
    texts = [problem.as_text() for problem in problems]
    expected = expected_of(path)
    assert Counter((p.severity, p.pointer) for p in problems) == Counter(
        (severity, pointer) for severity, pointer, _ in expected
    ), texts
    for severity, pointer, fragment in expected:
        candidates = [
            " ".join(filter(None, (p.message, p.found, p.expected, p.fix)))
            for p in problems
            if (p.severity, p.pointer) == (severity, pointer)
        ]
        assert any(fragment in text for text in candidates), (fragment, texts)


def written_at(path: Path, problem: Problem) -> str:
    """The rest of the file from a problem's place on."""
    lines = path.read_text().splitlines(keepends=True)
    rest = "".join(lines[problem.line - 1 :])
    return rest[problem.column - 1 :]


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_valid_file_is_accepted_by_loader_and_command(path: Path) -> None:
    loaded = load_file(path)
    assert loaded.connector is not None, [problem.as_text() for problem in loaded.problems]
    assert_told(loaded.problems, path)
    checked = invoke("check", path, "--json")
    assert checked.exit_code == 0
    (file,) = json.loads(checked.stdout)["files"]
    assert file["connector"] == loaded.connector.name
    assert file["problems"] == [problem.as_dict() for problem in loaded.problems]


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_invalid_file_is_refused_by_loader_and_command_with_all_its_findings(path: Path) -> None:
    loaded = load_file(path)
    assert loaded.connector is None
    assert_told(loaded.problems, path)
    checked = invoke("check", path, "--json")
    assert checked.exit_code == 1
    (file,) = json.loads(checked.stdout)["files"]
    assert file["problems"] == [problem.as_dict() for problem in loaded.problems]


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_problem_of_an_invalid_file_is_placed_at_its_value_or_key(path: Path) -> None:
    value = json.loads(path.read_text())
    for problem in load_file(path).problems:
        target, found_all = value, True
        tokens = problem.pointer.split("/")[1:]
        for token in (token.replace("~1", "/").replace("~0", "~") for token in tokens):
            step = int(token) if isinstance(target, list) else token
            try:
                target = target[step]
            except (KeyError, IndexError, TypeError):
                found_all = False  # it is missing: the place is that of what should hold it
                break
        start, _ = json.JSONDecoder().raw_decode(written_at(path, problem))
        key = tokens[-1].replace("~1", "/").replace("~0", "~") if tokens else None
        assert start == target or (found_all and start == key)
