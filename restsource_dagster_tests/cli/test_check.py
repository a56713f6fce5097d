"""`restsource check`: what it prints, to whom, and how it ends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from restsource_dagster.connector.loader import load_folder
from restsource_dagster_tests.cli.runner import environment, invoke, on_terminal, start_new_python
from restsource_dagster_tests.waiting import PATIENCE_SECONDS

GOOD = {
    "schedule": {"mode": "hours"},
    "client": {"base_url": "https://api.example.com/"},
    "resources": [{"name": "orders", "primary_key": "id"}, "countries"],
}
SECRET = "sk5ecretsk5ecret"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one good connector, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "shop.json").write_text(json.dumps(GOOD))
    return tmp_path


def test_good_files_end_well_and_tell_derived_dispositions_with_their_reason(project: Path) -> None:
    checked = invoke("check")
    assert checked.exit_code == 0
    assert "  orders: merge, because the resource has a primary key (id)\n" in checked.stdout
    assert checked.stdout.endswith("1 file, 0 broken, 0 problems\n")


def test_quiet_tells_only_problems_and_the_summary(project: Path) -> None:
    assert invoke("check", "-q").stdout == "1 file, 0 broken, 0 problems\n"


def test_every_problem_of_every_file_is_told_in_order_and_counted(project: Path) -> None:
    configs = project / "configs"
    (configs / "b.json").write_text('{"schedule": {"mode": "daily"},}')
    (configs / "a.yaml").write_text("- 1\n- : :")
    literal = {**GOOD, "client": {**GOOD["client"], "auth": {"type": "bearer", "token": SECRET}}}  # type: ignore[dict-item]
    (configs / "c.json").write_text(json.dumps(literal))
    checked = invoke("check")
    problems = load_folder(Path("configs")).problems
    assert checked.exit_code == 1
    assert checked.stdout.splitlines()[: len(problems)] == [p.as_text() for p in problems]
    errors = sum(problem.severity == "error" for problem in problems)
    assert checked.stdout.endswith(f"4 files, 2 broken, {errors} problems, 1 warning\n")
    assert SECRET not in checked.output


def test_warnings_alone_end_well(project: Path) -> None:
    literal = {
        **GOOD,
        "client": {"base_url": "https://x.example/", "headers": {"X-Api-Key": SECRET}},
    }
    (project / "configs" / "shop.json").write_text(json.dumps(literal))
    checked = invoke("check", "-q")
    assert checked.exit_code == 0
    assert checked.stdout.endswith("1 file, 0 broken, 0 problems, 1 warning\n")


def test_json_is_one_document_with_everything(project: Path) -> None:
    (project / "configs" / "b.json").write_text("{")
    checked = invoke("check", "--json")
    assert checked.exit_code == 1
    told = json.loads(checked.stdout)
    assert told["summary"] == {"files": 2, "broken": 1, "problems": 1, "warnings": 0}
    broken, good = told["files"]
    assert broken["connector"] is None
    assert broken["problems"] == [p.as_dict() for p in load_folder(Path("configs")).problems]
    assert good["connector"] == "shop"
    assert [resource["name"] for resource in good["resources"]] == ["orders", "countries"]
    assert good["resources"][0]["write_disposition"]["value"] == "merge"


def test_files_and_folders_can_be_named_and_count_once(project: Path) -> None:
    (project / "other").mkdir()
    (project / "other" / "x.json").write_text("{")
    checked = invoke("check", "other", "other/x.json", "configs/shop.json", "--json")
    assert [file["path"] for file in json.loads(checked.stdout)["files"]] == [
        "configs/shop.json",
        "other/x.json",
    ]


def test_folder_with_a_files_name_is_a_problem_and_not_a_folder_of_connectors(
    project: Path,
) -> None:
    (project / "configs" / "x.json").mkdir()
    for arguments in (["check"], ["check", "configs/x.json"]):
        checked = invoke(*arguments)
        assert checked.exit_code == 1
        assert "This is not a file" in checked.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", "nothing.json"], "there is no nothing.json"),
        (["check", "--configs", "nowhere"], "there is no folder nowhere"),
        (["check", "--nonsense"], "--nonsense"),
        (["chekc"], "Did you mean 'check'?"),
    ],
)
def test_wrong_usage_is_told_as_such(project: Path, arguments: list[str], says: str) -> None:
    checked = invoke(*arguments)
    assert checked.exit_code == 2
    assert checked.stdout == ""
    assert says in checked.stderr


def test_configs_folder_comes_from_option_environment_and_env_file(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (project / name).mkdir()
        (project / name / f"{name}.json").write_text("{")
    (project / ".env").write_text("RESTSOURCE_CONFIGS=a\n")
    assert "a/a.json" in invoke("check").stdout
    monkeypatch.setenv("RESTSOURCE_CONFIGS", "b")
    assert "b/b.json" in invoke("check").stdout
    assert "c/c.json" in invoke("check", "--configs", "c").stdout


def test_an_env_file_of_another_encoding_is_named(project: Path) -> None:
    (project / ".env").write_bytes("RESTSOURCE_DESTINATION=café\n".encode("latin-1"))
    checked = invoke("check")
    assert checked.exit_code == 2
    assert ".env is no text in UTF-8" in checked.stderr


def test_names_of_files_and_keys_reach_no_terminal_as_control_sequences(project: Path) -> None:
    (project / "configs" / "a\x1b[31m\n.json").write_text('{"\\u001b[31m": 1}')
    assert "\x1b" not in invoke("check").stdout


def test_checking_needs_neither_dlt_nor_dagster(project: Path) -> None:
    code = (
        "import sys; from restsource_dagster.cli import main; "
        "codes = [main(['check']), main(['schema']), main(['list'])]; "
        "print(codes, sorted({'dlt', 'dagster', 'duckdb'} & set(sys.modules)), file=sys.stderr)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stderr.splitlines()[-1] == "[0, 0, 0] []"


def test_process_ends_with_the_code_and_without_colours_in_a_pipe(project: Path) -> None:
    (project / "configs" / "b.json").write_text("{")
    checked = start_new_python("check", folder=project)
    out, err = checked.communicate(timeout=PATIENCE_SECONDS)
    assert checked.returncode == 1
    assert "\x1b" not in out
    assert err == ""
    assert out.endswith("2 files, 1 broken, 1 problem\n")


def test_a_terminal_gets_colours(project: Path) -> None:
    (project / "configs" / "b.json").write_text("{")
    code, shown = on_terminal("check", folder=project)
    assert code == 1
    assert "\x1b[31m\x1b[1merror\x1b[0m" in shown


def test_reader_that_goes_away_is_no_error_to_tell(project: Path) -> None:
    for number in range(3000):
        (project / "configs" / f"b{number}.json").write_text("{")
    checked = start_new_python("check", folder=project)
    assert checked.stdout is not None
    assert checked.stdout.readline()
    checked.stdout.close()
    assert checked.stderr is not None
    assert checked.stderr.read() == ""
    assert checked.wait(timeout=PATIENCE_SECONDS) == 141


def test_reader_of_json_that_goes_away_is_no_error_to_tell(project: Path) -> None:
    for number in range(3000):
        (project / "configs" / f"b{number}.json").write_text("{")
    # without a buffer, Python itself drops what a broken pipe has not taken, and tells nobody
    checked = start_new_python("check", "--json", folder=project, PYTHONUNBUFFERED="")
    assert checked.stdout is not None
    assert checked.stdout.readline()
    checked.stdout.close()
    assert checked.stderr is not None
    assert checked.stderr.read() == ""
    assert checked.wait(timeout=PATIENCE_SECONDS) == 141


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": ""}, False), ({}, False)],
)
def test_variables_that_ask_for_colours_or_none_are_heeded(
    project: Path, variables: dict[str, str], coloured: bool
) -> None:
    (project / "configs" / "b.json").write_text("{")
    out, _ = start_new_python("check", folder=project, **variables).communicate(
        timeout=PATIENCE_SECONDS
    )
    assert ("\x1b[31m\x1b[1merror\x1b[0m" in out) is coloured


def test_output_that_knows_only_ascii_gets_everything_all_the_same(project: Path) -> None:
    (project / "configs" / "größe.json").write_text('{"ü": 1}')
    checked = start_new_python("check", folder=project, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    out, err = checked.communicate(timeout=PATIENCE_SECONDS)
    assert checked.returncode == 1
    assert "gr\\xf6\\xdfe.json" in out
    assert err == ""


def test_what_the_destination_can_not_do_is_a_problem_of_the_resource(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the rules that a run calls; the destination is not opened."""
    monkeypatch.setenv("RESTSOURCE_DESTINATION", "filesystem")
    file = project / "configs" / "shop.json"
    file.write_text(json.dumps(GOOD, indent=1))
    line = (
        next(n for n, text in enumerate(file.read_text().splitlines(), 1) if "orders" in text) - 1
    )
    checked = invoke("check")
    assert checked.exit_code == 1
    [problem, *_] = checked.stdout.splitlines()
    assert problem.startswith(
        f"configs/shop.json:{line}:1: error: /resources/0: orders: its rows are"
    )
    assert 'Write "write_disposition": "append" or "replace", or "table_format": "delta"' in problem
    monkeypatch.setenv("RESTSOURCE_DESTINATION", "postgres")
    assert invoke("check", "-q").stdout == "1 file, 0 broken, 0 problems\n"


