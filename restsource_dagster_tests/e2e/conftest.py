"""One running project for all tests of `test_whole_way.py`."""

from collections.abc import Iterator

import pytest

from restsource_dagster_tests.e2e.project import LiveProject, processes_in, run_project
from restsource_dagster_tests.e2e.shop import make_shop, station
from restsource_dagster_tests.servers.api import ApiServer
from restsource_dagster_tests.servers.datasette import make_sample_database


@pytest.fixture(scope="session")
def shop_api() -> Iterator[ApiServer]:
    with make_shop() as api:
        yield api


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, shop_api: ApiServer) -> Iterator[LiveProject]:
    """A started project with the sample and a connector that is due every minute.

    When it was stopped, none of its processes may be left.
    """
    folder = tmp_path_factory.mktemp("project")
    database = make_sample_database(tmp_path_factory.mktemp("seeded") / "nycflights.db")
    with run_project(folder, database, {"weather_station": station(shop_api.url)}) as project:
        yield project
    assert processes_in(folder) == []
    assert project.process.returncode == 0
