"""Where live streams begin: fixed when first seen, the same for all processes."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.connector.models.backfill import backfill_partitions
from restsource_dagster.orchestration.backfills.backfill_assets import build_partitions_definition
from restsource_dagster.orchestration.backfills.backfill_plan import (
    BackfillPlan,
    build_backfill_plans,
)
from restsource_dagster.orchestration.state_files import LiveStarts
from restsource_dagster.state.store import FolderStore
from restsource_dagster_tests.making import make_connector
from restsource_dagster_tests.orchestration.backfills.cases import orders

CREATED = datetime(2024, 5, 17, 10, 3, tzinfo=UTC)


def plan(folder: Path, created_at: datetime = CREATED, **changes: Any) -> BackfillPlan:
    connector = make_connector("http://127.0.0.1:9", orders(**changes))
    [found] = build_backfill_plans(connector, created_at, LiveStarts(FolderStore(folder)))
    return found


def test_the_live_stream_starts_with_the_partition_of_the_creation(tmp_path: Path) -> None:
    assert plan(tmp_path, partition="monthly").live_start == datetime(2024, 5, 1, tzinfo=UTC)


def test_it_stays_where_it_began_when_the_creation_time_is_edited(tmp_path: Path) -> None:
    first = plan(tmp_path)
    later = plan(tmp_path, CREATED.replace(month=6))
    assert later.live_start == first.live_start == datetime(2024, 5, 17, tzinfo=UTC)


def test_longer_partitions_reach_up_to_where_the_live_stream_began(tmp_path: Path) -> None:
    plan(tmp_path)
    monthly = plan(tmp_path, partition="monthly")
    assert monthly.partitions[0].end == datetime(2024, 6, 1, tzinfo=UTC)
    not_over = datetime(2024, 5, 20, tzinfo=UTC)
    assert monthly.due_keys(not_over)[0] == "2024-04-01"
    assert monthly.due_keys(datetime(2024, 6, 1, tzinfo=UTC))[0] == "2024-05-01"


def test_a_connector_that_began_later_than_it_was_created_leaves_no_gap(tmp_path: Path) -> None:
    resource = orders(partition="monthly")
    resource["endpoint"]["incremental"]["initial_value"] = "2024-07-10T12:00:00Z"
    connector = make_connector("http://127.0.0.1:9", resource)
    [found] = build_backfill_plans(connector, CREATED, LiveStarts(FolderStore(tmp_path)))
    assert found.live_start == datetime(2024, 7, 10, 12, tzinfo=UTC)
    assert found.partitions[0].end == datetime(2024, 8, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "content", ["", "soon", "2024-13-01", "9" * 500, "ü", "0001-01-01T00:00:00+05:00"]
)
def test_a_state_file_that_says_nothing_is_left_and_the_moment_worked_out(
    tmp_path: Path, content: str
) -> None:
    first = plan(tmp_path).live_start
    [file] = (tmp_path / "live_starts").iterdir()
    file.write_text(content)
    assert plan(tmp_path).live_start == first
    assert file.read_text() == content


def test_where_no_state_can_be_kept_it_is_worked_out(tmp_path: Path) -> None:
    (tmp_path / "live_starts").write_text("a file where a folder should be")
    assert plan(tmp_path).live_start == datetime(2024, 5, 17, tzinfo=UTC)


def test_resources_of_any_name_have_files_of_their_own(tmp_path: Path) -> None:
    connector = make_connector("http://127.0.0.1:9", orders("a.b"), orders("-"), orders("Cd"))
    build_backfill_plans(connector, CREATED, LiveStarts(FolderStore(tmp_path)))
    names = {file.name for file in (tmp_path / "live_starts").iterdir()}
    assert names == {"shop.a.b", "shop.-", "shop.Cd"}


@given(
    partition=st.sampled_from(["hourly", "daily", "weekly", "monthly"]),
    created=st.datetimes(datetime(2024, 1, 2), datetime(2024, 3, 20)).map(  # noqa: DTZ001
        lambda moment: moment.replace(tzinfo=UTC)
    ),
)
def test_dagster_has_exactly_our_partitions(partition: Any, created: datetime) -> None:
    connector = make_connector("http://127.0.0.1:9", orders(partition=partition))
    [resource] = connector.resources
    assert resource.backfill is not None
    found = BackfillPlan(connector, resource, resource.backfill, created, created)
    keys = [
        window.key
        for window in reversed(backfill_partitions(found.backfill, created, live_start_at=created))
    ]
    assert list(build_partitions_definition(found).get_partition_keys()) == keys
