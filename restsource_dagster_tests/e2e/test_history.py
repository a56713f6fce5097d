"""A history that fills by itself, as a person sees it: windows in the browser, one retried by hand.

The tests follow each other, in one project: the API refuses two days at first, and is then mended.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from restsource_dagster_tests.e2e.browser import CHROMIUM, open_page, take_picture
from restsource_dagster_tests.e2e.graphql import ASSET_JOB, Run, until
from restsource_dagster_tests.e2e.project import LiveProject, processes_in, run_project
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen
from restsource_dagster_tests.servers.datasette import make_sample_database

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.e2e

START = datetime(2026, 3, 4, tzinfo=UTC)
WINDOWS = ("2026-03-07", "2026-03-06", "2026-03-05", "2026-03-04")
"""Newest first; the live stream starts on March 8th."""
REFUSED = frozenset({"2026-03-06", "2026-03-04"})
FLIGHTS = [
    {"id": n, "departed_at": f"{START + timedelta(hours=2 * n):%Y-%m-%dT%H:%M:%SZ}"}
    for n in range(12 * 4 + 6)
]
"""Twelve a day, and six on the morning on which the connector was created."""
HISTORY = "/assets/nyc_flights/flights_history?view=partitions"


@dataclass
class Airport:
    """An API of flights that refuses some days until they are mended."""

    refused: set[str] = field(default_factory=lambda: set(REFUSED))

    def flights(self, seen: Seen) -> Answer:
        """Those that departed at `since` or later, and before `before` if it is there."""
        since, before = seen.query["since"], seen.query.get("before", "9999")
        if since[:10] in self.refused:
            return Answer({"error": "that day is being restored from a backup"}, status=400)
        return Answer([row for row in FLIGHTS if since <= str(row["departed_at"]) < before])


@pytest.fixture(scope="module")
def airport() -> Airport:
    return Airport()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, airport: Airport) -> Iterator[LiveProject]:
    """A started project of its own; this connector takes the place of the sample's."""
    folder = tmp_path_factory.mktemp("project")
    database = make_sample_database(tmp_path_factory.mktemp("seeded") / "nycflights.db")
    with (
        ApiServer({"/flights": airport.flights}) as api,
        run_project(folder, database, {"nyc_flights": _connector(api.url)}) as project,
    ):
        yield project
    assert processes_in(folder) == []
    assert project.process.returncode == 0


