"""A server that behaves as a test tells it."""

from collections.abc import Iterator

import pytest

from restsource_dagster_tests.servers.faults import FaultServer


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """The API that is read."""
    with FaultServer() as running:
        yield running
