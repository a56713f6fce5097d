"""One running project for all tests of `test_whole_way.py` and the files that go on from there."""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from restsource_dagster_tests.e2e.airport import WINDOWS, Airport, airport, serve_airport
from restsource_dagster_tests.e2e.backfill_pages import (
    launch_backfill_of_failed_windows,
    live_cursor_of,
)
from restsource_dagster_tests.e2e.browser import CHROMIUM, open_page
from restsource_dagster_tests.e2e.graphql import Run, until
from restsource_dagster_tests.e2e.project import LiveProject, processes_in, run_project
from restsource_dagster_tests.e2e.shop import TOKEN, faulty, make_shop, plain, shop, station
from restsource_dagster_tests.servers.api import ApiServer
from restsource_dagster_tests.servers.datasette import make_sample_database
from restsource_dagster_tests.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture(scope="session")
def shop_api() -> Iterator[ApiServer]:
    with make_shop() as api:
        yield api


@pytest.fixture(scope="session")
def airport_api() -> Iterator[Airport]:
    with serve_airport() as api:
        yield api


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, shop_api: ApiServer) -> Iterator[LiveProject]:
    """A started project with the sample and a connector that is due every second minute.

    When it was stopped, none of its processes may be left.
    """
    folder = tmp_path_factory.mktemp("project")
    database = make_sample_database(tmp_path_factory.mktemp("seeded") / "nycflights.db")
    with run_project(folder, database, {"weather_station": station(shop_api.url)}) as project:
        yield project
    wait_until(lambda: not processes_in(folder), "the end of the project's processes")
    assert project.process.returncode == 0


@pytest.fixture(scope="session")
def good_and_broken_files(project: LiveProject, shop_api: ApiServer) -> None:
    project.write_connector("crm", plain(shop_api.url, "contacts"))
    project.write_connector("helpdesk", plain(shop_api.url, "tickets"))
    project.write_connector("payments", faulty(shop_api.url))


@pytest.fixture(scope="session")
def files_dropped_at(project: LiveProject, shop_api: ApiServer, airport_api: Airport) -> float:
    """When the shop, and the airport with its backfill, became connectors."""
    project.set_variable("SHOP_TOKEN", TOKEN)
    begun = time.time()
    project.write_connector("shop", shop(shop_api.url))
    project.write_connector("airport", airport(airport_api.url))
    return begun


@pytest.fixture(scope="session")
def live_cursor(project: LiveProject, files_dropped_at: float) -> Mapping[str, Any]:
    """How far the airport's live stream got with its first run."""
    assert project.dagster.wait_for_first_run("airport").status == "SUCCESS"
    return live_cursor_of(project)


@pytest.fixture(scope="session")
def windows(project: LiveProject, live_cursor: Mapping[str, Any]) -> list[Run]:
    """The runs of all partitions once each was tried, in the order in which they started."""

    def ended() -> list[Run]:
        runs = project.dagster.runs(history="airport/flights")
        return runs if len(runs) >= len(WINDOWS) and all(run.over for run in runs) else []

    return sorted(until(ended, "the end of a run of each window"), key=lambda run: run.start)


@pytest.fixture(scope="session")
def browser() -> None:
    """Skip what needs a browser on a machine that has none."""
    pytest.importorskip("playwright", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")


@pytest.fixture(scope="session")
def launched(browser: None, windows: list[Run], project: LiveProject, airport_api: Airport) -> None:
    """The API is repaired, and somebody has launched a backfill of the failed partitions.

    Their browser is driven in a thread of its own, as the test's thread may drive another one.
    """
    airport_api.refused.clear()
    with ThreadPoolExecutor(max_workers=1) as somebody:
        somebody.submit(launch_backfill_of_failed_windows, project.address).result()


@pytest.fixture(scope="module")
def page(browser: None, project: LiveProject) -> "Iterator[Page]":
    """A page for the tests of one file: two browsers at once can't be driven in one thread."""
    with open_page(project.address) as opened:
        yield opened
