"""Long loads in parts, killed at random moments and continued until they are done.

`FAULTS_PART_KILLS` is the number of kills of each load (2 by default) and `FAULTS_PART_ROWS` the number
of its rows (500). The campaign is `FAULTS_PART_KILLS=15 FAULTS_PART_ROWS=300000`: for each disposition
60 kills, 15 in each kind of paging. The number of requests is compared only there: a kill costs a
part, whatever the size of the load.
"""

import os
from pathlib import Path

import pytest

from restsource_dagster.connector.validation.connector_builder import parse_connector
from restsource_dagster_tests.faults.long_feed import LOADS, PAGINGS, LongFeed, kill_until_done
from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.making import load, make_settings
from restsource_dagster_tests.servers.api import ApiServer

pytestmark = pytest.mark.faults(row=21)

KILLS = int(os.environ.get("FAULTS_PART_KILLS", "2"))
ROWS = int(os.environ.get("FAULTS_PART_ROWS", "500"))
IS_CAMPAIGN = ROWS >= 100_000
PAGE = 100
# a kill loses its part: a load of half a minute with 15 kills needs parts of a fifth of a second, as one of
# hours needs those of the default, a minute
PART_SECONDS = 0.2 if IS_CAMPAIGN else 1e-9
MAX_REQUESTS = 1.15
# below a parent each order's lines are a part
FAMILY_ROWS = ROWS if IS_CAMPAIGN else ROWS // 4
# without a campaign each paging and each disposition once
PAIRS = (
    [(what, paging) for what in LOADS for paging in PAGINGS]
    if IS_CAMPAIGN
    else list(zip(LOADS, PAGINGS, strict=True))
)


@pytest.mark.parametrize(("what", "paging"), PAIRS)
def test_a_long_load_that_is_killed_again_and_again_has_each_row_once(
    api: ApiServer, nursery: Nursery, tmp_path: Path, what: str, paging: str
) -> None:
    feed = LongFeed(api, what, paging, FAMILY_ROWS if what == "family" else ROWS, PAGE)
    done = kill_until_done(feed, tmp_path, nursery, KILLS, f"{what} {paging}", PART_SECONDS)
    print(  # noqa: T201
        f"\n{what}, {paging}: {done.kills} kills, {done.requests} requests, "
        f"{done.ratio:.3f} of an undisturbed load"
    )
    assert done.tables == feed.expected()
    if IS_CAMPAIGN:
        assert done.ratio <= MAX_REQUESTS


# rows that are appended or merged: `test_a_quota_of_a_fifth_of_the_load_ends_in_six_runs`
@pytest.mark.parametrize(("what", "paging"), PAIRS if IS_CAMPAIGN else PAIRS[2:])
def test_a_quota_of_a_fifth_of_the_load_lets_it_end_in_five_or_six_runs(
    api: ApiServer, tmp_path: Path, what: str, paging: str
) -> None:
    feed = LongFeed(api, what, paging, ROWS, PAGE)
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
