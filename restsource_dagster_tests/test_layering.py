"""Packages import in one direction only: connector, engine, orchestration, authoring, cli."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import restsource_dagster

PACKAGE = Path(restsource_dagster.__file__).parent
OURS = ("state", "engine", "orchestration", "local_runtime", "authoring", "cli")
FORBIDDEN = {
    "connector": ("dlt", "dagster", "dagster_dlt", *OURS),
    # of ours it knows the settings only, so that the engine and Dagster's side both use it
    "state": ("dlt", "dagster", "dagster_dlt", "connector", *OURS[1:]),
    "engine": ("dagster", "dagster_dlt", "orchestration", "local_runtime", "authoring", "cli"),
    "orchestration": ("local_runtime", "authoring", "cli"),
    "local_runtime": ("connector", "authoring", "cli"),
    "authoring": ("local_runtime", "cli"),
    "authoring/importing": (
        "dlt",
        "dagster",
        "dagster_dlt",
        "engine",
        "orchestration",
        "local_runtime",
        "cli",
    ),
    "cli": ("local_runtime",),
    "settings.py": ("dlt", "dagster", "connector", *OURS),
}
ENGINE_ORDER = (
    "errors.py",
    "dlt_compat.py",
    "run_progress.py",
    "http",
    "paging",
    "prefetch",
    "plan",
    "incremental",
    "columnar",
    "destination",
    "source",
    "run",
    "preview",
)
"""The parts of the engine: each imports only those before it."""


DRAWN = ("page.py", "editor_pane.py", "new_pane.py", "result_pane.py", "web_server.py")
"""The files of the builder that draw the page or serve it; the others are its state, without a browser."""


def imported_names(file: Path) -> Iterator[str]:
    """Every name that a file imports, anywhere in it; our own without the package's name."""
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide the package"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.removeprefix("restsource_dagster.") for name in names)


def files_of(place: Path) -> list[Path]:
    """The files of a package, or the file itself."""
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    assert files
    return files


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_package_imports_only_packages_below_it(package: str) -> None:
    arrows_back = {
        (str(file.relative_to(PACKAGE)), name)
        for file in files_of(PACKAGE / package)
        for name in imported_names(file)
        if name.split(".")[0] in FORBIDDEN[package]
    }
    assert arrows_back == set()


def test_the_order_of_the_engine_names_all_its_parts() -> None:
    parts = {place.name for place in (PACKAGE / "engine").iterdir()}
    assert parts - {"__init__.py", "__pycache__"} == set(ENGINE_ORDER)


@pytest.mark.parametrize("package", ENGINE_ORDER)
def test_a_part_of_the_engine_imports_only_parts_before_it(package: str) -> None:
    """Paging says what it needs of a prefetch by a protocol, so that prefetch imports paging only."""
    allowed = {
        f"engine.{part.removesuffix('.py')}"
        for part in ENGINE_ORDER[: ENGINE_ORDER.index(package) + 1]
    }
    arrows_back = {
        (str(file.relative_to(PACKAGE)), name)
        for file in files_of(PACKAGE / "engine" / package)
        for name in imported_names(file)
        if name.startswith("engine.") and ".".join(name.split(".")[:2]) not in allowed
    }
    assert arrows_back == set()


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("restsource_dagster.connector.loader", ("dlt", "dagster")),
        ("restsource_dagster.cli", ("dlt", "dagster")),
        ("restsource_dagster.cli.import_command", ("dlt", "dagster")),
        ("restsource_dagster.engine.run.ingest", ("dagster",)),
        ("restsource_dagster.definitions", ("dlt", "dagster_dlt", "duckdb", "pyarrow")),
    ],
)
def test_importing_a_package_leaves_out_what_it_must_not_need(
    module: str, absent: tuple[str, ...]
) -> None:
    code = f"import sys, {module}; print([m for m in {absent!r} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_only_the_pages_of_the_builder_import_nicegui() -> None:
    importing = {
        file.name
        for file in files_of(PACKAGE)
        if any(name.split(".")[0] == "nicegui" for name in imported_names(file))
    }
    # the command looks whether the extra is there
    assert importing == {*DRAWN, "build_command.py"}
