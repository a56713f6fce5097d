"""`restsource run`: a run like any other in Dagster, its result on the terminal."""

import json
import shutil
import signal
import stat
import threading
from typing import Any

import dagster as dg
import pytest

from restsource_dagster.engine.destination.warehouse import DATABASE_NAME
from restsource_dagster.engine.run.workspace import connector_workspace
from restsource_dagster.orchestration.dagster_compat import dagster_without
from restsource_dagster.settings import Settings
from restsource_dagster.state.store import open_state
from restsource_dagster_tests.cli.project import Project
from restsource_dagster_tests.cli.runner import invoke, on_terminal, start, start_new_python
from restsource_dagster_tests.servers.api import Answer, Seen
from restsource_dagster_tests.waiting import PATIENCE_SECONDS, wait_for


def names(result: Any) -> dict[str, str]:
    return {r["name"]: r["status"] for r in json.loads(result.stdout)["resources"]}


def test_run_loads_everything_and_tells_a_line_per_resource(shop: Project) -> None:
    result = invoke("run", "shop")
    assert result.exit_code == 0
    orders, countries, end = result.stdout.splitlines()
    assert orders.startswith("orders     loaded  3 rows")
    assert "updated_at 2026-11-03T00:00:00" in orders
    assert countries.startswith("countries  loaded  2 rows")
    assert end.startswith("SUCCESS in ")
    assert (shop.folder / "data" / DATABASE_NAME).is_file()


def test_run_is_recorded_as_one_of_the_connectors_job(shop: Project) -> None:
    invoke("run", "shop")
    (run,) = shop.runs()
    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert run.job_name == "shop_job"
    assert run.tags["restsource/connector"] == "shop"
    assert run.tags["restsource/trigger"] == "manual"
    with shop.instance() as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(["shop", "orders"]))
    assert event is not None
    assert event.run_id == run.run_id


def test_ui_finds_the_run_in_the_code_location_of_the_project(shop: Project) -> None:
    invoke("run", "shop", "countries")
    with shop.instance() as instance:
        (run,) = instance.get_runs(
            dg.RunsFilter(
                job_name="shop_job", tags={".dagster/repository": "__repository__@restsource"}
            )
        )
    assert run.remote_job_origin is not None
    assert run.remote_job_origin.location_name == "restsource"
    assert run.asset_selection == {dg.AssetKey(["shop", "countries"])}


def test_json_is_one_document_and_nothing_else_even_if_the_run_had_to_wait_for_another(
    shop: Project,
) -> None:
    settings = Settings(state_dir=shop.folder / ".restsource")
    with connector_workspace(settings, open_state(settings), "shop", print):
        run = start_new_python("run", "shop", "--json", folder=shop.folder)
        assert run.stderr is not None
        assert "another run of shop is in progress" in run.stderr.readline()
        assert shop.api.seen == []
    out, err = run.communicate(timeout=PATIENCE_SECONDS)
    assert run.returncode == 0, err
    told = json.loads(out)
    assert told["connector"] == "shop"
    assert told["status"] == "SUCCESS"
    assert told["recorded"] is True
    assert told["run_id"] == shop.runs()[0].run_id
    assert told["resources"][0]["rows_loaded"] == 3
    assert told["resources"][0]["table"] == "shop.orders"
    assert "\x1b" not in err


def test_only_the_named_resources_are_run(shop: Project) -> None:
    result = invoke("run", "shop", "countries", "--json")
    assert names(result) == {"countries": "loaded"}
    assert shop.api.asked("/orders") == []


def test_resource_that_the_file_deselects_is_run_when_it_is_named(shop: Project) -> None:
    shop.write_connector("orders", {"name": "countries", "selected": False})
    assert names(invoke("run", "shop", "--json")) == {"orders": "loaded"}
    assert names(invoke("run", "shop", "countries", "--json")) == {"countries": "loaded"}


def test_failed_resource_is_told_with_its_reason_and_the_others_are_loaded(shop: Project) -> None:
    shop.api.answers["/countries"] = Answer({"error": "gone"}, status=410)
    result = invoke("run", "shop", "--json")
    assert result.exit_code == 1
    assert names(result) == {"orders": "loaded", "countries": "failed"}
    told = json.loads(result.stdout)
    assert told["status"] == "FAILURE"
    assert "countries" in told["failure"]
    assert "410" in told["failure"]
    assert "t0ken" not in result.output
    lines = invoke("run", "shop", "countries").stdout
    assert "countries  failed" in lines
    assert "410" in lines


def test_variable_that_is_not_set_is_named(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKEN")
    result = invoke("run", "shop")
    assert result.exit_code == 1
    assert "TOKEN" in result.stdout
    assert "MissingReferences" not in result.stdout
    assert "orders     not loaded" in result.stdout


def test_env_file_gives_variables_and_wins_as_in_dagster_dev(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shop.folder / ".env").write_text("TOKEN=from_file\n")

    def sent() -> str:
        assert invoke("run", "shop", "countries").stdout.startswith("countries  loaded")
        return shop.api.asked("/countries")[-1].headers["authorization"]

    assert sent() == "Bearer from_file"
    monkeypatch.delenv("TOKEN")
    assert sent() == "Bearer from_file"


def test_run_without_an_instance_works_and_says_that_it_is_not_recorded(shop: Project) -> None:
    shutil.rmtree(shop.folder / ".dagster")
    result = invoke("run", "shop")
    assert result.exit_code == 0
    assert "not recorded" in result.stderr
    assert result.stdout.splitlines()[-1].endswith("not recorded")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "shpo"], "did you mean shop?"),
        (["run", "nothing"], "known are shop"),
        (["run", "shop", "ordrs"], "did you mean orders?"),
        (["run"], "NAME"),
    ],
)
def test_unknown_name_is_wrong_usage_and_the_nearest_is_told(
    shop: Project, arguments: list[str], says: str
) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert shop.runs() == []


