"""What a start may import. Each name here costs every start of the command or of the code location."""

import sys
import tempfile
from pathlib import Path

from restsource_dagster_tests.servers.api import ApiServer
from restsource_dagster_tests.telling import ROOT, told_by

TYPER = {"annotated_doc", "shellingham", "typer"}
PYDANTIC = {
    "annotated_types",
    "pydantic",
    "pydantic_core",
    "typing_extensions",
    "typing_inspection",
}
SETTINGS = {"dotenv", "pydantic_settings"}
CHECK = "from restsource_dagster.cli import main; assert main(['check', '-q', {path!r}]) == 0"


def imported(code: str) -> set[str]:
    """The packages outside the standard library that some code has imported at its end."""
    tells = f"{code}\nimport sys, json; print(json.dumps(list(sys.modules)))"
    with tempfile.TemporaryDirectory() as folder:
        variables = {"RESTSOURCE_CONFIGS": str(ROOT / "configs")}
        modules: list[str] = told_by(tells, Path(folder), variables)
    packages = {module.split(".")[0] for module in modules}
    # what is left besides are parts of Python, and of extension modules, without a name of their own
    named = {package for package in packages if not package.startswith("_")}
    return named - sys.stdlib_module_names - {"cython_runtime"}


def at_start() -> set[str]:
    """What this Python imports before it does anything, such as for an editable installation."""
    return imported("pass")


def test_checking_a_file_imports_the_models_the_settings_and_the_command_line_only() -> None:
    code = CHECK.format(path=str(ROOT / "configs" / "nyc_flights.json"))
    # the settings name the destination, which may refuse what the file asks for
    needed = {"restsource_dagster", *TYPER, *PYDANTIC, *SETTINGS}
    assert imported(code) - at_start() == needed


def test_checking_the_folder_of_the_settings_imports_these_too() -> None:
    code = "from restsource_dagster.cli import main; assert main(['check', '-q']) == 0"
    needed = {"restsource_dagster", *TYPER, *PYDANTIC, *SETTINGS}
    assert imported(code) - at_start() == needed


def test_a_sound_file_needs_the_validator_of_the_whole_file_only() -> None:
    code = f"""
{CHECK.format(path=str(ROOT / "configs" / "nyc_flights.json"))}
from restsource_dagster.connector.models.fields import FileModel
def built(model):
    return {{model.__name__}} if model.__pydantic_complete__ else set()
def all_built(model):
    return built(model).union(*map(all_built, model.__subclasses__()))
assert all_built(FileModel) == {{"ConnectorFile"}}, all_built(FileModel)
"""
    assert "restsource_dagster" in imported(code)


def test_a_command_of_its_own_process_looks_for_garbage_seldom() -> None:
    code = """
import gc, sys
from restsource_dagster.cli import main
usual = gc.get_threshold()
assert main(["--help"]) == 0
assert gc.get_threshold() == usual
sys.argv = ["restsource", "--help"]
assert main() == 0
assert gc.get_threshold()[0] > usual[0]
"""
    assert "restsource_dagster" in imported(code)


def test_the_code_location_imports_little_that_dagster_does_not() -> None:
    dagster = imported("import dagster")
    ours = imported("import dagster, restsource_dagster.definitions")
    assert ours - dagster == {"restsource_dagster", "psutil", *SETTINGS}


def test_no_definition_brings_what_only_a_run_needs() -> None:
    absent = {"dlt", "dagster_dlt", "duckdb", "numpy", "pandas", "pyarrow", "requests", "rich"}
    code = (
        "from restsource_dagster.definitions import defs; "
        "defs().get_repository_def().load_all_definitions()"
    )
    assert absent & imported(code) == set()


def test_a_load_imports_no_sqlalchemy(api: ApiServer, tmp_path: Path) -> None:
    api.answers["/things"] = [{"id": 1}]
    code = f"""
import sys
from pathlib import Path
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster_tests.making import make_connector, make_settings
settings = make_settings(Path({str(tmp_path)!r}))
outcomes = ingest(make_connector({api.url!r}, "things"), settings=settings, environment={{}})
assert [outcome.rows_loaded for outcome in outcomes] == [1]
"""
    assert "sqlalchemy" not in imported(code)
