"""A backfill that runs automatically, as a person sees it: partitions in the browser, some retried by hand.

The API refuses two days at first, and is then repaired.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from restsource_dagster_tests.e2e.airport import FLIGHTS, REFUSED, WINDOWS
from restsource_dagster_tests.e2e.backfill_pages import HISTORY, loaded_ids
from restsource_dagster_tests.e2e.browser import take_picture
from restsource_dagster_tests.e2e.graphql import Run
from restsource_dagster_tests.e2e.project import LiveProject

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.e2e


def test_the_first_run_is_live_and_starts_with_the_partition_in_which_the_connector_was_created(
    project: LiveProject, live_cursor: Mapping[str, Any]
) -> None:
    shown = project.dagster.asset("airport/flights").latest
    assert shown["incremental/start_value"] == "2026-03-08T00:00:00Z"
    assert (shown["rows_loaded"], shown["dagster/row_count"]) == (6, 6)
    assert (
        live_cursor["last_value"] == shown["incremental/last_value"] == FLIGHTS[-1]["departed_at"]
    )


@pytest.mark.usefixtures("live_cursor")
def test_partitions_load_automatically_newest_first_and_failed_ones_block_no_other(
    windows: list[Run],
) -> None:
    tried = [run.tags["restsource/window"] for run in windows]
    failed = {run.tags["restsource/window"] for run in windows if run.status == "FAILURE"}
    assert sorted(tried, reverse=True) == list(WINDOWS)
    assert failed == REFUSED
    assert {run.tags["restsource/trigger"] for run in windows} == {"backfill"}
    # Two are requested at once, and may then change places.
    assert set(tried[:2]) == set(WINDOWS[:2])


@pytest.mark.usefixtures("windows")
def test_the_table_holds_the_rows_of_the_loaded_partitions_and_no_others(
    project: LiveProject,
) -> None:
    expected = [row["id"] for row in FLIGHTS if str(row["departed_at"])[:10] not in REFUSED]
    assert loaded_ids(project) == expected


@pytest.mark.browser
@pytest.mark.usefixtures("windows")
def test_the_grid_shows_which_partitions_are_loaded_and_which_failed(page: "Page") -> None:
    from playwright.sync_api import expect

    page.goto(HISTORY)
    for label in ("Failed (2)", "Materialized (2)", "Missing (0)"):
        page.get_by_text(label, exact=True).wait_for()
    for window in WINDOWS:
        page.get_by_text(window, exact=True).first.wait_for()
    page.get_by_text("2026-03-05", exact=True).first.click()
    rows = page.get_by_role("row").filter(has=page.get_by_text("rows_loaded", exact=True))
    expect(rows.first).to_contain_text(re.compile(r"(?<!\S)12(?!\S)"), use_inner_text=True)
    take_picture(page, "backfill", for_documents=True)


@pytest.mark.browser
@pytest.mark.usefixtures("launched")
def test_a_backfill_of_the_failed_partitions_is_launched_by_clicking(page: "Page") -> None:
    from playwright.sync_api import expect

    page.goto("/overview/backfills")
    for text in ("2 partitions", "Manually launched"):
        expect(page.get_by_text(text, exact=True)).to_have_count(1)
