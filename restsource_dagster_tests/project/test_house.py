"""The figures of the code, counted on a package small enough to count by hand."""

import json
from pathlib import Path

import pytest

from tools.house import House, main, static_figures

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "__init__.py": '"""A package."""\n',
    "settings.py": '''"""Settings."""

from dataclasses import dataclass
from pathlib import Path


@dataclass
class Settings:
    """Where things are."""

    configs: Path
    data_dir: Path
    state_dir: Path
''',
    "config/__init__.py": "",
    "config/files.py": '''"""Files."""

import json
from pathlib import Path
from types import SimpleNamespace

from tiny.config.names import first


def load_file(path: Path) -> SimpleNamespace:
    # a comment that says why
    return SimpleNamespace(connector=first([json.loads(path.read_text())]))  # noqa: S101
''',
    "config/names.py": '''"""Names."""


def first(values):
    """Return the first value."""
    return values[0]
''',
    "engine/__init__.py": "",
    "engine/dlt_compat.py": "from dlt.extract.state import resource_state\n",
    "engine/ingest.py": '''"""Ingest."""

import threading
from types import SimpleNamespace
from urllib.request import urlopen

from . import rows
from .rows import first


def ingest(connector, *, settings, environment):
    """Yield one outcome."""
    found = []
    thread = threading.Thread(target=rows.read, args=(connector, found))
    thread.start()
    thread.join()
    yield SimpleNamespace(rows_loaded=len(first(found)))


def unused():
    import dlt
    from dagster import _annotations, job
    from dlt.extract import DltSource
    from dlt.extract.state import resource_state
    from dagster._core.instance import InstanceRef
''',
    "engine/rows.py": '''"""Rows."""

import json
from urllib.request import urlopen


def read(connector, found):
    """Append the rows of the first page."""
    with urlopen(connector["client"]["base_url"]) as response:
        found.append(json.load(response))


def first(values):
    """Return the first value."""
    return _item(values)


def _item(values):
    return values[0]
''',
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    for name, text in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


def together(*names: str) -> int:
    return sum(FILES[name].count("\n") for name in names)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(list(arguments))
    return capsys.readouterr().out


def test_files_functions_comments_and_docstrings_are_counted(package: Path) -> None:
    figures = static_figures(package)["figures"]
    expected = {
        "files": 9,
        "lines": sum(text.count("\n") for text in FILES.values()),
        "functions": 7,
        "function_lines_median": 3,
        "function_lines_p90": 7,
        "comments_per_100_lines": round(100 / figures["lines"], 1),
        "comments_and_directives_per_100_lines": round(200 / figures["lines"], 1),
        # without one: two __init__ files, the compat file, `load_file` and `unused`
        "docstring_percent": round(100 * 11 / 16, 1),
    }
    assert {name: figures[name] for name in expected} == expected


def test_what_is_counted_is_listed(package: Path) -> None:
    house = static_figures(package)
    assert house["lists"] == {
        "files_with_one_importer": [
            f"tiny/config/names.py <- tiny/config/files.py, {together('config/names.py', 'config/files.py')} lines",
            f"tiny/engine/rows.py <- tiny/engine/ingest.py, {together('engine/rows.py', 'engine/ingest.py')} lines",
        ],
        "names_used_twice": ["first: tiny/config/names.py, tiny/engine/rows.py"],
        "module_names_used_twice": [],
        "undocumented_imports": [
            "tiny/engine/ingest.py: dagster._annotations",
            "tiny/engine/ingest.py: dagster._core.instance.InstanceRef",
            "tiny/engine/ingest.py: dlt.extract.state.resource_state",
        ],
    }
    assert all(house["figures"][name] == len(found) for name, found in house["lists"].items())


def test_the_smallest_run_is_counted_in_all_threads(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    house: House = json.loads(printed(capsys, "--package", str(package), "--json"))
    expected = {
        "modules_entered": 5,  # settings, files, names, ingest, rows
        "functions_called": 6,
        "blocks_run": 6 + 8 + 1,  # functions, module bodies but the compat file's, a class body
        # bodies: tiny, settings, config, files, names; calls: files, names; bodies: engine, ingest,
        # rows; calls: ingest, rows, and ingest once more for its end; the thread stays in rows
        "hops": 12,
        # bodies: files -> names, ingest -> rows; calls: load_file -> first, ingest -> first
        "links": 4,
    }
    assert {name: house["figures"][name] for name in expected} == expected


def test_an_older_document_is_shown_beside(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tmp_path / "before.json"
    before.write_text('{"figures": {"files": 12}, "lists": {}}', encoding="utf-8")
    shown = printed(
        capsys, "--package", str(package), "--no-run", "--compare", str(before), "--verbose"
    )
    lines = [line.split() for line in shown.splitlines()]
    assert lines[0] == ["before", "now", "goal"]
    assert lines[1] == ["files", "12", "9"]
    assert ["functions", "-", "7"] in lines
    assert "  first: tiny/config/names.py, tiny/engine/rows.py" in shown.splitlines()


def test_the_figures_of_this_package_can_be_compared_with_those_of_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before: House = json.loads((ROOT / "tools" / "house_before.json").read_text(encoding="utf-8"))
    now: House = json.loads(printed(capsys, "--json"))
    assert now["figures"].keys() == before["figures"].keys()
    assert now["figures"]["modules_entered"] > 1
