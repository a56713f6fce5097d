"""Long loads in parts, killed at random moments and continued until they are done.

`FAULTS_PART_KILLS` is the number of kills of each load (2 by default) and `FAULTS_PART_ROWS` the number
of its rows, those of nested and dependent tables included (1,500). The campaign is
`FAULTS_PART_KILLS=4 FAULTS_PART_ROWS=300000`: each disposition in each kind of paging, with 64 kills in all.
The number of requests is compared only there: a kill costs a part, whatever the size of the load.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from restsource_dagster.connector.validation.connector_builder import parse_connector
from restsource_dagster_tests.faults.long_feed import (
    LOADS,
    PAGINGS,
    Interrupted,
    LongFeed,
    kill_until_done,
)
from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.making import load, make_settings
from restsource_dagster_tests.servers.api import ApiServer

pytestmark = pytest.mark.faults(row=21)

KILLS = int(os.environ.get("FAULTS_PART_KILLS", "2"))
ROWS = int(os.environ.get("FAULTS_PART_ROWS", "1500"))
IS_CAMPAIGN = ROWS >= 100_000
# an order and its two items
ORDERS = ROWS // 3
PAGE = 40 if IS_CAMPAIGN else 100
# with its lines an order of the family has 100 rows; without a campaign each order's lines are a part
LINES = 97 if IS_CAMPAIGN else 20
FAMILY_ORDERS = ROWS // (3 + LINES) if IS_CAMPAIGN else 6
# A kill loses its part. That of a load of two hours, in parts of a minute, is a hundred-and-twentieth.
PARTS = 60
MAX_REQUESTS = 1.15
# without a campaign each paging and each disposition once
PAIRS = (
    [(what, paging) for what in LOADS for paging in PAGINGS]
    if IS_CAMPAIGN
    else list(zip(LOADS, PAGINGS, strict=True))
)


@pytest.fixture(scope="module")
def campaign() -> Iterator[list[Interrupted]]:
    """The loads of the campaign, whose requests are compared at its end."""
    done: list[Interrupted] = []
    yield done
    if IS_CAMPAIGN and done:
        ratio = sum(one.requests for one in done) / sum(one.undisturbed for one in done)
        kills = sum(len(one.kills) for one in done)
        print(f"\nin all: {kills} kills, {ratio:.3f} of the requests of undisturbed loads")  # noqa: T201
        assert ratio <= MAX_REQUESTS


def feed_of(api: ApiServer, what: str, paging: str) -> LongFeed:
    return LongFeed(api, what, paging, FAMILY_ORDERS if what == "family" else ORDERS, PAGE, LINES)


@pytest.mark.parametrize(("what", "paging"), PAIRS)
def test_a_long_load_that_is_killed_again_and_again_has_each_row_once(
    api: ApiServer,
    nursery: Nursery,
    tmp_path: Path,
    campaign: list[Interrupted],
    what: str,
    paging: str,
) -> None:
    feed = feed_of(api, what, paging)
    done = kill_until_done(
        feed,
        tmp_path,
        nursery,
        KILLS,
        f"{what} {paging}",
        lambda seconds: seconds / PARTS if IS_CAMPAIGN else 1e-9,
    )
    for number, kill in enumerate(done.kills, 1):
        print(  # noqa: T201
            f"\n{what}, {paging}: kill {number} after {kill.requests} requests, in {kill.phase}: "
            f"{kill.repeated} requests made again",
            end="",
        )
    print(  # noqa: T201
        f"\n{what}, {paging}: {len(done.kills)} kills, {done.requests} requests, "
        f"{done.ratio:.3f} of an undisturbed load"
    )
    assert done.kills
    assert done.tables == feed.expected()
    campaign.append(done)


# rows that are appended or merged: `test_a_quota_of_a_fifth_of_the_load_ends_in_six_runs`
@pytest.mark.parametrize(("what", "paging"), PAIRS if IS_CAMPAIGN else PAIRS[2:])
def test_a_quota_of_a_fifth_of_the_load_lets_it_end_in_five_or_six_runs(
    api: ApiServer, tmp_path: Path, what: str, paging: str
) -> None:
    orders = FAMILY_ORDERS if IS_CAMPAIGN else 25
    feed = LongFeed(api, what, paging, orders if what == "family" else ORDERS, PAGE, LINES)
    # prefetched pages count against a quota
    file = feed.file | {"http": {"max_concurrency": 1}}
    connector, _ = parse_connector(file, Path("configs/shop.json"))
    assert connector is not None
    load(connector, make_settings(tmp_path / "undisturbed"))
    fifth = -(-feed.requests // 5)
    settings = make_settings(tmp_path / "limited")
    runs, has_failed = 0, True
    while has_failed and runs < 8:
        feed.quota, runs = fifth, runs + 1
        has_failed = any(outcome.failed for outcome in load(connector, settings).values())
    assert runs in (5, 6)
    assert feed.found(settings) == feed.expected()


@pytest.mark.parametrize("paging", PAGINGS)
def test_pages_that_were_prefetched_are_kept_for_the_next_part(
    api: ApiServer, tmp_path: Path, paging: str
) -> None:
    feed = LongFeed(api, "append", paging, 3 * PAGE, PAGE)
    connector, _ = parse_connector(feed.file, Path("configs/shop.json"))
    assert connector is not None
    settings = make_settings(tmp_path).model_copy(update={"checkpoint_seconds": 1e-9})
    outcome = load(connector, settings)["orders"]
    assert outcome.checkpoints == 2
    assert feed.requests == 3
    assert feed.found(settings) == feed.expected()


def test_calls_below_parents_that_were_prefetched_are_kept_for_the_next_part(
    api: ApiServer, tmp_path: Path
) -> None:
    feed = LongFeed(api, "family", "link", 6, 4)
    connector, _ = parse_connector(feed.file, Path("configs/shop.json"))
    assert connector is not None
    settings = make_settings(tmp_path).model_copy(update={"checkpoint_seconds": 1e-9})
    outcome = load(connector, settings)["lines"]
    assert outcome.checkpoints > 4
    assert (feed.requests, feed.repeated) == (8, 0)
    assert feed.found(settings) == feed.expected()
