"""What all tests share: a folder of their own and, where they ask for it, a server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import make_settings
from restsource_dagster_tests.servers.api import ApiServer


@pytest.fixture
def api() -> Iterator[ApiServer]:
    """A server that answers 404 until a test tells it otherwise."""
    with ApiServer() as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings in a folder of the test's own, which is also the current folder."""
    monkeypatch.chdir(tmp_path)
    return make_settings(tmp_path)
