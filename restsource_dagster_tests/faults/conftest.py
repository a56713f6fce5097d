"""Servers that misbehave."""

from collections.abc import Iterator

import pytest

from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.servers.faults import FaultServer


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """The API that a connector is for."""
    with FaultServer() as running:
        yield running


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """Where runs start that are killed."""
    with Nursery() as ready:
        yield ready


@pytest.fixture
def other() -> Iterator[FaultServer]:
    """A server at another origin (another port)."""
    with FaultServer() as running:
        yield running
