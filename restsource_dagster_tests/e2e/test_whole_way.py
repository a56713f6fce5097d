"""The whole way, on real data: files, a running Dagster, tables.

The tests of three files share one running project and go through its life in order: here it begins,
`test_backfill.py` loads a history, `test_working_on.py` goes on. `-m browser` alone works too. They
put pictures into `artifacts/`, and renew those of the documents if asked to:
`RESTSOURCE_SCREENSHOTS=yes make test PYTEST_ARGS=restsource_dagster_tests/e2e`.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from restsource_dagster_tests.e2e.graphql import ASSET_JOB, until
from restsource_dagster_tests.e2e.project import LiveProject
from restsource_dagster_tests.e2e.shop import BROKEN, MISTAKES

pytestmark = pytest.mark.e2e

TABLES = ("flights", "weather", "planes", "airports", "airlines")
SAMPLE_ASSETS = {f"nyc_flights/{table}" for table in TABLES}

Record = Callable[[str, object], None]


def test_a_new_project_runs_its_connectors_by_itself(project: LiveProject) -> None:
    assert until(project.dagster.assets, "the first assets") == SAMPLE_ASSETS | {
        "weather_station/readings"
    }
    run = project.dagster.wait_for_first_run("nyc_flights")
    assert (run.status, run.job) == ("SUCCESS", "nyc_flights_job")
    assert run.tags["restsource/trigger"] == "first_run"
    assert project.dagster.wait_for_first_run("weather_station").status == "SUCCESS"
    assert [line for line in project.output if line.startswith("dagster: ")] == []


def test_the_tables_hold_what_the_api_counts(project: LiveProject) -> None:
    loaded = {table: project.count(f"nyc_flights.{table}") for table in TABLES}
    assert loaded == {table: project.sample.count(table) for table in TABLES}


def test_an_asset_shows_its_rows_and_how_far_its_cursor_got(project: LiveProject) -> None:
    shown = project.dagster.asset("nyc_flights/flights").latest
    latest = "select strftime(max(departed_at), '%Y-%m-%dT%H:%M:%SZ') from nyc_flights.flights"
    assert shown["rows_loaded"] == shown["dagster/row_count"] == project.sample.count("flights")
    assert shown["incremental/cursor_path"] == "departed_at"
    assert shown["incremental/start_value"] == "1970-01-01T00:00:00Z"
    assert project.query(latest) == [(shown["incremental/last_value"],)]
    assert shown["incremental/lag_seconds"] > 0
    assert shown["http/requests"] > 10


def test_later_runs_wait_for_each_other_and_add_only_the_new_flights(project: LiveProject) -> None:
    before = project.dagster.asset("nyc_flights/flights").latest["incremental/last_value"]
    again = project.sample.count("flights", f"departed_at={before}")
    loaded = project.sample.count("flights")
    project.sample.set_clock(datetime.now(UTC))
    new = project.sample.count("flights") - loaded
    assert new > 0

    by_hand = project.dagster.launch(ASSET_JOB, ["nyc_flights/flights"])
    with_job = project.dagster.launch("nyc_flights_job", ["nyc_flights/airlines"])
    first, second = (project.dagster.wait_for_run(run) for run in (by_hand, with_job))

    assert (first.status, second.status) == ("SUCCESS", "SUCCESS")
    assert first.end <= second.start
    shown = project.dagster.asset("nyc_flights/flights").materializations[by_hand]
    assert shown["incremental/start_value"] == before
    assert shown["rows_loaded"] == new + again
    assert shown["http/requests"] == 1
    assert project.count("nyc_flights.flights") == project.sample.count("flights")


@pytest.mark.usefixtures("good_and_broken_files")
def test_a_file_with_three_mistakes_says_where_they_are(project: LiveProject) -> None:
    until(lambda: BROKEN in project.dagster.assets(), "the broken file's asset")
    shown = str(project.dagster.asset(BROKEN).metadata["problems"])
    assert all(f"line {line}, column" in shown and f"`{at}`" in shown for line, at in MISTAKES)

    checked = project.restsource("check", "--json")
    assert checked.returncode == 1
    problems = [p for file in json.loads(checked.stdout)["files"] for p in file["problems"]]
    assert {(problem["line"], problem["pointer"]) for problem in problems} == MISTAKES

    def ticks() -> list[str]:
        failed = project.dagster.failed_ticks("restsource_broken_configs")
        return [tick for tick in failed if all(at in tick for _, at in MISTAKES)]

    until(ticks, "a failed tick that names all mistakes")


@pytest.mark.usefixtures("good_and_broken_files")
def test_beside_a_broken_file_others_load_into_one_database_at_the_same_moment(
    project: LiveProject,
) -> None:
    crm, helpdesk = (project.dagster.wait_for_first_run(name) for name in ("crm", "helpdesk"))
    assert (crm.status, helpdesk.status) == ("SUCCESS", "SUCCESS")
    assert max(crm.start, helpdesk.start) < min(crm.end, helpdesk.end)
    assert (project.count("crm.contacts"), project.count("helpdesk.tickets")) == (500, 500)


def test_a_dropped_file_runs_without_a_click(
    project: LiveProject, files_dropped_at: float, record_property: Record
) -> None:
    run = project.dagster.wait_for_first_run("shop")
    assert (run.status, run.tags["restsource/trigger"]) == ("SUCCESS", "first_run")
    record_property("seconds from file to start of run", round(run.start - files_dropped_at, 1))
    record_property("seconds from file to tables", round(run.end - files_dropped_at, 1))
    assert project.dagster.asset("shop/invoices").parents == ("shop/customers",)
    assert project.count("shop.customers") == 3
    per_customer = "select _customers_id, count(*) from shop.invoices group by 1 order by 1"
    assert project.query(per_customer) == [(1, 1), (2, 2), (3, 3)]
