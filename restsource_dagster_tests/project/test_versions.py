"""The oldest and newest versions that the tests run on, beside the locked ones."""

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import restsource_dagster
from restsource_dagster_tests.project.test_requirements import ROOT, declared, entries
from tools.versions import TESTS, Target, find_python, supported_pythons, targets

PACKAGES = sorted(
    folder.name
    for folder in Path(restsource_dagster.__file__).parent.iterdir()
    if (folder / "__init__.py").exists()
)


def test_both_kinds_of_versions_are_tested_with_each_python_of_the_classifiers() -> None:
    assert supported_pythons() == ("3.11", "3.12", "3.13")
    assert targets(("3.11", "3.12"), quick=False) == [
        Target("3.11", "oldest"),
        Target("3.11", "newest"),
        Target("3.12", "oldest"),
        Target("3.12", "newest"),
    ]


def test_a_quick_run_tests_the_oldest_and_the_newest_of_all() -> None:
    assert targets(("3.11", "3.12", "3.13"), quick=True) == [
        Target("3.11", "oldest"),
        Target("3.13", "newest"),
    ]


def test_a_python_that_is_not_installed_is_not_found() -> None:
    assert find_python("3.1") is None


@pytest.mark.parametrize("path", TESTS)
def test_the_tests_that_run_are_there(path: str) -> None:
    assert (ROOT / "restsource_dagster_tests" / path).exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_some_tests_of_each_package_run(package: str) -> None:
    assert [path for path in TESTS if path.split("/")[0] == package]


def test_the_oldest_versions_are_the_lowest_that_are_allowed() -> None:
    pins = [
        Requirement(entry.split("--hash")[0].strip())
        for entry in entries(ROOT / "requirements" / "oldest.lock")
    ]
    pinned = {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in pins
        if pin.marker is None or pin.marker.evaluate()
    }
    above = {}
    for one in declared()["project"]:
        lowest = next(part.version for part in one.specifier if part.operator == ">=")
        version = pinned[canonicalize_name(one.name)]
        # a range may begin at a version that was never released, such as 1.12 for 1.12.0
        if version != lowest and not version.startswith(f"{lowest}."):
            above[one.name] = version
    assert above == {}
