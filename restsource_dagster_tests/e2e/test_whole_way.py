"""The whole way, on real data: files, a running Dagster, tables, and a browser that looks at it.

The tests share one running project and go through its life in order; `-m browser` alone works too.
They put pictures into `artifacts/`, and renew those of the documents if asked to:
`RESTSOURCE_SCREENSHOTS=yes make test PYTEST_ARGS=restsource_dagster_tests/e2e`.
"""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from restsource_dagster_tests.e2e.browser import CHROMIUM, open_page, take_picture
from restsource_dagster_tests.e2e.graphql import ASSET_JOB, until
from restsource_dagster_tests.e2e.project import LiveProject
from restsource_dagster_tests.e2e.shop import MISTAKES, TOKEN, faulty, plain, shop
from restsource_dagster_tests.servers.api import ApiServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.e2e

TABLES = ("flights", "weather", "planes", "airports", "airlines")
SAMPLE_ASSETS = {f"nyc_flights/{table}" for table in TABLES}
BROKEN = "broken_configs/payments"

Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def shop_dropped_at(project: LiveProject, shop_api: ApiServer) -> float:
    project.set_variable("SHOP_TOKEN", TOKEN)
    begun = time.time()
    project.write_connector("shop", shop(shop_api.url))
    return begun


@pytest.fixture(scope="module")
def good_and_broken_files(project: LiveProject, shop_api: ApiServer) -> None:
    project.write_connector("crm", plain(shop_api.url, "contacts"))
    project.write_connector("helpdesk", plain(shop_api.url, "tickets"))
    project.write_connector("payments", faulty(shop_api.url))