@pytest.fixture(scope="module")
def page(project: LiveProject) -> "Iterator[Page]":
    pytest.importorskip("playwright", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    with open_page(project.address) as opened:
        yield opened


@pytest.fixture(scope="module")
def windows(project: LiveProject) -> list[Run]:
    """The runs of all windows once each was tried, in the order in which they started."""

    def ended() -> list[Run]:
        runs = project.dagster.runs(history="nyc_flights/flights")
        return runs if len(runs) >= len(WINDOWS) and all(run.over for run in runs) else []

    return sorted(until(ended, seconds=150, what="all windows tried"), key=lambda run: run.start)


@pytest.fixture(scope="module")
def live_cursor(project: LiveProject) -> Mapping[str, Any]:
    """How far the live stream got, before anything of history was loaded."""
    assert project.dagster.wait_for_first_run("nyc_flights").status == "SUCCESS"
    return _live_cursor(project)


def test_the_first_run_is_live_and_starts_with_the_window_in_which_the_connector_was_created(
    project: LiveProject, live_cursor: Mapping[str, Any]
) -> None:
    shown = project.dagster.asset("nyc_flights/flights").latest
    assert shown["incremental/start_value"] == "2026-03-08T00:00:00Z"
    assert (shown["rows_loaded"], shown["dagster/row_count"]) == (6, 6)
    assert (
        live_cursor["last_value"] == shown["incremental/last_value"] == FLIGHTS[-1]["departed_at"]
    )


@pytest.mark.usefixtures("live_cursor")
def test_windows_fill_by_themselves_newest_first_and_failed_ones_hold_up_nobody(
    windows: list[Run],
) -> None:
    tried = [run.tags["restsource/window"] for run in windows]
    failed = {run.tags["restsource/window"] for run in windows if run.status == "FAILURE"}
    assert sorted(tried, reverse=True) == list(WINDOWS)
    assert failed == REFUSED
    assert {run.tags["restsource/trigger"] for run in windows} == {"backfill"}
    # Two are asked for at once, and may then change places.
    assert set(tried[:2]) == set(WINDOWS[:2])


@pytest.mark.usefixtures("windows")
def test_the_table_holds_the_rows_of_the_loaded_windows_and_no_others(project: LiveProject) -> None:
    expected = [row["id"] for row in FLIGHTS if str(row["departed_at"])[:10] not in REFUSED]
    assert _ids(project) == expected


@pytest.mark.browser
@pytest.mark.usefixtures("windows")
def test_the_grid_shows_which_windows_are_loaded_and_which_failed(page: "Page") -> None:
    page.goto(HISTORY)
    for label in ("Failed (2)", "Materialized (2)", "Missing (0)"):
        page.get_by_text(label, exact=True).wait_for()
    for window in WINDOWS:
        page.get_by_text(window, exact=True).first.wait_for()
    page.get_by_text("2026-03-05", exact=True).first.click()
    page.get_by_text("rows_loaded", exact=True).wait_for()
    take_picture(page, "backfill", for_documents=True)


@pytest.mark.browser
@pytest.mark.usefixtures("windows")
def test_a_backfill_of_the_failed_windows_launched_by_clicking_completes_the_table(
    project: LiveProject, page: "Page", airport: Airport, live_cursor: Mapping[str, Any]
) -> None:
    airport.refused.clear()
    page.goto(HISTORY)
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Failed", exact=True).click()
    dialog.get_by_text("2 partitions", exact=True).wait_for()
    dialog.get_by_role("button", name="Launch backfill").click()
    dialog.wait_for(state="detached")

    page.goto("/overview/backfills")
    for shown in ("2 partitions", "Manually launched"):
        page.get_by_text(shown, exact=True).wait_for()
    # Dagster looks after backfills every 30 seconds: once to start their runs, once to see them end.
    page.get_by_text("Success", exact=True).wait_for(timeout=120_000)
    take_picture(page, "backfills")

    runs = [run for run in project.dagster.runs(connector="nyc_flights") if run.job == ASSET_JOB]
    assert [run.status for run in runs] == ["SUCCESS", "SUCCESS"]
    assert {run.tags["restsource/window"] for run in runs} == REFUSED
    assert _ids(project) == [row["id"] for row in FLIGHTS]
    assert _live_cursor(project) == live_cursor


def _connector(url: str) -> dict[str, Any]:
    """Flights with daily windows from `START` on, each tried once."""
    params = {"since": "{incremental.start_value}", "before": "{incremental.end_value}"}
    since = {"cursor_path": "departed_at", "initial_value": "1970-01-01T00:00:00Z"}
    flights = {
        "name": "flights",
        "primary_key": "id",
        "backfill": {
            "start": f"{START:%Y-%m-%d}",
            "partition": "daily",
            "max_attempts": 1,
            "max_parallel": 2,
        },
        "endpoint": {"path": "flights", "params": params, "incremental": since},
    }
    return {
        "created_at": "2026-03-08T12:30:00Z",
        "schedule": {"mode": "days", "interval": 1},
        "client": {"base_url": url},
        "resources": [flights],
    }


def _ids(project: LiveProject) -> list[int]:
    return [row[0] for row in project.query("select id from nyc_flights.flights order by id")]


def _live_cursor(project: LiveProject) -> Mapping[str, Any]:
    """What `restsource list` tells of the live stream."""
    (connector,) = json.loads(project.restsource("list", "--json").stdout)["connectors"]
    (resource,) = connector["resources"]
    return {key: resource[key] for key in ("cursor_path", "last_value", "loaded_at", "rows_loaded")}