def test_a_file_with_a_destination_of_its_own_is_checked_for_that_one(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESTINATION__LAKE__DESTINATION_TYPE", "filesystem")
    monkeypatch.setenv("DESTINATION__SNOW__DESTINATION_TYPE", "snowflake")
    for name in ("lake", "snow", "postgers", "no-name"):
        file = project / "configs" / f"in_{name.replace('-', '_')}.json"
        file.write_text(json.dumps({**GOOD, "name": file.stem, "destination": name}, indent=1))
    lines = invoke("check").stdout.splitlines()
    shown = {
        "in_lake": "error: /resources/0: orders: its rows are",
        "in_snow": "error: /destination: the destination 'snow' needs a package that is not installed "
        "(snowflake): pip install 'dlt[snowflake]'",
        "in_postgers": "error: /destination: dlt has no destination 'postgers'; did you mean 'postgres'?",
        "in_no_name": "error: /destination: ",
    }
    for name, text in shown.items():
        [line] = [one for one in lines if one.startswith(f"configs/{name}.json:")]
        assert text in line
        assert (":1:" not in line) or name == "in_lake"


def test_appended_rows_that_a_killed_load_would_leave_are_a_warning(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTSOURCE_DESTINATION", "filesystem")
    resources = [
        {"name": name, "write_disposition": "append", **({"table_format": name} if format_ else {})}
        for name, format_ in (("delta", True), ("plain", False))
    ]
    (project / "configs" / "shop.json").write_text(json.dumps({**GOOD, "resources": resources}))
    checked = invoke("check")
    assert checked.exit_code == 0, checked.stdout
    [warning] = [line for line in checked.stdout.splitlines() if "warning: " in line]
    assert (
        "/resources/0: delta: rows that a killed load has appended to a delta table stay" in warning
    )


def test_a_window_of_appended_rows_that_a_destination_can_not_replace_is_a_warning(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor = {"cursor_path": "at", "initial_value": "2026-01-01T00:00:00Z"}
    events = {
        "name": "events",
        "endpoint": {
            "params": {"since": "{incremental.start_value}", "until": "{incremental.end_value}"},
            "incremental": cursor,
        },
        "backfill": {"start": "2026-01-01", "partition": "daily"},
    }
    (project / "configs" / "shop.json").write_text(json.dumps({**GOOD, "resources": [events]}))
    monkeypatch.setenv("RESTSOURCE_DESTINATION", "dremio")
    checked = invoke("check")
    assert checked.exit_code == 0, checked.stdout
    assert "warning: /resources/0: events: a window of its backfill replaces rows" in checked.stdout


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("postgers", "dlt has no destination 'postgers'; did you mean 'postgres'?"),
        (
            "snowflake",
            "needs a package that is not installed (snowflake): pip install 'dlt[snowflake]'",
        ),
    ],
)
def test_a_destination_that_can_not_be_used_is_found(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str, shown: str
) -> None:
    monkeypatch.setenv("RESTSOURCE_DESTINATION", name)
    checked = invoke("check")
    assert checked.exit_code == 1
    assert shown in checked.stdout
    as_json = invoke("check", "--json")
    assert as_json.exit_code == 1
    assert shown in json.loads(as_json.stdout)["destination"]["problem"]
