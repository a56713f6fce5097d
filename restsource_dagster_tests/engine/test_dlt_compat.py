"""Each undocumented part of dlt that the engine uses, as the installed version has it.

A test that fails here names what an upgrade of dlt changed. `engine/dlt_compat.py` says what the
part is needed for and what happens without it.
"""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import dlt
import pyarrow as pa
import pytest
from packaging.version import Version

import restsource_dagster.engine
from restsource_dagster.engine import dlt_compat
from restsource_dagster.engine.destination.sql_destinations import (
    DuckDBDestination,
    PostgresDestination,
)
from restsource_dagster.engine.dlt_compat import (
    UNDOCUMENTED_ATTRIBUTES,
    count_normalized_rows,
    get_context_timezone_name,
)
from restsource_dagster_tests.servers.api import ApiServer

WITH_A_FALLBACK = {"get_context_timezone_name"}
SINCE = {"gen_merge_key_present_clause": "1.31"}
"""Attributes that an allowed version may lack, and the first version of dlt that has them."""


def imported_names() -> Iterator[tuple[str, str]]:
    """The module and the name of each import from dlt in dlt_compat."""
    source = resources.files(restsource_dagster.engine).joinpath("dlt_compat.py").read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "dlt":
            yield from ((str(node.module), alias.name) for alias in node.names)


def attribute_id(value: object) -> str:
    return str(value)


def find_object(name: str) -> Any:
    """The module or class of that full name."""
    try:
        return importlib.import_module(name)
    except ImportError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)


def has_attribute(owner: Any, name: str) -> bool:
    """True if a module or class has the attribute, or its instances are given it."""
    if hasattr(owner, name):
        return True
    classes = [one for one in inspect.getmro(owner) if one is not object]
    return any(
        name in getattr(one, "__annotations__", {})
        or re.search(rf"\bself\.{name}\b[^(\n]*=", inspect.getsource(one))
        for one in classes
        if one.__module__.startswith("dlt.")
    )


@pytest.mark.parametrize(("module", "name"), sorted(imported_names()), ids=attribute_id)
def test_dlt_has_the_name(module: str, name: str) -> None:
    if name in WITH_A_FALLBACK:
        assert callable(getattr(dlt_compat, name))
        return
    found = importlib.import_module(module)
    assert hasattr(found, name) or importlib.import_module(f"{module}.{name}")


@pytest.mark.parametrize(
    ("owner", "name"),
    [(part.owner, name) for part in UNDOCUMENTED_ATTRIBUTES for name in part.names],
    ids=attribute_id,
)
def test_dlt_has_the_attribute(owner: str, name: str) -> None:
    is_older = Version(dlt.__version__) < Version(SINCE.get(name, "0"))
    assert has_attribute(find_object(owner), name) != is_older


def test_everything_imported_is_exported() -> None:
    """So that mypy and `__getattr__` know the names."""
    missing = {name for name in dlt_compat.__all__ if not hasattr(dlt_compat, name)}
    assert missing == set()


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_missing_name_is_an_error_with_dlts_version_and_the_name() -> None:
    shown = run_python(
        "import dlt.sources.helpers.rest_client.utils as utils\n"
        "del utils.join_url\n"
        "import restsource_dagster.engine.run.ingest"
    )
    last = shown.stderr.strip().splitlines()[-1]
    assert f"UnsupportedDltError: dlt {dlt.__version__} does not work" in last
    assert "'join_url' from 'dlt.sources.helpers.rest_client.utils'" in last


def test_without_a_name_for_columns_rows_are_loaded_one_by_one(
    api: ApiServer, tmp_path: Path
) -> None:
    api.answers["/things"] = [{"id": 1}, {"id": 2}]
    shown = run_python(f"""
import dlt.normalize.items_normalizers as normalizers
from pathlib import Path
import dlt
del normalizers.JsonLItemsNormalizer
from restsource_dagster_tests.making import make_connector, make_settings
from restsource_dagster.engine.run.ingest import ingest
settings = make_settings(Path({str(tmp_path)!r}))
for outcome in ingest(make_connector({api.url!r}, "things"), settings=settings, environment={{}}):
    print(outcome.rows_loaded)
""")
    assert (shown.stdout, shown.returncode) == ("2\n", 0), shown.stderr


def test_get_context_timezone_name_is_utc_by_default() -> None:
    assert get_context_timezone_name() == "UTC"


def test_count_normalized_rows_counts_every_file_of_a_table(tmp_path: Path) -> None:
    """Files of other tables come between the two of `orders`."""

    def orders() -> Iterator[Any]:
        yield pa.table({"id": [1, 2]})
        yield [{"id": 3}]

    pipeline = dlt.pipeline("counted", pipelines_dir=str(tmp_path), destination="duckdb")
    resources = [dlt.resource(orders), dlt.resource([{"id": 1}], name="parts")]
    pipeline.extract(resources, loader_file_format="parquet")
    counts = count_normalized_rows(pipeline.normalize())
    assert (counts["orders"], counts["parts"]) == (3, 1)


@pytest.mark.parametrize("made", [DuckDBDestination, PostgresDestination])
def test_the_capabilities_do_not_depend_on_the_configuration(
    made: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # ours are read without a configuration, dlt's with the resolved one
    place = str(tmp_path / "a.duckdb") if made is DuckDBDestination else "postgres://a:b@c/d"
    monkeypatch.setenv("CREDENTIALS", place)
    for naming in (None, dlt.Schema("shop").naming):
        resolved = made().configuration(made().spec(), accept_partial=True)
        expected = dict(made().capabilities(resolved, naming))
        assert {
            name: value
            for name, value in made().capabilities(None, naming).items()
            if value != expected[name] and name != "type_mapper"
        } == {}
