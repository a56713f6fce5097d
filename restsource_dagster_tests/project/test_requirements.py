"""The dependencies: declared, justified, pinned with hashes, and from no particular registry."""

import ast
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
OLDEST_EXTRAS = ["logins", "aws", "postgres"]
NEWEST_EXTRAS = ["builder", "mcp", "delta", "iceberg"]
GROUPS_OF_LOCK = {
    "setup.lock": ["setup"],
    "run.lock": ["project", "builder", "setup", "sample"],
    "oldest.lock": ["project", *OLDEST_EXTRAS, "setup", "sample", "dev"],
    "dev.lock": ["project", *OLDEST_EXTRAS, *NEWEST_EXTRAS, "dg", "setup", "sample", "dev"],
    "bench-airbyte.lock": ["bench-airbyte"],
    "bench-tap.lock": ["bench-tap"],
    "bench-target.lock": ["bench-target"],
}


def declared() -> dict[str, list[Requirement]]:
    """The requirements of pyproject.toml by group or extra; the product's own are `project`."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = data["project"]["optional-dependencies"]
    groups = {"project": data["project"]["dependencies"], **extras, **data["dependency-groups"]}
    return {group: [Requirement(text) for text in texts] for group, texts in groups.items()}


def entries(lock: Path) -> list[str]:
    """The lock's requirements, each with its hashes on one line."""
    text = lock.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


def test_there_is_a_lock_for_each_stage() -> None:
    assert {lock.name for lock in LOCKS} == set(GROUPS_OF_LOCK)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_entry_is_one_version_with_hashes(lock: Path) -> None:
    pinned = re.compile(
        r"[A-Za-z0-9._-]+(\[[a-z,-]+\])?==\S+( ; [^-]+?)?(\s+--hash=sha256:[0-9a-f]{64})+"
    )
    assert [entry for entry in entries(lock) if not pinned.fullmatch(entry.strip())] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_no_address_and_no_path(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert re.findall(r"://|file:|--(?:extra-)?index|--find-links|^\s*[-./~]+/", text, re.M) == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_holds_what_is_declared(lock: Path) -> None:
    pins = [Requirement(entry.split("--hash")[0].strip()) for entry in entries(lock)]
    versions = {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in pins
        if pin.marker is None or pin.marker.evaluate()
    }
    requirements = [one for group in GROUPS_OF_LOCK[lock.name] for one in declared()[group]]
    unmet = [
        str(requirement)
        for requirement in requirements
        if not requirement.specifier.contains(versions.get(canonicalize_name(requirement.name), ""))
    ]
    assert unmet == []


def test_the_lock_of_npm_has_hashes_and_names_no_registry() -> None:
    packages: dict[str, Any] = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))[
        "packages"
    ]
    del packages[""]
    assert [name for name, entry in packages.items() if "integrity" not in entry] == []
    assert [name for name, entry in packages.items() if "resolved" in entry] == []


def justified() -> list[str]:
    """The names in the table of dependencies in CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("## Dependencies")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \| \S.+ \|$", section, re.M)


def test_every_dependency_is_justified_once_in_contributing() -> None:
    names = {canonicalize_name(one.name) for group in declared().values() for one in group}
    npm = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))["devDependencies"]
    assert sorted(map(canonicalize_name, justified())) == sorted(names | set(npm))


def imported(folder: Path) -> Iterator[str]:
    """The top-level names of all modules that the folder's files import."""
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.split(".")[0]


@pytest.mark.parametrize(
    ("folder", "groups"),
    [
        ("restsource_dagster", ["project", "logins", "aws", "builder", "mcp", "postgres"]),
        ("sample", ["project", "sample"]),
        ("tools", []),
        (
            "restsource_dagster_tests",
            ["project", "logins", "aws", "builder", "mcp", "postgres", "delta", "sample", "dev"],
        ),
    ],
)
def test_what_is_imported_is_declared(folder: str, groups: list[str]) -> None:
    known = {canonicalize_name(one.name) for group in groups for one in declared()[group]}
    # pydantic documents this one as its own way to raise errors.
    own = {
        "benchmarks",
        "restsource_dagster",
        "restsource_dagster_tests",
        "sample",
        "tools",
        "pydantic_core",
    }
    distributions = packages_distributions()
    undeclared = {
        module
        for module in imported(ROOT / folder)
        if module not in own | sys.stdlib_module_names
        and not known & {canonicalize_name(name) for name in distributions.get(module, [])}
    }
    assert undeclared == set()