@pytest.fixture(scope="module")
def page(project: LiveProject) -> "Iterator[Page]":
    pytest.importorskip("playwright", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    with open_page(project.address) as opened:
        yield opened


def test_a_new_project_runs_its_connectors_by_itself(project: LiveProject) -> None:
    assert until(project.dagster.assets) == SAMPLE_ASSETS | {"weather_station/readings"}
    run = project.dagster.wait_for_first_run("nyc_flights", seconds=120)
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


def test_a_dropped_file_runs_without_a_click(
    project: LiveProject, shop_dropped_at: float, record_property: Record
) -> None:
    run = project.dagster.wait_for_first_run("shop")
    assert (run.status, run.tags["restsource/trigger"]) == ("SUCCESS", "first_run")
    record_property("seconds from file to start of run", round(run.start - shop_dropped_at, 1))
    record_property("seconds from file to tables", round(run.end - shop_dropped_at, 1))
    assert project.dagster.asset("shop/invoices").parents == ("shop/customers",)
    assert project.count("shop.customers") == 3
    per_customer = "select _customers_id, count(*) from shop.invoices group by 1 order by 1"
    assert project.query(per_customer) == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.usefixtures("good_and_broken_files")
def test_a_file_with_three_mistakes_says_where_they_are(project: LiveProject) -> None:
    until(lambda: BROKEN in project.dagster.assets(), what="the broken file's asset")
    shown = str(project.dagster.asset(BROKEN).metadata["problems"])
    assert all(f"line {line}, column" in shown and f"`{at}`" in shown for line, at in MISTAKES)

    checked = project.restsource("check", "--json")
    assert checked.returncode == 1
    problems = [p for file in json.loads(checked.stdout)["files"] for p in file["problems"]]
    assert {(problem["line"], problem["pointer"]) for problem in problems} == MISTAKES

    (tick, *_) = until(lambda: project.dagster.failed_ticks("restsource_broken_configs"))
    assert all(at in tick for _, at in MISTAKES)


@pytest.mark.usefixtures("good_and_broken_files")
def test_beside_a_broken_file_others_load_into_one_database_at_the_same_moment(
    project: LiveProject,
) -> None:
    crm, helpdesk = (project.dagster.wait_for_first_run(name) for name in ("crm", "helpdesk"))
    assert (crm.status, helpdesk.status) == ("SUCCESS", "SUCCESS")
    assert max(crm.start, helpdesk.start) < min(crm.end, helpdesk.end)
    assert (project.count("crm.contacts"), project.count("helpdesk.tickets")) == (500, 500)


@pytest.mark.browser
@pytest.mark.usefixtures("shop_dropped_at", "good_and_broken_files")
def test_the_catalog_lists_all_assets(project: LiveProject, page: "Page") -> None:
    for name in ("nyc_flights", "shop", "crm", "helpdesk"):
        project.dagster.wait_for_first_run(name)
    page.goto("/assets")
    for key in project.dagster.assets():
        page.locator(f'a[href="/assets/{key}"]').wait_for()
    page.get_by_text("Materialized").nth(8).wait_for()
    take_picture(page, "catalog", for_documents=True)


@pytest.mark.browser
@pytest.mark.usefixtures("shop_dropped_at")
def test_the_lineage_shows_a_parent_and_its_child(project: LiveProject, page: "Page") -> None:
    project.dagster.wait_for_first_run("shop")
    page.goto("/locations/restsource/asset-groups/shop")
    for name in ("customers", "invoices"):
        page.locator("foreignObject").get_by_text(name, exact=True).wait_for()
    page.get_by_text("Materialized").nth(1).wait_for()
    assert page.locator("svg path[marker-end]").count() == 1
    take_picture(page, "lineage", for_documents=True)


@pytest.mark.browser
def test_an_asset_page_shows_rows_and_cursor(project: LiveProject, page: "Page") -> None:
    project.dagster.wait_for_first_run("nyc_flights")
    shown = project.dagster.asset("nyc_flights/flights").latest
    page.goto("/assets/nyc_flights/flights?view=events")
    for name in ("rows_loaded", "dagster/row_count", "incremental/last_value"):
        row = page.get_by_role("row").filter(has=page.get_by_text(name, exact=True))
        row.get_by_text(str(shown[name]), exact=True).wait_for()
    take_picture(page, "asset", for_documents=True)


@pytest.mark.browser
@pytest.mark.usefixtures("good_and_broken_files")
def test_a_broken_file_s_page_shows_its_problems(project: LiveProject, page: "Page") -> None:
    until(lambda: BROKEN in project.dagster.assets())
    page.goto(f"/assets/{BROKEN}")
    for _, pointer in MISTAKES:
        page.get_by_text(pointer).first.wait_for()
    take_picture(page, "broken")


@pytest.mark.browser
@pytest.mark.usefixtures("shop_dropped_at")
def test_materialize_in_the_browser_is_a_run_by_hand(project: LiveProject, page: "Page") -> None:
    project.dagster.wait_for_first_run("shop")
    page.goto("/assets/shop/customers")
    page.get_by_role("button", name="Materialize").first.click()
    (run,) = until(lambda: project.dagster.runs(connector="shop", trigger="manual"))
    assert project.dagster.wait_for_run(run.id).status == "SUCCESS"
    assert run.id in project.dagster.asset("shop/customers").materializations
    assert run.id not in project.dagster.asset("shop/invoices").materializations


@pytest.mark.usefixtures("good_and_broken_files")
def test_a_mended_file_works_at_once_and_a_removed_one_is_gone(
    project: LiveProject, shop_api: ApiServer
) -> None:
    project.write_connector("payments", plain(shop_api.url, "tickets"))
    (project.folder / "configs" / "crm.json").unlink()
    assert project.dagster.wait_for_first_run("payments").status == "SUCCESS"
    assert not {BROKEN, "crm/contacts"} & project.dagster.assets()
    assert (project.count("payments.tickets"), project.count("crm.contacts")) == (500, 500)


def test_a_scheduled_run_comes_at_its_minute_and_asks_only_from_the_cursor_on(
    project: LiveProject, shop_api: ApiServer
) -> None:
    runs = until(
        lambda: project.dagster.runs(connector="weather_station", trigger="schedule"),
        seconds=90,
        what="a scheduled run",
    )
    run = project.dagster.wait_for_run(runs[-1].id)
    slot = datetime.fromisoformat(run.tags["restsource/slot"])
    assert (run.status, slot.second) == ("SUCCESS", 0)
    assert 0 < run.start - slot.timestamp() < 60
    asked = [seen.query["since"] for seen in shop_api.asked("/readings")]
    assert asked[:2] == ["1970-01-01T00:00:00Z", "2026-03-01T10:00:09Z"]
    assert project.count("weather_station.readings") == 10