def test_broken_file_is_not_run_and_its_problems_are_told(shop: Project) -> None:
    (shop.folder / "configs" / "till.json").write_text('{"a": 1,}')
    result = invoke("run", "till")
    assert result.exit_code == 1
    assert "till.json:1:8" in result.stderr
    assert invoke("run", "shop").exit_code == 0


def test_home_that_is_no_folder_is_wrong_usage(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(shop.folder / "nowhere"))
    result = invoke("run", "shop")
    assert result.exit_code == 2
    assert "DAGSTER_HOME" in result.stderr


def test_terminal_shows_pages_rows_and_speed_while_it_goes(shop: Project) -> None:
    code, shown = on_terminal("run", "shop", folder=shop.folder)
    assert code == 0
    assert "1 pages  3 rows" in shown
    assert "rows/s" in shown
    assert shown.rstrip().splitlines()[-1].startswith("\x1b[1;32mSUCCESS")


@pytest.mark.parametrize(
    ("number", "code", "status"),
    [
        (signal.SIGINT, 130, dg.DagsterRunStatus.CANCELED),
        (signal.SIGTERM, 1, dg.DagsterRunStatus.FAILURE),
    ],
)
def test_interrupted_run_ends_in_dagster_too_and_the_next_one_works(
    shop: Project, number: signal.Signals, code: int, status: dg.DagsterRunStatus
) -> None:
    asked, answer = threading.Event(), threading.Event()

    def wait(_: Seen) -> dict[str, Any]:
        asked.set()
        answer.wait(PATIENCE_SECONDS)
        return {"data": []}

    shop.api.answers["/countries"] = wait
    run = start("run", "shop", "countries", folder=shop.folder)
    wait_for(asked, "the request for countries")
    run.send_signal(number)
    try:
        _, err = run.communicate(timeout=PATIENCE_SECONDS)
    finally:
        answer.set()
    assert run.returncode == code, err
    assert "Traceback" not in err
    assert shop.runs()[0].status == status
    shop.api.answers["/countries"] = {"data": [{"code": "DE"}]}
    result = invoke("run", "shop", "countries")
    assert result.exit_code == 0, result.output


def test_a_dagster_that_lacks_a_name_is_reported_without_a_traceback(shop: Project) -> None:
    with dagster_without("dagster:DagsterInstance.create_run_for_job"):
        result = invoke("run", "shop", "countries")
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = (line for line in result.stderr.splitlines() if "create_run_for_job" in line)
    assert line.startswith(f"Dagster {dg.__version__} has no ")
    assert "Install a version of Dagster" in line


def test_secrets_of_the_destination_are_hidden_wherever_dlt_finds_them(shop: Project) -> None:
    (shop.folder / ".dlt").mkdir()
    (shop.folder / ".dlt" / "secrets.toml").write_text(
        '[destination.filesystem.credentials]\naws_secret_access_key = "t0mlsecret"\n'
    )
    # files can't merge
    shop.write_connector({"name": "countries", "write_disposition": "replace"})
    echoed = {"detail": "t0mlsecret, 3nvsecret and no secret"}
    shop.api.answers["/countries"] = Answer(status=400, body=echoed)
    process = start(
        *("run", "shop", "countries"),
        folder=shop.folder,
        RESTSOURCE_DESTINATION="filesystem",
        DESTINATION__FILESYSTEM__BUCKET_URL=str(shop.folder / "bucket"),
        DESTINATION__FILESYSTEM__CREDENTIALS__AWS_SESSION_TOKEN="3nvsecret",
    )
    said = "".join(process.communicate())
    assert process.returncode == 1
    assert "[secret], [secret] and no secret" in said
    files = [file for file in (shop.folder / ".dagster").rglob("*") if file.is_file()]
    held = b"".join(file.read_bytes() for file in files)
    assert b"and no secret" in held
    assert b"t0mlsecret" not in held
    assert b"3nvsecret" not in held


def test_first_runs_at_the_same_moment_share_a_new_instance(shop: Project) -> None:
    names = ["one", "two", "three"]
    for name in names:
        shop.write_connector({"name": "countries", "primary_key": "code"}, name=name)
    home = shop.folder / "new_home"
    home.mkdir()
    runs = [
        start("run", name, folder=shop.folder, DAGSTER_HOME=str(home), TOKEN="t0ken")
        for name in names
    ]
    for run in runs:
        said = run.communicate()
        assert run.returncode == 0, said
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert len(instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]))) == 3


def test_only_the_user_can_read_what_a_run_makes(shop: Project) -> None:
    result = invoke("run", "shop", "countries")
    assert result.exit_code == 0, result.output
    modes = {
        name: stat.S_IMODE((shop.folder / name).stat().st_mode)
        for name in ("data", "data/warehouse.duckdb", ".restsource")
    }
    assert modes == {"data": 0o700, "data/warehouse.duckdb": 0o600, ".restsource": 0o700}
