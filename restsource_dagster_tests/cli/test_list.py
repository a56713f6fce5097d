"""`restsource list`: schedules in words, due times, cursors and last runs."""

import json
import shutil
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from restsource_dagster_tests.cli.project import Project
from restsource_dagster_tests.cli.runner import invoke
from restsource_dagster_tests.servers.api import Answer


def listed(*arguments: str) -> dict[str, Any]:
    result = invoke("list", "--json", *arguments)
    assert result.exit_code == 0
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_connector_that_never_ran_has_a_schedule_and_due_times(shop: Project) -> None:
    before = datetime.now(UTC)
    (connector,) = listed()["connectors"]
    assert connector["name"] == "shop"
    assert connector["schedule"].startswith("every hour")
    assert connector["last_run"] is None
    due = [datetime.fromisoformat(moment) for moment in connector["next_due"]]
    assert due[0] > before
    assert all((later - sooner).total_seconds() == 3600 for sooner, later in pairwise(due))
    assert "never" in invoke("list").stdout


def test_last_run_and_cursors_are_those_of_the_instance(shop: Project) -> None:
    invoke("run", "shop")
    (connector,) = listed()["connectors"]
    assert connector["last_run"]["status"] == "SUCCESS"
    assert connector["last_run"]["trigger"] == "manual"
    assert connector["last_run"]["rows_loaded"] == 5
    assert connector["last_run"]["run_id"] == shop.runs()[0].run_id
    orders, countries = connector["resources"]
    assert orders["cursor_path"] == "updated_at"
    assert orders["last_value"].startswith("2026-11-03T00:00:00")
    assert orders["rows_loaded"] == 3
    assert countries["cursor_path"] is None
    table = invoke("list").stdout
    assert "success" in table
    assert "orders: updated_at 2026-11-03T00:00:00" in table


def test_failed_run_is_told_and_the_cursor_is_that_of_the_run_before(shop: Project) -> None:
    invoke("run", "shop")
    shop.api.answers["/orders"] = Answer({"error": "gone"}, status=410)
    invoke("run", "shop", "orders")
    (connector,) = listed()["connectors"]
    assert connector["last_run"]["status"] == "FAILURE"
    assert connector["last_run"]["rows_loaded"] is None
    assert connector["resources"][0]["last_value"].startswith("2026-11-03T00:00:00")


def test_manual_connector_is_never_due(shop: Project) -> None:
    shop.write_connector("orders", schedule={"mode": "manual"})
    (connector,) = listed()["connectors"]
    assert connector["schedule"] == "manual"
    assert connector["next_due"] == []


def test_broken_files_are_named_and_harm_nothing(shop: Project) -> None:
    (shop.folder / "configs" / "till.json").write_text("{")
    document = listed()
    assert [connector["name"] for connector in document["connectors"]] == ["shop"]
    assert document["broken"] == [{"path": "configs/till.json", "problems": 1}]
    assert "configs/till.json is broken" in invoke("list").stdout


def test_without_an_instance_the_rest_is_listed_and_a_note_says_so(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(shop.folder / ".dagster")
    result = invoke("list", "--json")
    assert json.loads(result.stdout)["connectors"][0]["last_run"] is None
    assert "DAGSTER_HOME" in result.stderr


def test_home_of_the_environment_comes_before_the_projects_own(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoke("run", "shop")
    other = shop.folder / "other"
    other.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(other))
    assert listed()["connectors"][0]["last_run"] is None


def test_folder_without_connectors_is_told(shop: Project) -> None:
    (shop.folder / "empty").mkdir()
    assert invoke("list", "--configs", "empty").stdout == "No connectors.\n"
