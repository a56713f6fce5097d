"""The sample's database, seeded once for all tests of a process, and its API."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from restsource_dagster_tests.servers.datasette import (
    SampleServer,
    make_sample_database,
    serve_sample,
)


@pytest.fixture(scope="session")
def sample_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sample_database(tmp_path_factory.mktemp("sample") / "nycflights.db")


@pytest.fixture(scope="module")
def running_server(
    sample_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SampleServer]:
    with serve_sample(sample_database, tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture
def server(running_server: SampleServer) -> SampleServer:
    running_server.set_clock(datetime.now(UTC))
    return running_server
