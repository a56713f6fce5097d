"""Whatever happens to the data, the runs and the answers: the tables are those of the API."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from restsource_dagster_tests.templates.gallery import GALLERY
from restsource_dagster_tests.templates.github import GitHub
from restsource_dagster_tests.templates.histories import (
    HISTORIES,
    SEEDS,
    Nurseries,
    World,
    check_histories,
)
from restsource_dagster_tests.templates.pipedrive import Pipedrive
from restsource_dagster_tests.templates.shopify import Shopify
from restsource_dagster_tests.templates.zendesk import Zendesk

# the smaller ones are played by hand only, beside test_gallery.py
WORLDS: tuple[type[World], ...] = (
    *(GitHub, Pipedrive, Shopify, Zendesk),
    *(GALLERY if HISTORIES > 1 else ()),
)


@pytest.fixture(scope="module")
def nurseries() -> Iterator[Nurseries]:
    with Nurseries() as ready:
        yield ready


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("world", WORLDS)
def test_the_tables_are_those_of_the_api_after_each_run_of_a_random_history(
    tmp_path: Path, nurseries: Nurseries, world: type[World], seed: int
) -> None:
    check_histories(world, tmp_path, nurseries, seed)
