"""The project of `test_whole_way.py` works on: its pages, its files, its schedules, its backfill."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from restsource_dagster_tests.e2e.airport import FLIGHTS, REFUSED
from restsource_dagster_tests.e2e.backfill_pages import live_cursor_of, loaded_ids
from restsource_dagster_tests.e2e.browser import take_picture
from restsource_dagster_tests.e2e.graphql import ASSET_JOB, until
from restsource_dagster_tests.e2e.project import LiveProject
from restsource_dagster_tests.e2e.shop import BROKEN, MISTAKES, plain
from restsource_dagster_tests.servers.api import ApiServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.e2e


@pytest.mark.browser
@pytest.mark.usefixtures("files_dropped_at", "good_and_broken_files")
def test_the_catalog_lists_all_assets(project: LiveProject, page: "Page") -> None:
    for name in ("nyc_flights", "shop", "crm", "helpdesk"):
        project.dagster.wait_for_first_run(name)
    page.goto("/assets")
    expected = sorted(f"/assets/{key}" for key in project.dagster.assets())
    page.get_by_text("Materialized").nth(8).wait_for()
    links = page.locator('a[href^="/assets/"]')

    def all_are_shown() -> bool:
        shown = links.evaluate_all("links => links.map(link => link.getAttribute('href'))")
        return sorted(shown) == expected

    until(all_are_shown, f"links to {expected}")
    take_picture(page, "catalog", for_documents=True)


@pytest.mark.browser
@pytest.mark.usefixtures("files_dropped_at")
def test_the_lineage_shows_a_parent_and_its_child(project: LiveProject, page: "Page") -> None:
    from playwright.sync_api import expect

    project.dagster.wait_for_first_run("shop")
    page.goto("/locations/restsource/asset-groups/shop")
    for name in ("customers", "invoices"):
        page.locator("foreignObject").get_by_text(name, exact=True).wait_for()
    page.get_by_text("Materialized").nth(1).wait_for()
    # The arrow is drawn after the two assets.
    expect(page.locator("svg path[marker-end]")).to_have_count(1)
    take_picture(page, "lineage", for_documents=True)


@pytest.mark.browser
def test_an_asset_page_shows_rows_and_cursor(project: LiveProject, page: "Page") -> None:
    from playwright.sync_api import expect

    project.dagster.wait_for_first_run("nyc_flights")
    latest = project.dagster.asset("nyc_flights/flights").latest
    page.goto("/assets/nyc_flights/flights?view=events")
    for name in ("rows_loaded", "dagster/row_count", "incremental/last_value"):
        row = page.get_by_role("row").filter(has=page.get_by_text(name, exact=True)).first
        value = re.compile(rf"(?<!\S){re.escape(str(latest[name]))}(?!\S)")
        expect(row).to_contain_text(value, use_inner_text=True)
    take_picture(page, "asset", for_documents=True)


@pytest.mark.browser
@pytest.mark.usefixtures("good_and_broken_files")
def test_a_broken_file_s_page_shows_its_problems(project: LiveProject, page: "Page") -> None:
    from playwright.sync_api import expect

    until(lambda: BROKEN in project.dagster.assets(), "the broken file's asset")
    page.goto(f"/assets/{BROKEN}")
    for line, pointer in MISTAKES:
        page.get_by_text(pointer).first.wait_for()
        expect(page.locator("body")).to_contain_text(f"line {line}, column")
    take_picture(page, "broken")


@pytest.mark.browser
@pytest.mark.usefixtures("files_dropped_at")
def test_materialize_in_the_browser_is_a_run_by_hand(project: LiveProject, page: "Page") -> None:
    project.dagster.wait_for_first_run("shop")
    page.goto("/assets/shop/customers")
    page.get_by_role("button", name="Materialize").first.click()
    (run,) = until(
        lambda: project.dagster.runs(connector="shop", trigger="manual"), "the run by hand"
    )
    assert project.dagster.wait_for_run(run.id).status == "SUCCESS"
    assert run.id in project.dagster.asset("shop/customers").materializations
    assert run.id not in project.dagster.asset("shop/invoices").materializations


@pytest.mark.usefixtures("good_and_broken_files")
def test_a_fixed_file_works_at_once_and_a_removed_one_is_gone(
    project: LiveProject, shop_api: ApiServer
) -> None:
    project.write_connector("payments", plain(shop_api.url, "tickets"))
    (project.folder / "configs" / "crm.json").unlink()
    assert project.dagster.wait_for_first_run("payments").status == "SUCCESS"
    # Two files changed, so there may be two reloads: the run may come from the first of them.
    gone = {BROKEN, "crm/contacts"}
    until(lambda: not gone & project.dagster.assets(), "definitions without the two assets")
    assert (project.count("payments.tickets"), project.count("crm.contacts")) == (500, 500)


def test_a_scheduled_run_comes_at_its_minute_and_asks_only_from_the_cursor_on(
    project: LiveProject, shop_api: ApiServer
) -> None:
    runs = until(
        lambda: project.dagster.runs(connector="weather_station", trigger="schedule"),
        "a scheduled run",
    )
    run = project.dagster.wait_for_run(runs[-1].id)
    slot = datetime.fromisoformat(run.tags["restsource/slot"])
    assert (run.status, slot.second) == ("SUCCESS", 0)
    assert 0 < run.start - slot.timestamp() < 120  # before its next slot
    asked = [seen.query["since"] for seen in shop_api.asked("/readings")]
    assert asked[:2] == ["1970-01-01T00:00:00Z", "2026-03-01T10:00:09Z"]
    assert project.count("weather_station.readings") == 10


@pytest.mark.browser
def test_a_backfill_of_the_failed_partitions_launched_by_clicking_completes_the_table(
    project: LiveProject, page: "Page", live_cursor: Mapping[str, Any], launched: None
) -> None:
    page.goto("/overview/backfills")
    # Dagster looks after backfills every 30 seconds: once to start their runs, once to see them end.
    page.get_by_text("Success", exact=True).first.wait_for()
    take_picture(page, "backfills")

    runs = [run for run in project.dagster.runs(connector="airport") if run.job == ASSET_JOB]
    assert [run.status for run in runs] == ["SUCCESS", "SUCCESS"]
    assert {run.tags["restsource/window"] for run in runs} == REFUSED
    assert loaded_ids(project) == [row["id"] for row in FLIGHTS]
    assert live_cursor_of(project) == live_cursor
